"""The only module that writes what is known of the targets themselves: their health, and who is busy with them."""

from __future__ import annotations

import logging
from datetime import timedelta
from uuid import UUID

from django.db.models import F, Q, QuerySet
from django.utils import timezone

from replicator.conf import config
from replicator.ledger import database
from replicator.models import Slot, TargetState
from replicator.retry import delay_seconds, probe_interval
from replicator.signals import target_down, target_up

log = logging.getLogger(__name__)
State = TargetState.State

#: How often a success is noted that is no news: for people that will do, and this is on the path of every batch.
NOTE_EVERY = timedelta(seconds=10)

#: Seconds between a breaker's trials, at most, and how often they are counted.
_LONGEST_TRIP, _MOST_TRIPS = 300.0, 1000
#: How long a target has to be up for its breaker to begin anew.
_WELL_AFTER = timedelta(seconds=60)


def down_targets() -> set[str]:
    """Aliases of the targets that are marked down."""
    states = TargetState.objects.using(database.alias())
    return set(states.filter(state=State.DOWN).values_list("target", flat=True))


def suspects() -> set[str]:
    """Aliases of the targets that are marked down, or whose last request failed."""
    states = TargetState.objects.using(database.alias())
    return set(states.filter(Q(state=State.DOWN) | Q(failures__gt=0)).values_list("target", flat=True))


def to_probe() -> set[str]:
    """Aliases of the suspects whose probe is due, the more seldom the longer they have been down.

    Not those that people have paused or retired: nothing is asked of them.
    """
    now = timezone.now()
    states = TargetState.objects.using(database.alias()).filter(Q(state=State.DOWN) | Q(failures__gt=0), paused=False)
    return {
        state.target
        for state in states.exclude(phase=TargetState.Phase.RETIRED)
        if state.state == State.UP
        or state.last_failure_at is None
        or (now - state.last_failure_at).total_seconds() >= probe_interval((now - state.since).total_seconds())
    }


def has_failed(target: str) -> bool:
    """Whether the last that was heard of *target* is a failure."""
    return TargetState.objects.using(database.alias()).filter(target=target, failures__gt=0).exists()


def is_down(target: str) -> bool:
    return TargetState.objects.using(database.alias()).filter(target=target, state=State.DOWN).exists()


def note_success(target: str) -> None:
    """A request to *target* did what it should: its failures in a row are over."""
    now = timezone.now()
    state = _state(target)
    if state.failures or not state.last_success_at or now - state.last_success_at > NOTE_EVERY:
        _row(target).update(failures=0, last_success_at=now)
        # It has been well for a while: the next time is not one more in a row.
        _row(target).filter(state=State.UP, trips__gt=0, since__lte=now - _WELL_AFTER).update(trips=0)


def note_failures(target: str, count: int, reason: str) -> int:
    """*count* more failures in a row; how many there are now."""
    _state(target)
    _row(target).update(failures=F("failures") + count, last_failure_at=timezone.now(), reason=reason)
    return _state(target).failures


def mark_down(target: str, reason: str) -> bool:
    """No attempt is spent on *target* from now on. Whether that is news."""
    _state(target)
    news = _row(target).exclude(state=State.DOWN)
    if not news.update(state=State.DOWN, reason=reason, since=timezone.now(), retry_at=None):
        # It does not even answer its probe any more: that is what is to be cured, and what says when it is.
        _row(target).exclude(retry_at=None).update(reason=reason, retry_at=None)
        return False
    _tell_down(target, reason)
    return True


def _tell_down(target: str, reason: str) -> None:
    log.warning("target down", extra={"target": target, "reason": reason})
    target_down.send_robust(sender=TargetState, target=target, reason=reason)


