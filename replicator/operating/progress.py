"""How far long pieces of work are, in numbers for people: the admin and the command show the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from replicator.ledger import backfilling
from replicator.ledger.database import alias
from replicator.models import MediaFile, Replica, TargetRun
from replicator.operating.places import storages_at

Kind = TargetRun.Kind
_ENDED = (TargetRun.State.STOPPED, TargetRun.State.CANCELLED)

#: Seconds before which a rate says nothing.
_SOON = 1.0
#: How many times as long as a count took it is believed, if that was longer than so many seconds.
_BELIEVED, _QUICK = 20.0, 0.1


@dataclass(frozen=True, slots=True)
class RunProgress:
    """One run, at one moment."""

    id: int
    kind: str
    target: str
    node: str
    state: str
    reason: str
    """Why it was stopped."""
    trouble: str
    """Why it does not go on just now."""
    step: str
    """The part of the work it is at."""
    done: int
    """Files dealt with."""
    total: int | None
    """Files to deal with; None: not counted yet."""
    share: float | None
    """How much of it is done, from 0 to 1; None: not known."""
    rate: float | None
    """Files per second since it began or was resumed; None: too soon to say, or it does not run."""
    eta: float | None
    """Seconds until it is done, if it goes on like this; None: not known."""
    counts: Mapping[str, int]
    """What became of files: word → number."""
    started_by: str
    started_at: datetime
    ended_at: datetime | None
    due_at: datetime
    """When it goes on, after trouble."""
    dry_run: bool
    words: Sequence[str]
    """What was chosen, in sentences."""

    @property
    def is_over(self) -> bool:
        return self.state not in TargetRun.OPEN

    def as_json(self) -> dict[str, Any]:
        """For the command's ``--json`` and the admin's page."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Joining:
    """How far a target is that joins."""

    total: int
    """Files that it should hold."""
    left: int
    """Of these, those that it does not hold as they are now."""
    share: float
    """How much of it is done, from 0 to 1."""
    eta: float | None
    """Seconds until it has all, if it goes on like this; None: not known."""
    command: str
    """What a person has to start, since files are not recorded for it and nothing is under way; empty if nothing."""


def progress_of(run: TargetRun, now: datetime | None = None) -> RunProgress:
    """Where *run* is. No statement."""
    now = now or timezone.now()
    is_open = run.state in TargetRun.OPEN
    until = run.ended_at or now
    seconds = (until - run.resumed_at).total_seconds()
    goes = run.state in (TargetRun.State.RUNNING, TargetRun.State.DONE) and seconds >= _SOON
    rate = max(0, run.done - run.done_at_resume) / seconds if goes else None
    left = None if run.total is None else max(0, run.total - run.done)
    return RunProgress(
        id=run.pk,
        kind=run.kind,
        target=run.target,
        node=run.node,
        state=run.state,
        reason=run.reason,
        trouble=run.trouble if run.state == TargetRun.State.RUNNING else "",
        step=run.step,
        done=run.done,
        total=run.total,
        share=_share(run),
        rate=rate,
        eta=left / rate if rate and left is not None and is_open else None,
        counts=run.counts,
        started_by=run.started_by,
        started_at=run.started_at,
        ended_at=run.ended_at,
        due_at=run.due_at,
        dry_run=run.dry_run,
        words=words_of(run),
    )


def _share(run: TargetRun) -> float | None:
    if run.state == TargetRun.State.DONE:
        return 1.0
    if run.total is None:
        return None
    return min(1.0, run.done / run.total) if run.total else 0.0


def words_of(run: TargetRun) -> list[str]:
    """What *run* does, and what was chosen, in sentences."""
    where = run.target or run.node or "the local disk"
    words = {
        Kind.BACKFILL: f"Records every file for {where} that it should hold.",
        Kind.RESYNC: f"Has every file sent to {where} again.",
        Kind.RETIRE: f"Removes what the ledger knows of {where}"
        + (", and deletes the files there." if run.options.get("delete") else ". The files stay there."),
        Kind.AUDIT: f"Compares {where} with the ledger.",
    }
    found = [words[Kind(run.kind)]]
    if run.kind == Kind.AUDIT:
        chosen = {name: value for name, value in sorted(run.options.items()) if value not in (None, "", [], False)}
        found += [f"{name.replace('_', ' ')}: {value}." for name, value in chosen.items()]
    if run.dry_run:
        found.append("A dry run: it changes nothing.")
    return found


def last_joining_run(target: str, since: datetime | None, *kinds: str) -> TargetRun | None:
    """The newest backfill or resync at *target* that was begun after it *since* joins, or the newest of these
    *kinds*; no dry run."""
    runs = TargetRun.objects.using(alias()).filter(
        target=target, kind__in=kinds or (Kind.BACKFILL, Kind.RESYNC), dry_run=False
    )
    if since is not None:
        runs = runs.filter(started_at__gte=since)
    return runs.defer("seen").order_by("-pk").first()


def joining_of(target: str, since: datetime | None = None) -> Joining:
    """How far *target* is, which joins *since* then. Without a backfill or resync since, what it lacks is counted:
    that may take a second with a million files, and is then believed for a while."""
    run = last_joining_run(target, since) if since else None
    total = _believed("total", target, lambda: _living(target).count())
    left = _believed("pending", target, lambda: Replica.objects.using(alias()).pending().at(target).count())
    if run is None:
        lacking = _believed("lacking", target, lambda: backfilling.lacking(target, _storages(target)).count())
        command = f"manage.py replicator backfill {target}" if lacking else ""
        return _joining(total, left + lacking, 0.0, command)
    left += round(total * (1 - (_share(run) or 0.0)))
    seconds = (timezone.now() - run.started_at).total_seconds()
    rate = max(0, total - left) / seconds if seconds >= _SOON else 0.0
    again = _unfinished(run, since)
    return _joining(total, left, rate, f"manage.py replicator {again} {target}" if again else "")


def _unfinished(run: TargetRun, since: datetime | None) -> str:
    """The kind of what was ended before it was done, and must be done again; empty if nothing was, or goes on."""
    if run.state in TargetRun.OPEN or since is None:
        return ""
    if is_resync_unfinished(run.target, since):
        return Kind.RESYNC
    return run.kind if run.state in _ENDED else ""


def is_resync_unfinished(target: str, since: datetime | None = None) -> bool:
    """Whether the last resync at *target* was ended before it was done: a part of what was lost is still believed to
    be there, and no backfill finds that. *since*: of those that were begun after it."""
    run = last_joining_run(target, since, Kind.RESYNC)
    return run is not None and run.state in _ENDED


def _joining(total: int, left: int, rate: float, command: str) -> Joining:
    left = min(left, total)
    share = 1 - left / total if total else 1.0
    return Joining(total, left, share, left / rate if rate and left else None, command)


#: What was counted, of which target → when, for how long that is believed, and the number.
_counts: dict[tuple[str, str], tuple[float, float, int]] = {}


def _storages(target: str) -> list[str]:
    return [storage.alias for storage in storages_at(target)]


def _living(target: str) -> QuerySet[MediaFile]:
    return backfilling.living(_storages(target))


def _believed(what: str, target: str, count: Callable[[], int]) -> int:
    """What *count* says; or said, not long ago for the time that it takes. A page asks each few seconds."""
    known = _counts.get((what, target))
    begun = time.monotonic()
    if known and begun - known[0] < known[1]:
        return known[2]
    number = count()
    seconds = time.monotonic() - begun
    _counts[what, target] = (begun, _BELIEVED * seconds if seconds > _QUICK else 0.0, number)
    return number
