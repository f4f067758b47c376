"""What the overview's cards say of a target, a disk and a node."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.humanize.templatetags.humanize import naturaltime
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from replicator.admin import chart
from replicator.admin.copyshown import lasting, percent
from replicator.admin.runshown import sentence
from replicator.models import TargetState
from replicator.overview import Disk, Overview, TargetCard

State, Phase = TargetState.State, TargetState.Phase

_PHASES = {str(value): label for value, label in Phase.choices}
#: Seconds within which beat notes in the database what it sent.
_BEAT_NOTES = 400.0


@dataclass(frozen=True, slots=True)
class Badge:
    kind: str
    text: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that is partly full."""

    label: str
    share: float | None
    text: str
    alarm: bool = False


def badges_of(card: TargetCard) -> list[Badge]:
    of = card.status
    found = []
    if not of.configured:
        found.append(Badge("gone", _("not in the settings"), _("Nothing is sent there.")))
    elif card.phase == Phase.RETIRED:
        found.append(Badge("gone", _("retired")))
    else:
        if card.paused:
            found.append(Badge("paused", _("paused")))
        if of.state == State.DOWN:
            found.append(Badge("down", _("down")))
        elif not card.paused:
            found.append(
                Badge("up", _("up")) if card.met and of.last_success_at else Badge("gone", _("not tried yet"))
            )
        if card.phase != Phase.ACTIVE:
            found.append(Badge(card.phase, str(_PHASES.get(card.phase, card.phase))))
    return found


def is_used(card: TargetCard) -> bool:
    """Whether it is anybody's business how the target fares."""
    return card.status.configured and card.phase != Phase.RETIRED


def is_down(card: TargetCard) -> bool:
    return card.status.state == State.DOWN and is_used(card)


def sentences_of(card: TargetCard) -> list[str]:
    """Why it is as it is, and what comes next."""
    of = card.status
    found = []
    if is_down(card):
        if of.state_since:
            seconds = (timezone.now() - of.state_since).total_seconds()
            found.append(_("Down for %(time)s.") % {"time": lasting(seconds)})
        if card.breaker:
            found.append(
                ngettext(
                    "Its circuit breaker is open: it answers its probe, and yet fails.",
                    "Its circuit breaker was opened %(trips)s times in a row: it answers its probe, and yet fails.",
                    card.trips or 1,
                )
                % {"trips": card.trips}
            )
            if not card.paused:
                found.append(_("One file is tried there %(when)s.") % {"when": _ahead(card.retry_at)})
        elif not card.paused:
            found.append(_("It is probed again and again; once it answers, its backlog is sent at once."))
    elif card.failures and of.reason and is_used(card):
        count = ngettext("The last attempt failed: %(why)s", "The last %(n)s attempts failed: %(why)s", card.failures)
        found.append(count % {"n": card.failures, "why": sentence(of.reason)})
    if card.paused:
        found.append(_("Nothing is sent there, nor asked of it, until it is resumed."))
    elif card.phase == Phase.READ_ONLY:
        found.append(_("It is read from; nothing is sent there: what is written waits."))
    elif card.phase == Phase.DRAINING:
        found.append(_("New files are not recorded for it; what it has is kept up to date, and read."))
    elif card.phase == Phase.RETIRED:
        found.append(_("Nothing is recorded for it, sent there, or read there."))
    if card.note and (card.paused or card.phase not in (Phase.ACTIVE, Phase.JOINING)):
        found.append(_("Note: %(note)s") % {"note": card.note})
    return found


def joining_words(total: int, left: int, share: float, eta: float | None) -> str:
    words = [
        percent(share),
        _("%(done)s of %(total)s files") % {"done": chart.whole(total - left), "total": chart.whole(total)},
    ]
    if eta is not None:
        words.append(_("about %(time)s left") % {"time": lasting(eta)})
    return " · ".join(words)


def joining_help(card: TargetCard) -> str:
    if not card.joining:
        return ""
    if not card.joining.command:
        # The sweep looks once more, and waits until no process can believe any more that the target was away.
        return _("It has what it should hold. A last look, and it is active.") if not card.joining.left else ""
    if " resync " in card.joining.command:
        return _("What it has lost is not on its way any more: start a resync.")
    return _("Files that were saved before it was there are not on their way: start a backfill.")


def space_of(card: TargetCard) -> Bar | None:
    if card.free_bytes is None:
        return None
    if card.used is None or card.total_bytes is None:
        return Bar(_("Space"), None, _("%(free)s free") % {"free": filesizeformat(card.free_bytes)})
    return _full(_("Space"), card.used, card.free_bytes, card.total_bytes)


def disk_bar(disk: Disk) -> Bar:
    return _full(", ".join(disk.storages), disk.used, disk.free_bytes, disk.total_bytes)


def _full(label: str, used: float, free: int, total: int) -> Bar:
    words = {"free": filesizeformat(free), "total": filesizeformat(total)}
    return Bar(label, used, _("%(free)s free of %(total)s") % words, used >= 0.9)


def node_words(node: Any) -> tuple[str, Badge, list[str]]:
    if node.gone:
        badge = Badge("down", _("gone"))
    else:
        badge = Badge("up", _("at work")) if node.seen_at else Badge("gone", _("never seen"))
    words = [_("Seen %(when)s.") % {"when": ago(node.seen_at)}] if node.seen_at else []
    words.append(_("%(count)s replicas wait for it.") % {"count": chart.whole(node.pending)})
    if node.nowhere:
        words.append(
            ngettext(
                "%(count)s file is nowhere else, such as %(example)s.",
                "%(count)s files are nowhere else, such as %(example)s.",
                node.nowhere,
            )
            % {"count": chart.whole(node.nowhere), "example": node.example}
        )
    return node.node, badge, words


def silent_words(of: Overview) -> str:
    if not of.silent:
        return ""
    since = _("yet") if of.swept_at is None else _("since %(when)s") % {"when": ago(of.swept_at)}
    if of.beat_at is not None and (of.at - of.beat_at).total_seconds() < _BEAT_NOTES:
        return _("Beat is running, but no worker has done what it sends %(since)s.") % {"since": since}
    return _("No worker has done what beat sends every few seconds %(since)s: one of them is not running.") % {
        "since": since
    }


def share_words(share: float | None) -> str:
    if share is None:
        return "-"
    if 0 < share < 0.001:
        return _("under 0.1%")
    text = f"{share * 100:.1f}".removesuffix(".0")
    # Nothing is called all that is not.
    return f"{'99.9' if text == '100' and share < 1 else text}%"


def ago(when: datetime | None) -> str:
    return str(naturaltime(when)) if when else "-"


def _ahead(when: datetime | None) -> str:
    if when is None:
        return ""
    seconds = (when - timezone.now()).total_seconds()
    return _("now") if seconds <= 0 else _("in %(time)s") % {"time": lasting(seconds)}
