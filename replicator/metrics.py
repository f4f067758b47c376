"""What Prometheus reads: all of it from the database, so that any process of any machine answers for all."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import accumulate

from django.db import Error
from django.db.models import Count, Max, OuterRef, Q, Subquery, Sum
from django.utils import timezone
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from replicator.conf import config
from replicator.ledger import backlogs, counters, database, life
from replicator.models import CopyPart, CopyRun, NodeState, Slot, TargetRun, TargetState
from replicator.operating.audit.reporting import found_by

log = logging.getLogger(__name__)

#: What became of a copy run's files: the columns of its parts that count them.
_COPIED = ("copied", "there", "newer", "excluded", "missing", "failed")


class ReplicatorCollector(Collector):
    """For a registry of ``prometheus_client``: ``REGISTRY.register(ReplicatorCollector())``."""

    def describe(self) -> list[Metric]:
        """Nothing: to be registered needs no database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics. What can't be read is left out, and counted. Never raises because of the database."""
        failed = 0
        parts = (_standing, _counted, _work, _machines)
        for number, part in enumerate(parts):
            try:
                yield from list(part())
            except Error as error:
                log.warning("metrics not read", extra={"error": type(error).__name__})
                failed += 1
                if not _is_database_there():
                    # To try again for each part would only take time.
                    failed += len(parts) - number - 1
                    break
        yield _gauge("scrape_errors", "Parts of these metrics that could not be read just now", [], [((), failed)])


def _is_database_there() -> bool:
    connection = database.connection()
    try:
        if not connection.in_atomic_block:
            connection.close()
        connection.ensure_connection()
    except Error:
        return False
    return True


def _known() -> dict[str, TargetState | None]:
    """Targets of the settings, and those that the ledger still knows."""
    states = {state.target: state for state in life.states()}
    return {target: states.get(target) for target in sorted({*config().targets, *states})}


def _standing() -> Iterator[Metric]:
    """How targets stand now. Two statements, and one more where much waits."""
    known, now = _known(), timezone.now()
    # Of one that is retired nobody finds out, nor is to be told.
    used = {
        target: state for target, state in known.items() if state is None or state.phase != TargetState.Phase.RETIRED
    }
    waiting = backlogs.current(known)
    yield _gauge(
        "backlog",
        "Replicas that are not synced: pending, or failed until a person requeues them",
        ["target", "status"],
        [(key, backlog.count) for key, backlog in waiting.items()],
    )
    yield _gauge(
        "lag_seconds",
        "Age of the oldest write that waits to be delivered; 0: none does",
        ["target"],
        [
            ((target,), backlog.lag(now))
            for (target, status), backlog in waiting.items()
            if status == backlogs.PENDING
        ],
    )
    yield _gauge(
        "lag_objective_seconds",
        "How soon after its write a file is to be at a target (LAG_OBJECTIVE)",
        [],
        [((), config().lag_objective)],
    )
    down = TargetState.State.DOWN
    yield _gauge(
        "target_up",
        "0: it is down, or its circuit breaker is open",
        ["target"],
        [((target,), state is None or state.state != down) for target, state in used.items()],
    )
    yield _gauge(
        "target_paused",
        "1: people want nothing sent there",
        ["target"],
        [((target,), state is not None and state.paused) for target, state in known.items()],
    )
    yield _gauge(
        "target_phase",
        "1 for the phase of its life that it is in",
        ["target", "phase"],
        [
            ((target, phase), state.phase == phase)
            for target, state in known.items()
            if state is not None
            for phase in TargetState.Phase.values
        ],
    )
    for name, text, column in (
        ("target_free_bytes", "Free space, where the target tells", "free_bytes"),
        ("target_size_bytes", "Space in all, where the target tells", "total_bytes"),
    ):
        sizes = [((target,), getattr(state, column, None)) for target, state in used.items()]
        yield _gauge(name, text, ["target"], [(labels, size) for labels, size in sizes if size is not None])


def _counted() -> Iterator[Metric]:
    """What workers have counted. Two statements."""
    numbers = counters.read()
    known = {target: numbers.get(target, {}) for target in _known()}
    synced = CounterMetricFamily(
        "replicator_synced", "Deliveries that targets confirmed", labels=["target", "operation"]
    )
    for target, number in known.items():
        synced.add_metric([target, "put"], number.get(counters.PUT, 0))
        synced.add_metric([target, "delete"], number.get(counters.DELETED, 0))
    yield synced
    for name, text, key in (
        ("attempts_failed", "Attempts to deliver that failed", counters.FAILED),
        ("bytes", "Bytes of the files that targets confirmed", counters.BYTES),
        ("within_objective", "Deliveries that came within the lag objective", counters.WITHIN),
    ):
        family = CounterMetricFamily(f"replicator_{name}", text, labels=["target"])
        for target, number in known.items():
            family.add_metric([target], number.get(key, 0))
        yield family
    seconds = HistogramMetricFamily(
        "replicator_delivery_seconds", "How long a delivery took that the target confirmed", labels=["target"]
    )
    ends = [str(floatToGoString(end)) for end in counters.BUCKETS]  # type: ignore[no-untyped-call]
    keys = [counters.bucket_key(end) for end in counters.BUCKETS]
    for target, number in known.items():
        sums = accumulate(number.get(key, 0) for key in keys)
        buckets = list(zip(ends, sums, strict=True))
        seconds.add_metric([target], buckets, number.get(counters.SECONDS, 0))
    yield seconds
    swept_at = numbers.get("", {}).get(counters.SWEPT_AT)
    yield _gauge(
        "sweep_timestamp_seconds",
        "When the last sweep ran",
        [],
        [] if swept_at is None else [((), swept_at)],
    )


