"""The admin's pages of what a copy could not copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from replicator import staging
from replicator.admin.base import RunFilter, badge, moment
from replicator.admin.copyruns import CopyAdmin
from replicator.models import CopyFailure, CopyPart, CopyRun
from replicator.staging.filefields import file_fields


class CopyFilter(RunFilter):
    title = _("copy")

    def newest(self) -> QuerySet[CopyRun]:
        return CopyRun.objects.order_by("-pk")


class StateFilter(admin.SimpleListFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        states = CopyFailure.State
        return [(str(state), state.label) for state in (states.FAILED, states.MISSING)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(state=self.value()) if self.value() else queryset


class ModelFilter(admin.SimpleListFilter):
    title = _("model")
    parameter_name = "model"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        labels = {of.label for of in file_fields()} | {str(self.used_parameters.get("model", ""))} - {""}
        return [(label, label) for label in sorted(labels)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        # A few ids, which the index of failures begins with, after the run.
        parts = list(CopyPart.objects.filter(model=self.value()).values_list("pk", flat=True))
        return queryset.filter(part__in=parts)


@admin.register(CopyFailure)
class CopyFailureAdmin(CopyAdmin):
    list_display = ["name", "state_badge", "error", "attempts", "due", "of_run"]
    list_select_related = ["run", "part"]
    list_filter = [CopyFilter, StateFilter, ModelFilter]
    search_fields = ["name"]
    search_help_text = _("part of a file's name")
    actions = ["requeue_failures"]
    # That of the index of failures: by primary key it would pass over millions of files that were copied.
    ordering = ["-run_id", "-part_id", "-pk"]
    readonly_fields = ["state_badge", "due", "of_run", "failed_first"]

    def has_requeue_permission(self, request: HttpRequest) -> bool:
        """As with replicas: to be tried again is the one thing about them that people can change."""
        return request.user.has_perm("replicator.change_copyfailure")

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        columns = [column for column in self.list_display if column != "of_run" or not request.GET.get("run")]
        return [*columns[:2], self._object_link(request), *columns[2:]]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"title": _("What could not be copied"), **(extra_context or {})})

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        what = ["name", "state_badge", "of_run", self._object_link(request)]
        return [
            (None, {"fields": what}),
            (_("Error"), {"fields": ["error_kind", "error_text", "attempts", "failed_first", "due"]}),
        ]

    @admin.action(description=_("Requeue failures"), permissions=["requeue"])
    def requeue_failures(self, request: HttpRequest, queryset: QuerySet[CopyFailure]) -> None:
        """Those that are missing at the source, too: somebody may have put them there."""
        selected = dict(queryset.order_by().values_list("run").annotate(Count("pk")))
        runs = CopyRun.objects.in_bulk(selected)
        cancelled = [pk for pk, run in runs.items() if run.state == CopyRun.State.CANCELLED]
        count = staging.requeue(queryset)
        left = _left_alone(sum(selected[pk] for pk in cancelled))
        if not count:
            text = gettext("Nothing to do: none of the selected can be tried again.")
            self.message_user(request, f"{text} {left}".strip(), messages.INFO)
            return
        text = ngettext("%(count)s failure is tried again.", "%(count)s failures are tried again.", count)
        self.message_user(request, f"{text % {'count': f'{count:,}'}} {left}".strip(), messages.SUCCESS)
        for pk, run in runs.items():
            if pk not in cancelled:
                self.log_change(request, run, _requeued(selected[pk]))

    @admin.display(description=_("state"), ordering="state")
    def state_badge(self, failure: CopyFailure) -> SafeString:
        is_missing = failure.state == CopyFailure.State.MISSING
        return badge(failure.state, _("missing") if is_missing else _("failed"), failure.get_state_display())

    @admin.display(description=_("error"), ordering="error_kind")
    def error(self, failure: CopyFailure) -> SafeString | str:
        if not failure.error_kind:
            return "-"
        return format_html("<b>{}</b><br>{}", failure.error_kind, Truncator(failure.error_text).chars(200))

    @admin.display(description=_("tried again"), ordering="due_at")
    def due(self, failure: CopyFailure) -> SafeString | str:
        goes_on = failure.run.state in (CopyRun.State.RUNNING, CopyRun.State.PAUSED)
        return moment(failure.due_at) if goes_on else "-"

    @admin.display(description=_("copy"), ordering="run")
    def of_run(self, failure: CopyFailure) -> SafeString:
        url = reverse(f"{self.admin_site.name}:replicator_copyrun_change", args=[failure.run_id])
        return format_html('<a href="{}">{}</a>', url, failure.run)

    @admin.display(description=_("failed first"))
    def failed_first(self, failure: CopyFailure) -> SafeString | str:
        return moment(failure.failed_at)

    def _object_link(self, request: HttpRequest) -> Callable[[CopyFailure], SafeString]:
        """A column that leads to the object's own page, for those who may see it."""
        may_see: dict[str, str] = {}

        def page_of(label: str) -> str:
            model = next((of.model for of in file_fields() if of.label == label), None)
            its_admin = self.admin_site._registry.get(model) if model else None
            if model is None or its_admin is None or not its_admin.has_view_permission(request):
                return ""
            return f"{self.admin_site.name}:{model._meta.app_label}_{model._meta.model_name}_change"

        @admin.display(description=_("object"), ordering="part")
        def object_link(failure: CopyFailure) -> SafeString:
            label = failure.part.model
            if label not in may_see:
                may_see[label] = page_of(label)
            words = format_html("{} {}", label, failure.object_id)
            if may_see[label]:
                url = reverse(may_see[label], args=[quote(failure.object_id)])
                words = format_html('<a href="{}">{}</a>', url, words)
            return format_html("{}<br>{}", words, failure.field)

        return object_link


def _left_alone(count: int) -> str:
    if not count:
        return ""
    text = ngettext(
        "%(count)s is of a copy that was cancelled and was left as it is.",
        "%(count)s are of copies that were cancelled and were left as they are.",
        count,
    )
    return text % {"count": f"{count:,}"}


def _requeued(count: int) -> str:
    return ngettext("Requeued %(count)s failure.", "Requeued %(count)s failures.", count) % {"count": f"{count:,}"}
