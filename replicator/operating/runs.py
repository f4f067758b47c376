"""What people do with long pieces of work at a target: start, pause, resume and cancel them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone

from replicator import wake
from replicator.conf import config
from replicator.ledger import nodes
from replicator.ledger.database import alias
from replicator.models import TargetRun

State = TargetRun.State

#: For how long the reports of runs that ended are kept.
_KEPT = timedelta(days=90)


class NotStarted(Exception):
    """What was asked for can't be done, or should not: the message says what to do instead."""


def start(
    kind: str,
    target: str,
    *,
    options: Mapping[str, Any] | None = None,
    dry_run: bool = False,
    who: str = "",
    node: str = "",
) -> TargetRun:
    """Begin a run of this *kind* at *target* (empty: at the local disk, of *node*), once the transaction commits.

    Who calls this has checked what was asked for. Raises ``NotStarted`` if another one is under way there.
    """
    try:
        with transaction.atomic(using=alias()):
            run = TargetRun.objects.using(alias()).create(
                kind=kind,
                target=target,
                node=node,
                options=dict(options or {}),
                dry_run=dry_run,
                started_by=who[:150],
            )
    except IntegrityError:
        under_way = open_run(target, node)
        name = under_way or "another run"
        raise NotStarted(
            f"{name} is under way, and two at once would be in each other's way. Let it end, or cancel it: "
            f"manage.py replicator runs --cancel {under_way.pk if under_way else '…'}"
        ) from None
    go_on(run)
    return run


def open_run(target: str, node: str = "") -> TargetRun | None:
    """The run that is under way at *target*, or paused."""
    return TargetRun.objects.using(alias()).filter(target=target, node=node, state__in=TargetRun.OPEN).first()


def pause(run: TargetRun) -> bool:
    """Have workers stop within seconds; whether it was running."""
    return _move(run, [State.RUNNING], state=State.PAUSED, lease=None, lease_until=None)


def resume(run: TargetRun) -> bool:
    """Go on where it was, now; whether it was paused, or waited for a target in trouble."""
    now = timezone.now()
    going = _move(
        run, TargetRun.OPEN, state=State.RUNNING, due_at=now, resumed_at=now, done_at_resume=F("done"), attempts=0
    )
    if going:
        go_on(run)
    return going


def cancel(run: TargetRun) -> bool:
    """End it for good; what it did stays. Whether it had not ended already."""
    now = timezone.now()
    return _move(run, TargetRun.OPEN, state=State.CANCELLED, ended_at=now, lease=None, lease_until=None, seen=None)


def sweep() -> list[int]:
    """Have a worker woken for every run that is due and in nobody's hands; the ids of those runs."""
    now = timezone.now()
    due = TargetRun.objects.using(alias()).filter(state=State.RUNNING, due_at__lte=now).order_by("pk")
    waiting = [run for run in due.defer("seen") if run.lease_until is None or run.lease_until <= now]
    for run in waiting:
        _wake(run)
    return [run.pk for run in waiting]


def prune() -> int:
    """Remove the reports of runs that ended long ago; their number. But the last of a kind at a target: it says
    whether what is known there can be believed, and whether a retirement is through."""
    reports = TargetRun.objects.using(alias())
    same = reports.filter(target=OuterRef("target"), kind=OuterRef("kind"), dry_run=False)
    old = reports.exclude(state__in=TargetRun.OPEN).filter(
        Q(dry_run=True) | Exists(same.filter(pk__gt=OuterRef("pk"))), ended_at__lte=timezone.now() - _KEPT
    )
    ids = list(old.values_list("pk", flat=True)[:100])
    TargetRun.objects.using(alias()).filter(pk__in=ids).delete()
    return len(ids)


def go_on(run: TargetRun) -> None:
    """Have a worker woken for it once what was recorded is committed."""
    transaction.on_commit(partial(_wake, run), using=alias())


def _wake(run: TargetRun) -> None:
    # What Flower shows beside the task's name.
    about = f"{run.kind} {run.target or run.node or 'local disk'}"
    node = run.node if config().deliverer else ""
    if node in nodes.known() and nodes.is_gone(node):
        return  # the broker would keep the messages until its workers come back
    wake.send(f"replicator.{run.kind}", [run.pk, about], node=node)


def _move(run: TargetRun, states: Sequence[str], **columns: object) -> bool:
    moved = TargetRun.objects.using(alias()).filter(pk=run.pk, state__in=states).update(**columns)
    run.refresh_from_db()
    return bool(moved)
