"""The overview in words, numbers and links: what its page shows of the facts, and goes on to show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin.utils import quote
from django.contrib.humanize.templatetags.humanize import naturaltime
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from replicator.admin import chart, runshown
from replicator.admin.copyshown import lasting, percent
from replicator.conf import config
from replicator.models import TargetState
from replicator.overview import Audit, Disk, Overview, TargetCard

State, Phase = TargetState.State, TargetState.Phase

_PHASES = {str(value): label for value, label in Phase.choices}
#: What people press, in the order of the verbs.
LABELS = {
    "pause": gettext_lazy("Pause"),
    "resume": gettext_lazy("Resume"),
    "read-only": gettext_lazy("Make read-only"),
    "activate": gettext_lazy("Activate"),
    "drain": gettext_lazy("Drain"),
    "retire": gettext_lazy("Retire"),
    "backfill": gettext_lazy("Backfill"),
    "resync": gettext_lazy("Resync"),
    "audit": gettext_lazy("Audit"),
}


@dataclass(frozen=True, slots=True)
class Badge:
    kind: str
    text: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Number:
    """One figure of a card."""

    label: str
    text: str
    url: str = ""
    alarm: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that is partly full."""

    label: str
    share: float | None
    text: str
    alarm: bool = False


@dataclass(frozen=True, slots=True)
class Button:
    verb: str
    label: str
    url: str


@dataclass(frozen=True, slots=True)
class Card:
    """One target."""

    alias: str
    name: str
    """What its elements are called: no alias has to be one word."""
    url: str
    badges: list[Badge]
    sentences: list[str]
    alarm: str
    """Why it is down; empty if it is not."""
    numbers: list[Number]
    space: Bar | None
    joining: Bar | None
    joining_help: str
    run: runshown.ShownRun | None
    audit: str
    audit_url: str
    chart: chart.Chart
    buttons: list[Button]
    storages: list[str]


@dataclass(frozen=True, slots=True)
class Shown:
    """The page."""

    cards: list[Card]
    numbers: list[Number]
    chart: chart.Chart
    work: list[runshown.ShownRun]
    disks: list[Bar]
    disks_of: str
    nodes: list[tuple[str, Badge, list[str]]]
    storages: list[tuple[str, list[str]]]
    local_audits: list[tuple[str, str]]
    silent: str
    """That beat or workers are missing; empty if they are not."""
    spoken: str
    """For screen readers, which say each change of it."""
    reverse: Callable[..., str] = field(repr=False)


class Words:
    """Says what *overview* holds, to whoever made *request*."""

    def __init__(self, overview: Overview, request: HttpRequest, site: str = "admin") -> None:
        self._overview = overview
        self._site = site
        may = request.user.has_perm
        self._may_operate = may("replicator.operate_target")
        self._may_see_replicas = may("replicator.view_replica")
        self._may_see_runs = may("replicator.view_targetrun")
        self._may_see_copies = may("replicator.view_copyrun")

    def shown(self, *, numbers: bool = False) -> Shown:
        """*numbers*: with those of the charts."""
        of = self._overview
        cards = [self.card(card, numbers) for card in of.targets]
        return Shown(
            cards=cards,
            numbers=self._numbers_of_all(),
            chart=chart.chart(of.history),
            work=[runshown.of_run(run, self.url) for run in of.local_runs]
            + [runshown.of_run(card.run, self.url) for card in of.targets if card.run]
            + [runshown.of_copy(copy, self.url) for copy in of.copies if self._may_see_copies],
            disks=[_disk(disk) for disk in of.disks],
            disks_of="" if config().shared_media else of.node,
            nodes=[_node(node) for node in of.nodes],
            storages=[(each.storage, each.targets) for each in of.storages],
            local_audits=[(self._audit(audit), self._audit_url(audit)) for audit in of.local_audits],
            silent=_silent(of),
            spoken=self._spoken(),
            reverse=self.url,
        )

    def url(self, page: str, *args: str | int, **query: object) -> str:
        path = reverse(f"{self._site}:replicator_{page}", args=[quote(arg) for arg in args])
        return f"{path}?{urlencode(query)}" if query else path

    # One target

    def card(self, card: TargetCard, numbers: bool = False) -> Card:
        of = card.status
        joining = card.joining
        return Card(
            alias=card.alias,
            name=card.alias.encode().hex(),
            url=self.url("targetstate_change", card.alias),
            badges=_badges(card),
            sentences=_sentences(card),
            alarm=of.reason if of.state == State.DOWN else "",
            numbers=self._numbers(card),
            space=_space(card),
            joining=None if joining is None or not joining.total else Bar(
                _("Joining"), joining.share, _joining(joining.total, joining.left, joining.share, joining.eta)
            ),
            joining_help=_joining_help(card),
            run=runshown.of_run(card.run, self.url) if card.run else None,
            audit=self._audit(card.audit) if card.audit else "",
            audit_url=self._audit_url(card.audit) if card.audit else "",
            chart=chart.chart(self._overview.history, card.alias, numbers=numbers),
            buttons=self._buttons(card),
            storages=card.storages,
        )  # fmt: skip

    def _buttons(self, card: TargetCard) -> list[Button]:
        if not self._may_operate:
            return []
        return [
            Button(verb, str(LABELS.get(verb, verb)), self.url(f"targetstate_{verb}", card.alias))
            # What is hard to take back is not among the rest.
            for verb in sorted(card.verbs, key=lambda verb: verb == "retire")
        ]

    def _numbers(self, card: TargetCard) -> list[Number]:
        of, rates = card.status, card.rates
        objective = lasting(config().lag_objective)
        return [
            Number(_("Pending"), chart.whole(of.pending), self._replicas("pending", card.alias)),
            Number(_("Failed"), chart.whole(of.failed), self._replicas("failed", card.alias), of.failed > 0),
            Number(_("Lag"), lasting(of.lag) if of.oldest else _("none"), "", of.lag > config().lag_objective),
            Number(_("Files per second"), chart.rate(rates.files)),
            Number(_("Throughput"), chart.speed(rates.bytes)),
            Number(_("Failed attempts"), _share(rates.errors), "", (rates.errors or 0) >= 0.05),
            Number(_("Within %(time)s") % {"time": objective}, _share(card.within), "", (card.within or 1) < 0.95),
            Number(_("Last success"), _ago(of.last_success_at)),
        ]

    def _replicas(self, status: str, target: str) -> str:
        if not self._may_see_replicas:
            return ""
        return self.url("replica_changelist", status__exact=status, target=target)

    def _audit(self, audit: Audit) -> str:
        return runshown.audit_words(audit.state, audit.done, audit.counts, audit.dry_run, _ago(audit.at))

    def _audit_url(self, audit: Audit) -> str:
        return self.url("targetrun_change", audit.run) if self._may_see_runs else ""

    # All of them

    def _numbers_of_all(self) -> list[Number]:
        of = self._overview
        known = [card.rates for card in of.targets]
        files = [rates.files for rates in known if rates.files is not None]
        size = [rates.bytes for rates in known if rates.bytes is not None]
        ill = sum(card.status.state == State.DOWN for card in of.targets)
        up = ngettext("%(up)s of %(all)s target", "%(up)s of %(all)s targets", len(known))
        return [
            Number(_("Up"), up % {"up": len(known) - ill, "all": len(known)}, "", ill > 0),
            Number(_("Backlog"), chart.whole(of.pending + of.failed)),
            Number(_("Lag"), lasting(of.lag) if of.lag else _("none"), "", of.lag > config().lag_objective),
            Number(_("Files per second"), chart.rate(sum(files) if files else None)),
            Number(_("Throughput"), chart.speed(sum(size) if size else None)),
        ]

    def _spoken(self) -> str:
        ill = [card for card in self._overview.targets if card.status.state == State.DOWN and not card.paused]
        if ill:
            return " ".join(_("%(target)s is down.") % {"target": card.alias} for card in ill)
        return _("No target is down.") if self._overview.targets else ""


