"""Where a file's bytes can be had: at MogileFS's storage nodes, here, or at another target."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from replicator import local
from replicator.errors import DeliveryError, Refused, Unavailable
from replicator.ledger import life
from replicator.local import Digest
from replicator.serving.places import Place, Record, down_among
from replicator.targets.base import Reader, Target
from replicator.targets.http import PIECE
from replicator.targets.mogilefs import MogileFSTarget

#: How long the trackers of a target that is marked down are waited for: promise 7.
DOWN_SECONDS = 1.0
#: How long those of any other are: a browser waits.
ASK_SECONDS = 3.0


class NoCopy(Unavailable):
    """A tracker knows the file, and no storage node gives it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of some bytes before any of them is read."""

    size: int
    etag: str = ""
    """In its quotes; empty: not known well enough to be compared with later."""
    last_modified: int | None = None
    """Seconds since the epoch."""

    @classmethod
    def of(cls, record: Record) -> Facts:
        # The same bytes saved again are still what a browser has.
        return cls(record.size, f'"{record.sha256 or record.version.hex}"', int(record.updated_at.timestamp()))


class Source(Protocol):
    """Each method raises ``FileNotFoundError`` if the file is not there, ``Unavailable`` if it can't be had now."""

    def facts(self) -> Facts: ...

    def urls(self) -> Sequence[str]:
        """Where the server in front can fetch it, the best first; empty: nowhere."""

    def live_url(self) -> str:
        """The first of ``urls`` that answers, if there are any."""

    def open(self, start: int = 0, stop: int | None = None) -> AbstractContextManager[Reader]:
        """The bytes from *start*, at least to *stop*. ``Unavailable`` also in the block, if they break off."""


def sources_of(place: Place, record: Record | None) -> Iterator[Source]:
    """Where to look for a file that was not deleted, in this order. Asks no target."""
    nodes = [target for target in place.targets if isinstance(target, MogileFSTarget)]
    if record is None:
        # Files from before the ledger. What is here under this name may be anything: a save that is not committed.
        down = down_among(nodes)
        yield from (AtNodes(place, target, down=target.alias in down) for target in nodes)
        return
    # One that is down, or said nothing of late, comes last: asking it can take a time-out.
    sure = [target for target in nodes if (it := record.at.get(target.alias)) and it.confirmed and not it.down]
    first = [target for target in sure if not target.is_silent]
    yield from (AtNodes(place, target, record) for target in first)
    yield Here(place, record)
    yield from (AtTarget(place, target, record) for target in place.targets if target not in nodes)
    yield from (AtNodes(place, target, record) for target in nodes if target not in first)


class AtNodes:
    """The copies at the storage nodes of one MogileFS."""

    def __init__(
        self, place: Place, target: MogileFSTarget, record: Record | None = None, *, down: bool = False
    ) -> None:
        self._target = target
        self._file = place.target_file
        self._record = record
        holding = record.at.get(target.alias) if record else None
        self._is_awaited = holding is not None and not holding.confirmed
        self._held = holding.held if holding is not None else None
        # The ledger's, if it knows that these bytes are there; else the tracker is asked.
        self._facts = Facts.of(record) if record and holding and holding.confirmed else None
        down = down or target.is_silent or (holding is not None and holding.down)
        self._within = DOWN_SECONDS if down else ASK_SECONDS
        self._urls: Sequence[str] = ()

    def facts(self) -> Facts:
        self._check_open()
        if self._facts is None:
            self._facts = self._ask()
        return self._facts

    def urls(self) -> Sequence[str]:
        self._check_open()
        if not self._urls:
            self._check_key()
            try:
                self._urls = self._target.paths(self._file, within=self._within)
            except Refused as error:  # the whole domain's trouble, not the file's
                raise Unavailable(str(error)) from error
        return self._urls

    def live_url(self) -> str:
        urls = self.urls()
        try:
            return self._target.choose(urls, self.facts().size)
        except Unavailable as error:
            raise NoCopy(str(error)) from error

    def open(self, start: int = 0, stop: int | None = None) -> AbstractContextManager[Reader]:
        return self._open(self.urls(), start, stop)

    @contextmanager
    def _open(self, urls: Sequence[str], start: int, stop: int | None) -> Iterator[Reader]:
        try:
            with self._target.read(urls, start, stop, size=self.facts().size) as reader:
                yield reader
        except Unavailable as error:
            raise NoCopy(str(error)) from error

    def _ask(self) -> Facts:
        """What the tracker knows. A fid is never used again, so it names these bytes."""
        if self._record is not None and self._held not in (None, self._record.version):
            # It may be of the same length.
            raise Unavailable(f"{self._target.alias} has another version of it")
        info = self._info()
        if info is None and self._is_awaited:
            raise Unavailable(f"it is not at {self._target.alias} yet")
        if info is None:
            raise FileNotFoundError(self._file.name)
        size = int(info["length"])
        if self._record is None:
            return Facts(size, f'"{info["fid"]}-{size}"')
        if size != self._record.size:
            raise Unavailable(f"{self._target.alias} has another version of it")
        # Perhaps another version of the same length: nothing that a browser could ask for again by name.
        return Facts(size)

    def _info(self) -> dict[str, str] | None:
        key = self._check_key()
        try:
            return self._target.domain.info(key, within=self._within)
        except Refused as error:
            raise Unavailable(str(error)) from error

    def _check_open(self) -> None:
        """Asked last or not: what people have paused is not asked at all."""
        if self._target.alias in life.left_alone():
            raise Unavailable(f"{self._target.alias} is paused, or retired")

    def _check_key(self) -> str:
        try:
            return self._target.key_of(self._file)
        except Refused:  # such a key can't be there
            raise FileNotFoundError(self._file.name) from None


