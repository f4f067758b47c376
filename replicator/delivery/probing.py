"""Finding out whether a target that failed is down, and whether one that was down is up again."""

from __future__ import annotations

from replicator import ledger, wake
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
    """Try a target that is marked down; if it answers, it is up, and its backlog due and drained at once."""
    reason = is_answering(alias)
    if reason:
        return False
    if health.mark_up(alias):
        ledger.hasten(alias)
    wake.wake([alias])
    return True
