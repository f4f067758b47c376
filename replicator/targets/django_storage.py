"""Any Django storage as a target: S3, a folder, or whatever has the Storage API."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial

from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import FileSystemStorage
from django.utils.encoding import filepath_to_uri

from replicator.errors import Refused
from replicator.targets.base import (
    Content,
    Entry,
    Reader,
    Space,
    Stat,
    Target,
    TargetFile,
    above_zero,
    path_below,
    safe_name,
    url_path,
)
from replicator.targets.storageentries import find, fresh, is_s3, overlap, saves_its_own_way, sources
from replicator.targets.storagefolder import Folder
from replicator.targets.storageplaces import Patience, Place, place_of

#: What a probe asks for: whether it is there does not matter.
PROBE = "replicator-probe"
_ID = "replicator.targets.storage"


class StorageTarget(Target):
    """The storage that *storage*, an alias in ``STORAGES``, stands for.

    A file's name there is *prefix*, a folder, and the path of its URL below *base_url*: the whole path unless given.

    *public_url*: what browsers put before that name.

    S3 and folders are written to atomically. Any other storage is used through the Storage API: there a reader may
    miss a file for the moment in which it is replaced.

    For S3, *connect_timeout* (also: how long it may take nothing) and *read_timeout* (how long it may be silent):
    seconds; *min_rate*: bytes per second below which an upload is given up. Others have their own time limits.
    """

    def __init__(
        self,
        alias: str,
        *,
        storage: str,
        prefix: str = "",
        base_url: str = "/",
        connect_timeout: float = 10.0,
        read_timeout: float = 30.0,
        min_rate: float = 64 * 1024,
        public_url: str = "",
        concurrency: int | None = None,
        workers: int = 2,
        bandwidth: float | None = None,
    ) -> None:
        super().__init__(alias, concurrency=concurrency, workers=workers, bandwidth=bandwidth, public_url=public_url)
        if not isinstance(storage, str) or not storage:
            raise ValueError('storage is no alias: write one of STORAGES, as in "s3-backup"')
        if not isinstance(prefix, str) or not isinstance(base_url, str):
            raise TypeError('prefix and base_url are texts: write "copies/", "/media/"')
        above_zero(connect_timeout=connect_timeout, read_timeout=read_timeout, min_rate=min_rate)
        folder = prefix.strip("/")
        try:
            self._prefix = f"{safe_name(folder)}/" if folder else ""
        except Refused:
            raise ValueError(f'prefix is {prefix!r}: write a folder, as in "copies/"') from None
        self.storage = storage
        self._root = url_path(base_url)
        self._patience = Patience(connect_timeout, read_timeout, min_rate)
        self._born = os.getpid()
        self._made: tuple[int, Place] | None = None
        # A lock of the parent's may be held for ever after a fork.
        self._locks: dict[int, threading.Lock] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.alias}>"

    def name_of(self, file: TargetFile) -> str:
        """Its name in the storage. Raises ``Refused`` for one that must not be sent."""
        path = path_below(self._root, file)
        if path.startswith("/"):
            raise Refused(f"{path} is not below {self._root}: see the target's option base_url")
        return safe_name(self._prefix + path)

    def put(self, file: TargetFile, content: Content) -> None:
        self._place.put(self.name_of(file), file, content)

    def delete(self, file: TargetFile) -> None:
        self._place.delete(self.name_of(file), file)

    def stat(self, file: TargetFile) -> Stat | None:
        return self._place.stat(self.name_of(file))

    def can_list(self) -> bool:
        return self._place.can_list()

    def entries(self, prefix: str = "/") -> Iterator[Entry]:
        inside = prefix.removeprefix(self._root)
        if inside.startswith("/"):
            raise Refused(f"{prefix} is not below {self._root}: see the target's option base_url")
        return self._place.entries(self._prefix + inside)

    def open(self, file: TargetFile) -> AbstractContextManager[Reader]:
        return self._place.open(self.name_of(file))

    def public_url_of(self, file: TargetFile) -> str:
        return self.public_url and f"{self.public_url}/{filepath_to_uri(self.name_of(file))}"

    def addresses(self, file: TargetFile) -> set[str]:
        return {self._place.address(self.name_of(file))}

    def signed_url(self, file: TargetFile, seconds: int, *, disposition: str = "") -> str:
        """Of S3 only."""
        return self._place.signed_url(self.name_of(file), seconds, disposition)

    def space(self) -> Space | None:
        """Of a folder's file system."""
        return self._place.space() if isinstance(self._place, Folder) else None

    def probe(self) -> None:
        """Return if the storage answers; S3 within 3 seconds."""
        self._place.probe(self._prefix + PROBE)

    def remove_folder(self, file: TargetFile) -> None:
        self._place.remove_folder(self.name_of(file))

    def check(self) -> list[CheckMessage]:
        return list(self._problems())

    def close(self) -> None:
        if self._made is not None and self._made[0] == os.getpid():
            self._made[1].close()

    @property
    def _place(self) -> Place:
        """Made at first use, in each process: connections must not cross a fork."""
        process = os.getpid()
        if self._made is None or self._made[0] != process:
            with self._locks.setdefault(process, threading.Lock()):
                if self._made is None or self._made[0] != process:
                    self._made = (process, self._make())
        return self._made[1]

    def _make(self) -> Place:
        try:
            storage = find(self.storage)
        except ImproperlyConfigured as error:
            raise Refused(f"{self.alias}: {error}") from None
        if os.getpid() != self._born:
            # What the parent's may have connected is the parent's.
            storage = fresh(self.storage)
        make = partial(fresh, self.storage)
        return place_of(storage, make, self.storage, self._patience, connections=self.concurrency)

    # Checks

    def _problems(self) -> Iterator[CheckMessage]:
        """E001: no such storage. E002: outside of base_url. E003: a source's folder. W005: gzip. W006: a class that
        saves in a way of its own."""
        where = f'REPLICATOR["TARGETS"][{self.alias!r}]'
        try:
            storage = find(self.storage)
            place = self._place
        except (ImproperlyConfigured, Refused) as error:
            hint = f'Correct "storage" in the target\'s OPTIONS, or STORAGES[{self.storage!r}].'
            yield Error(f"{where}: {error}", hint=hint, id=f"{_ID}.E001")
            return
        yield from self._problems_with_sources(where, place)
        if not is_s3(storage):
            return
        if saves_its_own_way(storage):
            yield Warning(
                f"{where}: the class of STORAGES[{self.storage!r}] saves in a way of its own, so it is used through "
                "the Storage API: replacing a file is not atomic, and boto may send a request twice.",
                hint="Name a storage whose class leaves _save and _open as S3Storage has them.",
                id=f"{_ID}.W006",
            )
        elif getattr(storage, "gzip", False):
            yield Warning(
                f"{where}: STORAGES[{self.storage!r}] has gzip, and a target stores files as they are.",
                hint=f'Remove "gzip" from the OPTIONS of STORAGES[{self.storage!r}], or AWS_IS_GZIPPED.',
                id=f"{_ID}.W005",
            )

    def _problems_with_sources(self, where: str, place: Place) -> Iterator[CheckMessage]:
        replicated = list(sources())
        for alias, source, targets in replicated:
            if self.alias not in targets:
                continue
            try:
                name = self.name_of(_example(alias, source))
            except Refused as error:
                hint = f'Leave "base_url" out, or name other "targets" in the OPTIONS of STORAGES[{alias!r}].'
                yield Error(f"{where}: STORAGES[{alias!r}]: {error}", hint=hint, id=f"{_ID}.E002")
                continue
            if isinstance(place, Folder):
                folder = place.folder_of(name)
                for its_alias, its, _ in replicated:
                    if overlap(folder, its.location):
                        yield Error(
                            f"{where} would keep the copies of STORAGES[{alias!r}] in {folder}, where "
                            f"STORAGES[{its_alias!r}] has its own files ({its.location}): it would overwrite and "
                            "delete them, or copy copies.",
                            hint=f"Give STORAGES[{self.storage!r}] a location outside.",
                            id=f"{_ID}.E003",
                        )


def _example(alias: str, source: FileSystemStorage) -> TargetFile:
    return TargetFile(alias, "x", prefix=url_path(source.base_url or "/"))
