"""Chunks in workers' hands: claiming, settling and giving back, with each file counted once."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from replicator.conf import config
from replicator.ledger.database import alias
from replicator.models import CopyChunk, CopyFile, CopyPart, CopyRun
from replicator.retry import delay_seconds, is_too_old

State = CopyFile.State

#: A file in one of these is still to be dealt with.
OPEN = (State.NEW, State.CHOSEN)
#: Those that have a column of their own in a part.
COUNTED = (State.COPIED, State.THERE, State.NEWER, State.EXCLUDED, State.MISSING, State.FAILED)


class LeaseLost(Exception):
    """The chunk is another worker's by now, or the run was cancelled: what is not settled is not ours to settle."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one file."""

    file: CopyFile
    state: State
    bytes: int = 0
    """Copied."""
    error_kind: str = ""
    error_text: str = ""
    again: bool = False
    """Whether trying again by itself can help."""
    retry_after: float | None = None
    """Seconds that the source asked us to wait."""


@dataclass(slots=True)
class Lease:
    """A worker's hold on a chunk."""

    run: CopyRun
    chunk: CopyChunk
    token: UUID
    files: Sequence[CopyFile]
    """Those that are still to be dealt with, with their parts."""
    noted_at: float = 0.0
    """When results were last noted, by this process's monotonic clock."""
    counts: Counter[str] = field(default_factory=Counter)
    """What became of the files that were settled; "bytes": how many were copied."""


def claim(chunk_id: int) -> Lease | None:
    """Take a chunk that no worker has; None if there is nothing to be taken, or its run does not go on just now."""
    now, token = timezone.now(), uuid4()
    free = Q(lease=None) | Q(lease_until__lte=now)
    running = Q(run__state=CopyRun.State.RUNNING, run__due_at__lte=now)
    until = now + timedelta(seconds=config().lease_seconds)
    rows = CopyChunk.objects.using(alias())
    # Two statements of which the second decides: not all databases update with a join.
    wanted = rows.filter(free & running, pk=chunk_id).values_list("pk", flat=True)
    if not rows.filter(free, pk__in=list(wanted)).update(lease=token, lease_until=until):
        return None
    chunk = rows.select_related("run").filter(pk=chunk_id, lease=token).first()
    if chunk is None:  # the run was cancelled in between
        return None
    files = CopyFile.objects.using(alias()).filter(chunk=chunk_id, state__in=OPEN).select_related("part")
    return Lease(chunk.run, chunk, token, list(files.order_by("pk")), time.monotonic())


def choose(lease: Lease, files: Sequence[CopyFile]) -> None:
    """Note that *files* will be copied now, before any is: who finds one here after a kill knows whose it is."""
    with transaction.atomic(using=alias()):
        _hold(lease)
        _set_state([file.pk for file in files], state=State.CHOSEN, begun=True)
    for file in files:
        file.state, file.begun = State.CHOSEN, True


def settle(lease: Lease, results: Sequence[Result], *, asked: int = 0) -> bool:
    """Note what became of files, and keep the lease; whether the run goes on. *asked*: files that the source was
    asked about since.

    Raises ``LeaseLost``: then nothing is noted, and whoever has the chunk finds out by himself.
    """
    run = CopyRun.objects.using(alias()).filter(pk=lease.run.pk)
    with transaction.atomic(using=alias()):
        # The run first, here and everywhere, then chunks, files, parts: nobody waits for who waits for him.
        if asked:
            run.update(asked=F("asked") + asked)
        _hold(lease)
        by_state: dict[State, list[int]] = {}
        for result in results:
            if result.state is State.FAILED:
                _note_failure(result)
            else:
                by_state.setdefault(result.state, []).append(result.file.pk)
        for state, ids in by_state.items():
            _set_state(ids, state=state, error_kind="", error_text="", due_at=None)
        counts: dict[int, Counter[str]] = {}
        for result in results:
            part = counts.setdefault(result.file.part_id, Counter())
            part[result.state] += 1
            part["bytes"] += result.bytes
        add(counts)
    lease.counts.update(result.state for result in results)
    lease.counts["bytes"] += sum(result.bytes for result in results)
    return run.filter(state=CopyRun.State.RUNNING).exists()


def give_back(lease: Lease) -> None:
    """End the lease: the chunk is there for another worker, or gone if all its files are dealt with."""
    rows = CopyChunk.objects.using(alias()).filter(pk=lease.chunk.pk, lease=lease.token)
    if CopyFile.objects.using(alias()).filter(chunk=lease.chunk.pk, state__in=OPEN).exists():
        rows.update(lease=None, lease_until=None)
    else:
        rows.delete()


def add(counts: dict[int, Counter[str]]) -> None:
    """Add to the columns of parts: id → column → how many."""
    # In one order, so that two of these never wait for each other.
    for part, columns in sorted(counts.items()):
        changed = {column: F(column) + count for column, count in columns.items() if count}
        if changed:
            CopyPart.objects.using(alias()).filter(pk=part).update(**changed)


def hold_up(run: CopyRun, trouble: str, retry_after: float | None = None) -> None:
    """Leave the source alone for a while, which grows with each time in a row: *trouble* says why, to people."""
    attempts = run.attempts + 1
    # Of several workers that meet the same trouble, one counts.
    rows = CopyRun.objects.using(alias()).filter(pk=run.pk, attempts=run.attempts)
    rows.update(attempts=attempts, trouble=storable(trouble), due_at=_again_at(attempts, retry_after))


def hold_up_no_more(run: CopyRun) -> None:
    """The source answers: what troubled it is over."""
    if run.attempts or run.trouble:
        CopyRun.objects.using(alias()).filter(pk=run.pk).update(attempts=0, trouble="")
        run.attempts, run.trouble = 0, ""


def storable(text: str) -> str:
    """*text* as every database takes it: what others said may have any character."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="backslashreplace").decode()


def _hold(lease: Lease) -> None:
    until = timezone.now() + timedelta(seconds=config().lease_seconds)
    if not CopyChunk.objects.using(alias()).filter(pk=lease.chunk.pk, lease=lease.token).update(lease_until=until):
        raise LeaseLost
    lease.noted_at = time.monotonic()


def _note_failure(result: Result) -> None:
    now, file = timezone.now(), result.file
    file.attempts += 1
    file.failed_at = file.failed_at or now
    file.due_at = None
    age = (now - file.failed_at).total_seconds()
    if result.again and not is_too_old(age, max_age=config().retry_max_age):
        file.due_at = _again_at(file.attempts, result.retry_after)
    _set_state(
        [file.pk],
        state=State.FAILED,
        error_kind=result.error_kind,
        error_text=storable(result.error_text),
        attempts=file.attempts,
        failed_at=file.failed_at,
        due_at=file.due_at,
    )


def _again_at(attempts: int, retry_after: float | None) -> datetime:
    conf, jitter = config(), random.random()  # noqa: S311  # spreads retries, guards nothing
    delay = delay_seconds(attempts, base=conf.retry_base, cap=conf.retry_cap, jitter=jitter, retry_after=retry_after)
    return timezone.now() + timedelta(seconds=delay)


def _set_state(ids: Sequence[int], **columns: str | int | datetime | None) -> None:
    if ids:
        CopyFile.objects.using(alias()).filter(pk__in=ids).update(**columns)
