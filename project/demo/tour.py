"""The tour: what happens, in which order, and how long it is waited for."""

from __future__ import annotations

import random
from functools import partial
from io import StringIO

from tqdm import tqdm

from project.demo import checking, samples
from project.demo.mogile import check_mogilefs
from project.demo.pace import Pace
from project.demo.saving import Failed, Saving
from project.demo.shapes import Shapes, copies_at_hosts, static_files
from project.demo.trouble import MogileTrouble, part_of_upload
from project.embedded import BUCKET, HOSTS, Embedded
from project.processes import Processes

LARGE = 64 * 1024 * 1024


class Tour(Pace):
    """One tour. *limit*: seconds, for all of it."""

    def __init__(self, site: Embedded, processes: Processes, limit: float) -> None:
        super().__init__(processes, limit)
        self.site = site
        self.mogilefs = MogileTrouble(site.ports["MOGILEFS_CONTROL_PORT"])
        self.chance = random.Random(2)  # noqa: S311  # the same tour each time
        self.saving = Saving(self._each, self.chance)
        self.saving.copies = partial(copies_at_hosts, site)
        self.shapes = Shapes(site, self.saving, self._until)

    def go(self, files: list[samples.Sample]) -> bool:
        """Whether every target holds what it should at the end, and nothing that was asked meanwhile was wrong."""
        numbered = list(enumerate(files))
        third = max(1, len(files) // 3)
        sixth = third // 2
        self._step("Saving the first third, with everything up")
        self.saving.save(numbered[:third])
        self.shapes.save("first")
        self._until_in_step()
        self._step("Asking for what is in storages of other shapes")
        self.shapes.wait_until_released()
        self.shapes.ask_private()
        self.shapes.ask_cdn()
        self._step(
            "media2 is killed (SIGKILL), a storage node of MogileFS hangs, its tracker is restarted; saving, "
            "overwriting and deleting go on"
        )
        self.processes.kill("media2")
        self.mogilefs.hang_node(1, seconds=5)
        self.saving.save(numbered[third : third + sixth])
        self.mogilefs.restart_tracker()
        self.saving.save(numbered[third + sixth : 2 * third])
        self.shapes.save("second")
        self.saving.overwrite_some()
        self.saving.delete_some()
        self._step("While media2 is dead: asking for what is in storages of other shapes")
        self.shapes.read_archive()
        self.shapes.ask_private()
        self.shapes.ask_cdn(dead="media2")
        self._step("media1 is killed (SIGKILL), too: a save that wants two copies must say that it has one")
        self.processes.kill("media1")
        self.shapes.save_without_enough_hosts()
        self.processes.start("media1")
        self._step("The worker is killed (SIGKILL) in the middle of a transfer to media3")
        self.kill_worker_in_mid_transfer()
        self._step("Without a worker: saving, overwriting and deleting go on; MogileFS is killed (SIGKILL)")
        self.processes.kill("mogilefs")
        self.saving.save(numbered[2 * third :])
        self.shapes.save("third")
        self.saving.overwrite_some()
        self.saving.delete_some()
        self.saving.save_again_some()
        self._step(
            "Still without a worker: process_failed_media, which cron calls on sites that come from django_dust"
        )
        self.deliver_as_cron()
        self._step(
            "media2, the worker and MogileFS, without one of its storage nodes, are started again; halfway through "
            "its backlog, MogileFS is killed (SIGKILL) and started once more"
        )
        self.processes.start("media2")
        self.processes.start("mogilefs")
        self.mogilefs.stop_node(2, noticed=False)
        self.processes.start("worker")
        half = self._waiting("mogilefs") // 2
        self._until(lambda: self._waiting("mogilefs") <= half, "MogileFS to have half of what waits")
        self.processes.kill("mogilefs")
        self.processes.start("mogilefs")
        self.wait()
        self.shapes.wait_until_released()
        self.shapes.ask_private()
        self.shapes.ask_cdn()
        self.shapes.ask_ended()
        self._step(
            "Asking every host for every file, and looking at its disk; asking MogileFS for every copy"
            + (", and S3 for every object" if self.site.has_s3 else "")
        )
        return self.check()

    def kill_worker_in_mid_transfer(self) -> None:
        """The host is stopped with a part of a file in its hands, the worker killed, and the host goes on."""
        # MogileFS too: what is deleted next must be something that it has.
        self._until_in_step("media3")
        self._until_in_step("mogilefs")
        uploads = self.site.host_root("media3").with_name("media3.uploads")
        for attempt in range(4):
            size = LARGE << attempt
            content = self.chance.randbytes(1024 * 1024) * (size // (1024 * 1024))
            self.saving.save_new(f"large-{attempt}.bin", content)
            self._until(
                lambda: part_of_upload(uploads) or not self._waiting("media3"), "the transfer to begin", every=0.001
            )
            self.processes.pause("media3")
            part = part_of_upload(uploads)
            if 0 < part < size:
                self.processes.kill("worker")
                self.processes.resume("media3")
                print(f"  media3 had {part:,} of {size:,} bytes")
                return
            # Too fast: it had all of it.
            self.processes.resume("media3")
        raise Failed("The worker could not be caught in the middle of a transfer: this machine is too fast for it.")

    def deliver_as_cron(self) -> None:
        """The command, until the hosts that are up have what was saved last: the killed worker's claims must end."""
        from django.core.management import call_command

        def is_delivered() -> bool:
            said = StringIO()
            call_command("process_failed_media", stdout=said)
            for line in said.getvalue().splitlines():
                if ": sent " in line:
                    print(f"  {line}", flush=True)
            return self.shapes.are_at_two_hosts("third")

        self._until(is_delivered, "process_failed_media to deliver", every=1)

    # Waiting and checking

    def wait(self) -> None:
        self._until_synced()
        self._until(lambda: not self.mogilefs.control("pending"), "MogileFS to make its further copies")

    def check(self) -> bool:
        digests = self.saving.expected()
        static = static_files(self.site)
        found = []
        with tqdm(unit="files", desc="  asked", disable=None) as bar:
            for target in (*HOSTS, "second", *self.site.stores[len(HOSTS) :]):
                here = self.saving.paths_at(target, digests)
                expected = {path: digests[place] for path, place in here.items()}
                deleted = sorted(self.saving.paths_at(target, self.saving.deleted))
                if target == "mogilefs":
                    domain = self.site.addresses()["MOGILEFS_DOMAIN"]
                    its = check_mogilefs(self.site.tracker, domain, expected, deleted, bar.update)
                elif target == "s3":
                    self.shapes.ask_signed()
                    its = checking.check_bucket(self.site.s3_url, BUCKET, expected, deleted, bar.update)
                elif target == "second":
                    its = checking.check_folder(target, self.site.var / "second", expected, deleted, bar.update)
                else:
                    root, url = self.site.host_root(target), self.site.host_url(target)
                    its = checking.check_host(target, url, root, "/", expected | static, deleted, bar.update)
                found.append(its)
                self._check_time("the hosts were being asked for their files.")
        print(
            f"\n{len(digests)} files and {len(self.saving.deleted)} deleted names; avatars have two copies in "
            f"MogileFS, thumbs are only there, and have one; {len(static)} static files at each host:\n\n"
            f"{checking.table(found)}\n\n{self.shapes.report()}\n"
        )
        for problem in self.shapes.wrong[:5]:
            print(problem)
        for place in self.saving.short[:5]:
            print(f"{place.path}: a save returned, and two hosts did not have it")
        for each in found:
            for kind in checking.KINDS:
                for name in (getattr(each, kind) or [])[:5]:
                    print(f"{each.host}: {kind}: {name}")
        return all(each.is_right for each in found) and not self.shapes.wrong and not self.saving.short
