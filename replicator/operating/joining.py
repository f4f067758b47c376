"""The part of the life cycle that goes by itself: targets are met, become active, and are forgotten."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.utils import timezone

from replicator import wake
from replicator.conf import config
from replicator.ledger import backfilling, life, retiring
from replicator.ledger.database import alias
from replicator.models import Replica, TargetRun, TargetState
from replicator.operating import runs
from replicator.operating.places import storages_at
from replicator.operating.progress import is_resync_unfinished, last_joining_run
from replicator.operating.wishes import RETURNS

log = logging.getLogger(__name__)
Phase, Kind, State = TargetState.Phase, TargetRun.Kind, TargetRun.State

#: How much longer than a look at the whole ledger took there is no other, in this process.
_REST = 200
#: For how long a retired target that the settings do not name is remembered, for processes with old settings.
_REMEMBERED = timedelta(days=1)

#: For how long processes may go on to believe that a target drains or is retired when they record a write, and some
#: more for their clocks: see ``ledger.life``.
_BELIEVED = timedelta(seconds=70)

#: Target → when it may be looked at again, by the monotonic clock.
_rests: dict[str, float] = {}


def sweep() -> None:
    """Meet the targets of the settings, and let those be active that hold what they should. For the sweep."""
    states = {state.target: state for state in life.states()}
    for target in config().targets:
        state = states.get(target) or life.meet(target)
        try:
            if state.phase == Phase.JOINING and _has_joined(state):
                life.enter(target, Phase.ACTIVE, note="has what it should hold", only_from=[Phase.JOINING])
        except ImproperlyConfigured as error:  # a storage of the settings: what else the sweep does goes on
            log.error("target can't be active", extra={"target": target, "error": str(error)})  # noqa: TRY400
    for target, state in states.items():
        if state.phase == Phase.RETIRED:
            _tidy(state)
        elif state.phase == Phase.ACTIVE and target not in config().targets:
            # Nothing is recorded for it any more: should it come back, it lacks that.
            life.enter(target, Phase.JOINING, note="left the settings", only_from=[Phase.ACTIVE])


def _has_joined(state: TargetState) -> bool:
    target = state.target
    run = last_joining_run(target, state.phase_since)
    if run is None:
        return not _lacks(target, record=False)
    if run.state in TargetRun.OPEN:
        return False
    if is_resync_unfinished(target, state.phase_since):
        return False
    if run.options.get(RETURNS) and timezone.now() < state.phase_since + _BELIEVED:
        return False
    if run.state != State.DONE:
        return not _lacks(target, record=False)  # somebody has ended it, and is not to find it done all the same
    if run.ended_at is not None:
        pending = Replica.objects.using(alias()).pending().at(target)
        if pending.filter(since__lte=run.ended_at).exists():
            return False
    return not _lacks(target, record=True)


def _lacks(target: str, *, record: bool) -> bool:
    """Whether there are files that *target* lacks; if they are to be recorded, they are then.

    Without a backfill they are a person's business: it may be the first of a million. What is not up to date there
    is sent again in any case.
    """
    begun = time.monotonic()
    if begun < _rests.get(target, 0.0):
        return True
    storages = [storage.alias for storage in storages_at(target)]
    if record:
        lacks = bool(backfilling.record_all_lacking(target, storages))
    else:
        lacks = backfilling.lacking(target, storages).exists()
    if record or not lacks:
        stale = backfilling.distrust_stale(target, storages)
        if (lacks and record) or stale:
            wake.wake([target])
        lacks = lacks or bool(stale)
    now = time.monotonic()
    _rests[target] = now + _REST * (now - begun)
    return lacks


def _tidy(state: TargetState) -> None:
    """Remove what was recorded for a retired target by processes that did not know; and, in the end, its row."""
    target = state.target
    run = TargetRun.objects.using(alias()).filter(target=target, kind=Kind.RETIRE, dry_run=False).order_by("-pk")
    last = run.defer("seen").first()
    if last is None or last.state != State.DONE:
        return  # people have to see to it
    if retiring.has_late(target):
        count = retiring.remove_late(target)
        log.info("late replicas of a retired target removed", extra={"target": target, "count": count})
    elif target not in config().targets and state.phase_since < timezone.now() - _REMEMBERED:
        with transaction.atomic(using=alias()):
            if runs.open_run(target) is None:
                retiring.forget(target)
