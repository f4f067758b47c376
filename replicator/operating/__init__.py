"""Operating it: what people want of targets, and the long pieces of work that bring it about."""

from __future__ import annotations

from typing import Any

from replicator.operating import audit
from replicator.operating import work as _work
from replicator.operating.backfill import Backfill
from replicator.operating.joining import sweep as sweep_targets
from replicator.operating.resync import Resync
from replicator.operating.retire import Retire
from replicator.operating.runs import NotStarted, cancel, open_run, pause, prune, resume, start, sweep
from replicator.operating.work import Work

__all__ = [
    "WORKS",
    "NotStarted",
    "audit",
    "cancel",
    "open_run",
    "pause",
    "prune",
    "resume",
    "start",
    "sweep",
    "sweep_targets",
    "work",
]

#: kind → what it does
WORKS: dict[str, type[Work]] = {each.kind: each for each in (audit.Audit, Backfill, Resync, Retire)}


def work(run: int, *, task: str = "") -> dict[str, Any]:
    """Work at a run until it is done or one task's time is over; what Flower shows of it. *task*: Celery's id."""
    return _work.work(run, WORKS, task=task)
