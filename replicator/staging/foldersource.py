"""A folder of a file system that a copy reads from."""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from django.core.files.storage import FileSystemStorage

from replicator.errors import Corrupt, DeliveryError, Refused, Unavailable
from replicator.staging.base import Facts, NotCopied, Source
from replicator.staging.checkedstream import CheckedStream
from replicator.targets.base import safe_name
from replicator.targets.storageerrors import sorting
from replicator.targets.storagefolder import ABSENT, Folder

#: Seconds that looking for something that can be written may take.
LOOK_SECONDS = 10.0
READ_ONLY = "Mount it read-only, or have the workers run as a user who may only read it"


class FolderSource(Source):
    """Where *storage*, of this *alias*, keeps its files. Links are followed, as Django follows them."""

    def __init__(self, alias: str, storage: FileSystemStorage) -> None:
        self.alias = alias
        self._storage = storage
        self._folder = Folder(storage)

    @property
    def root(self) -> Path:
        return Path(os.path.realpath(self._storage.location))

    def stat(self, name: str) -> Facts | None:
        with sorting(f"stat {name}"):
            try:
                found = self._path(name).stat()
            except ABSENT:
                self.check()
                return None
        return _facts(found) if modes.S_ISREG(found.st_mode) else None

    @contextmanager
    def open(self, name: str) -> Iterator[CheckedStream]:
        what = f"open {name}"
        with sorting(what):
            try:
                # A pipe of this name would be waited for.
                descriptor = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except ABSENT:
                descriptor = -1
                self.check()
        if descriptor < 0:
            raise FileNotFoundError(name)
        try:
            with sorting(what):
                begun = os.fstat(descriptor)
            if not modes.S_ISREG(begun.st_mode):
                raise FileNotFoundError(name)

            def read(size: int) -> bytes:
                with sorting(what):
                    data = os.read(descriptor, size)
                    now = os.fstat(descriptor)
                if (now.st_size, now.st_mtime_ns) != (begun.st_size, begun.st_mtime_ns):
                    raise Corrupt(f"{what}: it is being written to")
                return data

            yield CheckedStream(_facts(begun), read, what)
        finally:
            os.close(descriptor)

    def address(self, name: str) -> str:
        return self._folder.address(safe_name(name))

    def check(self) -> None:
        """An empty folder is one whose file system is not mounted: else each file of it would be missing."""
        root = self.root
        with sorting("check"):
            if not root.is_dir():
                raise Unavailable(f"{root} is not there, or no folder: see the location of STORAGES[{self.alias!r}]")
            if not os.access(root, os.R_OK | os.X_OK):
                raise Refused(f"{root} can't be read: see its owner and mode")
            with os.scandir(root) as entries:
                if next(entries, None) is None:
                    raise Unavailable(f"{root} is empty: is its file system mounted?")

    def prove_read_only(self) -> None:
        where = f"STORAGES[{self.alias!r}]"
        try:
            self.check()
            with sorting(f"look through {self.root}"):
                writable = self._find_writable()
        except DeliveryError as error:
            raise NotCopied(f"Whether {where} takes writes can't be told: {error}. {READ_ONLY}.") from None
        if writable is not None:
            whom = "by root, who may write anywhere" if os.geteuid() == 0 else "from this site"
            raise NotCopied(f"{where}: {writable} can be written {whom}. {READ_ONLY}.")

    def _find_writable(self) -> Path | None:
        root = self.root
        if os.statvfs(root).f_flag & os.ST_RDONLY:
            return None
        return next((path for path in _all_in(root) if os.access(path, os.W_OK)), None)

    def _path(self, name: str) -> Path:
        return Path(self._storage.path(safe_name(name)))


def _facts(found: os.stat_result) -> Facts:
    return Facts(found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def _all_in(folder: Path) -> Iterator[Path]:
    """The folder and all below it. Links are followed, as they are when a file is saved."""
    yield folder
    end = monotonic() + LOOK_SECONDS
    for path, folders, files in os.walk(folder, onerror=_hidden, followlinks=True):
        if monotonic() > end:
            raise Refused(f"{folder} has too much in it to look at all of it")
        yield from (Path(path, name) for name in (*folders, *files))


def _hidden(error: OSError) -> None:
    """A folder that can't be listed, though it may be entered, may have anything in it."""
    if os.access(error.filename, os.X_OK):
        raise error
