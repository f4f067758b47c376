"""The kinds of places where Django storages keep files, and which one a storage has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from django.core.files.storage import FileSystemStorage, Storage

from replicator.targets.base import Content, Entry, Reader, Stat, TargetFile
from replicator.targets.storageapi import AnyStorage
from replicator.targets.storageentries import saves_its_own_way
from replicator.targets.storagefolder import Folder


class Place(Protocol):
    """Where a storage keeps files, by their names in it. It promises what ``Target`` does."""

    def put(self, name: str, file: TargetFile, content: Content, *, if_free: bool = False) -> None:
        """*if_free*: raises ``FileExistsError``, and leaves it, if something has the name by then. The Storage API,
        and an S3 that knows no such condition, are only asked before."""

    def delete(self, name: str, file: TargetFile) -> None: ...

    def stat(self, name: str) -> Stat | None: ...

    def open(self, name: str) -> AbstractContextManager[Reader]: ...

    def can_list(self) -> bool: ...

    def entries(self, folder: str) -> Iterator[Entry]:
        """*folder*: empty, or with a slash at its end."""

    def signed_url(self, name: str, seconds: int, disposition: str) -> str: ...

    def probe(self, name: str) -> None: ...

    def address(self, name: str) -> str: ...

    def remove_folder(self, name: str) -> None:
        """If there are folders, and this one is empty."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Patience:
    """What S3 is given: seconds, and bytes per second."""

    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    min_rate: float = 64 * 1024


def place_of(
    storage: Storage, make: Callable[[], Storage], alias: str, patience: Patience, *, connections: int
) -> Place:
    """Where *storage* keeps its files. *make* makes one like it that nobody else has. *alias*: for messages.

    S3 and folders are written to atomically; any other storage, or one whose class saves in a way of its own, is used
    through the Storage API.
    """
    if saves_its_own_way(storage):
        return AnyStorage(storage, alias)
    if isinstance(storage, FileSystemStorage):
        return Folder(storage)
    # boto takes a quarter of a second and 30 MB to import, and is there only if the project has such a storage.
    from replicator.targets.s3bucket import Bucket
    from replicator.targets.s3requests import Times

    times = Times(patience.connect_timeout, patience.read_timeout, patience.min_rate)
    return Bucket(make, times, connections=connections)
