"""What is copied next: the next rows' files in a chunk, for a worker to take."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, InterfaceError, OperationalError, connections, router, transaction
from django.db.models import Q
from django.utils import timezone

from replicator import wake
from replicator.conf import config
from replicator.errors import Refused
from replicator.ledger.database import alias
from replicator.models import CopyChunk, CopyFile, CopyPart, CopyRun
from replicator.signals import copy_run_done
from replicator.staging import chunks, listing
from replicator.staging.base import NotCopied
from replicator.staging.choices import Choices
from replicator.staging.destinations import destination_of
from replicator.staging.filefields import FileFields, fields_of
from replicator.staging.names import digest_of
from replicator.staging.walking import Row, Walked, read, total

log = logging.getLogger(__name__)

COPY_MEDIA = "replicator.copy_media"

#: Rows that are read at once, and files that are tried again at once.
ROWS = 500
#: The most rows that are read at once where a sample leaves most of them out.
_MOST_ROWS = 10_000
#: Seconds that one look for something to copy may take: a small sample of a large table, names that all are known.
_PATIENCE = 5.0
#: Seconds after which no other model's rows are counted at once.
_COUNTING = 1.0


def go_on(run_id: int) -> int:
    """Plan what there is room for, and have workers woken for every chunk that none of them has; their number.

    To be called by anybody at any time: by who starts a run, by a worker that is through with a chunk, by the sweep.
    A run that has nothing left is done.
    """
    try:
        plan(run_id)
    except (NotCopied, ImproperlyConfigured) as error:  # the settings are others than those it was started with
        log.error("copy held up", extra={"run": run_id, "error": str(error)})  # noqa: TRY400
        chunks.hold_up(CopyRun.objects.using(alias()).get(pk=run_id), str(error))
    except Exception as error:  # a field, or a storage, of somebody's own: people must see why it does not go on
        log.exception("planning raised", extra={"run": run_id})
        chunks.hold_up(CopyRun.objects.using(alias()).get(pk=run_id), f"{type(error).__name__}: {error}")
    now = timezone.now()
    rows = CopyChunk.objects.using(alias()).filter(run=run_id, run__state=CopyRun.State.RUNNING, run__due_at__lte=now)
    waiting = [chunk for chunk in rows.order_by("pk") if chunk.lease_until is None or chunk.lease_until <= now]
    # Flower shows what it is of.
    wake.send(COPY_MEDIA, *([chunk.pk, f"copy {run_id}: {chunk.label}"] for chunk in waiting))
    return len(waiting)


def plan(run_id: int) -> None:
    """Make chunks until there are as many as workers may be busy with."""
    run = CopyRun.objects.using(alias()).get(pk=run_id)
    staging = config().staging
    end = time.monotonic() + _PATIENCE
    while staging and run.state == CopyRun.State.RUNNING and run.due_at <= timezone.now():
        if CopyChunk.objects.using(alias()).filter(run=run).count() >= staging.workers:
            break
        if _plan_listing(run) or _plan_retry(run):
            continue
        part = CopyPart.objects.using(alias()).filter(run=run, walked=False).order_by("pk").first()
        if part is None:
            finish(run)
            break
        if not _plan_rows(run, part) or time.monotonic() > end:
            break
    _count_rows(run)


def finish(run: CopyRun) -> bool:
    """End a run that has nothing left to do, and will have nothing later; whether it was this that ended it."""
    if CopyChunk.objects.using(alias()).filter(run=run).exists():
        return False
    again = CopyFile.objects.using(alias()).filter(run=run, state=CopyFile.State.FAILED, due_at__isnull=False)
    if again.exists():
        return False
    with transaction.atomic(using=alias()):
        locked = _locked(run)
        # Looked at once more: meanwhile another worker had a chunk, or somebody requeued what had failed.
        if (
            locked.state != CopyRun.State.RUNNING
            or CopyPart.objects.using(alias()).filter(run=run, walked=False).exists()
            or CopyChunk.objects.using(alias()).filter(run=run).exists()
            or again.exists()
        ):
            return False
        locked.state, locked.ended_at, locked.trouble = CopyRun.State.DONE, timezone.now(), ""
        locked.save(using=alias(), update_fields=["state", "ended_at", "trouble"])
    log.info("copy done", extra={"run": run.pk, "source": run.source})
    for receiver, answer in copy_run_done.send_robust(sender=CopyRun, run=locked):
        if isinstance(answer, Exception):
            log.error("a receiver of copy_run_done failed", extra={"receiver": repr(receiver)}, exc_info=answer)
    return True


def _locked(run: CopyRun) -> CopyRun:
    """As it is now, until the transaction ends. Whoever makes chunks, or ends it, has it first."""
    return CopyRun.objects.using(alias()).select_for_update().get(pk=run.pk)


def _plan_listing(run: CopyRun) -> bool:
    """The next pages, if the source is being listed and nobody is at it."""
    if listing.is_due(run):
        listing.begin(run)
        run.refresh_from_db()
    if run.listing != CopyRun.Listing.UNDER_WAY:
        return False
    kind = CopyChunk.Kind.LISTING
    with transaction.atomic(using=alias()):
        locked = _locked(run)
        run.listing, run.state = locked.listing, locked.state
        if run.listing != CopyRun.Listing.UNDER_WAY or run.state != CopyRun.State.RUNNING:
            return False
        if CopyChunk.objects.using(alias()).filter(run=run, kind=kind).exists():
            return False
        CopyChunk.objects.using(alias()).create(run=run, kind=kind, label=f"listing after {locked.listed:,} files")
    return True


def _plan_retry(run: CopyRun) -> bool:
    """Files that failed, and are due again."""
    files = CopyFile.objects.using(alias()).filter(run=run, state=CopyFile.State.FAILED, due_at__lte=timezone.now())
    if not files.exists():
        return False
    with transaction.atomic(using=alias()):
        run.state = _locked(run).state
        due = dict(files.order_by("due_at").values_list("pk", "part")[:ROWS])
        if not due or run.state != CopyRun.State.RUNNING:
            return False
        label = f"{len(due):,} that failed, again"
        chunk = CopyChunk.objects.using(alias()).create(run=run, kind=CopyChunk.Kind.RETRY, label=label)
        files.filter(pk__in=list(due)).update(state=CopyFile.State.NEW, chunk=chunk.pk, due_at=None)
        parts = Counter(due.values())
        chunks.add({part: Counter({CopyFile.State.FAILED: -count}) for part, count in parts.items()})
    return True


def _plan_rows(run: CopyRun, part: CopyPart) -> bool:
    """The files that the next rows of a model name first; False if another worker is reading them just now.

    That may take minutes, where a filter has no index: the sweeps of that time must not all read the same.
    """
    now = timezone.now()
    rows = CopyRun.objects.using(alias()).filter(pk=run.pk)
    until = now + timedelta(seconds=config().lease_seconds)
    if not rows.filter(Q(read_until=None) | Q(read_until__lte=now)).update(read_until=until):
        return False
    try:
        _read_rows(run, part)
    finally:
        rows.update(read_until=None)
    return True


def _read_rows(run: CopyRun, part: CopyPart) -> None:
    """Where two read all the same, since one took longer than its lease, one of them was too late."""
    choices = Choices.from_json(run.choices)
    limit = min(_MOST_ROWS, int(ROWS * 100 / choices.sample)) if choices.sample else ROWS
    try:
        of = fields_of(part.model, part.fields)
        # Read before anything is locked: it may take long, and be another database.
        walked = read(of, choices, part.cursor, limit)
    except (NotCopied, DatabaseError, OverflowError) as error:
        log.error("model not read", extra={"run": run.pk, "model": part.model, "error": str(error)})  # noqa: TRY400
        if isinstance(error, OperationalError | InterfaceError) and _has_table(part):
            chunks.hold_up(run, f"{part.model} can't be read: {error}")
            run.refresh_from_db()
        else:
            # No table, or a filter that its database refuses: the others need not wait for somebody to cure it.
            trouble = chunks.storable(str(error))
            CopyPart.objects.using(alias()).filter(pk=part.pk).update(walked=True, trouble=trouble)
        return
    files = list(_files(run, part, of, walked.rows))
    with transaction.atomic(using=alias()):
        run.state = _locked(run).state
        locked = CopyPart.objects.using(alias()).select_for_update().get(pk=part.pk)
        if run.state != CopyRun.State.RUNNING or locked.cursor != part.cursor or locked.walked:
            return
        _insert(run, part, files, _label(part, walked))
        locked.cursor, locked.walked, locked.rows = walked.cursor, walked.done, locked.rows + walked.count
        locked.save(using=alias(), update_fields=["cursor", "walked", "rows"])


def _has_table(part: CopyPart) -> bool:
    model = fields_of(part.model, []).model
    connection = connections[router.db_for_read(model)]
    try:
        return model._meta.db_table in connection.introspection.table_names(include_views=True)
    except DatabaseError:
        return True  # who knows: its database is away


def _files(run: CopyRun, part: CopyPart, of: FileFields, rows: Sequence[Row]) -> Iterator[CopyFile]:
    destinations = {field.name: destination_of(field.storage) for field in of.fields}
    for row in rows:
        for field, name in row.names:
            file = CopyFile(run=run, part=part, object_id=row.text, field=field, name=name)
            try:
                file.digest = digest_of(destinations[field].address(destinations[field].clean(name)))
            except Refused as error:
                file.digest = digest_of(f"{part.model} {field} {name}")
                file.state, file.error_kind = CopyFile.State.FAILED, error.kind
                file.name, file.error_text = chunks.storable(name), chunks.storable(str(error))
            yield file


def _insert(run: CopyRun, part: CopyPart, files: Sequence[CopyFile], label: str) -> None:
    """Those of *files* that this run has not come across, in a chunk of their own."""
    if not files:
        return
    rows = CopyFile.objects.using(alias())
    chunk = CopyChunk.objects.using(alias()).create(run=run, label=label)
    for file in files:
        file.chunk = chunk.pk
    rows.bulk_create(files, ignore_conflicts=True, batch_size=ROWS)
    # By their digests, for which there is an index: nothing here may take longer the more files a run has.
    refused = [file.digest for file in files if file.state == CopyFile.State.FAILED]
    new = rows.filter(run=run, digest__in=refused, chunk=chunk.pk).count() if refused else 0
    chunks.add({part.pk: Counter({CopyFile.State.FAILED: new})})
    if not rows.filter(chunk=chunk.pk, state__in=chunks.OPEN).exists():
        chunk.delete()


def _label(part: CopyPart, walked: Walked) -> str:
    rows = walked.rows
    ends = {rows[0].text: None, rows[-1].text: None} if rows else {}
    return f"{part.model} {' to '.join(text[:80] for text in ends)}"


def _count_rows(run: CopyRun) -> None:
    """How many rows models have, for progress: large tables take their time, so what is copied comes first."""
    end = time.monotonic() + _COUNTING
    while run.state == CopyRun.State.RUNNING and time.monotonic() < end:
        part = CopyPart.objects.using(alias()).filter(run=run, total=None).order_by("pk").first()
        if part is None:
            return
        rows = CopyPart.objects.using(alias()).filter(pk=part.pk)
        try:
            rows.update(total=total(fields_of(part.model, part.fields), Choices.from_json(run.choices)))
        except (NotCopied, DatabaseError, OverflowError):
            rows.update(total=0)
