"""Waiting until targets hold what was recorded: for deploys, and for what must come after it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Count
from django.utils import timezone

from replicator.ledger import database
from replicator.models import Replica, ReplicaQuerySet, TargetState

Phase = TargetState.Phase

#: Seconds between two looks: the first, which then grows to the last.
_SOON, _LATER = 0.1, 2.0
#: How much longer than a look takes the ledger is left alone after it.
_REST = 10
#: How many names a report gives for each target.
_EXAMPLES = 5
#: So many names are asked for by name: the backlog, which may be large, is not read for them.
_FEW = 500


class NotSynced(Exception):
    """Targets lack what was waited for. The message says what is missing where, why, and what to do.

    *files*: (storage, name) of each file that was saved and lacks copies, if it was a save that waited.
    """

    def __init__(self, message: str, files: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.files = files


@dataclass(frozen=True, slots=True)
class Left:
    """Replicas that are not synced, by target."""

    pending: Mapping[str, int]
    failed: Mapping[str, int]
    """Waiting longer would not help these."""

    def __len__(self) -> int:
        return sum(self.pending.values()) + sum(self.failed.values())


@dataclass(frozen=True, slots=True)
class Awaited:
    """What was written until a moment: at these targets, of these storages (all, if there are none).

    A file that is written again after that moment is not waited for any more: on a site where people upload, a wait
    for everything might never end.
    """

    targets: Collection[str]
    storages: Collection[str] = ()
    names: Collection[str] | None = None
    """Only these, of one storage; None: all. Deletes of them are not waited for."""
    until: datetime = field(default_factory=timezone.now)

    def left(self) -> Left:
        """What is not synced yet. Read from the partial indexes: it costs what the backlog costs."""
        counts: dict[str, Counter[str]] = {"pending": Counter(), "failed": Counter()}
        for status, found in counts.items():
            rows = self._rows().filter(status=status).order_by()
            if self.names is None:
                for target, count in rows.values_list("target").annotate(Count("pk")):
                    found[target] = count
            else:
                names = frozenset(self.names)
                found.update(target for target, name in rows.values_list("target", "file__name") if name in names)
        return Left(counts["pending"], counts["failed"])

    def missing(self, status: str, target: str, limit: int) -> list[Replica]:
        """Some of them, the oldest first, with their files."""
        rows = self._rows().at(target).filter(status=status).select_related("file").order_by("since")
        if self.names is None:
            return list(rows[:limit])
        names = frozenset(self.names)
        return [row for row in rows if row.file.name in names][:limit]

    def _rows(self) -> ReplicaQuerySet:
        rows = Replica.objects.using(database.alias()).filter(target__in=self.targets, since__lte=self.until)
        if self.storages:
            rows = rows.filter(file__storage__in=self.storages)
        if self.names is None:
            return rows
        rows = rows.filter(file__deleted=False)
        # More of them than a statement takes are picked from all rows that are read.
        return rows.filter(file__name__in=list(self.names)) if len(self.names) <= _FEW else rows


def _nobody(_: Left) -> None:
    pass


def wait(awaited: Awaited, seconds: float | None, tell: Callable[[Left], object] = _nobody) -> Left:
    """Wait until nothing is left, something failed that only a person can cure, or *seconds* are over; what is left.

    *tell* gets each look's result. Does not deliver: workers do, wherever they run. Raises ``RuntimeError`` inside a
    transaction, since no worker sees what it has not committed.
    """
    end = None if seconds is None else time.monotonic() + seconds
    pause = _SOON
    while True:
        begun = time.monotonic()
        left = awaited.left()
        tell(left)
        now = time.monotonic()
        if not left or left.failed:
            return left
        if database.connection().in_atomic_block:
            raise RuntimeError("waiting for targets inside a transaction: no worker sees what is not committed")
        if end is not None and now >= end:
            return left
        pause = max(pause, _REST * (now - begun))
        time.sleep(pause if end is None else min(pause, end - now))
        pause = min(pause * 1.5, _LATER)


def report(awaited: Awaited, left: Left) -> Iterator[str]:
    """What is missing where and why, in lines for people."""
    now = timezone.now()
    states = {state.target: state for state in TargetState.objects.using(database.alias())}
    for target in sorted(left.failed.keys() | left.pending.keys()):
        counts = [f"{count:,} {what}" for what in ("failed", "pending") if (count := getattr(left, what)[target])]
        state = states.get(target)
        trouble = ""
        if state is not None and (state.paused or state.phase in (Phase.READ_ONLY, Phase.RETIRED)):
            trouble = f"; it is {'paused' if state.paused else state.phase}"
        elif state is not None and state.state == TargetState.State.DOWN:
            trouble = f"; it is down: {state.reason}"
        elif state is not None and state.failures:
            trouble = f"; it failed last time: {state.reason}"
        yield f"{target}: {', '.join(counts)}{trouble}"
        rows: list[Replica] = []
        for status in ("failed", "pending"):
            rows += awaited.missing(status, target, _EXAMPLES - len(rows))
        for row in rows:
            yield f"  {row.pk}  {row.file}: {_why(row, now)}"
        if sum(getattr(left, what)[target] for what in ("failed", "pending")) > len(rows):
            yield "  …"


def _why(row: Replica, now: datetime) -> str:
    """Why one replica is not synced."""
    wait = max(0.0, (row.due_at - now).total_seconds())
    if row.lease is not None and row.lease_until is not None and row.lease_until > now:
        return "a worker is at it"
    if row.provisional:
        return f"sent, and sent again in {wait:.0f} s: an earlier request that got no answer may still take effect"
    if row.error_kind:
        http = f" (HTTP {row.http_status})" if row.http_status else ""
        again = "" if row.status == Replica.Status.FAILED else f"; tried again in {wait:.0f} s"
        return f"{row.error_kind}{http}: {row.error_text}{again}"
    return "not tried yet"
