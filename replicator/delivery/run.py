"""Working at one target until nothing is due there, one worker process beside another."""

from __future__ import annotations

import logging
import time
from uuid import UUID, uuid4

from replicator import ledger, wake
from replicator.conf import config
from replicator.delivery.turn import LOOK_AGAIN, Summary, Turn
from replicator.ledger import health, life, nodes
from replicator.targets import get_target
from replicator.targets.base import Target

log = logging.getLogger(__name__)

#: Seconds after which work that nobody claimed shows that whoever is busy has its hands full, or is dead.
_LYING = 2 * LOOK_AGAIN


def deliver(alias: str, *, seconds: float | None = None, storage: str | None = None) -> Summary:
    """Work at one target until nothing is due there, or *seconds* are over (then another worker is woken).

    With *storage*, only that storage's files: for a process that waits for them and is no worker.
    """
    conf = config()
    summary = Summary()
    if alias not in conf.targets:
        # A message from before the settings changed, or one for workers that know them already: the sweep sends more.
        log.warning("woken for a target that the settings do not name", extra={"target": alias})
        summary.skipped = "unknown"
        return summary
    target = get_target(alias)
    end = time.monotonic() + (conf.run_seconds if seconds is None else seconds)
    if storage is None:
        show_life()
    empty = 0
    while True:
        why = life.why_closed(alias)
        if why == "down" and health.begin_trial(alias):
            return _try(target, summary, storage)
        if why:
            summary.skipped = why
            return summary
        if alias in life.closed():
            life.forget()  # what this process believes is older
        # Whoever finds every slot taken has used up the message: a flag that stayed would hold back the next one.
        wake.clear_flag(alias)
        slot = uuid4()
        if not _take_slot(target, slot):
            summary.skipped = "busy"
            return summary
        turn = Turn(target, slot, summary, storage)
        try:
            turn.work(end)
        finally:
            health.free_slot(slot)
        # Look again after leaving: whoever found every slot taken a moment ago went away, trusting us. What is due
        # but twice could not be claimed is being written just now, and announced by that.
        empty = 0 if turn.claimed else empty + 1
        if turn.suspended or empty == 2 or not ledger.due_targets([alias]):
            return summary
        if time.monotonic() >= end:
            wake.wake([alias], conf.deliverer)
            return summary


def _try(target: Target, summary: Summary, storage: str | None) -> Summary:
    """Send one file to a target whose breaker is open: its success closes it, and so does there being nothing due,
    for whichever process. One that is not here shows nothing: then another one, for there may be many."""
    slot, seconds = uuid4(), config().lease_seconds
    if not health.take_slot(target.alias, 1, slot, seconds):
        summary.skipped = "busy"
        return summary
    # Until then nobody else begins a trial.
    end = time.monotonic() + seconds / 2
    unread = False
    try:
        while True:
            turn = Turn(target, slot, summary, storage, trial=True)
            turn.work(time.monotonic())
            if not turn.unread or time.monotonic() >= end or life.why_closed(target.alias) != "down":
                break
            unread = True
    finally:
        health.free_slot(slot)
    if not turn.claimed and ledger.due_work([target.alias]):
        # Another node's files, or another storage's: who can send them finds out.
        health.give_back_trial(target.alias)
        return summary
    is_well = turn.answered or not (turn.claimed or unread)
    if is_well and not turn.suspended and health.mark_up(target.alias):
        life.forget()
        ledger.hasten(target.alias)
        wake.wake([target.alias])
    return summary


def show_life() -> None:
    """Where nodes have disks of their own: this one's workers are at work. If they were gone, its files are due."""
    node = config().deliverer
    if node and nodes.note_seen(node):
        for target in config().targets:
            ledger.hasten(target, node=node)


def _take_slot(target: Target, slot: UUID) -> bool:
    """Become one of the workers busy with *target*: beside another one only if that leaves work lying.

    A worker at a host that hangs has claimed all there is, and waits. A second one could only wait with it, and the
    two of them may be all that there are. Nor is there help to be given where the last request failed.
    """
    seconds = config().lease_seconds
    if health.take_slot(target.alias, 1, slot, seconds):
        return True
    if target.workers == 1 or health.has_failed(target.alias):
        return False
    if not ledger.due_targets([target.alias], for_seconds=_LYING):
        return False
    return health.take_slot(target.alias, target.workers, slot, seconds)
