"""What a caller waits for, and which replicas are to be sent for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from replicator.ledger import database
from replicator.models import Replica

Status = Replica.Status

#: Seconds after which a request that got no answer is hedged: another target is sent the file, too.
HEDGE = 1.0
#: Names in one statement.
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Wanted:
    """One version of a file, and how many of these targets are to confirm it."""

    storage: str
    name: str
    version: UUID
    targets: tuple[str, ...]
    copies: int
    seconds: float
    """How long it is waited for, at most."""


class Row(NamedTuple):
    """What the ledger says of one replica."""

    id: int
    name: str
    file_version: UUID
    target: str
    status: str
    version: UUID | None
    due_at: datetime
    lease_until: datetime | None
    attempted_at: datetime | None

    def is_synced(self) -> bool:
        return self.status == Status.SYNCED and self.version == self.file_version

    def is_leased(self, now: datetime) -> bool:
        return self.status == Status.PENDING and self.lease_until is not None and self.lease_until > now

    def is_due(self, now: datetime) -> bool:
        return self.status == Status.PENDING and self.due_at <= now and not self.is_leased(now)

    def age(self, now: datetime) -> float:
        """Seconds since it was claimed."""
        return 0.0 if self.attempted_at is None else (now - self.attempted_at).total_seconds()


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of the targets when it is decided where to send."""

    down: Collection[str]
    suspects: Collection[str]
    """Those that do not do well."""
    room: Counter[str]
    """How many more files may be sent to each; counted down as they are chosen."""


def short(files: Sequence[Wanted]) -> list[tuple[Wanted, list[Row]]]:
    """Those of *files* that lack copies, each with its replicas, in the order of its targets.

    Not what was written again since, or was rolled back to a savepoint: that version comes nowhere any more.
    """
    found: list[tuple[Wanted, list[Row]]] = []
    rows = {storage: _rows(storage, files) for storage in {wanted.storage for wanted in files}}
    for wanted in files:
        there = rows[wanted.storage].get(wanted.name, {})
        mine = [there[target] for target in wanted.targets if target in there]
        mine = [row for row in mine if row.file_version == wanted.version]
        if mine and sum(row.is_synced() for row in mine) < wanted.copies:
            found.append((wanted, mine))
    return found


def choose(wanted: Wanted, rows: Sequence[Row], health: Health, now: datetime, end: datetime) -> list[int] | None:
    """Ids of the replicas to send now, no more than are needed; None if the copies can't be had before *end*."""
    leased = [row for row in rows if row.is_leased(now)]
    hoped = [row for row in rows if row.status == Status.PENDING and row.due_at <= end]
    hoped = [row for row in hoped if row.target not in health.down or row in leased]
    missing = wanted.copies - sum(row.is_synced() for row in rows)
    if len(hoped) < missing:
        return None
    # One that has been under way for long is not counted on: that is the hedge.
    missing -= sum(row.age(now) < HEDGE for row in leased)
    due = [row for row in hoped if row.is_due(now) and health.room[row.target] > 0]
    due.sort(key=lambda row: row.target in health.suspects)
    chosen = due[: max(0, missing)]
    health.room.subtract(row.target for row in chosen)
    return [row.id for row in chosen]


def _rows(storage: str, files: Sequence[Wanted]) -> dict[str, dict[str, Row]]:
    """The replicas of those of *files* that are of *storage*, by name and target."""
    names = [wanted.name for wanted in files if wanted.storage == storage]
    found: dict[str, dict[str, Row]] = {}
    for start in range(0, len(names), _BATCH):
        replicas = Replica.objects.using(database.alias()).filter(
            file__storage=storage, file__name__in=names[start : start + _BATCH]
        )
        for values in replicas.values_list(
            "id",
            "file__name",
            "file__version",
            "target",
            "status",
            "version",
            "due_at",
            "lease_until",
            "attempted_at",
        ):
            row = Row(*values)
            found.setdefault(row.name, {})[row.target] = row
    return found
