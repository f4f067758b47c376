"""``make demo``: a tour, with everything going wrong, that ends with every host agreeing, or says what does not.

It saves a folder's files through the storage, kills a host, goes on saving, overwriting and deleting, kills the
worker in the middle of a transfer, starts both again, waits, and then asks every host for every file.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from project import checking, samples
from project.embedded import HOSTS, Embedded, any_port
from project.processes import Ended, Processes

T = TypeVar("T")

#: Everything that waits in the settings waits for a person or a network; the tour has neither.
QUICK = {
    "DEBUG": "0",
    "LOG_LEVEL": "INFO",
    "REPLICATOR_LEASE_SECONDS": "6",
    "REPLICATOR_DOUBT_WINDOW": "5",
    "REPLICATOR_RETRY_BASE": "1",
    "REPLICATOR_RETRY_CAP": "5",
}
LARGE = 64 * 1024 * 1024


class Failed(Exception):
    """The tour can't go on; says why."""


class Tour:
    """One tour. *limit*: seconds, for all of it."""

    def __init__(self, site: Embedded, processes: Processes, limit: float) -> None:
        from django.core.files.storage import default_storage

        self.site = site
        self.processes = processes
        self.end = time.monotonic() + limit
        self.limit = limit
        self.storage: Any = default_storage
        self.chance = random.Random(2)  # noqa: S311  # the same tour each time
        #: What should be true at the end, by what was done and not by what the ledger says.
        self.saved: dict[str, samples.Sample | bytes] = {}
        self.deleted: set[str] = set()
        self.refused = 0

    def go(self, files: list[samples.Sample]) -> bool:
        """Whether every host holds what it should at the end."""
        third = max(1, len(files) // 3)
        self._step("Saving the first third, with everything up")
        self.save(files[:third])
        self._step("media2 is killed (SIGKILL); saving, overwriting and deleting go on")
        self.processes.kill("media2")
        self.save(files[third : 2 * third])
        self.overwrite_some()
        self.delete_some()
        self._step("The worker is killed (SIGKILL) in the middle of a transfer to media3")
        self.kill_worker_in_mid_transfer()
        self._step("Without a worker: saving, overwriting and deleting go on")
        self.save(files[2 * third :])
        self.overwrite_some()
        self.delete_some()
        self.save_again_some()
        self._step("media2 and the worker are started again")
        self.processes.start("media2")
        self.processes.start("worker")
        self.wait()
        self._step("Asking every host for every file, and looking at its disk")
        return self.check()

    # What a site does

    def save(self, files: Iterable[samples.Sample]) -> None:
        from django.core.exceptions import SuspiciousFileOperation
        from django.core.files import File

        for sample in self._each(list(files), "saved"):
            try:
                with sample.path.open("rb") as file:
                    name = self.storage.save(sample.name, File(file))
            except (SuspiciousFileOperation, PermissionError):
                self.refused += 1
                continue
            self.saved[name] = sample
            self.deleted.discard(name)

    def overwrite_some(self) -> None:
        from django.core.files.base import ContentFile

        for name in self._each(self._some(0.1), "overwritten"):
            content = self.chance.randbytes(self.chance.choice([0, 1, 4096, 50_000]))
            self.storage.replace(name, ContentFile(content))
            self.saved[name] = content

    def delete_some(self) -> None:
        for name in self._each(self._some(0.1), "deleted"):
            self.storage.delete(name)
            del self.saved[name]
            self.deleted.add(name)

    def save_again_some(self) -> None:
        """Some of the deleted names come back, with other content."""
        from django.core.files.base import ContentFile

        again = self.chance.sample(sorted(self.deleted), len(self.deleted) // 5)
        for name in self._each(again, "saved again"):
            content = self.chance.randbytes(2000)
            if self.storage.save(name, ContentFile(content)) != name:
                raise Failed(f"{name} was deleted, and yet its name is taken")
            self.saved[name] = content
            self.deleted.discard(name)

    # What goes wrong

    def kill_worker_in_mid_transfer(self) -> None:
        """The host is stopped with a part of a file in its hands, the worker killed, and the host goes on."""
        from django.core.files.base import ContentFile

        self._until(lambda: not self._waiting("media3"), "media3 to have everything so far")
        uploads = self.site.host_root("media3").with_name("media3.uploads")
        for attempt in range(4):
            size = LARGE << attempt
            name = f"large-{attempt}.bin"
            content = self.chance.randbytes(1024 * 1024) * (size // (1024 * 1024))
            self.storage.save(name, ContentFile(content))
            self.saved[name] = content
            self._until(
                lambda: self._part(uploads) or not self._waiting("media3"), "the transfer to begin", every=0.001
            )
            self.processes.pause("media3")
            part = self._part(uploads)
            if 0 < part < size:
                self.processes.kill("worker")
                self.processes.resume("media3")
                print(f"  media3 had {part:,} of {size:,} bytes")
                return
            # Too fast: it had all of it.
            self.processes.resume("media3")
        raise Failed("The worker could not be caught in the middle of a transfer: this machine is too fast for it.")

    @staticmethod
    def _part(uploads: Path) -> int:
        """The size of the largest upload under way."""
        sizes = [0]
        for path in uploads.glob("*"):
            try:
                sizes.append(path.stat().st_size)
            except FileNotFoundError:  # it has just arrived
                continue
        return max(sizes)

    # Waiting and checking

    def wait(self) -> None:
        """Until the ledger has no backlog. It only says when to look: what is there, the hosts say."""
        total = self._waiting()
        with tqdm(total=total, unit="replicas", desc="  synced", disable=None) as bar:
            while left := self._waiting():
                bar.n = max(bar.n, total - left)
                bar.refresh()
                self._check_time(f"{left} replicas are still pending or failed:\n{self._examples()}")
                self.processes.check()
                time.sleep(0.3)
            bar.n = total
            bar.refresh()

    def check(self) -> bool:
        prefix = self.storage.base_url
        expected = {}
        for name, source in self.saved.items():
            expected[name] = checking.digest_of(Path(self.storage.path(name)))
            if expected[name] != _digest(source):
                raise Failed(f"{name}: the local file is not what was saved")
        found = []
        with tqdm(
            total=len(HOSTS) * (len(expected) + len(self.deleted)), unit="files", desc="  asked", disable=None
        ) as bar:
            for host in HOSTS:
                root = self.site.host_root(host)
                url = self.site.host_url(host)
                found.append(checking.check_host(host, url, root, prefix, expected, sorted(self.deleted), bar.update))
                self._check_time("the hosts were being asked for their files.")
        print(
            f"\n{len(expected)} files and {len(self.deleted)} deleted names, "
            f"at each host:\n\n{checking.table(found)}\n"
        )
        for each in found:
            for what in ("wrong", "missing", "resurrected", "unexpected"):
                for name in getattr(each, what)[:5]:
                    print(f"{each.host}: {what}: {name}")
        return all(each.is_right for each in found)

    # Shared means

    def _step(self, text: str) -> None:
        print(f"• {text}", flush=True)

    def _each(self, items: list[T], word: str) -> Iterator[T]:
        for item in tqdm(items, unit="files", desc=f"  {word}", disable=None):
            self._check_time("files were being saved.")
            yield item
        print(f"  {len(items)} {word}", flush=True)

    def _some(self, part: float) -> list[str]:
        names = sorted(name for name in self.saved if not name.startswith("large-"))
        return self.chance.sample(names, min(len(names), max(1, round(len(names) * part))))

    def _waiting(self, target: str = "") -> int:
        from replicator.models import Replica

        backlog = Replica.objects.backlog()
        return (backlog.at(target) if target else backlog).count()

    def _examples(self) -> str:
        from replicator.models import Replica

        rows = Replica.objects.backlog().select_related("file")[:5]
        return "\n".join(f"  {r.file.name} at {r.target}: {r.status} {r.error_kind} {r.error_text}" for r in rows)

    def _until(self, condition: Any, what: str, every: float = 0.1) -> None:
        while not condition():
            self._check_time(f"it waited for {what}.\n{self._examples()}")
            self.processes.check()
            time.sleep(every)

    def _check_time(self, doing: str) -> None:
        if time.monotonic() > self.end:
            raise Failed(f"The {self.limit:.0f} seconds are over (--limit), and {doing}")


def _digest(source: samples.Sample | bytes) -> str:
    import hashlib

    return hashlib.sha256(source).hexdigest() if isinstance(source, bytes) else checking.digest_of(source.path)


def _sources(wanted: str, folder: Path) -> list[samples.Sample]:
    top = Path(wanted) if wanted else samples.make(folder)
    if not top.is_dir():
        raise SystemExit(f"{wanted} is not a folder: write make demo FILES=a-folder.")
    files, skipped = samples.find(top)
    if not files:
        raise SystemExit(f"{wanted} holds no files: write make demo FILES=a-folder-with-files.")
    note = "".join(f"; skipped: {count} ({reason})" for reason, count in skipped.items())
    print(f"{len(files)} files of {top if wanted else 'its own'}{note}")
    return files


def main() -> int:
    parser = argparse.ArgumentParser(prog="project.demo", description=__doc__)
    parser.add_argument("files", nargs="?", default="", metavar="FOLDER", help="default: a small one of its own")
    parser.add_argument("--limit", type=float, default=900, help="seconds until it gives up; default: %(default).0f")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="replicator-demo-"))
    right = False
    kept: Path | None = None
    try:
        files = _sources(options.files, folder / "samples")
        ports = {name: any_port() for name in ("PORT", "FLOWER_PORT", *(f"{host.upper()}_PORT" for host in HOSTS))}
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("REPLICATOR_", "MEDIA_"))}
        for name in ("DATABASE_URL", "CELERY_BROKER_URL", "ALLOWED_HOSTS"):
            clean.pop(name, None)
        given = {**clean, **QUICK, "SECRET_KEY": "for the demo only", "DJANGO_SETTINGS_MODULE": "project.settings"}
        with Embedded(folder / "var", ports, given) as site, Processes(site, folder / "logs") as processes:
            right = _tour(site, processes, options.limit).go(files)
    except (Failed, Ended, KeyboardInterrupt) as error:
        print(f"\n{str(error) or 'Interrupted.'}", file=sys.stderr)
    finally:
        if not right:
            kept = _keep_logs(folder)
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{'Every host agrees' if right else 'FAILED'} after {time.monotonic() - began:.0f} s.")
    if kept:
        print(f"The logs are in {kept}")
    return 0 if right else 1


def _tour(site: Embedded, processes: Processes, limit: float) -> Tour:
    import django
    from django.core.management import call_command

    site.make_folders()
    os.environ.clear()
    os.environ.update(site.environment())
    django.setup()
    logging.getLogger("replicator").setLevel("ERROR")  # that a host is down is the point, here
    call_command("migrate", verbosity=0)
    for name in ("broker", *HOSTS, "worker", "beat"):
        processes.start(name)
    return Tour(site, processes, limit)


def _keep_logs(folder: Path) -> Path | None:
    if not (folder / "logs").exists():
        return None
    kept = Path(tempfile.mkdtemp(prefix="replicator-demo-logs-"))
    shutil.copytree(folder / "logs", kept, dirs_exist_ok=True)
    return kept


if __name__ == "__main__":
    sys.exit(main())
