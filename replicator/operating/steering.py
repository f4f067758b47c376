"""What people want of a target, as the admin and the command ask for it: said first, and then done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from replicator.conf import config, nearest
from replicator.ledger import life, retiring
from replicator.models import TargetRun, TargetState
from replicator.operating.retiring import is_confirmed
from replicator.operating.runs import NotStarted
from replicator.operating.wish import Wish
from replicator.operating.wishes import WISHES

__all__ = ["VERBS", "Done", "NotStarted", "Plan", "do", "plan", "possible"]

VERBS = ("pause", "resume", "read-only", "activate", "drain", "retire", "backfill", "resync", "audit")

#: Verbs whose dry run is a run, which counts.
_RUNS = ("retire", "backfill", "resync", "audit")

Phase = TargetState.Phase
Options = Mapping[str, Any]

_SERVING = (Phase.JOINING, Phase.ACTIVE, Phase.READ_ONLY, Phase.DRAINING)

#: verb → the phases that it makes sense in
_IN: Mapping[str, tuple[Phase, ...]] = {
    "pause": _SERVING,
    "resume": _SERVING,
    "read-only": (Phase.ACTIVE,),
    "activate": (Phase.READ_ONLY, Phase.DRAINING, Phase.RETIRED),
    "drain": (Phase.JOINING, Phase.ACTIVE, Phase.READ_ONLY),
    "retire": (*_SERVING, Phase.RETIRED),
    "backfill": (Phase.JOINING, Phase.ACTIVE, Phase.READ_ONLY),
    "resync": (Phase.JOINING, Phase.ACTIVE),
    "audit": _SERVING,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a verb would do."""

    verb: str
    target: str
    effect: list[str]
    """Sentences, with counts."""
    confirm: str = ""
    """What a person must say (``--confirm``) before it is done; empty: nothing."""
    already: bool = False
    """Whether it is so already: there is nothing to do."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a verb did."""

    changed: bool
    text: str
    run: TargetRun | None = None


def possible(state: TargetState) -> list[str]:
    """The verbs that make sense for a target now, for buttons; in the order of ``VERBS``."""
    if state.target not in config().targets:
        return ["retire"]
    without = {"pause" if state.paused else "resume"}
    if state.paused:
        without.add("audit")
    return [verb for verb in VERBS if verb in WISHES and verb not in without and state.phase in _IN[verb]]


def plan(verb: str, target: str, options: Options | None = None) -> Plan:
    """What ``do`` would do. Raises ``NotStarted``, which says what to do instead."""
    state = _state(target)
    if already := _already(verb, state):
        return Plan(verb, target, [already], already=True)
    wish = _wish(verb, state, options)
    wish.check()
    return Plan(verb, target, wish.effect(), wish.confirm())


def do(
    verb: str, target: str, *, options: Options | None = None, confirm: str = "", who: str = "", why: str = ""
) -> Done:
    """Have it so. Safe to call twice. Raises ``NotStarted``, which says what to do instead.

    *options*: of "retire" ``delete``; of "audit" those of ``operating.audit``; of all ``dry_run``.
    *who* wants it, and *why*: kept with the target, for people.
    """
    state = _state(target)
    if already := _already(verb, state):
        return Done(False, already)
    wish = _wish(verb, state, options, who, why)
    wish.check()
    if wish.dry_run and verb not in _RUNS:
        return Done(False, " ".join(wish.effect()))
    needed = "" if wish.dry_run else wish.confirm()
    if not is_confirmed(needed, confirm):
        said = f"{confirm!r} is not their number. " if confirm else ""
        raise NotStarted(
            f"{said}This gives up {int(needed):,} files in one go, which is more than a tenth of all. If that is "
            f"what you want, say so: --confirm {needed}"
        )
    text, run = wish.do()
    return Done(True, text, run)


def _wish(verb: str, state: TargetState, options: Options | None, who: str = "", why: str = "") -> Wish:
    if verb not in WISHES:
        raise NotStarted(f"There is no verb {verb!r}. {nearest(verb, list(WISHES))}")
    target, phase = state.target, state.phase
    if target not in config().targets and verb != "retire":
        raise NotStarted(
            f'{target} is not in REPLICATOR["TARGETS"] any more: nothing is delivered there. Put it back into the '
            f"settings, or have what is known of it removed: manage.py replicator retire {target}"
        )
    if phase not in _IN[verb]:
        raise NotStarted(_instead(verb, target, phase))
    return WISHES[verb](state, options or {}, who, why)


def _instead(verb: str, target: str, phase: str) -> str:
    if phase == Phase.RETIRED:
        return (
            f"{target} is retired. To bring it back, with all that it should hold: manage.py replicator activate "
            f"{target}"
        )
    if phase == Phase.JOINING:
        return (
            f"{target} is still joining, and is active by itself when it has what it should hold. To have that "
            f"recorded: manage.py replicator backfill {target}. To have nothing sent: manage.py replicator pause "
            f"{target}"
        )
    if verb == "read-only":
        return (
            f"{target} is draining: it gets no new files. To have nothing at all sent: manage.py replicator pause "
            f"{target}"
        )
    return f"{target} is {phase}. First: manage.py replicator activate {target}"


def _already(verb: str, state: TargetState) -> str:
    """What says that there is nothing to do; empty if there is."""
    target = state.target
    if verb == "pause" and state.paused:
        return f"{target} is paused already."
    if verb == "resume" and not state.paused:
        return f"{target} is not paused."
    wanted = {"read-only": Phase.READ_ONLY, "activate": Phase.ACTIVE, "drain": Phase.DRAINING}.get(verb)
    if wanted is not None and state.phase == wanted:
        return f"{target} is {state.phase} already."
    if verb == "retire" and state.phase == Phase.RETIRED and not retiring.replicas_at(target).exists():
        return f"{target} is retired, and nothing is known of it any more."
    return ""


def _state(target: str) -> TargetState:
    """Its row; one that is not saved, if the settings name a target that no sweep has seen yet."""
    state = life.states().filter(pk=target).first()
    if state is not None:
        return state
    if target not in config().targets and not retiring.replicas_at(target).exists():
        known = sorted({*config().targets, *life.states().values_list("target", flat=True)})
        raise NotStarted(f'REPLICATOR["TARGETS"] has no {target!r}. {nearest(target, known)}')
    return TargetState(target=target)