def _work() -> Iterator[Metric]:
    """Long pieces of work: at targets, and copies of live media. Five statements."""
    runs = TargetRun.objects.using(database.alias()).defer("seen")
    under_way = list(runs.filter(state__in=TargetRun.OPEN).order_by("pk"))
    labels = ["target", "kind"]
    yield _gauge(
        "target_runs",
        "Runs at a target that are under way, or paused",
        [*labels, "state"],
        [((place_of(run), run.kind, run.state), 1) for run in under_way],
    )
    yield _gauge(
        "target_run_files",
        "Files that a run under way has to deal with, once they are counted",
        labels,
        [((place_of(run), run.kind), run.total) for run in under_way if run.total is not None],
    )
    yield _gauge(
        "target_run_files_done",
        "Files that a run under way has dealt with",
        labels,
        [((place_of(run), run.kind), run.done) for run in under_way],
    )
    # Not of places that there are no more: those audits grow old, and what they found is nobody's business.
    retired = TargetState.objects.using(database.alias()).filter(phase=TargetState.Phase.RETIRED).values("target")
    nodes = NodeState.objects.using(database.alias()).values("node")
    audits = (
        runs.filter(Q(target="") | Q(target__in=list(config().targets)), Q(node="") | Q(node__in=nodes))
        .exclude(target__in=retired)
        .filter(kind=TargetRun.Kind.AUDIT, state=TargetRun.State.DONE)
    )
    newest = audits.filter(target=OuterRef("target"), node=OuterRef("node")).order_by("-pk").values("pk")[:1]
    last = [audit for audit in audits.filter(pk=Subquery(newest)) if audit.ended_at is not None]
    yield _gauge(
        "audit_timestamp_seconds",
        "When the last audit was done",
        ["target"],
        [((place_of(audit),), audit.ended_at.timestamp()) for audit in last if audit.ended_at is not None],
    )
    yield _gauge(
        "audit_found",
        "Files that the last audit found not to be as the ledger says",
        ["target"],
        [((place_of(audit),), found_by(audit)) for audit in last],
    )
    copies = CopyRun.objects.using(database.alias())
    opened = copies.filter(state__in=[CopyRun.State.RUNNING, CopyRun.State.PAUSED]).order_by()
    yield _gauge(
        "copy_runs",
        "Copies of live media that are under way, or paused",
        ["source", "state"],
        [
            ((source, state), number)
            for source, state, number in opened.values_list("source", "state").annotate(n=Count("*"))
        ],
    )
    of_source = copies.order_by().values("source").annotate(last=Max("pk")).values("last")
    sums = CopyPart.objects.using(database.alias()).filter(run__in=of_source).order_by().values_list("run__source")
    yield _gauge(
        "copy_files",
        "Files of each source's last copy, by what became of them",
        ["source", "state"],
        [
            ((source, state), number)
            for source, *numbers in sums.annotate(*(Sum(state, default=0) for state in _COPIED))
            for state, number in zip(_COPIED, numbers, strict=True)
        ],
    )


def _machines() -> Iterator[Metric]:
    """Workers, and the machines that they are on. Two statements."""
    now = timezone.now()
    slots = Slot.objects.using(database.alias()).filter(lease_until__gt=now).order_by().values_list("target")
    busy = dict(slots.annotate(n=Count("pk")))
    yield _gauge(
        "slots_busy",
        "Worker processes that are busy with a target",
        ["target"],
        [((target,), busy.get(target, 0)) for target in sorted({*config().targets, *busy})],
    )
    nodes = NodeState.objects.using(database.alias()).order_by("node")
    yield _gauge(
        "node_last_seen_timestamp_seconds",
        "When workers of a node with a disk of its own were last at work",
        ["node"],
        [((node.node,), node.seen_at.timestamp()) for node in nodes],
    )


def place_of(run: TargetRun) -> str:
    """The value of the label ``target``: an empty one is none to Prometheus."""
    return run.target or (f"local disk of {run.node}" if run.node else "local disk")


def _gauge(
    name: str, text: str, labels: list[str], values: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"replicator_{name}", text, labels=labels)
    for label_values, value in values:
        family.add_metric([str(each) for each in label_values], float(value))
    return family
