"""What the admin's overview shows of targets, of the work at them and of the machines: facts without words."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from django.apps import apps
from django.db.models import Max
from django.utils import timezone

from replicator import history, status
from replicator.conf import config
from replicator.ledger import counters, database
from replicator.models import TargetRun, TargetState
from replicator.operating import steering
from replicator.operating.places import storages_at
from replicator.operating.progress import Joining, RunProgress, joining_of, progress_of
from replicator.staging import Progress

Phase = TargetState.Phase

#: Seconds after which what beat sends every 10 seconds has been silent for too long.
_SILENT = 60.0


@dataclass(frozen=True, slots=True)
class Audit:
    """The last audit of one target."""

    run: int
    state: str
    dry_run: bool
    at: datetime
    """When it ended, or began if it has not."""
    done: int
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class TargetCard:
    """One target, for people."""

    status: status.TargetStatus
    met: bool
    """Whether anything was ever tried there or decided about it."""
    phase: str
    phase_since: datetime | None
    paused: bool
    note: str
    """Who changed that, and why."""
    failures: int
    trips: int
    retry_at: datetime | None
    """When one file is tried, if its circuit breaker is open."""
    free_bytes: int | None
    total_bytes: int | None
    rates: history.Rates
    within: float | None
    """Share of what was delivered in the last day that came within the lag objective."""
    storages: list[str]
    verbs: list[str]
    """What can be done with it now."""
    joining: Joining | None
    run: RunProgress | None
    """What is under way there."""
    audit: Audit | None

    @property
    def alias(self) -> str:
        return self.status.target

    @property
    def breaker(self) -> bool:
        """Whether the circuit breaker is open: it answers its probe, and yet is of no use."""
        return self.status.state == TargetState.State.DOWN and self.retry_at is not None

    @property
    def used(self) -> float | None:
        """Share of its space that is taken; None: not known."""
        if self.free_bytes is None or not self.total_bytes:
            return None
        return min(1.0, max(0.0, 1 - self.free_bytes / self.total_bytes))


@dataclass(frozen=True, slots=True)
class Disk:
    """A local disk, and the storages that keep files on it."""

    storages: list[str]
    location: str
    free_bytes: int
    total_bytes: int

    @property
    def used(self) -> float:
        return 1 - self.free_bytes / self.total_bytes if self.total_bytes else 0.0


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole page."""

    at: datetime
    targets: list[TargetCard]
    local_runs: list[RunProgress]
    """What is under way at local disks."""
    copies: list[Progress]
    storages: list[status.StorageStatus]
    nodes: list[status.NodeStatus]
    node: str
    """This machine's name, whose disks these are."""
    disks: list[Disk]
    history: history.Span
    swept_at: datetime | None
    """When a worker last did what beat sends every few seconds; None: never."""
    beat_at: datetime | None
    """When beat last noted that it had sent something; None: never, or not known."""
    local_audits: list[Audit] = field(default_factory=list)

    @property
    def silent(self) -> bool:
        """Whether beat, or every worker, is missing."""
        return self.swept_at is None or (self.at - self.swept_at).total_seconds() > _SILENT

    @property
    def pending(self) -> int:
        return sum(card.status.pending for card in self.targets)

    @property
    def failed(self) -> int:
        return sum(card.status.failed for card in self.targets)

    @property
    def lag(self) -> float:
        return max((card.status.lag for card in self.targets), default=0.0)


def overview(only: str = "") -> Overview:
    """As it is now; with *only*, of that target alone. A fixed number of statements for each target that something is
    under way at, and about fifteen beside those, however many files and replicas there are."""
    now = timezone.now()
    statuses = status.targets([only] if only else [], _backlog())
    states = TargetState.objects.using(database.alias()).in_bulk([each.target for each in statuses])
    counted = counters.read()
    rates, within = history.rates(counted, now), history.within(counted, now)
    runs = _open_runs()
    audits = _last_audits()
    cards = [
        _card(each, states.get(each.target), rates.get(each.target), within.get(each.target),
              runs.get(each.target), audits.get((each.target, "")))
        for each in statuses
    ]  # fmt: skip
    swept_at = counted.get("", {}).get(counters.SWEPT_AT)
    return Overview(
        at=now,
        targets=cards,
        local_runs=[run for run in runs.values() if not run.target],
        copies=status.copies(),
        storages=status.storages(),
        nodes=status.nodes(),
        node=config().node,
        disks=_disks(),
        history=history.last_day(),
        swept_at=datetime.fromtimestamp(swept_at, UTC) if swept_at else None,
        beat_at=_beat_at(),
        local_audits=[audit for (target, _), audit in sorted(audits.items()) if not target],
    )


