"""A storage that replicates, as what a copy writes to: each file is recorded for every target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import uuid4

from django.core.exceptions import SuspiciousFileOperation
from django.core.files import File

from replicator import ledger, local, wake
from replicator.errors import Refused, Unavailable
from replicator.staging.base import Changed, Destination, Held, Stream, checksum_of
from replicator.storage.names import owned
from replicator.storage.replicated import ReplicatedStorage
from replicator.storage.seen import Seen
from replicator.targets.storageerrors import CURES, NUMBERS

#: Bytes that are read at once.
PIECE = 256 * 1024
#: Names that are kept in memory: more than two chunks have.
_MOST_MISSING = 2000


class ReplicatedDestination(Destination):
    """Where *storage* keeps its files, here and at its targets. No target is waited for."""

    def __init__(self, storage: ReplicatedStorage) -> None:
        self.storage = storage
        #: What ``held`` saw of names that have no file: a second look would be a statement for each.
        self._missing: dict[str, Seen] = {}

    def clean(self, name: str) -> str:
        if "\\" in name:
            # The storage would take it for a slash, and the row would go on naming something else.
            raise Refused(f"{name!r} has a backslash, which the storage takes for a slash: rename the file")
        try:
            return owned(self.storage, name)
        except SuspiciousFileOperation as error:
            raise Refused(str(error)) from None

    def address(self, name: str) -> str:
        return f"replicated {self.storage.alias}: {name}"

    def held(self, names: Sequence[str]) -> dict[str, Held]:
        if len(self._missing) > _MOST_MISSING:
            self._missing.clear()
        found: dict[str, Held] = {}
        for name, seen in self.storage.look(names).items():
            held = _held(seen)
            if held is None:
                self._missing[name] = seen
            else:
                self._missing.pop(name, None)
                found[name] = held
        return found

    def put(self, name: str, stream: Stream, over: Held | None) -> int:
        self._check_way(name)
        # Seldom anything but what held saw; and the write itself finds out if it is.
        seen = self._missing.pop(name, None) or self._look(name)
        if _held(seen) != over:
            raise Changed(name)
        content = _Content(stream)
        with _sorting(name):
            replaced = self.storage.replace_seen(name, content, seen)
        if not replaced:
            raise Changed(name)
        return content.moved

    def checksum(self, name: str, kind: str) -> str:
        try:
            with self.storage.open(name) as file:
                return checksum_of(file, kind)
        except FileNotFoundError:
            raise Changed(name) from None

    def exists_unrecorded(self, name: str) -> bool:
        seen = self._look(name)
        return seen.version is None and seen.file is not None

    def adopt(self, name: str) -> None:
        """Raises ``Unavailable`` if it does not hold still, or is being written just now."""
        with _sorting(name):
            try:
                digest = local.steady_digest(self.storage.path(name))
            except FileNotFoundError:
                digest = None
        # The look comes after the reading: what a write has put there meanwhile, and not committed, is none of it.
        seen = self._look(name)
        if seen.version is not None:
            return
        if digest is None or seen.file is None:
            raise Unavailable(f"adopt {name}: it is being written just now")
        if ledger.record_new([self.storage.as_write(name, digest, uuid4())], self.storage.targets):
            wake.announce(self.storage.targets)

    def _look(self, name: str) -> Seen:
        return self.storage.look([name])[name]

    def _check_way(self, name: str) -> None:
        """Raises ``Refused`` for a place that no copy is put in."""
        place = self.storage.path(name)
        if local.is_in_the_way(place):
            raise Refused(f"put {name}: something that is no file has this name here: remove it")
        if local.leads_out(str(self.storage.location), place):
            raise Refused(f"put {name}: a link on the way leads out of the storage's folder: mount the folder there")


def _held(seen: Seen) -> Held | None:
    file = seen.file
    if file is None:
        return None
    return Held(file.size, file.modified, {"sha256": file.sha256} if file.sha256 else {}, file.version)


class _Content(File):  # type: ignore[type-arg]  # generic only in the stubs
    """What comes of *stream*, as storages read it; ``moved``: the bytes of that."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(None)
        self._stream = stream
        self.moved = 0

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        while data := self._stream.read(chunk_size or PIECE):
            self.moved += len(data)
            yield data


@contextmanager
def _sorting(name: str) -> Iterator[None]:
    """What only a person can cure is ``Refused``. A full disk is none of the file's business."""
    try:
        yield
    except OSError as error:
        number = error.errno or NUMBERS.get(type(error))
        if number not in CURES:
            raise
        raise Refused(f"put {name}: {CURES[number]}") from None
