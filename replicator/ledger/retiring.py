"""Forgetting what is known of a target that is retired."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from replicator.ledger import database
from replicator.models import Replica, ReplicaQuerySet, TargetState


def replicas_at(target: str) -> ReplicaQuerySet:
    return Replica.objects.using(database.alias()).at(target)


def next_replicas(target: str, after: int, limit: int) -> dict[int, int]:
    """The next replicas at *target* by their files, those with an id above *after*: their ids → their files'."""
    # Without the files' rows: PostgreSQL would merge the two tables, and read the files from the first one on.
    rows = replicas_at(target).filter(file_id__gt=after).order_by("file_id")
    return dict(rows.values_list("pk", "file_id")[:limit])


def with_files(ids: Sequence[int]) -> list[Replica]:
    return list(Replica.objects.using(database.alias()).filter(pk__in=ids).select_related("file"))


def only_copies(target: str, others: Collection[str]) -> QuerySet[Replica]:
    """Replicas of living files that *target* has as they are now, and none of *others* has."""
    # Also those that wait for another class, or were refused it: their bytes are there.
    holding = Replica.objects.using(database.alias()).filter(version=F("file__version"), file__deleted=False)
    elsewhere = holding.filter(file=OuterRef("file"), target__in=others, doubt=False)
    return holding.at(target).filter(~Exists(elsewhere))


def remove(ids: Sequence[int]) -> int:
    """Remove these replicas; the number removed. Passes over what somebody is just writing or settling."""
    rows = Replica.objects.using(database.alias())
    with transaction.atomic(using=database.alias()):
        locked = list(database.skip_locked(rows.filter(pk__in=ids)).values_list("pk", flat=True))
        # The rows of a plain table that nothing refers to: one statement.
        return rows.filter(pk__in=locked).delete()[0]


def has_late(target: str) -> bool:
    """Whether something was recorded for *target* that is not known to be there: two index probes."""
    rows = replicas_at(target)
    return rows.pending().any() or rows.failed().exists()


def remove_late(target: str, *, batch: int = 5_000) -> int:
    """Remove what processes have recorded for *target* that did not know yet that it is retired; the number."""
    rows = replicas_at(target)
    states = TargetState.objects.using(database.alias()).filter(pk=target, phase=TargetState.Phase.RETIRED)
    with transaction.atomic(using=database.alias()):
        # Whoever activates it waits, or has done so: what is recorded for it then is meant.
        if not states.select_for_update().exists():
            return 0
        late = [rows.pending(), rows.failed()]
        return remove([pk for some in late for pk in some.values_list("pk", flat=True)[:batch]])


def is_unsettled(target: str) -> bool:
    """Whether something that was sent to *target* may still take effect there, as far as the ledger knows."""
    rows = replicas_at(target)
    on_its_way = Q(lease__isnull=False) | Q(doubt=True)
    return rows.pending().filter(on_its_way).exists() or rows.failed().filter(on_its_way).exists()


def is_leased(target: str, now: object) -> bool:
    """Whether a worker may still start to send something to *target*."""
    return replicas_at(target).pending().filter(lease_until__gt=now).exists()


def forget(target: str) -> None:
    """Remove the row of a target that nothing is known of any more."""
    TargetState.objects.using(database.alias()).filter(pk=target, phase=TargetState.Phase.RETIRED).delete()
