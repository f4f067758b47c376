"""Finding out whether a target that failed is down, and whether one that was down is up again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from replicator import ledger, wake
from replicator.conf import config
from replicator.errors import DeliveryError
from replicator.ledger import health, life
from replicator.targets import get_target


def is_answering(alias: str) -> str:
    """Empty if the target answers its probe; else why not. Never raises."""
    try:
        get_target(alias).probe()
    except DeliveryError as error:
        return str(error) or type(error).__name__
    except Exception as error:  # one target's defect must not keep the others from being probed
        # Its message stays out: it may hold a URL with a password.
        return f"a defect in the target's probe: {type(error).__name__}"
    return ""


def probe(*aliases: str) -> dict[str, bool]:
    """Try targets that are down or have just failed, all at once: each may take its time. Whether each answers.

    One that was down is then up, its backlog due and drained at once. Failed probes count as failed files do: after
    ``DOWN_AFTER`` of them in a row it is down, however few files there are to fail. Only a file that arrives ends
    the row: a host may answer probes, and hang on every PUT. So a probe closes no breaker that files have opened.
    """
    if not aliases:
        return {}
    with ThreadPoolExecutor(len(aliases)) as pool:
        reasons = dict(zip(aliases, pool.map(is_answering, aliases), strict=True))
    for alias, reason in reasons.items():
        if reason:
            if health.note_failures(alias, 1, reason) >= config().down_after:
                health.mark_down(alias, reason)
        elif health.mark_up(alias, by_probe=True):
            life.forget()
            ledger.hasten(alias)
            wake.wake([alias])
    return {alias: not reason for alias, reason in reasons.items()}