class Here:
    """The local file, if it is the version that the ledger names."""

    def __init__(self, place: Place, record: Record) -> None:
        self.place = place
        self._path = place.storage.path(place.name)
        self._record = record

    def facts(self) -> Facts:
        return Facts.of(self._record)

    def urls(self) -> Sequence[str]:
        return ()

    def live_url(self) -> str:
        with self.open():
            return ""

    @contextmanager
    def open(self, start: int = 0, stop: int | None = None) -> Iterator[Reader]:
        try:
            file = Path(self._path).open("rb")  # noqa: SIM115  # closed below, once it is known to be one
        except OSError as error:
            raise FileNotFoundError(self._path) from error
        with file:
            # Another web host may have overwritten it since, or a transaction that was rolled back; an open file
            # stays the same whatever is renamed over its name.
            if not local.is_content(file, Digest(self._record.size, self._record.sha256)):
                raise FileNotFoundError(self._path)
            file.seek(start)
            yield file


class AtTarget:
    """The copy at a target that is no MogileFS: through this process, whoever asks."""

    def __init__(self, place: Place, target: Target, record: Record) -> None:
        self._target = target
        self._file = place.target_file
        self._record = record
        self._holding = record.at.get(target.alias)

    def facts(self) -> Facts:
        if self._holding is None or not self._holding.confirmed:
            raise Unavailable(f"it is not at {self._target.alias} yet")
        if self._holding.down:
            # Promise 7: it would be waited for.
            raise Unavailable(f"{self._target.alias} is marked down")
        return Facts.of(self._record)

    def urls(self) -> Sequence[str]:
        return ()

    def live_url(self) -> str:
        with self._reading():
            found = self._target.stat(self._file)
            if found is None or found.size != self._record.size:
                raise Unavailable(f"{self._target.alias} has lost it, or has another version of it")
        return ""

    @contextmanager
    def open(self, start: int = 0, stop: int | None = None) -> Iterator[Reader]:
        whole = not start and stop is None
        with self._reading(), self._target.open(self._file) as reader:
            # The contract of targets knows no parts.
            while start:
                data = reader.read(min(PIECE, start))
                if not data:
                    raise Unavailable(f"{self._target.alias} has another version of it")
                start -= len(data)
            yield _Checked(reader, self._record) if whole else reader

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """It has the file, says the ledger: whatever keeps it from being read, is no 404."""
        try:
            yield
        except (DeliveryError, FileNotFoundError) as error:
            raise NoCopy(f"{self._target.alias}: {error}") from error


class _Checked:
    """All of a copy. Its last piece is given only if all of them are the version's: the ledger knows what was sent
    there, not what a person has done to it since."""

    def __init__(self, reader: Reader, record: Record) -> None:
        self._reader = reader
        self._record = record
        self._left = record.size
        self._sha256 = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._reader.read(min(size, self._left) if size >= 0 else self._left)
        self._left -= len(data)
        self._sha256.update(data)
        if not self._left:
            is_it = self._record.sha256 in ("", self._sha256.hexdigest())
            if not is_it or self._reader.read(1):
                raise Unavailable("it has another version")
        return data
