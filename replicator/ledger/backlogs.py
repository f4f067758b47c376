"""How much waits at targets, and for how long: exactly where that is little, by the last sample where it is much."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import Count, Min
from django.utils import timezone

from replicator.ledger import database
from replicator.models import Replica, TargetSample

PENDING, FAILED = Replica.Status.PENDING.value, Replica.Status.FAILED.value

#: Rows of one target and status that are looked at: what takes some milliseconds. Where there are more, what the last
#: sample counted is as good, as long as it is young.
_MOST = 2_000
_YOUNG = timedelta(seconds=150)

_TABLE = Replica._meta.db_table
#: In the order of the index of due replicas, and of that of failed ones: whatever the database believes of how many
#: there are, it reads no table for it.
_ORDER = {PENDING: "target, node, due_at", FAILED: "target, since"}


@dataclass(frozen=True, slots=True)
class Backlog:
    """The replicas of one status at one target."""

    count: int = 0
    oldest: datetime | None = None
    """When the oldest write was made that they wait for; None if there are none."""

    def lag(self, now: datetime) -> float:
        """Its age in seconds."""
        return max(0.0, (now - self.oldest).total_seconds()) if self.oldest else 0.0


def counted(status: str, targets: Iterable[str] | None = None) -> dict[str, Backlog]:
    """By target, those that have any; counted one by one. Of a million this takes about half a second."""
    rows = Replica.objects.using(database.alias()).filter(status=status).order_by()
    if targets is not None:
        rows = rows.filter(target__in=targets)
    found = rows.values_list("target").annotate(count=Count("*"), oldest=Min("since"))
    return {target: Backlog(count, oldest) for target, count, oldest in found}


def current(targets: Iterable[str]) -> dict[tuple[str, str], Backlog]:
    """By target and status (``PENDING``, ``FAILED``), for all of *targets*: quick, however much waits.

    Of what is more than some thousands, the number may be a minute old.
    """
    asked = [(target, status) for target in targets for status in (PENDING, FAILED)]
    found = _looked_at(asked)
    many = [key for key in asked if found[key].count > _MOST]
    if not many:
        return found
    samples = _samples({target for target, _ in many})
    for target, status in many:
        sample = samples.get(target)
        if sample is None:
            # No beat: then it takes its time.
            found[target, status] = counted(status, [target]).get(target, Backlog())
            continue
        number = sample.pending if status == PENDING else sample.failed
        known = found[target, status].oldest
        # What is due first is not always what was written first.
        waited = status == PENDING and sample.pending > 0
        oldest = sample.at - timedelta(seconds=sample.lag) if waited else known
        found[target, status] = Backlog(max(number, _MOST), min(filter(None, (known, oldest)), default=None))
    return found


def _looked_at(asked: list[tuple[str, str]]) -> dict[tuple[str, str], Backlog]:
    """No more than ``_MOST + 1`` of each. One statement."""
    if not asked:
        return {}
    connection = database.connection()
    one = (
        "SELECT %s, %s, count(*), min(since) FROM (SELECT since FROM {table} "
        "WHERE status = '{status}' AND target = %s ORDER BY {order} LIMIT %s) looked_at"
    )
    parts = [one.format(table=_TABLE, status=status, order=_ORDER[status]) for _, status in asked]
    values = [value for target, status in asked for value in (target, status, target, _MOST + 1)]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(parts), values)
        rows = cursor.fetchall()
    return {(target, status): Backlog(count, _aware(oldest)) for target, status, count, oldest in rows}


def _samples(targets: Iterable[str]) -> dict[str, TargetSample]:
    """The last one of each of *targets*, if it is young."""
    since = timezone.now() - _YOUNG
    rows = TargetSample.objects.using(database.alias()).filter(target__in=targets, at__gt=since).order_by("at")
    return {sample.target: sample for sample in rows}


def _aware(value: datetime | str | None) -> datetime | None:
    """SQLite gives a text."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return value.replace(tzinfo=UTC) if value is not None and timezone.is_naive(value) else value
