"""What people do with copies: start, pause, resume, cancel, and have failures tried again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import QuerySet, Sum
from django.utils import timezone

from replicator.conf import config
from replicator.errors import DeliveryError
from replicator.ledger.database import alias
from replicator.models import CopyChunk, CopyFailure, CopyFile, CopyObject, CopyPart, CopyRun
from replicator.staging import chunks, planning
from replicator.staging.base import NotCopied
from replicator.staging.choices import Choices
from replicator.staging.destinations import destination_of
from replicator.staging.marked import check_marked, source_alias
from replicator.staging.safety import check_apart
from replicator.staging.sources import source_of

State = CopyRun.State

#: Rows that are removed at once.
_BATCH = 5000


def start(source: str, choices: Choices, who: str = "") -> CopyRun:
    """Begin to copy from *source*, an alias in ``STORAGES``; *who*: a name, for people.

    Raises ``NotCopied``, with what to write instead, before anything is touched.
    """
    check_marked(source)
    selected = choices.selected()
    if not selected:
        raise NotCopied("no model here has a file field that was chosen: there is nothing to copy.")
    try:
        storages = [field.storage for each in selected for field in each.fields]
        destinations = list({destination_of(storage) for storage in storages})
        for each_source in sorted({source_alias(storage, source) for storage in storages}):
            reading = source_of(each_source)
            check_apart(reading, destinations)
            reading.check()
            if choices.require_read_only:
                reading.prove_read_only()
    except (DeliveryError, ImproperlyConfigured, OSError) as error:
        raise NotCopied(f"{source} can't be read: {error}") from error
    with transaction.atomic(using=alias()):
        # Whoever else starts one just now waits here.
        CopyRun.objects.using(alias()).select_for_update().order_by("-pk").first()
        for under_way in CopyRun.objects.using(alias()).filter(state__in=[State.RUNNING, State.PAUSED]):
            if choices.dry_run or under_way.choices.get("dry_run"):
                continue
            raise NotCopied(
                f"copy {under_way.pk} is {under_way.get_state_display()}: two would copy the same files. Let it end, "
                f"or cancel it: manage.py replicator copy-media --run {under_way.pk} --cancel"
            )
        run = CopyRun.objects.using(alias()).create(source=source, choices=choices.as_json(), started_by=who[:150])
        CopyPart.objects.using(alias()).bulk_create(
            CopyPart(run=run, model=each.label, fields=[field.name for field in each.fields]) for each in selected
        )
    _go_on(run.pk)
    return run


def pause(run: CopyRun) -> bool:
    """Have workers stop within seconds, and throw away what is half copied; whether it was running."""
    return _move(run, [State.RUNNING], state=State.PAUSED)


def resume(run: CopyRun) -> bool:
    """Go on where it was, now; whether it was paused, or waited for a source in trouble."""
    going = _move(run, [State.PAUSED, State.RUNNING], state=State.RUNNING, **_from_here(run.pk))
    if going:
        _go_on(run.pk)
    return going


def cancel(run: CopyRun) -> bool:
    """End it for good; what is copied stays. Whether it had not ended already."""
    with transaction.atomic(using=alias()):
        done = _move(run, [State.RUNNING, State.PAUSED], state=State.CANCELLED, ended_at=timezone.now())
        if done:
            # Who has one of them finds its lease gone, and stops.
            CopyChunk.objects.using(alias()).filter(run=run).delete()
    return done


def requeue(failures: QuerySet[CopyFailure]) -> int:
    """Have *failures*, those that are missing at the source too, tried again now; how many.

    A run that is done goes on; one that was cancelled does not. Idempotent.
    """
    rows = CopyFile.objects.using(alias()).filter(pk__in=failures.order_by().values("pk"))
    by_run: dict[int, list[int]] = {}
    for file, run in rows.order_by("pk").values_list("pk", "run"):
        by_run.setdefault(run, []).append(file)
    count = 0
    for run, ids in sorted(by_run.items()):
        count += sum(_requeue(run, some) for some in _batches(ids))
        _go_on(run)
    return count


def _requeue(run: int, ids: Sequence[int]) -> int:
    with transaction.atomic(using=alias()):
        # Nobody ends it, tries a file again, or requeues it at the same time: each is counted once.
        locked = CopyRun.objects.using(alias()).select_for_update().get(pk=run)
        if locked.state == State.CANCELLED:
            return 0
        files = CopyFile.objects.using(alias()).filter(pk__in=ids)
        missing = dict(files.filter(state=CopyFile.State.MISSING).values_list("pk", "part"))
        files.filter(pk__in=list(missing)).update(state=CopyFile.State.FAILED)
        chunks.add({part: Counter(missing=-n, failed=n) for part, n in Counter(missing.values()).items()})
        failed = files.filter(state=CopyFile.State.FAILED)
        count = failed.update(due_at=timezone.now(), attempts=0, failed_at=None)
        if count:
            CopyRun.objects.using(alias()).filter(pk=run, state=State.DONE).update(
                state=State.RUNNING, ended_at=None, **_from_here(run)
            )
        return count


def sweep() -> list[int]:
    """Go on with every run that is due: lost messages, ended leases, retries; the ids of the runs."""
    if config().staging is None:
        return []
    due = CopyRun.objects.using(alias()).filter(state=State.RUNNING, due_at__lte=timezone.now())
    ids = list(due.order_by("pk").values_list("pk", flat=True))
    for run in ids:
        planning.go_on(run)
    return ids


def prune() -> int:
    """Remove what runs that have ended do not need any more; the number of rows. Their failures stay."""
    ended = CopyRun.objects.using(alias()).filter(
        state__in=[State.DONE, State.CANCELLED], ended_at__lte=timezone.now() - timedelta(minutes=1)
    )
    count = 0
    for run, state in ended.values_list("pk", "state"):
        kept = [CopyFile.State.FAILED, CopyFile.State.MISSING]
        if state == State.DONE:
            # Somebody may requeue its failures meanwhile.
            kept += chunks.OPEN
        for rows in (
            CopyFile.objects.using(alias()).filter(run=run).exclude(state__in=kept),
            CopyObject.objects.using(alias()).filter(run=run),
        ):
            while ids := list(rows.values_list("pk", flat=True)[:_BATCH]):
                count += rows.model._base_manager.using(alias()).filter(pk__in=ids).delete()[0]
    return count


def totals_of(run: int) -> Counter[str]:
    """The sums of its parts' columns; "files": all that were dealt with."""
    sums = (
        CopyPart.objects.using(alias())
        .filter(run=run)
        .aggregate(**{column: Sum(column, default=0) for column in ("rows", "total", "bytes", *chunks.COUNTED)})
    )
    return Counter({**sums, "files": sum(sums[state] for state in chunks.COUNTED)})


def _go_on(run: int) -> None:
    """Once it is committed: in a request's transaction no worker would see it, and no model may fail to be read."""
    transaction.on_commit(partial(planning.go_on, run), using=alias())


def _from_here(run: int) -> dict[str, Any]:
    """Columns of a run that goes on now: its rate is reckoned from what it has."""
    now, totals = timezone.now(), totals_of(run)
    return {
        "resumed_at": now,
        "due_at": now,
        "rows_at_resume": totals["rows"],
        "files_at_resume": totals["files"],
        "bytes_at_resume": totals["bytes"],
    }


def _move(run: CopyRun, states: Sequence[State], **columns: object) -> bool:
    moved = CopyRun.objects.using(alias()).filter(pk=run.pk, state__in=states).update(**columns)
    run.refresh_from_db()
    return bool(moved)


def _batches(ids: Sequence[int]) -> list[Sequence[int]]:
    return [ids[at : at + _BATCH] for at in range(0, len(ids), _BATCH)]
