"""What a copy reads from and writes to: the contracts that the kinds of sources and destinations keep."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar
from uuid import UUID

from replicator.targets.base import Reader
from replicator.targets.http import PIECE


class NotCopied(Exception):
    """The copy was refused before anything was touched. The message says why, and what to write instead."""


class Changed(Exception):
    """Somebody else wrote this name at the destination in between: look at it again."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a source says of a file without its bytes. None: it does not say."""

    size: int | None = None
    """Bytes."""
    modified: datetime | None = None
    """Aware."""
    checksums: Mapping[str, str] = field(default_factory=dict)
    """Of the whole content: name as in ``hashlib`` → lower-case hex. Only what is certain (no multipart ETag)."""
    content_type: str = ""


def checksum_of(reader: Reader, kind: str) -> str:
    """Lower-case hex of all that *reader* gives; *kind* as in ``hashlib``."""
    found = hashlib.new(kind, usedforsecurity=False)
    while data := reader.read(PIECE):
        found.update(data)
    return found.hexdigest()


class Stream(ABC):
    """One file of a source, being read from its start to its end, once."""

    facts: Facts

    @abstractmethod
    def read(self, size: int = -1, /) -> bytes:
        """Up to *size* bytes (all of the rest if negative); empty at the end.

        Raises ``Unavailable`` for a connection that broke, ``Corrupt`` if what came is not of the size, or not of the
        checksum, that the source had said: at the latest when the end is reached, never after it.
        """


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a source's listing, in the order of the keys."""

    files: Sequence[tuple[str, Facts]]
    """Name, as ``Source.open`` takes it, and what the listing says of it."""
    last: str
    """What the next page is asked for with; empty: this was the last one."""


class Source(ABC):
    """Where files are read from. Nothing here ever writes or deletes, but what ``prove_read_only`` tries.

    One instance per process, used by several threads at once. Each method raises ``Unavailable`` (try again later),
    ``Refused`` (only a person can cure it), or ``Corrupt``; every network call has a time limit.
    """

    alias: str
    """In ``STORAGES``."""
    can_list: ClassVar[bool] = False
    """Whether ``page`` is there."""

    @abstractmethod
    def stat(self, name: str) -> Facts | None:
        """What it has under exactly this *name*; None if it is missing. As cheap as the source allows."""

    @abstractmethod
    def open(self, name: str) -> AbstractContextManager[Stream]:
        """Raises ``FileNotFoundError`` if it is missing. Left early, the connection is dropped, not drained."""

    def page(self, after: str) -> Page:
        """The files that come after the key *after* (empty: from the start), a thousand or so of them."""
        raise NotImplementedError

    @abstractmethod
    def address(self, name: str) -> str:
        """Where it keeps the file, as ``Target.addresses`` writes it, with the name at its end. No network."""

    @abstractmethod
    def check(self) -> None:
        """Return if it answers: asked once, before a run begins. A few seconds at most."""

    @abstractmethod
    def prove_read_only(self) -> None:
        """Return if it is certain that it takes no writes from this site; leaves nothing behind, even if it does.

        Raises ``NotCopied`` if it takes them, or if that can't be told, with what to do about it.
        """

    def close(self) -> None:  # noqa: B027 - most kinds keep none
        """Drop kept connections. The source can be used again afterwards."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a destination has under a name."""

    size: int
    modified: datetime | None = None
    """When it was written there; None: unknown."""
    checksums: Mapping[str, str] = field(default_factory=dict)
    """As those of ``Facts``; what is known without reading it."""
    version: UUID | None = None
    """Of the ledger, for storages that replicate; None: the ledger does not have it."""


class Destination(ABC):
    """A field's own storage, written to under exact names. One instance per storage and process; several threads."""

    @abstractmethod
    def clean(self, name: str) -> str:
        """*name* as it will be written. Raises ``Refused`` for one that must not be: absolute, ``..``, too long, …"""

    @abstractmethod
    def address(self, name: str) -> str:
        """Equal, in every process, for what is the same place and name: fields with storages that share a place share
        its files. No network."""

    @abstractmethod
    def held(self, names: Sequence[str]) -> Mapping[str, Held]:
        """What it has of *names* (cleaned); those that are missing have no entry. One statement for the ledger."""

    @abstractmethod
    def put(self, name: str, stream: Stream, over: Held | None) -> int:
        """Write all of *stream* under exactly *name*; the bytes written. Nothing is visible before all is there, and
        nothing if the stream raises.

        *over*: what ``held`` said of it, which may be replaced; None: nothing was there. Raises ``Changed`` if it is
        something else by now. A name of a storage that replicates is recorded, for every target, with it.
        """

    @abstractmethod
    def checksum(self, name: str, kind: str) -> str:
        """Of what is there, read for it: lower-case hex; *kind* as in ``hashlib``.

        Raises ``Changed`` if it has gone.
        """

    @abstractmethod
    def exists_unrecorded(self, name: str) -> bool:
        """Whether the file is there, and the ledger of a storage that replicates has never seen it."""

    @abstractmethod
    def adopt(self, name: str) -> None:
        """Record a file of which ``exists_unrecorded`` is true, as it is, so that it replicates. Raises
        ``Unavailable`` if it does not hold still."""

    def copy_within(self, source: Source, name: str, facts: Facts | None, over: Held | None) -> int | None:
        """Have the store itself copy the file: the bytes copied; None if this pair of places can't.

        Raises ``FileNotFoundError`` if it is missing at the source, else as ``put`` and ``Source.open`` do.
        """
        return None
