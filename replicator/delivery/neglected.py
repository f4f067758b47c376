"""Finding out whom no process is free for, so that a backlog gives way to them."""

from __future__ import annotations

import time

from replicator import ledger
from replicator.conf import config
from replicator.ledger import counters, health, life

#: Seconds that a worker keeps to its target however others fare.
PATIENCE = 10.0
#: Seconds that work lies where no process is free: else one would have come, after the next sweep at the latest.
_LYING = 12.0
#: Seconds after which a sweep is late, of which beat sends one each ten.
_SWEPT = 30.0


def neglected(alias: str) -> list[str]:
    """The targets beside *alias* where work has been lying that this process may do, and that nobody is at."""
    others = config().targets.keys() - {alias} - life.closed_now() - health.busy()
    return ledger.due_targets(sorted(others), for_seconds=_LYING)


def is_wanted(alias: str, since: float) -> bool:
    """Whether a worker that has been at *alias* *since* then (seconds since 1970) is wanted elsewhere: by another
    target, or by what beat has sent."""
    swept_at = counters.swept_at()
    # Beat may be what is missing: then it is not worth much.
    return bool(neglected(alias)) or (swept_at is not None and time.time() - max(swept_at, since) > _SWEPT)
