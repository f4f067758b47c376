"""What a caller waits for, and which replicas are to be sent for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.utils import timezone

from replicator import ledger
from replicator.ledger import Seen, database
from replicator.models import MediaFile

#: Seconds after which a request that got no answer is hedged: another target is sent the file, too.
HEDGE = 1.0


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


def short(files: Sequence[Wanted], seconds: float) -> list[tuple[Wanted, list[Seen]]]:
    """Those of *files* that lack copies, each with its replicas, in the order of its targets. *seconds*: how long
    they are waited for from now on.

    Not what was written again since, or was rolled back to a savepoint: that version comes nowhere any more.
    """
    end = timezone.now() + timedelta(seconds=seconds)
    found: list[tuple[Wanted, list[Seen]]] = []
    seen = {storage: _seen(storage, files, end) for storage in {wanted.storage for wanted in files}}
    nowhere = _nowhere([wanted for wanted in files if not seen[wanted.storage].get(wanted.name)])
    for wanted in files:
        there = seen[wanted.storage].get(wanted.name, {})
        mine = [there[target] for target in wanted.targets if target in there]
        mine = [row for row in mine if row.file_version == wanted.version]
        if (mine or wanted in nowhere) and sum(row.synced for row in mine) < wanted.copies:
            found.append((wanted, mine))
    return found


def choose(wanted: Wanted, rows: Sequence[Seen], room: Counter[str], hanging: Collection[str]) -> list[int] | None:
    """Ids of the replicas to send now, no more than are needed; None if the copies can't be had in time.

    *room*: how many more files may be sent to each target; counted down here. *hanging*: targets that leave requests
    of ours unanswered.
    """
    missing = wanted.copies - sum(row.synced for row in rows)
    hoped = [row for row in rows if row.leased or (row.in_time and not row.down)]
    if len(hoped) < missing:
        return None
    # One that has been under way for long is not counted on: that is the hedge.
    missing -= sum(row.young for row in rows)
    due = [row for row in hoped if row.due and room[row.target] > 0]
    due.sort(key=lambda row: row.suspect or row.target in hanging)
    chosen = due[: max(0, missing)]
    room.subtract(row.target for row in chosen)
    return [row.id for row in chosen]


def _nowhere(files: Sequence[Wanted]) -> set[Wanted]:
    """Those of *files* that the ledger has in this version: for no target, since all of theirs drain or are retired.
    The others were rolled back."""
    rows = MediaFile.objects.using(database.alias())
    return {
        wanted
        for wanted in files
        if rows.filter(storage=wanted.storage, name=wanted.name, version=wanted.version).exists()
    }


def _seen(storage: str, files: Sequence[Wanted], end: datetime) -> dict[str, dict[str, Seen]]:
    """The replicas of those of *files* that are of *storage*, by name and target."""
    names = [wanted.name for wanted in files if wanted.storage == storage]
    found: dict[str, dict[str, Seen]] = {}
    for row in ledger.look(storage, names, end=end, young=HEDGE):
        found.setdefault(row.name, {})[row.target] = row
    return found
