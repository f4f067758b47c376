"""The local files of a storage: staged beside their place, put there whole, undone if nobody meant it.

A write leaves three traces beside its file, all named after its version, until its transaction has committed:

- ``.replicator/<version>`` below the storage's location: the journal entry, holding the file's name;
- ``.replicator-<version>.new`` beside the file: a hard link to what the write put in place;
- ``.replicator-<version>.old`` beside the file: a hard link to what it replaced or wants to delete.

So whatever is killed or rolled back, ``tidy`` can find out what is there and whether it should be: Django tells
nobody of a rollback.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from django.core.files import File

JOURNAL = ".replicator"
PREFIX = ".replicator-"


def is_ours(name: str) -> bool:
    """Whether some segment of *name* is of the kind that only this module makes."""
    return any(part == JOURNAL or part.startswith(PREFIX) for part in name.split("/"))


@dataclass(frozen=True, slots=True)
class Digest:
    """What some content is."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One write's traces."""

    root: Path
    name: str
    version: UUID

    @property
    def place(self) -> Path:
        return self.root / self.name

    @property
    def new(self) -> Path:
        return self.place.with_name(f"{PREFIX}{self.version.hex}.new")

    @property
    def old(self) -> Path:
        return self.place.with_name(f"{PREFIX}{self.version.hex}.old")

    @property
    def passing(self) -> Path:
        return self.place.with_name(f"{PREFIX}{self.version.hex}.put")

    @property
    def record(self) -> Path:
        return self.root / JOURNAL / self.version.hex

    def open(self) -> None:
        """Write the journal entry: before anything else, so that nothing is ever left unfindable."""
        try:
            self._write_record()
        except FileNotFoundError:
            self.record.parent.mkdir(parents=True, exist_ok=True)
            self._write_record()

    def _write_record(self) -> None:
        with self.record.open("w", encoding="utf-8") as file:
            file.write(self.name)

    def close(self) -> None:
        """Remove the traces: the entry last, so that it can be done again."""
        self.passing.unlink(missing_ok=True)
        self.new.unlink(missing_ok=True)
        self.old.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)

    def stage(self, content: File[bytes], mode: int | None) -> Digest:
        """Write *content* beside its place, hashed on the way and synced to the disk."""
        sha256, size = hashlib.sha256(), 0
        with self.new.open("xb", buffering=0) as file:
            for chunk in content.chunks():
                data = chunk.encode() if isinstance(chunk, str) else chunk
                _write_all(file.fileno(), data)
                sha256.update(data)
                size += len(data)
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        return Digest(size, sha256.hexdigest())

    def put_in_free_place(self) -> None:
        """Show what was staged. Raises ``FileExistsError`` if the name is taken: the disk decides, at once for all."""
        self.place.hardlink_to(self.new)
        _sync_directory(self.place.parent)

    def put_in_place(self) -> None:
        """Show what was staged instead of what was there, keeping that until ``close``."""
        self.keep_old()
        # A link of a link: the rename consumes one name, and the other goes on saying what this write put there.
        self.show(self.new)
        _sync_directory(self.place.parent)

    def show(self, kept: Path) -> None:
        """Put a link to *kept* in place, in one step."""
        self.passing.unlink(missing_ok=True)
        self.passing.hardlink_to(kept)
        self.passing.replace(self.place)

    def keep_old(self) -> None:
        """Hold on to what is there now, if anything."""
        with suppress(FileNotFoundError):
            self.old.hardlink_to(self.place)

    def remove_old(self) -> None:
        """Remove what ``keep_old`` saw at the place; anything that came since stays."""
        if _same(self.old, self.place):
            self.place.unlink(missing_ok=True)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except FileNotFoundError:
        return False


def digest(path: Path) -> Digest | None:
    """What is in *path*; None if there is nothing."""
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return Digest(file.tell(), sha256)
    except (FileNotFoundError, IsADirectoryError):
        return None


def leftovers(root: Path, older_than: float) -> Iterator[list[Entry]]:
    """The journal's entries of writes made more than *older_than* seconds ago, those of one name together."""
    by_name: dict[str, list[Entry]] = {}
    limit = time.time() - older_than
    try:
        records = list((root / JOURNAL).iterdir())
    except FileNotFoundError:
        return
    for record in records:
        with suppress(FileNotFoundError, ValueError):
            if record.stat().st_mtime <= limit:
                entry = Entry(root, record.read_text(encoding="utf-8"), UUID(hex=record.name))
                by_name.setdefault(entry.name, []).append(entry)
    yield from by_name.values()


def restore(entries: Iterable[Entry], wanted: Digest | None, version: UUID | None) -> str:
    """Make the place of *entries* (all of one name) what the ledger says; one word for what was done.

    *wanted*: the living file's content, None if there is none. *version*: the ledger's, None if it knows no such
    name. The caller sees to it that no one writes this name meanwhile. Removes only what one of these writes put
    there, or what a committed delete among them saw: a file that came from elsewhere stays.
    """
    entries = list(entries)
    place = entries[0].place
    done = "nothing"
    if wanted is None:
        meant = [e.old for e in entries if e.version == version] + [e.new for e in entries]
        if any(_same(path, place) for path in meant):
            place.unlink()
            done = "removed"
    elif digest(place) != wanted:
        kept = next((p for e in entries for p in (e.new, e.old) if digest(p) == wanted), None)
        if kept is not None:
            entries[0].show(kept)
            done = "restored"
        elif any(_same(entry.new, place) for entry in entries):
            place.unlink()
            done = "removed"
    for entry in entries:
        entry.close()
    return done
