"""The staging tour: a live site's media are copied while workers are killed and the live S3 is in trouble."""

from __future__ import annotations

import time
from functools import partial
from io import StringIO
from typing import Any

from tqdm import tqdm

from project.demo import checking, copied
from project.demo.live import Live, is_fetch
from project.demo.livefiles import LiveFiles
from project.demo.pace import Pace
from project.embedded import HOSTS, Embedded
from project.processes import Processes

#: How far the copy is, of one, when something goes wrong; killed is the worker.
KILLS, TROUBLE = (0.15, 0.5, 0.75), 0.3
#: Seconds for which the live S3 answers everything with 503.
TROUBLED_FOR = 4.0


class StagingTour(Pace):
    """One tour. *limit*: seconds, for all of it."""

    def __init__(self, site: Embedded, processes: Processes, live: Live, limit: float) -> None:
        super().__init__(processes, limit)
        self.site = site
        self.live = live
        self.kills: list[float] = []
        self.wrong: list[str] = []

    def go(self, files: LiveFiles) -> bool:
        """Whether every host and this machine end with every file of the live site, which is as it was."""
        size = sum(files.sizes.values()) / 1024**2
        self._step(f"A live S3 has {len(files.sizes):,} files ({size:,.0f} MiB); its keys for us can only read")
        before = self.live.state()
        print(f"  {files.make_rows():,} rows name them, and {len(files.missing)} that it has lost", flush=True)
        rows = self.dump()
        self._step(
            "Copying; the worker is killed (SIGKILL) three times, and meanwhile the S3 answers 503 for a while"
        )
        said = self.command("replicator", "copy-media", "--from", "live")
        print(f"  {said.strip().splitlines()[0]}", flush=True)
        self.disturb(len(files.sizes))
        self.wait_for_run()
        self.check_run(copied_=len(files.sizes), there=0, missing=files.missing)
        requests = self.live.requests()
        self._step("Every file that was copied goes to every host")
        self._until_synced()
        self._until(lambda: not self.left_behind(), "what the killed workers had begun to be removed")
        self._step("Copying again: everything is there already")
        self.command("replicator", "copy-media", "--from", "live")
        self.wait_for_run()
        self.check_run(copied_=0, there=len(files.sizes), missing=files.missing)
        if again := self.live.fetched() - sum(map(is_fetch, requests)):
            self.wrong.append(f"the second copy fetched {again} files")
        self._step("Asking every host for every file, looking at the disks, and at the live S3")
        return self.check(files, before, rows)

    def disturb(self, objects: int) -> None:
        for share in sorted([*KILLS, TROUBLE]):
            self._until(partial(self.has_fetched, share * objects), "the copy to go on", 0.02)
            if share == TROUBLE:
                self.live.say_503(to_everything=True)
                time.sleep(TROUBLED_FOR)
                self.live.say_503(to_everything=False)
                print(f"  503 for {TROUBLED_FOR:.0f} s, at {self.live.fetched():,} files", flush=True)
            else:
                self.processes.kill("worker")
                self.kills.append(time.time())
                print(f"  the worker was killed at {self.live.fetched():,} files", flush=True)
                self.processes.start("worker")

    def has_fetched(self, files: float) -> bool:
        return self.live.fetched() >= files

    def wait_for_run(self) -> None:
        """Until it is over, as the site itself says: only to know when to look."""
        with tqdm(unit="files", desc="  copied", disable=None) as bar:
            while (run := self.run()).state in ("running", "paused"):
                totals = run.parts.values_list("copied", "there", "missing")
                bar.n = sum(map(sum, totals))
                bar.refresh()
                self._check_time(f"copy {run.pk} is {run.state}: {run.trouble}")
                self.processes.check()
                time.sleep(0.3)

    def check_run(self, *, copied_: int, there: int, missing: set[str]) -> None:
        from django.db.models import Sum

        from replicator.models import CopyFailure

        run = self.run()
        wanted = {"copied": copied_, "there": there, "missing": len(missing), "failed": 0, "newer": 0, "excluded": 0}
        counts = run.parts.aggregate(**{name: Sum(name) for name in wanted})
        print("  " + ", ".join(f"{count:,} {name}" for name, count in counts.items() if count), flush=True)
        if counts != wanted or run.state != "done":
            self.wrong.append(f"copy {run.pk} is {run.state} and says {counts}, instead of {wanted}")
        listed = CopyFailure.objects.filter(run=run).values_list("name", flat=True)
        if sorted(listed) != sorted(missing):
            self.wrong.append(f"{len(missing)} are missing, and it lists {len(listed)} other names")

    def check(self, files: LiveFiles, before: dict[str, Any], rows: str) -> bool:
        from django.conf import settings

        from replicator.conf import config

        if self.dump() != rows:
            self.wrong.append("the rows are not what they were")
        requests = self.live.requests()
        self.wrong += copied.touched(before, self.live.state(), requests)
        staging = config().staging
        assert staging is not None  # noqa: S101  # for the type checker
        at_once = staging.workers * staging.concurrency
        self.wrong += copied.fetched_wrongly(files, requests, self.kills, at_once)
        hosts = {host: (self.site.host_url(host), self.site.host_root(host)) for host in HOSTS}
        with tqdm(unit="files", desc="  asked", disable=None) as bar:
            found = copied.check_places(files, hosts, settings.MEDIA_ROOT, bar.update)
        print(f"\n{checking.table(found)}\n")
        if not self.wrong:
            twice = sum(map(is_fetch, requests)) - len(files.sizes)
            print(
                f"The rows and the live S3 are what they were. Of {len(requests):,} requests none wanted a change; "
                f"each file was fetched once, but {twice} that a killed worker had in its hands.\n"
            )
        for problem in self.wrong[:10]:
            print(problem)
        for each in found:
            for kind in checking.KINDS:
                for name in (getattr(each, kind) or [])[:5]:
                    print(f"{each.host}: {kind}: {name}")
        return all(each.is_right for each in found) and not self.wrong

    def left_behind(self) -> list[str]:
        """What killed workers had begun, and what beat has tidied once in ten minutes has not removed yet."""
        from django.conf import settings

        from replicator import tasks

        tasks.tidy()
        return [str(path) for path in settings.MEDIA_ROOT.rglob(".*") if path.is_file()]

    def run(self) -> Any:
        from replicator.models import CopyRun

        return CopyRun.objects.latest("pk")

    def dump(self) -> str:
        """The rows that name files, and the users they belong to."""
        return self.command("dumpdata", "gallery", "auth.user")

    def command(self, *arguments: str) -> str:
        """What ``manage.py`` says."""
        from django.core.management import call_command

        said = StringIO()
        call_command(*arguments, stdout=said)
        return said.getvalue()