def _badges(card: TargetCard) -> list[Badge]:
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


def _sentences(card: TargetCard) -> list[str]:
    """Why it is as it is, and what comes next."""
    of = card.status
    found = []
    if of.state == State.DOWN and of.configured and card.phase != Phase.RETIRED:
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
    elif card.failures and of.reason:
        count = ngettext("The last attempt failed: %(why)s", "The last %(n)s attempts failed: %(why)s", card.failures)
        found.append(count % {"n": card.failures, "why": of.reason})
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


def _joining(total: int, left: int, share: float, eta: float | None) -> str:
    words = [
        percent(share),
        _("%(done)s of %(total)s files") % {"done": chart.whole(total - left), "total": chart.whole(total)},
    ]
    if eta is not None:
        words.append(_("about %(time)s left") % {"time": lasting(eta)})
    return " · ".join(words)


def _joining_help(card: TargetCard) -> str:
    if not card.joining or not card.joining.command:
        return ""
    if " resync " in card.joining.command:
        return _("What it has lost is not on its way any more: start a resync.")
    return _("Files that were saved before it was there are not on their way: start a backfill.")


def _space(card: TargetCard) -> Bar | None:
    if card.free_bytes is None:
        return None
    if card.used is None or card.total_bytes is None:
        return Bar(_("Space"), None, _("%(free)s free") % {"free": filesizeformat(card.free_bytes)})
    return _full(_("Space"), card.used, card.free_bytes, card.total_bytes)


def _disk(disk: Disk) -> Bar:
    return _full(", ".join(disk.storages), disk.used, disk.free_bytes, disk.total_bytes)


def _full(label: str, used: float, free: int, total: int) -> Bar:
    words = {"free": filesizeformat(free), "total": filesizeformat(total)}
    return Bar(label, used, _("%(free)s free of %(total)s") % words, used >= 0.9)


def _node(node: Any) -> tuple[str, Badge, list[str]]:
    if node.gone:
        badge = Badge("down", _("gone"))
    else:
        badge = Badge("up", _("at work")) if node.seen_at else Badge("gone", _("never seen"))
    words = [_("Seen %(when)s.") % {"when": _ago(node.seen_at)}] if node.seen_at else []
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


#: Seconds within which beat notes in the database what it sent.
_BEAT_NOTES = 400.0


def _silent(of: Overview) -> str:
    if not of.silent:
        return ""
    since = _("yet") if of.swept_at is None else _("since %(when)s") % {"when": _ago(of.swept_at)}
    if of.beat_at is not None and (of.at - of.beat_at).total_seconds() < _BEAT_NOTES:
        return _("Beat is running, but no worker has done what it sends %(since)s.") % {"since": since}
    return _("No worker has done what beat sends every few seconds %(since)s: one of them is not running.") % {
        "since": since
    }


def _share(share: float | None) -> str:
    if share is None:
        return "-"
    if 0 < share < 0.001:
        return _("under 0.1%")
    text = f"{share * 100:.1f}".removesuffix(".0")
    # Nothing is called all that is not.
    return f"{'99.9' if text == '100' and share < 1 else text}%"


def _ago(when: datetime | None) -> str:
    return str(naturaltime(when)) if when else "-"


def _ahead(when: datetime | None) -> str:
    if when is None:
        return ""
    seconds = (when - timezone.now()).total_seconds()
    return _("now") if seconds <= 0 else _("in %(time)s") % {"time": lasting(seconds)}
