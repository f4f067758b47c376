"""What is under some names of a storage, as the ledger and this disk say, so that a write can be sure of it later."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from django.db.models import Exists, OuterRef

from replicator import local
from replicator.ledger.database import alias as database_alias
from replicator.local import Entry, Identity
from replicator.models import MediaFile, Replica

if TYPE_CHECKING:
    from replicator.storage.reading import Reading


@dataclass(frozen=True, slots=True)
class File:
    """What a reader would get."""

    size: int
    """Bytes."""
    modified: datetime
    sha256: str = ""
    """Empty if it is not known."""
    version: UUID | None = None
    """None: it is not what the ledger has."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was under a name when somebody looked."""

    file: File | None
    """None: there is none."""
    version: UUID | None
    """The ledger's, also of a deleted file, or one that can't be found; None: it has never seen the name."""
    here: Identity | None
    """Of what is on this disk, whatever it is; None: nothing is."""


def look(storage: Reading, names: Collection[str], *, may_be_old: bool) -> Mapping[str, Seen]:
    """What is under each of *names*, which are clean. One query.

    *may_be_old*: what is here counts only if it is what the ledger says, and a file that a target is known to hold
    need not be here. Else what is here is what counts. What a write put here that is not committed, or was killed,
    never does.
    """
    rows = MediaFile.objects.using(database_alias()).filter(storage=storage.alias, name__in=names)
    if may_be_old:
        there = Replica.objects.current().filter(file=OuterRef("pk"), target__in=storage.targets)
        rows = rows.annotate(is_elsewhere=Exists(there))
    known = {row.name: row for row in rows}
    journal: Mapping[str, Sequence[Entry]] | None = None
    seen: dict[str, Seen] = {}
    for name in names:
        place, row = storage.path(name), known.get(name)
        here = local.identity(place, regular=False)
        entries: Sequence[Entry] = ()
        if here is not None:
            # Read once, and after the rows: an entry that has gone by then was committed before.
            journal = local.traces(os.fspath(storage.location)) if journal is None else journal
            entries = journal.get(name, ())
        version = row.version if row else None
        others = [entry for entry in entries if entry.version != version]
        # What tidy would put back, should none of these ever be committed.
        shown = local.before(others, place) if others else place
        file = _by_ledger(shown, row) if may_be_old else _by_disk(shown, row)
        seen[name] = Seen(file, version, here)
    return seen


def _by_ledger(place: str | None, row: MediaFile | None) -> File | None:
    if row is None:
        return _here(place)
    found = not row.deleted and (_has(place, row) or getattr(row, "is_elsewhere", False))
    return _recorded(row) if found else None


def _by_disk(place: str | None, row: MediaFile | None) -> File | None:
    file = _here(place)
    if row is None or file is None:
        return file
    if row.deleted:
        # What is older than its deletion is about to go; what is younger, somebody put here since.
        return file if file.modified > row.updated_at else None
    return _recorded(row) if file.size == row.size else file


def _recorded(row: MediaFile) -> File:
    return File(row.size, row.updated_at, row.sha256, row.version)


def _has(path: str | None, row: MediaFile) -> bool:
    """Whether what is there could be the file of *row*."""
    file = _here(path)
    return file is not None and not row.deleted and file.size == row.size


def _here(path: str | None) -> File | None:
    if path is None:
        return None
    try:
        status = Path(path).stat()
    except (OSError, ValueError):  # a name that is too long, too, or below a file: then nothing is there
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return File(status.st_size, datetime.fromtimestamp(status.st_mtime, tz=UTC))
