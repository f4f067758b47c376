"""A measured site: a process with Django set up, and the worker and beat beside it."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.brokers import Postgres
from tests.processes import Server
from tests.servers import CHECKOUT, Nginx

#: Nothing listens there: for measurements in which nothing is delivered.
NOWHERE = "http://127.0.0.1:9"


class DurablePostgres(Postgres):
    """PostgreSQL as sites run it: a commit waits for the disk. The tests' own does not."""

    def command(self) -> list[str]:
        return [argument.replace("fsync=off", "fsync=on") for argument in super().command()]


def keep_in_memory(server: Server) -> None:
    """Its files, where there is room: a disk's moods, which differ five-fold from one second to the next, would hide
    what is compared. To be called before anything is there."""
    memory = Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free > 4 * 1024**3:
        server.folder.rmdir()
        server.folder = Path(tempfile.mkdtemp(prefix="bench-", dir=memory))


class MediaHost(Nginx):
    """nginx with its files in memory."""

    def __init__(self) -> None:
        super().__init__()
        keep_in_memory(self)
        self.root = self.folder / "files"


class Site:
    """One process with Django set up, in which functions of ``benchmarks.inside`` are called by name.

    Several with the same *folder* are one site's processes. *environment*: variables beside those that all need.
    *options*: keys of ``REPLICATOR``.
    """

    def __init__(
        self,
        *,
        database: str = "",
        broker: str = "",
        targets: dict[str, str] | None = None,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        **options: float,
    ) -> None:
        self._own = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="bench-"))
        self.media = self.folder / "media"
        self.media.mkdir(exist_ok=True)
        self.environment = {
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
            "VAR": str(self.folder),
            "ALLOWED_HOSTS": "localhost",  # and so without DEBUG
            "SECRET_KEY": "only for benchmarks",
            "MEDIA_ROOT": str(self.media),
            "MEDIA_HOSTS": ",".join(f"{alias}={url}" for alias, url in (targets or {}).items()),
            "CELERY_BROKER_URL": broker or f"redis+socket://{self.folder}/nothing-listens.sock",
            **({"DATABASE_URL": database} if database else {}),
            **{f"REPLICATOR_{key.upper()}": str(value) for key, value in options.items()},
            **(environment or {}),
        }
        self._process = ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), initializer=_set_up, initargs=(self.environment,)
        )

    def start(self, name: str, *args: Any) -> Future[Any]:
        """Call ``module.function`` of ``benchmarks.inside`` there."""
        return self._process.submit(_call, name, args)

    def call(self, name: str, *args: Any) -> Any:
        return self.start(name, *args).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.shutdown()
        if self._own:
            shutil.rmtree(self.folder, ignore_errors=True)


class Celery(Server):
    """``celery worker`` or ``celery beat`` of a site."""

    ready_within = 30.0

    def __init__(self, site: Site, *arguments: str) -> None:
        super().__init__()
        self._site = site
        self._arguments = arguments

    def command(self) -> list[str]:
        return [sys.executable, "-m", "celery", "-A", "project.celery", *self._arguments]

    def environment(self) -> dict[str, str]:
        return self._site.environment

    def answers(self) -> bool:
        said = (self.folder / "output.log").read_text(errors="replace")
        return " ready" in said or "beat: Starting" in said


def worker(site: Site, processes: int = 4, *, queue: str = "celery") -> Celery:
    name = f"bench-{queue}-{site.folder.name}-{os.getpid()}@%h"
    return Celery(site, "worker", "--concurrency", str(processes), "--hostname", name, "--queues", queue)


def beat(site: Site) -> Celery:
    return Celery(site, "beat", "--schedule", str(site.folder / "beat-schedule"))


def _set_up(environment: dict[str, str]) -> None:
    os.environ.update(environment)
    importlib.import_module("django").setup()


def _call(name: str, args: tuple[Any, ...]) -> Any:
    module, _, function = name.rpartition(".")
    return getattr(importlib.import_module(f"benchmarks.inside.{module}"), function)(*args)
