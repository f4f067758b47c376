"""Working at one target until nothing is due there, one worker process beside another."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from uuid import UUID, uuid4

from django.core.exceptions import ImproperlyConfigured

from replicator import ledger, wake
from replicator.conf import config
from replicator.delivery.neglected import PATIENCE, neglected
from replicator.delivery.summary import Summary
from replicator.delivery.turn import LOOK_AGAIN, Turn
from replicator.ledger import health, life, nodes
from replicator.targets import get_target
from replicator.targets.base import Target

log = logging.getLogger(__name__)

#: Seconds after which work that nobody claimed shows that whoever is busy has its hands full, or is dead.
_LYING = 2 * LOOK_AGAIN


#: Target → when this process last left a backlog there to whoever answers the wake-up that it sent, since 1970.
_handed_over: dict[str, float] = {}


def attend(alias: str, *, sent_at: float | None = None) -> Summary:
    """Deliver to one target, as a worker that was woken for it; and then for a while to each of those that no process
    was free for meanwhile. What was done at the first.

    Where there are no more processes than backlogs, the broker's queue is full of wake-ups for these: what waits
    behind them, for other targets or from beat, would expire. So one that was *sent* before this process has sent
    its own, at the end, is passed over.
    """
    if sent_at is not None and sent_at < _handed_over.get(alias, 0.0):
        wake.clear_flag(alias)
        return Summary(skipped="busy")
    begun = time.monotonic()
    summary = _deliver(alias, gives_way=True)
    unfinished = [alias] if summary.unfinished else []
    try:
        if time.monotonic() - begun >= PATIENCE:
            for other in neglected(alias):
                if _helped(other):
                    unfinished.append(other)
    finally:
        _hand_over(unfinished)
    return summary


def _helped(alias: str) -> bool:
    """Deliver to a target for a little; whether there is more to do."""
    try:
        return _deliver(alias, seconds=PATIENCE).unfinished
    except ImproperlyConfigured as error:  # a check says so; the next one may have better settings
        log.error("target can't be used", extra={"target": alias, "error": str(error)})  # noqa: TRY400
        return False


def deliver(alias: str, *, seconds: float | None = None, storage: str | None = None) -> Summary:
    """Work at one target until nothing is due there, or *seconds* are over (then another worker is woken).

    With *storage*, only that storage's files: for a process that waits for them and is no worker.
    """
    summary = _deliver(alias, seconds=seconds, storage=storage)
    if summary.unfinished:
        _hand_over([alias])
    return summary


def _hand_over(aliases: Sequence[str]) -> None:
    """Have others go on at these targets."""
    now = time.time()
    if aliases and wake.wake(aliases, config().deliverer):
        _handed_over.update(dict.fromkeys(aliases, now))


def _deliver(
    alias: str, *, seconds: float | None = None, storage: str | None = None, gives_way: bool = False
) -> Summary:
    """As ``deliver``, but wakes nobody. If it *gives way*, it ends sooner when the process is wanted elsewhere."""
    conf = config()
    summary = Summary()
    if alias not in conf.targets:
        # A message from before the settings changed, or one for workers that know them already: the sweep sends more.
        log.warning("woken for a target that the settings do not name", extra={"target": alias})
        summary.skipped = "unknown"
        return summary
    target = get_target(alias)
    begun = time.monotonic()
    end = begun + (conf.run_seconds if seconds is None else seconds)
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
        if gives_way:
            turn.patient_until = begun + PATIENCE
        try:
            turn.work(end)
        finally:
            health.free_slot(slot)
        # Look again after leaving: whoever found every slot taken a moment ago went away, trusting us. What is due
        # but twice could not be claimed is being written just now, and announced by that.
        empty = 0 if turn.claimed else empty + 1
        if turn.suspended or empty == 2 or not ledger.due_targets([alias]):
            return summary
        if turn.gave_way or time.monotonic() >= end:
            summary.unfinished = True
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
