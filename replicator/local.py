"""The local files of a storage: staged beside their place, put there whole, undone if nobody meant it.

A write leaves three traces beside its file, all named after its version, until its transaction has committed:

- ``.replicator/<version>`` below the storage's location: the journal entry, which holds the file's name;
- ``.replicator-<version>.new`` beside the file: a hard link to what the write put in place;
- ``.replicator-<version>.old`` beside the file: a hard link to what it replaced or wants to delete.

So whatever is killed or rolled back, ``tidy`` can find out what is there and whether it should be: Django tells
nobody of a rollback.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from uuid import UUID

from django.core.files import File

JOURNAL = ".replicator"
PREFIX = ".replicator-"
#: Of a file that is here while a target is asked for it: without the dot, since many servers show no names with one.
ASKING = "replicator-asks-"


def is_ours(name: str) -> bool:
    """Whether some segment of *name* is of the kind that only storages make for themselves."""
    return any(part == JOURNAL or part.startswith((PREFIX, ASKING)) for part in name.split("/"))


def kept(place: str, version: UUID) -> str:
    """The link beside *place* to what the write of *version* put there, while there is one."""
    return f"{place.rpartition('/')[0]}/{PREFIX}{version.hex}.new"


#: What a file is known by from one look to the next.
Identity = tuple[int, int, int, int]


def identity(place: str, *, regular: bool = True) -> Identity | None:
    """That of a regular file, or of anything, a link too; None if there is none."""
    try:
        status = os.lstat(place)
    except (OSError, ValueError):
        return None
    return identity_of(status) if stat.S_ISREG(status.st_mode) or not regular else None


def identity_of(status: os.stat_result) -> Identity:
    """That of what has this *status*."""
    # Not by its ctime: the write's own traces, which are links, may go in between.
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(frozen=True, slots=True)
class Digest:
    """What some content is."""

    size: int
    sha256: str


class Entry:
    """One write's traces. Paths are plain strings: this is on the path of every save."""

    __slots__ = ("name", "new", "old", "passing", "place", "record", "root", "version")

    def __init__(self, root: str, name: str, version: UUID) -> None:
        self.root, self.name, self.version = root, name, version
        self.place = f"{root}/{name}"
        self.record = f"{root}/{JOURNAL}/{version.hex}"
        beside = f"{self.place.rpartition('/')[0]}/{PREFIX}{version.hex}"
        self.new, self.old, self.passing = f"{beside}.new", f"{beside}.old", f"{beside}.put"

    def open(self) -> None:
        """Write the journal entry: before anything else, so that nothing is ever left unfindable.

        A symbolic link that leads nowhere, with the name as its text: one call, and on a journaling file system
        on the disk no later than the content that is synced after it.
        """
        try:
            os.symlink(self.name, self.record)
        except FileNotFoundError:
            os.makedirs(f"{self.root}/{JOURNAL}", exist_ok=True)
            os.symlink(self.name, self.record)

    def close(self) -> None:
        """Remove the traces: the entry last, so that it can be done again."""
        for trace in (self.passing, self.new, self.old, self.record):
            with suppress(FileNotFoundError, NotADirectoryError):
                os.unlink(trace)

    def stage(self, content: File[bytes], mode: int | None, *, sync: bool = True) -> Digest:
        """Write *content* beside its place, hashed on the way and synced to the disk.

        Without *sync*, call ``sync`` before the write is recorded: many files are synced faster together.
        """
        sha256, size = hashlib.sha256(), 0
        descriptor = os.open(self.new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            for chunk in content.chunks():
                data = chunk.encode() if isinstance(chunk, str) else chunk
                _write_all(descriptor, data)
                sha256.update(data)
                size += len(data)
            if mode is not None:
                os.fchmod(descriptor, mode)
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return Digest(size, sha256.hexdigest())

    def sync(self) -> None:
        """Sync what was staged to the disk."""
        descriptor = os.open(self.new, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def put_in_free_place(self) -> None:
        """Show what was staged. Raises ``FileExistsError`` if the name is taken: the disk decides, for all."""
        os.link(self.new, self.place)

    def put_in_place_of(self, seen: Identity | None) -> None:
        """As ``put_in_place``, if this is what is there; None: nothing is. Else raises ``FileExistsError``."""
        if seen is None:
            self.put_in_free_place()
        elif identity(self.place, regular=False) == seen:
            self.put_in_place()
        else:
            raise FileExistsError(errno.EEXIST, "something else is there by now", self.place)

    def is_in_place(self) -> bool:
        """Whether what this write put there is what is shown."""
        return _same(self.new, self.place)

    def put_in_place(self) -> None:
        """Show what was staged instead of what was there, keeping that until ``close``."""
        self.keep_old()
        # A link of a link: the rename consumes one name, and the other goes on saying what this write put there.
        self.show(self.new)

    def show(self, kept: str) -> None:
        """Put a link to *kept* in place, in one step."""
        with suppress(FileNotFoundError):
            os.unlink(self.passing)
        os.link(kept, self.passing)
        os.replace(self.passing, self.place)

    def keep_old(self) -> None:
        """Hold on to what is there now, if anything."""
        with suppress(FileNotFoundError):
            os.link(self.place, self.old)

    def remove_old(self) -> bool:
        """Remove what ``keep_old`` saw at the place; anything that came since stays. Whether nothing is there now."""
        if _same(self.old, self.place):
            os.unlink(self.place)
        return not os.path.lexists(self.place)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def leads_out(root: str, place: str) -> bool:
    """Whether a link on the way to *place*, which is below *root* by its name, leads elsewhere."""
    folder, top = os.path.realpath(os.path.dirname(place)), os.path.realpath(root)
    return os.path.commonpath([folder, top]) != top


def is_in_the_way(place: str) -> bool:
    """Whether something that is no file is there."""
    return os.path.lexists(place) and not os.path.isfile(place)


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samestat(os.lstat(one), os.lstat(other))
    except OSError:  # a name that is too long, too, or below a file: then nothing is there
        return False


def _holds(path: str, wanted: Digest) -> bool:
    """Whether this is what is in *path*. The size first: a name is held meanwhile, and hashing takes its time."""
    try:
        with open(path, "rb") as file:
            return (
                os.fstat(file.fileno()).st_size == wanted.size
                and hashlib.file_digest(file, "sha256").hexdigest() == wanted.sha256
            )
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False


#: A file that changes each time it is read is left alone after so many.
_TRIES = 3


def steady_digest(path: str) -> Digest | None:
    """What is in *path*; None if it would not hold still."""
    for _ in range(_TRIES):
        # Should it have become a pipe meanwhile, don't wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            before = os.fstat(descriptor)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            if identity_of(before) == identity_of(os.fstat(descriptor)) == identity_of(os.stat(path)):
                return Digest(before.st_size, sha256)
    return None


#: By what changes when a file does.
_digests: dict[tuple[int, ...], str] = {}
_MOST_DIGESTS = 10_000


def is_content(file: BufferedReader, wanted: Digest) -> bool:
    """Whether an open file is *wanted*; its size must do if that has no hash, as of some adopted files.

    Read once by this process, for as long as the file stays as it is. Leaves it at its start.
    """
    status = os.fstat(file.fileno())
    if status.st_size != wanted.size:
        return False
    if not wanted.sha256:
        return True
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    digest = _digests.get(identity)
    if digest is None:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        if len(_digests) >= _MOST_DIGESTS:
            _digests.clear()
        _digests[identity] = digest
    return digest == wanted.sha256


def traces(root: str) -> dict[str, list[Entry]]:
    """All entries of the journal, by name: of writes under way, and of those that were killed or rolled back."""
    found: dict[str, list[Entry]] = {}
    with suppress(FileNotFoundError), os.scandir(f"{root}/{JOURNAL}") as records:
        for record in records:
            # As in leftovers.
            with suppress(OSError, ValueError):
                entry = Entry(root, os.readlink(record.path), UUID(hex=record.name))
                found.setdefault(entry.name, []).append(entry)
    return found


def leftovers(root: str, older_than: float) -> Iterator[list[Entry]]:
    """The journal's entries, those of one name together, of names whose last write is *older_than* seconds ago.

    Older entries wait for the younger ones of their name: only all of them together say what was there before.
    """
    by_name: dict[str, list[Entry]] = {}
    limit = time.time() - older_than
    young: set[str] = set()
    with suppress(FileNotFoundError), os.scandir(f"{root}/{JOURNAL}") as records:
        for record in records:
            # One that is finished just now is gone; something that is no entry is none of ours.
            with suppress(OSError, ValueError):
                written = record.stat(follow_symlinks=False).st_mtime
                entry = Entry(root, os.readlink(record.path), UUID(hex=record.name))
                by_name.setdefault(entry.name, []).append(entry)
                # A slow upload is as young as its last byte.
                with suppress(FileNotFoundError):
                    written = max(written, os.lstat(entry.new).st_mtime)
                if written > limit:
                    young.add(entry.name)
    for name, entries in by_name.items():
        if name not in young:
            yield entries


def restore(entries: Sequence[Entry], wanted: Digest | None, version: UUID | None) -> str:
    """Make the place of *entries* (all of one name) what the ledger says; one word for what was done.

    *wanted*: the living file's content, None if there is none. *version*: the ledger's, None if it knows no such
    name. The caller sees to it that no one writes this name meanwhile. Removes only what one of these writes put
    there, or what a committed delete among them saw: a file that came from elsewhere stays, or comes back.
    """
    place = entries[0].place
    ours = any(_same(entry.new, place) for entry in entries)
    delete = next((entry for entry in entries if entry.version == version), None) if wanted is None else None
    kept: str | None = None
    if wanted is not None:
        if _holds(place, wanted):
            return _closed(entries, "nothing")
        kept = next((path for e in entries for path in (e.new, e.old) if _holds(path, wanted)), None)
        if kept is None and ours:
            # The ledger's version is nowhere here. What a rolled back write replaced is better than what it wrote.
            kept = before(entries, place)
    elif delete is not None:
        ours = ours or _same(delete.old, place)
    elif ours:
        # No file is meant to be here, but one that came from elsewhere may have been overwritten. It is not one that
        # was deleted: a delete that does not find its file at the place leaves its traces, and is among the entries.
        kept = before(entries, place)
    if kept is not None:
        entries[0].show(kept)
        return _closed(entries, "restored")
    if ours:
        os.unlink(place)
        return _closed(entries, "removed")
    return _closed(entries, "nothing")


def before(entries: Sequence[Entry], place: str) -> str | None:
    """A link to what was at *place* before *entries* came, each over the one before; None if nothing was."""
    left, kept = list(entries), place
    while shown := next((entry for entry in left if _same(entry.new, kept)), None):
        left.remove(shown)
        kept = shown.old
    return kept if os.path.lexists(kept) else None


def _closed(entries: Sequence[Entry], done: str) -> str:
    for entry in entries:
        entry.close()
    return done
