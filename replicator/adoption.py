"""Adopting: recording the files that are in a storage already, so that they replicate."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

from django.core.exceptions import ImproperlyConfigured

from replicator import ledger, local, wake
from replicator.errors import Refused
from replicator.ledger import Write, database
from replicator.models import MediaFile
from replicator.storage.names import LONGEST_NAME
from replicator.storage.replicated import ReplicatedStorage, replicated_storages
from replicator.targets.base import safe_name

#: Bytes after which a batch is recorded before it is full: what an interruption may cost.
_BATCH_BYTES = 256 * 1024 * 1024
#: Parameters of one statement; SQLite takes 32,766.
_PARAMETERS = 30_000


@dataclass(frozen=True, slots=True)
class Note:
    """Something about one name that a person should know."""

    kind: str
    """``refused``: will never replicate as it is. ``skipped``: left alone on purpose. ``deleted``: it stays so."""
    name: str
    """As Python writes it: it may have bytes that no terminal shows."""
    text: str


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file that can be sent."""

    name: str
    path: str
    size: int


def _nobody(*_: object) -> None:
    pass


@dataclass(slots=True)
class Adoption:
    """One run over one storage; its counts grow while it runs, and hold when it is interrupted.

    *tell* gets each note as it arises. *progress* is told of each few files: how many more were looked at, and
    their bytes. With *dry_run* nothing is read or recorded.
    """

    storage: ReplicatedStorage
    batch: int = 500
    dry_run: bool = False
    tell: Callable[[Note], object] = _nobody
    progress: Callable[[int, int], object] = _nobody

    #: What to do about a file that was deleted.
    stays_deleted: ClassVar[str] = "to bring it back, save it through the site; else remove it here"

    adopted: int = 0
    adopted_bytes: int = 0
    known: int = 0
    """Recorded already."""
    refused: int = 0
    skipped: int = 0
    deleted: int = 0

    def run(self) -> None:
        """Record the files that the ledger has never seen, as pending at each of the storage's targets.

        Resumable: what is recorded is passed over before it is read, and each batch is recorded when it is full;
        what was read of one also when this is interrupted. Memory does not grow with the number of files or their
        size. Raises ``ImproperlyConfigured`` for a storage whose files could not be delivered.
        """
        if problem := self.problem():
            raise ImproperlyConfigured(problem)
        # Eleven columns of a file, ten of a replica.
        size = max(1, min(self.batch, _PARAMETERS // max(11, 10 * len(self.storage.targets))))
        files = self.walk()
        while found := list(islice(files, size)):
            new = self._unknown(found)
            self.progress(len(found) - len(new), sum(f.size for f in found) - sum(f.size for f in new))
            if self.dry_run:
                self.adopted += len(new)
                self.adopted_bytes += sum(f.size for f in new)
                self.progress(len(new), sum(f.size for f in new))
            else:
                self._adopt(new)

    def problem(self) -> str:
        """Why this storage's files can't be adopted; empty if they can."""
        if not self.storage.targets:
            return (
                f"STORAGES[{self.storage.alias!r}] has no targets: there is nothing that its files would be sent to."
            )
        return self.storage.problem_with_alias

    def count(self) -> int | None:
        """How many files ``run`` will look at: a quick walk, for a progress bar. None if that would not be quick."""
        return sum(1 for _ in Adoption(self.storage).walk())

    def walk(self) -> Iterator[Found]:
        """Every file of the storage that can be sent; what can't is noted."""
        root = os.fspath(self.storage.location)
        own = os.path.realpath(root)
        others = (s for s in replicated_storages() if s.alias != self.storage.alias)
        nested = {os.path.realpath(other.location): other.alias for other in others}
        nested.pop(own, None)
        folders = [""]
        while folders:
            folder = folders.pop()
            here = f"{root}/{folder}" if folder else root
            owner = nested.get(os.path.realpath(here)) if nested else None
            if owner is not None:
                self._note("skipped", folder, f"is the storage {owner!r}, which is adopted by itself")
                continue
            try:
                entries = os.scandir(here)
            except FileNotFoundError:
                # A storage that nothing was saved to yet has none. A folder that went meanwhile is no news.
                if not folder:
                    self._note("skipped", root, "is not there yet: there is nothing to adopt")
                continue
            except OSError as error:
                self._note("refused", folder or root, f"is a folder that can't be read: {error.strerror}")
                continue
            with entries:
                for entry in entries:
                    name = f"{folder}/{entry.name}" if folder else entry.name
                    if local.is_ours(entry.name):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(name)
                    elif (found := self._found(name, entry)) is not None:
                        yield found

    def _note(self, kind: str, name: str, text: str) -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        self.tell(Note(kind, repr(name), text))

    def _found(self, name: str, entry: os.DirEntry[str]) -> Found | None:
        try:
            facts = entry.stat()
        except OSError as error:
            if entry.is_symlink():
                self._note("skipped", name, f"is a symbolic link that leads nowhere: {error.strerror}")
            elif not isinstance(error, FileNotFoundError):  # one that went meanwhile is no news
                self._note("refused", name, f"can't be read: {error.strerror}")
            return None
        if stat.S_ISDIR(facts.st_mode):
            # Followed, it could lead out of the storage, or round in circles.
            self._note("skipped", name, "is a symbolic link to a folder: move the folder there, or mount it there")
        elif not stat.S_ISREG(facts.st_mode):
            self._note("skipped", name, "is no file but a socket, a pipe or a device")
        elif cure := refusal(name):
            self._note("refused", name, cure)
        else:
            return Found(name, entry.path, facts.st_size)
        return None

    def _unknown(self, found: Sequence[Found]) -> list[Found]:
        """Those that the ledger has never seen."""
        rows = MediaFile.objects.using(database.alias()).filter(storage=self.storage.alias)
        known = dict(rows.filter(name__in=[f.name for f in found]).values_list("name", "deleted"))
        for file in found:
            if known.get(file.name) is False:
                self.known += 1
            elif file.name in known:
                self._note("deleted", file.name, f"was deleted and stays so: {self.stays_deleted}")
        return [f for f in found if f.name not in known]

    def _adopt(self, files: Sequence[Found]) -> None:
        writes: list[Write] = []
        size = 0
        try:
            for file in files:
                if (write := self._read(file)) is not None:
                    writes.append(write)
                    size += write.size
                if size >= _BATCH_BYTES:
                    full, writes, size = writes, [], 0
                    self._record(full)
                self.progress(1, file.size)
        finally:
            # Also when interrupted: what was read need not be read again.
            self._record(writes)

    def _read(self, file: Found) -> Write | None:
        try:
            digest = local.steady_digest(file.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._note("refused", file.name, f"can't be read: {error.strerror}")
            return None
        if digest is None:
            self._note("skipped", file.name, "changes while it is read: adopt again when it is written")
            return None
        return self.storage.as_write(file.name, digest, uuid4())

    def _record(self, writes: Sequence[Write]) -> None:
        """Record *writes* but those that a transaction is just making: it may be rolled back."""
        if not writes:
            return
        # What the site shows before its commit has an entry in the journal. The look comes after the reading:
        # an entry that is gone by now was committed, and the ledger knows the name, or undone, and the file is gone.
        journal = local.leftovers(os.fspath(self.storage.location), older_than=-3600.0)
        unsettled = {entries[0].name for entries in journal}
        settled = []
        for write in writes:
            if write.name in unsettled:
                text = "is being saved or deleted just now, or was when a process was killed: the site sees to it"
                self._note("skipped", write.name, text)
            elif Path(self.storage.path(write.name)).exists():
                settled.append(write)
        new = ledger.record_new(settled, self.storage.targets)
        self.adopted += new
        # Those that the site recorded meanwhile. Which they are is not told; their bytes count as adopted.
        self.known += len(settled) - new
        self.adopted_bytes += sum(w.size for w in settled)
        wake.announce(self.storage.targets)


def refusal(name: str) -> str:
    """Why this name can't be sent, and what to do; empty if it can."""
    if "\\" in name:
        return "has a backslash, which servers take for a slash: rename it"
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return "is not UTF-8: rename it (convmv -f latin1 -t utf8 does a whole tree)"
    if len(encoded) > LONGEST_NAME:
        return f"has {len(encoded)} bytes, and {LONGEST_NAME} is the most: move it to a shorter name"
    try:
        safe_name(name)
    except Refused:
        return "is empty, absolute or leaves its storage: rename it"
    return ""
