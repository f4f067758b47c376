"""The Celery tasks: short shells. They are hints: lost, doubled or late ones are harmless."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from celery import Task, shared_task
from django.core.exceptions import ImproperlyConfigured

from replicator import delivery, ledger, operating, staging, wake
from replicator.conf import config
from replicator.ledger import counters, health, life, nodes
from replicator.operating import sampling
from replicator.storage import replicated_storages
from replicator.storage.linked import linked_targets
from replicator.storage.outdated import remove_outdated

log = logging.getLogger(__name__)


@shared_task(name="replicator.deliver", bind=True, ignore_result=True, acks_late=True, reject_on_worker_lost=True)
def deliver(self: Task[Any, Any], target: str) -> dict[str, Any]:
    """Work at one target until nothing is due there, or others wait; what was done, for Flower to show."""
    done = delivery.attend(target, sent_at=self.request.get("sent_at"))
    return {name: value for name, value in asdict(done).items() if value}


@shared_task(name="replicator.copy_media", ignore_result=True, acks_late=True, reject_on_worker_lost=True)
def copy_media(chunk: int, _about: str = "") -> dict[str, Any]:
    """Copy the files of one chunk from the live site. *_about*: what Flower shows of it."""
    return staging.copy(chunk)


@shared_task(name="replicator.backfill", bind=True, ignore_result=True, acks_late=True, reject_on_worker_lost=True)
def backfill(self: Task[Any, Any], run: int, _about: str = "") -> dict[str, Any]:
    """Record a replica for every file that a target should hold. *_about*: what Flower shows of it."""
    return operating.work(run, task=self.request.id or "")


@shared_task(name="replicator.resync", bind=True, ignore_result=True, acks_late=True, reject_on_worker_lost=True)
def resync(self: Task[Any, Any], run: int, _about: str = "") -> dict[str, Any]:
    """Have every file sent again to a target that has lost what it held. *_about*: what Flower shows of it."""
    return operating.work(run, task=self.request.id or "")


@shared_task(name="replicator.retire", bind=True, ignore_result=True, acks_late=True, reject_on_worker_lost=True)
def retire(self: Task[Any, Any], run: int, _about: str = "") -> dict[str, Any]:
    """Remove what is known of a target, and perhaps what it holds. *_about*: what Flower shows of it."""
    return operating.work(run, task=self.request.id or "")


@shared_task(name="replicator.audit", bind=True, ignore_result=True, acks_late=True, reject_on_worker_lost=True)
def audit(self: Task[Any, Any], /, run: int | None = None, _about: str = "", **options: Any) -> dict[str, Any]:
    """Compare a target, or the local disk, with the ledger; all of them, with *options*, unless a run is given."""
    if run is None:
        return dict(operating.audit.nightly(options))
    return operating.work(run, task=self.request.id or "")


@shared_task(name="replicator.sweep", ignore_result=True)
def sweep() -> list[str]:
    """Wake a worker for each target that has work due, and for each copy: retries, ended leases, lost messages."""
    due = _sweep()
    staging.sweep()
    operating.sweep()
    counters.note_swept()
    # Last: what it finds out of one target may take its time, or fail, and keeps no other from its files.
    operating.sweep_targets()
    return due


def _sweep() -> list[str]:
    up = sorted(config().targets.keys() - life.closed_now())
    _have_tried(sorted(config().targets.keys() & health.trials_due()))
    if not config().deliverer:
        nodes.share()
        due = ledger.due_targets(up)
        wake.wake(due, "")
        return due
    work = ledger.due_work(up)
    for node, targets in work.items():
        wake.wake(targets, node)
    wake.send_to_nodes("replicator.check_in", nodes.known())
    return sorted({target for targets in work.values() for target in targets})


def _have_tried(targets: list[str]) -> None:
    """Wake a worker for a trial of each: of a node whose files wait for it, if there is one. Where nothing is due, a
    trial shows that there is nothing that its breaker would have to keep from it; but not to a node that only has
    nothing itself."""
    for target in targets:
        for node in ledger.due_work([target]) or [""]:
            wake.wake([target], node)


@shared_task(name="replicator.check_in", ignore_result=True)
def check_in() -> None:
    """Show that this node's workers are at work, where each node has a disk of its own."""
    delivery.show_life()


@shared_task(name="replicator.probe", ignore_result=True)
def probe() -> dict[str, bool]:
    """Try the targets that are down or have just failed, and those that links lead to; whether each answers."""
    wanted = health.to_probe() | (linked_targets() - health.suspects() - life.unreadable())
    return delivery.probe(*sorted(wanted & config().targets.keys()))


@shared_task(name="replicator.sample", ignore_result=True)
def sample() -> list[str]:
    """Note how each target stands, for metrics and charts; those that were noted."""
    return sampling.sample()


@shared_task(name="replicator.prune", ignore_result=True)
def prune() -> dict[str, int]:
    """Remove finished tombstones, and have each disk tidied."""
    if config().deliverer:
        wake.send_to_nodes("replicator.tidy", nodes.known())
        tidied = {}
    else:
        # First: without its tombstone, the traces of a deleted file look like those of one to be brought back.
        tidied = tidy()
    done = {"tombstones": ledger.prune(), **tidied}
    if copied := staging.prune():
        done["copied"] = copied
    if runs := operating.prune():
        done["runs"] = runs
    return done


@shared_task(name="replicator.tidy", ignore_result=True)
def tidy() -> dict[str, int]:
    """Remove what killed or rolled back writes left on this machine's disk, and what other nodes have replaced."""
    leftovers = 0
    for storage in replicated_storages():
        try:
            leftovers += storage.tidy()
        except (ImproperlyConfigured, OSError) as error:  # one must not keep the others
            log.error("storage not tidied", extra={"storage": storage.alias, "error": str(error)})  # noqa: TRY400
    return {"leftovers": leftovers, "outdated": remove_outdated()}
