"""Claiming, renewing and settling: what workers tell the ledger.

The rules are those of ``tests/model/protocol.py``, which checks them over every interleaving; change them there
first. A replica's ``doubt`` and ``provisional`` are its "", "doubtful" (doubt) and "provisional" (both).
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from celery import current_task
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from replicator.conf import config
from replicator.errors import DeliveryError, Refused
from replicator.ledger import batches, database, life, nodes
from replicator.models import Replica, ReplicaQuerySet
from replicator.retry import delay_seconds, is_too_old

log = logging.getLogger(__name__)
Status = Replica.Status

#: A worker thinks its lease over a little before the database does.
_MARGIN = 0.9


@dataclass(slots=True, eq=False)
class Lease:
    """A worker's hold on the replicas of one batch."""

    token: UUID
    seconds: float
    ends: float
    """By this process's monotonic clock."""
    lost: set[int] = field(default_factory=set)
    """Ids of replicas that were not renewed."""
    task: UUID | None = None
    """Celery's id of the task that claimed them; None: it was no task."""

    @classmethod
    def start(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> Lease:
        return cls(uuid4(), seconds, clock() + seconds * _MARGIN, task=_task())

    def live(self, replica_id: int) -> bool:
        """Whether a request for this replica may still be started, or go on."""
        return time.monotonic() < self.ends and replica_id not in self.lost


@dataclass(frozen=True, slots=True)
class Claim:
    """One replica in a worker's hands, with the file as it should be."""

    id: int
    target: str
    file_id: int
    storage: str
    name: str
    version: UUID
    deleted: bool
    size: int
    sha256: str
    content_type: str
    mogile_class: str
    node: str
    """Where the file was saved."""
    attempts: int
    since: datetime
    confirmed: bool
    """The target is known to hold this version's bytes, so that what is new can only be what else is said of them."""
    lease: Lease
    sources: Sequence[str] = ()
    """Targets to read the file from, since it is not here."""
    trial: bool = False
    """It is sent to find out how the target is."""

    def live(self) -> bool:
        return self.lease.live(self.id)

    @property
    def facts(self) -> dict[str, object]:
        """What a log line says of it."""
        facts: dict[str, object] = {"target": self.target, "file": self.file_id, "version": str(self.version)}
        return {**facts, "task": str(self.lease.task)} if self.lease.task else facts


def _task() -> UUID | None:
    """The id of the Celery task that this thread works at. A project's own tasks may have ids that are no UUIDs."""
    try:
        return UUID(current_task.request.id) if current_task else None
    except (AttributeError, TypeError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class Batch:
    lease: Lease
    claims: Sequence[Claim]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a claim. Without an error: the target confirmed it."""

    claim: Claim
    error: DeliveryError | None = None
    sent: bool = True
    """Whether any request that changes the target was started."""
    bytes: int = 0
    seconds: float = 0.0
    """That it took to send."""


def claim(target: str, limit: int, *, storage: str | None = None) -> Batch:
    """Take up to *limit* due replicas of *target*, oldest due first; of one *storage*, if it is given. One short
    transaction. Where nodes have disks of their own: those of this node, then of any, then of nodes that are gone.

    Taking over an ended lease makes a replica doubtful: what its last holder sent may still take effect.
    """
    rows = _due_first(target, storage)
    # One node after the other: each is a range of the index, in order.
    return _claim([rows.of(node) for node in nodes.to_serve(target)], limit)


def _due_first(target: str, storage: str | None) -> ReplicaQuerySet:
    rows = Replica.objects.using(database.alias()).at(target).order_by("due_at")
    return rows if storage is None else rows.filter(file__storage=storage)


def claim_one(target: str, *, storage: str | None = None) -> Batch:
    """As ``claim``, of one replica: the first due that was never tried, if there is any. To find out how *target* is,
    it says more than a file that has failed already, and may do so by itself."""
    rows = _due_first(target, storage)
    served = nodes.to_serve(target)
    batch = _claim([some.of(node) for some in (rows.filter(attempts=0), rows) for node in served], 1)
    return replace(batch, claims=[replace(claim, trial=True) for claim in batch.claims])


def claim_replicas(ids: Sequence[int]) -> Batch:
    """Take those of the replicas *ids*, at whatever targets, that are due. One short transaction."""
    return _claim([Replica.objects.using(database.alias()).filter(pk__in=ids)], len(ids))


def _claim(chosen: Sequence[ReplicaQuerySet], limit: int) -> Batch:
    conf = config()
    lease = Lease.start(conf.lease_seconds)
    now = timezone.now()
    rows = Replica.objects.using(database.alias())
    with transaction.atomic(using=database.alias()):
        ids: list[int] = []
        for some in chosen:
            if len(ids) < limit:
                ids += database.skip_locked(some.due(now)).values_list("pk", flat=True)[: limit - len(ids)]
        if not ids:
            return Batch(lease, [])
        until = now + timedelta(seconds=conf.lease_seconds)
        batches.take(ids, token=lease.token, now=now, until=until, task=lease.task)
        # A file whose version is not the one just noted has a writer between; that writer's commit wakes us again.
        taken = rows.filter(batches.among(ids), lease=lease.token, file__version=F("sent")).order_by("due_at")
        claims = [
            _as_claim(lease, *values)
            for values in taken.values_list(
                "version",
                "doubt",
                "id",
                "target",
                "file_id",
                "file__storage",
                "file__name",
                "sent",
                "file__deleted",
                "file__size",
                "file__sha256",
                "file__content_type",
                "file__mogile_class",
                "file__node",
                "attempts",
                "since",
            )
        ]
    return Batch(lease, claims)


def _as_claim(lease: Lease, version: UUID | None, doubt: bool, *facts: Any) -> Claim:
    claim = Claim(*[*facts, False, lease])
    # Nobody ever sent a file of which no hash is known (see ``record_held``): in doubt can only be its class.
    confirmed = version == claim.version and (not doubt or not claim.sha256)
    return replace(claim, confirmed=True) if confirmed else claim


def sources(claims: Sequence[Claim]) -> dict[int, list[str]]:
    """Targets that are up and hold what *claims* are to send, by the claims' ids; without those that none has."""
    usable = config().targets.keys() - life.unreadable()
    replicas = Replica.objects.using(database.alias())
    holding = replicas.current().filter(file__in={claim.file_id for claim in claims})
    found: dict[tuple[int, UUID], list[str]] = {}
    for file, version, target in holding.order_by("target").values_list("file_id", "version", "target"):
        if target in usable and version is not None:
            found.setdefault((file, version), []).append(target)
    return {c.id: found[c.file_id, c.version] for c in claims if (c.file_id, c.version) in found}


def renew(lease: Lease, ids: Iterable[int]) -> None:
    """Hold on to these replicas for another full lease; those that can't be held are ``lease.lost``."""
    wanted = set(ids)
    start, now = time.monotonic(), timezone.now()
    with transaction.atomic(using=database.alias()):
        mine = Replica.objects.using(database.alias()).filter(lease=lease.token, lease_until__gt=now)
        held = list(database.skip_locked(mine.filter(pk__in=wanted)).values_list("pk", flat=True))
        mine.filter(pk__in=held).update(lease_until=now + timedelta(seconds=lease.seconds))
    lease.lost |= wanted.difference(held)
    lease.ends = start + lease.seconds * _MARGIN


def settle(lease: Lease, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Record what became of claims under *lease*; the outcomes left over, because someone holds their rows just now.

    A success counts only if the lease is still ours *and* no write came in between. All successes of a batch
    are one statement, whatever their number.
    """
    if not outcomes:
        return []
    with transaction.atomic(using=database.alias()):
        rows = Replica.objects.using(database.alias())
        # Lock first, decide in a later statement: under READ COMMITTED a statement that waits for a row sees
        # that row as it became, but everything else as it was when the statement began.
        wanted = rows.filter(batches.among([o.claim.id for o in outcomes]))
        locked = set(database.skip_locked(wanted).values_list("pk", flat=True))
        succeeded = [o.claim.id for o in outcomes if o.error is None and o.claim.id in locked]
        if succeeded:
            now = timezone.now()
            window_ends = now + timedelta(seconds=config().doubt_window)
            batches.succeed(succeeded, token=lease.token, now=now, window_ends=window_ends)
        for outcome in outcomes:
            if outcome.error is not None and outcome.claim.id in locked:
                _settle_failure(outcome, outcome.error)
    # Rows that are gone were pruned or retired: there is nothing to record.
    if len(locked) == len(outcomes):
        return []
    there = set(wanted.values_list("pk", flat=True))
    return [o for o in outcomes if o.claim.id in there - locked]


def release(lease: Lease, ids: Sequence[int]) -> None:
    """Give back claims for which nothing was sent."""
    mine = Replica.objects.using(database.alias()).filter(lease=lease.token)
    with transaction.atomic(using=database.alias()):
        held = list(database.skip_locked(mine.filter(pk__in=ids)).values_list("pk", flat=True))
        mine.filter(pk__in=held).update(lease=None, lease_until=None, sent=None)


def _settle_failure(outcome: Outcome, error: DeliveryError) -> None:
    conf, now = config(), timezone.now()
    claim = outcome.claim
    row = Replica.objects.using(database.alias()).filter(pk=claim.id)
    mine = Q(lease=claim.lease.token)
    if outcome.sent:
        # Not mine any more, and something was sent: it may have overwritten what the new holder sent.
        row.exclude(mine).update(status=Status.PENDING, due_at=now, doubt=True, provisional=False)
    # A write came in between: that one is due at once, and this failure says nothing of it.
    row.filter(mine, sent=None).update(**_unanswered(error), lease=None, lease_until=None)
    age = (now - claim.since).total_seconds()
    # A trial that fails is the target's failure: one file after the other would be given up while it is down.
    gave_up = isinstance(error, Refused) or (not claim.trial and is_too_old(age, max_age=conf.retry_max_age))
    if gave_up:
        log.warning("file given up at target", extra={**claim.facts, "error": error.kind, "reason": str(error)})
    delay = delay_seconds(
        claim.attempts + 1,
        base=conf.retry_base,
        cap=conf.retry_cap,
        jitter=random.random(),  # noqa: S311  # spreads retries, guards nothing
        retry_after=error.retry_after,
    )
    row.filter(mine).exclude(sent=None).update(
        **_unanswered(error),
        status=Status.FAILED if gave_up else Status.PENDING,
        due_at=now + timedelta(seconds=delay),
        attempts=F("attempts") + 1,
        error_kind=error.kind,
        error_text=str(error)[:2000],
        http_status=error.status,
        lease=None,
        lease_until=None,
        sent=None,
    )


def _unanswered(error: DeliveryError) -> dict[str, Any]:
    return {"doubt": True, "provisional": False} if error.doubt else {}