def trip(target: str, reason: str) -> None:
    """Open the circuit breaker of *target*: it answers its probe, and yet is of no use.

    No attempt is spent on it until a trial of one file is due, the later the more often in a row it was opened.
    """
    trips = min(_state(target).trips + 1, _MOST_TRIPS)
    conf, now = config(), timezone.now()
    delay = delay_seconds(trips, base=conf.retry_base, cap=min(_LONGEST_TRIP, conf.retry_cap), jitter=1.0)
    columns = {"reason": reason, "trips": trips, "retry_at": now + timedelta(seconds=delay)}
    if _row(target).exclude(state=State.DOWN).update(state=State.DOWN, since=now, **columns):
        _tell_down(target, reason)
    else:
        _row(target).update(**columns)


def trials_due() -> set[str]:
    """Aliases of the targets whose breaker is open, and that are to be tried with one file now."""
    return set(_on_trial().values_list("target", flat=True))


def begin_trial(target: str) -> bool:
    """Whether the caller is to try *target* with one file: nobody else does for as long as a lease lasts."""
    until = timezone.now() + timedelta(seconds=config().lease_seconds)
    return bool(_on_trial().filter(pk=target).update(retry_at=until))


def give_back_trial(target: str) -> None:
    """Let another worker begin the trial now: the caller has nothing to try *target* with."""
    _row(target).filter(state=State.DOWN, retry_at__isnull=False).update(retry_at=timezone.now())


def _on_trial() -> QuerySet[TargetState]:
    rows = TargetState.objects.using(database.alias()).filter(state=State.DOWN, retry_at__lte=timezone.now())
    return rows.filter(paused=False).exclude(phase__in=(TargetState.Phase.READ_ONLY, TargetState.Phase.RETIRED))


def mark_up(target: str, *, by_probe: bool = False) -> bool:
    """*target* answers again. Whether that is news.

    What opened a breaker no probe can refute: only a trial. But while a target is read-only nothing is sent to it,
    no trial either; and to be read it is well.
    """
    now = timezone.now()
    news = _row(target).filter(state=State.DOWN)
    if by_probe:
        news = news.filter(Q(retry_at=None) | Q(phase=TargetState.Phase.READ_ONLY))
    if not news.update(state=State.UP, reason="", failures=0, retry_at=None, since=now, last_success_at=now):
        return False
    log.warning("target up", extra={"target": target})
    target_up.send_robust(sender=TargetState, target=target, reason="")
    return True


def take_slot(target: str, slots: int, token: UUID, seconds: float) -> bool:
    """Become one of the *slots* workers busy with *target*, for *seconds* unless renewed.

    Each node with a disk of its own has slots of its own: its files wait for its workers only.
    """
    node = config().deliverer
    rows = Slot.objects.using(database.alias()).filter(target=target, node=node, number__lt=slots)
    now = timezone.now()
    until = now + timedelta(seconds=seconds)
    free = rows.filter(Q(lease=None) | Q(lease_until__lte=now))
    # Each UPDATE is conditional on its own row, so two workers never get one slot.
    if any(free.filter(pk=pk).update(lease=token, lease_until=until) for pk in free.values_list("pk", flat=True)):
        return True
    if rows.count() >= slots:
        return False
    missing = [Slot(target=target, node=node, number=number) for number in range(slots)]
    Slot.objects.using(database.alias()).bulk_create(missing, ignore_conflicts=True)
    return take_slot(target, slots, token, seconds)


def busy() -> set[str]:
    """Aliases of the targets that workers of this node are busy with; of all nodes, where they share a disk."""
    rows = Slot.objects.using(database.alias()).filter(node=config().deliverer, lease_until__gt=timezone.now())
    return set(rows.values_list("target", flat=True))


def renew_slot(token: UUID, seconds: float) -> None:
    until = timezone.now() + timedelta(seconds=seconds)
    Slot.objects.using(database.alias()).filter(lease=token).update(lease_until=until)


def free_slot(token: UUID) -> None:
    Slot.objects.using(database.alias()).filter(lease=token).update(lease=None, lease_until=None)


def _row(target: str) -> QuerySet[TargetState]:
    return TargetState.objects.using(database.alias()).filter(pk=target)


def _state(target: str) -> TargetState:
    return TargetState.objects.using(database.alias()).get_or_create(target=target)[0]
