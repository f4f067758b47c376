"""The Celery tasks: short shells. They are hints: lost, doubled or late ones are harmless."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from celery import shared_task

from replicator import delivery, ledger, wake
from replicator.conf import config
from replicator.ledger import health
from replicator.storage import replicated_storages


@shared_task(name="replicator.deliver", ignore_result=True, acks_late=True, reject_on_worker_lost=True)
def deliver(target: str) -> dict[str, Any]:
    """Work at one target until nothing is due there."""
    return {name: value for name, value in asdict(delivery.deliver(target)).items() if value or name != "skipped"}


@shared_task(name="replicator.sweep", ignore_result=True)
def sweep() -> list[str]:
    """Wake a worker for each target that has work due: retries, ended leases, lost messages."""
    up = config().targets.keys() - health.down_targets()
    due = ledger.due_targets(sorted(up))
    wake.wake(due)
    return due


@shared_task(name="replicator.probe", ignore_result=True)
def probe() -> dict[str, bool]:
    """Try the targets that are down or have just failed; whether each answers."""
    return delivery.probe(*sorted(health.suspects() & config().targets.keys()))


@shared_task(name="replicator.prune", ignore_result=True)
def prune() -> dict[str, int]:
    """Remove finished tombstones, and what killed or rolled back writes left on this machine's disk."""
    return {"tombstones": ledger.prune(), "leftovers": sum(s.tidy() for s in replicated_storages())}
