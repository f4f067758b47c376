"""Any Django storage that a copy reads from, through nothing but the Storage API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

from django.core.files.storage import Storage
from django.utils.timezone import is_naive, make_aware

from replicator.staging.base import Facts, NotCopied, Source
from replicator.staging.checkedstream import CheckedStream
from replicator.targets.base import safe_name
from replicator.targets.storageaddresses import address_of
from replicator.targets.storageapi import AnyStorage
from replicator.targets.storageentries import sizes_contents
from replicator.targets.storageerrors import reader, sorting


class AnySource(Source):
    """What *storage*, of this *alias*, gives. Its own time limits count."""

    def __init__(self, alias: str, storage: Storage) -> None:
        self.alias = alias
        self._storage = storage
        self._place = AnyStorage(storage, alias)
        self._knows_sizes = sizes_contents(storage)

    def stat(self, name: str) -> Facts | None:
        safe_name(name)
        with sorting(f"stat {name}"):
            # Not all storages say of a missing file's size that there is no such file.
            if not self._storage.exists(name):
                return None
            try:
                return Facts(self._size(name), self._modified(name))
            except FileNotFoundError:
                return None

    @contextmanager
    def open(self, name: str) -> Iterator[CheckedStream]:
        facts = self.stat(name)
        if facts is None:
            raise FileNotFoundError(name)
        what = f"open {name}"
        stream = None
        with sorting(what), suppress(FileNotFoundError):
            stream = self._storage.open(name, "rb")
        if stream is None:
            raise FileNotFoundError(name)
        with stream:
            yield CheckedStream(facts, reader(stream, what).read, what)

    def address(self, name: str) -> str:
        return address_of(self._storage, safe_name(name))

    def check(self) -> None:
        self._place.probe("replicator-probe")

    def prove_read_only(self) -> None:
        raise NotCopied(
            f"Whether STORAGES[{self.alias!r}] takes writes can't be told: its class has no way to ask that leaves "
            "nothing behind. Do without --require-read-only, or name a storage of S3, a folder or HTTP."
        )

    def _size(self, name: str) -> int | None:
        if not self._knows_sizes:
            return None
        try:
            return self._storage.size(name)
        except NotImplementedError:
            return None

    def _modified(self, name: str) -> datetime | None:
        try:
            modified = self._storage.get_modified_time(name)
        except NotImplementedError:
            return None
        return make_aware(modified) if is_naive(modified) else modified
