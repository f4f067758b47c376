"""The overview in words, numbers and links: what its page shows of the facts, and goes on to show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlencode

from django.contrib.admin.utils import quote
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from replicator.admin import chart, runshown
from replicator.admin.cardwords import (
    Badge,
    Bar,
    ago,
    badges_of,
    disk_bar,
    is_down,
    is_used,
    joining_help,
    joining_words,
    node_words,
    sentences_of,
    share_words,
    silent_words,
    space_of,
)
from replicator.admin.copyshown import lasting
from replicator.conf import config
from replicator.models import TargetRun
from replicator.overview import Audit, Overview, TargetCard

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
class Number:
    """One figure of a card."""

    label: str
    text: str
    url: str = ""
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
    audit_alarm: bool
    """That it was stopped: too much was wrong to repair it without a person's word."""
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
    local_audits: list[tuple[str, str, bool]]
    """In words, where its page is, and whether it was stopped."""
    local_audit_url: str
    """Where an audit of the local disk is started; empty for who may not."""
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
            disks=[disk_bar(disk) for disk in of.disks],
            disks_of="" if config().shared_media else of.node,
            nodes=[node_words(node) for node in of.nodes],
            storages=[(each.storage, each.targets) for each in of.storages],
            local_audits=[
                (self._audit(audit), self._audit_url(audit), audit.state == TargetRun.State.STOPPED)
                for audit in of.local_audits
            ],
            local_audit_url=self.url("targetstate_local_audit") if self._may_operate else "",
            silent=silent_words(of),
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
            badges=badges_of(card),
            sentences=sentences_of(card),
            alarm=of.reason if is_down(card) else "",
            numbers=self._numbers(card),
            space=space_of(card),
            joining=None if joining is None or not joining.total else Bar(
                _("Joining"), joining.share, joining_words(joining.total, joining.left, joining.share, joining.eta)
            ),
            joining_help=joining_help(card),
            run=runshown.of_run(card.run, self.url) if card.run else None,
            audit=self._audit(card.audit) if card.audit else "",
            audit_url=self._audit_url(card.audit) if card.audit else "",
            audit_alarm=card.audit is not None and card.audit.state == TargetRun.State.STOPPED,
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
            Number(_("Failed attempts"), share_words(rates.errors), "", (rates.errors or 0) >= 0.05),
            Number(
                _("Within %(time)s") % {"time": objective},
                share_words(card.within),
                "",
                card.within is not None and card.within < 0.95,
            ),
            Number(_("Last success"), ago(of.last_success_at)),
        ]

    def _replicas(self, status: str, target: str) -> str:
        if not self._may_see_replicas:
            return ""
        return self.url("replica_changelist", status__exact=status, target=target)

    def _audit(self, audit: Audit) -> str:
        return runshown.audit_words(audit.state, audit.done, audit.counts, audit.dry_run, ago(audit.at))

    def _audit_url(self, audit: Audit) -> str:
        return self.url("targetrun_change", audit.run) if self._may_see_runs else ""

    # All of them

    def _numbers_of_all(self) -> list[Number]:
        of = self._overview
        known = [card.rates for card in of.targets]
        files = [rates.files for rates in known if rates.files is not None]
        size = [rates.bytes for rates in known if rates.bytes is not None]
        used = [card for card in of.targets if is_used(card)]
        ill = sum(map(is_down, used))
        up = ngettext("%(up)s of %(all)s target", "%(up)s of %(all)s targets", len(used))
        return [
            Number(_("Up"), up % {"up": len(used) - ill, "all": len(used)}, "", ill > 0),
            Number(_("Backlog"), chart.whole(of.pending + of.failed)),
            Number(_("Lag"), lasting(of.lag) if of.lag else _("none"), "", of.lag > config().lag_objective),
            Number(_("Files per second"), chart.rate(sum(files) if files else None)),
            Number(_("Throughput"), chart.speed(sum(size) if size else None)),
        ]

    def _spoken(self) -> str:
        ill = [card for card in self._overview.targets if is_down(card) and not card.paused]
        if ill:
            return " ".join(_("%(target)s is down.") % {"target": card.alias} for card in ill)
        return _("No target is down.") if self._overview.targets else ""
