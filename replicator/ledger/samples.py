"""The only module that writes how targets stood, minute by minute, and what room they have."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from django.utils import timezone

from replicator.ledger import backlogs, counters, database, life
from replicator.models import TargetSample, TargetState
from replicator.targets.base import Space

_KEPT = timedelta(days=2)


def take(targets: Iterable[str]) -> list[tuple[TargetSample, TargetSample | None]]:
    """Note how *targets* stand in this minute; those that nobody had noted yet, each with the one before it.

    Safe to call twice, and by several processes at once: each minute's is noted by one of them.
    """
    now = timezone.now()
    at = now.replace(second=0, microsecond=0)
    pending, failed = backlogs.counted(backlogs.PENDING), backlogs.counted(backlogs.FAILED)
    numbers = counters.read()
    states = {state.target: state for state in life.states()}
    samples = TargetSample.objects.using(database.alias())
    taken = []
    for target in targets:
        waiting, count = pending.get(target, backlogs.Backlog()), numbers.get(target, {})
        sample, is_new = samples.get_or_create(
            target=target,
            at=at,
            defaults={
                "pending": waiting.count,
                "failed": failed.get(target, backlogs.Backlog()).count,
                "lag": waiting.lag(now),
                "put": count.get(counters.PUT, 0),
                "deleted": count.get(counters.DELETED, 0),
                "errors": count.get(counters.FAILED, 0),
                "bytes": count.get(counters.BYTES, 0),
                "within": count.get(counters.WITHIN, 0),
                "state": state_of(states.get(target)),
            },
        )
        if is_new:
            taken.append((sample, samples.filter(target=target, at__lt=at).order_by("-at").first()))
    return taken


def state_of(state: TargetState | None) -> str:
    """What is most worth knowing of a target, in a word: retired, paused, down, or the phase of its life."""
    if state is None:
        return TargetState.Phase.ACTIVE.value
    if state.phase == TargetState.Phase.RETIRED:
        return state.phase
    if state.paused:
        return "paused"
    return state.state if state.state == TargetState.State.DOWN else state.phase


def note_space(target: str, space: Space | None) -> None:
    """What room *target* has; None: it does not say."""
    free, total = (space.free, space.total) if space else (None, None)
    life.states().filter(pk=target).update(free_bytes=free, total_bytes=total)


def prune() -> int:
    """Remove the samples of more than two days ago; their number."""
    old = TargetSample.objects.using(database.alias()).filter(at__lt=timezone.now() - _KEPT)
    return old.delete()[0]
