"""The admin's pages of targets."""

from __future__ import annotations

from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from replicator.admin.base import ReadOnlyAdmin, badge, moment
from replicator.conf import config
from replicator.models import Replica, TargetState


@admin.register(TargetState)
class TargetStateAdmin(ReadOnlyAdmin):
    list_display = ["target", "state_badge", "why", "state_since", "last_success", "pending", "failed"]
    ordering = ["target"]
    fields = ["target", "state_badge", "reason", "failures", "since", "last_success_at", "last_failure_at"]
    readonly_fields = ["state_badge"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[TargetState]:
        states: QuerySet[TargetState] = super().get_queryset(request)
        return states.annotate(
            pending_count=_count(Replica.Status.PENDING), failed_count=_count(Replica.Status.FAILED)
        )

    @admin.display(description=_("state"), ordering="state")
    def state_badge(self, state: TargetState) -> SafeString:
        if state.target not in config().targets:
            return badge("gone", _("not in the settings"))
        return badge(state.state, state.get_state_display())

    @admin.display(description=_("reason"))
    def why(self, state: TargetState) -> str:
        """What the last failure said, unless there was a success since."""
        return state.reason if state.failures or state.state == TargetState.State.DOWN else ""

    @admin.display(description=_("since"), ordering="since")
    def state_since(self, state: TargetState) -> SafeString | str:
        return moment(state.since)

    @admin.display(description=_("last success"), ordering="last_success_at")
    def last_success(self, state: TargetState) -> SafeString | str:
        return moment(state.last_success_at)

    @admin.display(description=_("pending"), ordering="pending_count")
    def pending(self, state: TargetState) -> SafeString:
        return self._link(state, Replica.Status.PENDING, state.pending_count)  # type: ignore[attr-defined]

    @admin.display(description=_("failed"), ordering="failed_count")
    def failed(self, state: TargetState) -> SafeString:
        return self._link(state, Replica.Status.FAILED, state.failed_count)  # type: ignore[attr-defined]

    def _link(self, state: TargetState, status: str, count: int) -> SafeString:
        url = reverse(f"{self.admin_site.name}:replicator_replica_changelist")
        query = {"status__exact": status, "target": state.target}
        return format_html('<a href="{}?{}">{}</a>', url, urlencode(query), f"{count:,}")


def _count(status: str) -> Coalesce:
    """How many replicas of this status each target has: read from that status's partial index."""
    rows = Replica.objects.filter(target=OuterRef("target"), status=status).order_by().values("target")
    return Coalesce(Subquery(rows.annotate(n=Count("*")).values("n"), output_field=IntegerField()), 0)
