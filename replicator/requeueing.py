"""What people ask for once they have cured the cause of a failure: another try, now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.db import connections, transaction
from django.db.models import Count, Q, QuerySet

from replicator import ledger, wake
from replicator.conf import config
from replicator.ledger import backfilling, database, life
from replicator.models import Replica

#: Replicas in one statement; SQLite takes 32,766 parameters.
_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class Requeued:
    """What became of the failed ones among some replicas."""

    by_target: Mapping[str, int]
    """How many were found, by target."""
    count: int
    """How many are pending again."""
    woken: bool
    """Whether the broker took the wake-ups; if not, the sweep makes up for it."""
    kept: int = 0
    """How many were left alone: there is nothing to send."""

    def notes(self) -> list[str]:
        """Why it may take a while, in sentences for people."""
        notes = []
        if self.kept:
            notes.append(
                f"Left alone: {self.kept:,} of files that were adopted from a target. Nobody else has them to send."
            )
        if not self.woken:
            notes.append("The broker can't be reached: the next sweep that runs will wake the workers.")
        notes += filter(None, map(waits, sorted(self.by_target)))
        for target in sorted(self.by_target.keys() - config().targets.keys()):
            notes.append(f'{target} is not in REPLICATOR["TARGETS"] any more: nothing is delivered there.')
        return notes


def waits(target: str) -> str:
    """Why what is due at *target* is not sent, in a sentence; empty if it is."""
    why = life.why_closed(target)
    if not why:
        return ""
    when = {"down": "it gets its files when it answers again", "retired": "nothing is delivered there any more"}
    return f"{target} is {why}: {when.get(why, 'it gets its files when people let it go on')}."


def requeue(replicas: QuerySet[Replica]) -> Requeued:
    """Make the failed ones among *replicas* pending again, and wake workers for their targets. Safe to call twice."""
    rows = Replica.objects.using(database.alias()).failed().filter(pk__in=replicas.order_by().values("pk"))
    found = dict(rows.order_by().values_list("target").annotate(Count("pk")))
    count = ledger.requeue(replicas) if found else 0
    return Requeued(found, count, _wake(sorted(found.keys() & config().targets.keys())))


def send_again(replicas: QuerySet[Replica]) -> Requeued:
    """Have all of *replicas* sent again, whatever was confirmed, and wake workers. Safe to call twice.

    But for files of which no hash is known: forgetting that a target has them would be to give them up.
    """
    chosen = Replica.objects.using(database.alias()).filter(pk__in=replicas.order_by().values("pk"))
    only_there = Q(file__sha256="", file__deleted=False)
    rows, kept = chosen.exclude(only_there), chosen.filter(only_there).count()
    found = dict(rows.order_by().values_list("target").annotate(Count("pk")))
    ids = list(rows.values_list("pk", flat=True)) if found else []
    count = 0
    for at in range(0, len(ids), _BATCH):
        with transaction.atomic(using=database.alias()):
            count += backfilling.distrust(ids[at : at + _BATCH])
    return Requeued(found, count, _wake(sorted(found.keys() & config().targets.keys())), kept)


def _wake(targets: list[str]) -> bool:
    if not connections[database.alias()].in_atomic_block:
        return wake.wake(targets)

    # A worker that looks before the commit finds nothing.
    def after_commit() -> None:
        wake.wake(targets)

    transaction.on_commit(after_commit, using=database.alias())
    return True
