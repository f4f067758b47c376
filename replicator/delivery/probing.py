"""Finding out whether a target that failed is down, and whether one that was down is up again."""

from __future__ import annotations

from replicator import ledger, wake
from replicator.conf import config
from replicator.errors import DeliveryError
from replicator.ledger import health
from replicator.targets import get_target


def is_answering(alias: str) -> str:
    """Empty if the target answers its probe; else why not."""
    try:
        get_target(alias).probe()
    except DeliveryError as error:
        return str(error) or type(error).__name__
    return ""


def probe(alias: str) -> bool:
    """Try a target that is down or has just failed. Whether it answers.

    One that was down is then up, its backlog due and drained at once. Failed probes count as failed files do: after
    ``DOWN_AFTER`` of them in a row it is down, however few files there are to fail.
    """
    reason = is_answering(alias)
    if reason:
        if health.note_failures(alias, 1, reason) >= config().down_after:
            health.mark_down(alias, reason)
    elif health.mark_up(alias):
        ledger.hasten(alias)
        wake.wake([alias])
    else:
        health.note_success(alias)
    return not reason
