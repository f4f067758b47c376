"""How replication stands, as people and monitors ask: by target, and what failed last."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, Exists, Min, OuterRef
from django.utils import timezone

from replicator.conf import config
from replicator.ledger import database
from replicator.ledger import nodes as ledger_nodes
from replicator.models import CopyRun, NodeState, Replica, TargetRun, TargetState
from replicator.operating.progress import Joining, RunProgress, joining_of
from replicator.operating.progress import progress_of as progress_of_run
from replicator.staging import Progress, progress_of
from replicator.storage.replicated import replicated_storages


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """One target. Only what is not synced is counted: that is cheap however much is."""

    target: str
    configured: bool
    """Whether the settings still name it: else nothing is delivered there."""
    state: str
    reason: str
    """Why it is down, or what failed last while it is up; empty if nothing did."""
    state_since: datetime | None
    """None: it was never tried."""
    last_success_at: datetime | None
    pending: int
    failed: int
    oldest: datetime | None
    """When the oldest write was made that is not synced; None if all are."""
    lag: float
    """Its age in seconds."""
    phase: str
    """Of its life: "joining", "active", "read-only", "draining", "retired"; empty if no sweep has seen it yet."""
    paused: bool
    note: str
    """Who paused it or changed its phase, and why."""
    phase_since: datetime | None

    @property
    def backlog(self) -> int:
        return self.pending + self.failed


@dataclass(frozen=True, slots=True)
class StorageStatus:
    """One storage that replicates."""

    storage: str
    location: str
    targets: list[str]


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node with a disk of its own."""

    node: str
    seen_at: datetime | None
    """When its workers were last at work; None: never."""
    gone: bool
    """For so long that others deliver its files, as far as a target has them."""
    pending: int
    """Replicas that wait for it."""
    nowhere: int
    """Files among those that no target has, counted only if it is gone."""
    example: str
    """One of them."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed replica."""

    id: int
    storage: str
    name: str
    target: str
    error: str
    message: str
    http_status: int | None
    attempted_at: datetime | None


#: Number and age of the pending and of the failed replicas, by target.
Backlog = tuple[dict[str, tuple[int, datetime]], dict[str, tuple[int, datetime]]]


def backlog() -> Backlog:
    """What is not synced. Of a hundred thousand it may take a good part of a second."""
    return _open("pending"), _open("failed")


def targets(only: Iterable[str] = (), counted: Backlog | None = None) -> list[TargetStatus]:
    """Those of *only*, or all: of the settings first, then those that only the ledger still knows.

    *counted*: the backlog, if the caller knows it.
    """
    now = timezone.now()
    pending, failed = counted or backlog()
    states = {state.target: state for state in TargetState.objects.using(database.alias())}
    configured = list(config().targets)
    left = sorted((pending.keys() | failed.keys() | states.keys()) - set(configured))
    wanted = set(only)
    return [
        _status(alias, alias in configured, states.get(alias), pending.get(alias), failed.get(alias), now)
        for alias in configured + left
        if not wanted or alias in wanted
    ]


def _open(status: str) -> dict[str, tuple[int, datetime]]:
    """Number and age of the replicas of this status by target: read from that status's partial index."""
    rows = Replica.objects.using(database.alias()).filter(status=status).order_by()
    return {
        row["target"]: (row["count"], row["oldest"])
        for row in rows.values("target").annotate(count=Count("*"), oldest=Min("since"))
    }


def _status(
    alias: str,
    configured: bool,
    state: TargetState | None,
    pending: tuple[int, datetime] | None,
    failed: tuple[int, datetime] | None,
    now: datetime,
) -> TargetStatus:
    oldest = min((since for _, since in filter(None, (pending, failed))), default=None)
    is_ill = state is not None and (state.state == TargetState.State.DOWN or state.failures)
    return TargetStatus(
        target=alias,
        configured=configured,
        state=state.state if state else TargetState.State.UP.value,
        reason=state.reason if state and is_ill else "",
        state_since=state.since if state else None,
        last_success_at=state.last_success_at if state else None,
        pending=pending[0] if pending else 0,
        failed=failed[0] if failed else 0,
        oldest=oldest,
        lag=max(0.0, (now - oldest).total_seconds()) if oldest else 0.0,
        phase=state.phase if state else "",
        paused=state is not None and state.paused,
        note=state.note if state else "",
        phase_since=state.phase_since if state else None,
    )


def storages() -> list[StorageStatus]:
    return [StorageStatus(s.alias, str(s.location), list(s.targets)) for s in replicated_storages()]


def nodes() -> list[NodeStatus]:
    """Where each node has a disk of its own: those that were ever seen, and those that something waits for."""
    if not config().deliverer:
        return []
    replicas = Replica.objects.using(database.alias())
    waiting: dict[str, int] = {
        row["node"]: row["count"]
        for row in replicas.pending().exclude(node="").order_by().values("node").annotate(count=Count("*"))
    }
    seen = {state.node: state.seen_at for state in NodeState.objects.using(database.alias())}
    found = []
    for node in sorted(seen.keys() | waiting.keys() | {config().node}):
        gone = ledger_nodes.is_gone(node)
        count, example = _nowhere(node) if gone else (0, "")
        found.append(NodeStatus(node, seen.get(node), gone, waiting.get(node, 0), count, example))
    return found


def _nowhere(node: str) -> tuple[int, str]:
    """Files that wait for *node* and that no target has, and one of them."""
    replicas = Replica.objects.using(database.alias())
    held = replicas.current().filter(file=OuterRef("file"))
    open_work = replicas.backlog().of(node).filter(file__deleted=False).filter(~Exists(held))
    example = open_work.select_related("file").order_by("pk").first()
    return open_work.values("file").distinct().count(), str(example.file) if example else ""


def runs() -> list[RunProgress]:
    """The backfills, resyncs, retirements and audits that are under way, those that are paused among them."""
    rows = TargetRun.objects.using(database.alias()).filter(state__in=TargetRun.OPEN)
    return [progress_of_run(run) for run in rows.defer("seen").order_by("pk")]


def joining(among: Iterable[TargetStatus]) -> dict[str, Joining]:
    """How far those are that join. May take a second for each if there are a million files."""
    joining = [t for t in among if t.configured and t.phase == TargetState.Phase.JOINING]
    return {t.target: joining_of(t.target, t.phase_since) for t in joining}


def copies() -> list[Progress]:
    """The copies of live media that are under way, those that are paused among them."""
    rows = CopyRun.objects.using(database.alias()).filter(state__in=[CopyRun.State.RUNNING, CopyRun.State.PAUSED])
    return [progress_of(run) for run in rows.order_by("pk")]


def failures(aliases: Iterable[str], limit: int) -> list[Failure]:
    """The *limit* newest failed replicas of these targets, newest write first."""
    found: list[dict[str, Any]] = []
    columns = {
        "id": "id",
        "storage": "file__storage",
        "name": "file__name",
        "target": "target",
        "error": "error_kind",
        "message": "error_text",
        "http_status": "http_status",
        "attempted_at": "attempted_at",
        "since": "since",
    }
    for alias in aliases:
        # One target at a time: that is the order of the partial index, which ends after *limit* rows.
        rows = Replica.objects.using(database.alias()).failed().at(alias).order_by("-since")
        found += [dict(zip(columns, row, strict=True)) for row in rows.values_list(*columns.values())[:limit]]
    found.sort(key=lambda row: row["since"], reverse=True)
    return [Failure(**{key: value for key, value in row.items() if key != "since"}) for row in found[:limit]]