def _card(
    of: status.TargetStatus,
    state: TargetState | None,
    rates: history.Rates | None,
    within: float | None,
    run: RunProgress | None,
    audit: Audit | None,
) -> TargetCard:
    known = state or TargetState(target=of.target)
    joins = known.phase == Phase.JOINING and of.configured
    return TargetCard(
        status=of,
        met=state is not None,
        phase=known.phase,
        phase_since=state.phase_since if state else None,
        paused=known.paused,
        note=known.note,
        failures=known.failures,
        trips=known.trips,
        retry_at=known.retry_at,
        free_bytes=known.free_bytes,
        total_bytes=known.total_bytes,
        rates=rates or history.Rates(),
        within=within,
        storages=[storage.alias for storage in storages_at(of.target)],
        verbs=steering.possible(known),
        joining=joining_of(of.target, known.phase_since) if joins else None,
        run=run,
        audit=audit,
    )


class _Believed:
    """The backlog as this process counted it last: exact, and a little old once counting takes long."""

    def __init__(self) -> None:
        self.until = 0.0
        self.found: status.Backlog | None = None


_believed = _Believed()
#: Seconds that a count may take to be made anew each time; and how much longer than it took it is believed.
_QUICK, _FACTOR = 0.05, 20.0


def _backlog() -> status.Backlog:
    if _believed.found is None or time.monotonic() >= _believed.until:
        begun = time.monotonic()
        _believed.found = status.backlog()
        took = time.monotonic() - begun
        # Of a backlog of a million, each look of each person would cost a second.
        _believed.until = begun + (_FACTOR * took if took > _QUICK else 0.0)
    return _believed.found


def _open_runs() -> dict[str, RunProgress]:
    """Target, or the local disk's node with a blank before it → what is under way there."""
    rows = TargetRun.objects.using(database.alias()).filter(state__in=TargetRun.OPEN).defer("seen").order_by("pk")
    return {run.target or f" {run.node}": progress_of(run) for run in rows}


def _last_audits() -> dict[tuple[str, str], Audit]:
    """(target, node) → the newest audit there, under way or over."""
    rows = TargetRun.objects.using(database.alias()).filter(kind=TargetRun.Kind.AUDIT).order_by()
    newest = rows.values("target", "node").annotate(newest=Max("pk")).values_list("newest", flat=True)
    runs = TargetRun.objects.using(database.alias()).defer("seen").filter(pk__in=list(newest))
    return {
        (run.target, run.node): Audit(
            run.pk, run.state, run.dry_run, run.ended_at or run.started_at, run.done, dict(run.counts)
        )
        for run in runs
    }


def _disks() -> list[Disk]:
    """Those of this machine that storages keep files on."""
    by_device: dict[int, tuple[Path, list[str]]] = {}
    for storage in status.storages():
        try:
            # Nothing may have been saved there yet.
            place = next(path for path in (Path(storage.location), *Path(storage.location).parents) if path.exists())
            by_device.setdefault(place.stat().st_dev, (place, []))[1].append(storage.storage)
        except OSError:
            continue
    found = []
    for place, names in by_device.values():
        space = shutil.disk_usage(place)
        # As df says it: what is kept for root is neither free nor used.
        found.append(Disk(names, str(place), space.free, space.free + space.used))
    return found


def _beat_at() -> datetime | None:
    """Beat notes it every few minutes only, which tells a beat that is missing from workers that are."""
    if not apps.is_installed("django_celery_beat"):
        return None
    rows = apps.get_model("django_celery_beat", "PeriodicTask").objects.filter(name="replicator.sweep")
    found: datetime | None = rows.values_list("last_run_at", flat=True).first()
    return found
