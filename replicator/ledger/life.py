"""The only module that writes what people want of a target: the phase of its life, and whether it is paused."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable
from contextlib import suppress

from django.core.signals import setting_changed
from django.db import DatabaseError, InterfaceError, transaction
from django.utils import timezone

from replicator.ledger import database
from replicator.models import TargetState, TargetStateQuerySet

log = logging.getLogger(__name__)
Phase = TargetState.Phase

#: Seconds for which a process believes what it read; and those for which a save does, which reads nothing itself
#: unless nobody else in its process has for so long: it announces afterwards, and that reads.
_BELIEVED, _IN_A_SAVE = 5.0, 60.0


class _Known:
    """What this process read last: the targets that are not simply up and active."""

    def __init__(self) -> None:
        self.read_at = 0.0
        self.closed: frozenset[str] = frozenset()
        self.left_alone: frozenset[str] = frozenset()
        self.phases: dict[str, str] = {}


_known = _Known()


def closed() -> frozenset[str]:
    """Targets that nothing is sent to now, as this process believes it: up to 5 seconds old. Never raises."""
    return _fresh(_BELIEVED).closed


def left_alone() -> frozenset[str]:
    """Targets that nothing is asked of, as people want it: paused or retired. As this process believes it: up to 5
    seconds old. Never raises.

    One that is down may be asked when nobody else can answer; these must not.
    """
    return _fresh(_BELIEVED).left_alone


def to_record(targets: Iterable[str]) -> tuple[list[str], list[str]]:
    """Those of *targets* where a write is recorded, and those where it is recorded only for files that are there
    already: they drain. None of those that are retired.

    As this process believes it: that may be old, so who empties a target looks again later.
    """
    phases = _fresh(_IN_A_SAVE).phases
    if not phases:
        return list(targets), []
    full = [t for t in targets if phases.get(t) not in (Phase.DRAINING, Phase.RETIRED)]
    return full, [t for t in targets if phases.get(t) == Phase.DRAINING]


def closed_now() -> set[str]:
    """Targets that nothing is sent to."""
    return set(states().closed().values_list("target", flat=True))


def unreadable() -> set[str]:
    """Targets that nothing is asked of."""
    return set(states().unreadable().values_list("target", flat=True))


def leaving() -> set[str]:
    """Targets for which no new file is recorded."""
    return set(states().filter(phase__in=(Phase.DRAINING, Phase.RETIRED)).values_list("target", flat=True))


def phase_of(target: str) -> str:
    """The phase of *target*; active, if nothing is known of it."""
    return states().filter(pk=target).values_list("phase", flat=True).first() or Phase.ACTIVE


def unreliable() -> set[str]:
    """Targets whose copies are not to be counted on: unreadable ones, and those that drain."""
    rows = states().unreadable() | states().filter(phase=Phase.DRAINING)
    return set(rows.values_list("target", flat=True))


def why_closed(target: str) -> str:
    """Why nothing is sent to *target* now: retired, paused, read-only, down. Empty if it is sent what is due."""
    state = states().closed().filter(pk=target).first()
    if state is None:
        return ""
    if state.phase == Phase.RETIRED:
        return Phase.RETIRED.value
    if state.paused:
        return "paused"
    return Phase.READ_ONLY.value if state.phase == Phase.READ_ONLY else state.state


def enter(target: str, phase: str, *, note: str = "", only_from: Collection[str] = ()) -> bool:
    """Have *target* be in *phase*. Whether that is news; not from another phase than *only_from*, if that is given.

    *note*: who wants it, and why; kept for people.
    """
    with transaction.atomic(using=database.alias()):
        meet(target)
        rows = states().filter(pk=target).exclude(phase=phase)
        if only_from:
            rows = rows.filter(phase__in=only_from)
        news = bool(rows.update(phase=phase, phase_since=timezone.now(), note=note))
    if news:
        log.info("target entered a phase", extra={"target": target, "phase": str(phase), "note": note})
    forget()
    return news


def pause(target: str, *, note: str = "") -> bool:
    """Have nothing sent to *target*, nor asked of it, until it is resumed. Whether that is news."""
    meet(target)
    news = bool(states().filter(pk=target, paused=False).update(paused=True, note=note))
    if news:
        log.info("target paused", extra={"target": target, "note": note})
    forget()
    return news


def resume(target: str, *, note: str = "") -> bool:
    """Go on with *target*. Whether it was paused. Who calls this wakes the workers."""
    news = bool(states().filter(pk=target, paused=True).update(paused=False, note=note))
    if news:
        log.info("target resumed", extra={"target": target, "note": note})
    forget()
    return news


def meet(target: str) -> TargetState:
    """The row of *target*, made if there was none: it is joining then."""
    return states().get_or_create(target=target)[0]


def states() -> TargetStateQuerySet:
    return TargetState.objects.using(database.alias())


def forget() -> None:
    """Read anew the next time."""
    _known.read_at = 0.0


def _fresh(seconds: float) -> _Known:
    if not _known.read_at or time.monotonic() - _known.read_at >= seconds:
        with suppress(DatabaseError, InterfaceError):
            rows = list(states().values_list("target", "phase", "paused", "state"))
            shut = (Phase.READ_ONLY, Phase.RETIRED)
            _known.closed = frozenset(
                target
                for target, phase, paused, state in rows
                if paused or state == TargetState.State.DOWN or phase in shut
            )
            _known.left_alone = frozenset(
                target for target, phase, paused, _ in rows if paused or phase == Phase.RETIRED
            )
            _known.phases = {target: phase for target, phase, *_ in rows if phase in (Phase.DRAINING, Phase.RETIRED)}
        _known.read_at = time.monotonic()
    return _known


def _settings_changed(**_: object) -> None:
    forget()


setting_changed.connect(_settings_changed, dispatch_uid="replicator.ledger.life")
