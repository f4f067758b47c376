"""What is noted of targets each minute, and the word that is given when one falls behind."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

from replicator.conf import config
from replicator.errors import DeliveryError
from replicator.ledger import life, samples
from replicator.models import TargetSample, TargetState
from replicator.targets import get_target
from replicator.targets.base import Space

#: A name of its own, so that a site can send these events elsewhere.
log = logging.getLogger("replicator.lag")


def sample() -> list[str]:
    """Note how each target stands; those that had not been noted in this minute. Beat calls this; without it there is
    no history, and all else goes on."""
    known = life.states().exclude(phase=TargetState.Phase.RETIRED).values_list("target", flat=True)
    retired = set(life.states().filter(phase=TargetState.Phase.RETIRED).values_list("target", flat=True))
    taken = samples.take(sorted({*config().targets, *known} - retired))
    for now, before in taken:
        _tell(now, before)
    samples.prune()
    _ask_for_space(sorted(config().targets.keys() - life.unreadable()))
    return [now.target for now, _ in taken]


def _tell(now: TargetSample, before: TargetSample | None) -> None:
    """Log when the oldest file that waits has become older than the objective, and when none is any more."""
    objective = config().lag_objective
    missed, was_missed = now.lag > objective, before is not None and before.lag > objective
    if missed != was_missed:
        facts = {"target": now.target, "lag": round(now.lag), "objective": objective, "backlog": now.pending}
        message = "lag objective missed" if missed else "lag objective met again"
        log.warning(message, extra={**facts, "state": now.state})


def _ask_for_space(targets: list[str]) -> None:
    """All at once: each may take its time."""
    if not targets:
        return
    with ThreadPoolExecutor(len(targets)) as pool:
        answers = list(pool.map(_space, targets))
    for target, answer in zip(targets, answers, strict=True):
        if not isinstance(answer, Exception):
            samples.note_space(target, answer)


def _space(target: str) -> Space | Exception | None:
    try:
        return get_target(target).space()
    except DeliveryError as error:  # the probe finds out about that
        return error
    except Exception as error:  # one target's defect must not keep the others from being asked
        log.warning("target can't be asked for its space", extra={"target": target, "error": type(error).__name__})
        return error
