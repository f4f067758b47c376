"""The admin's pages of what audits found."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from replicator.admin.base import ReadOnlyAdmin, RunFilter, badge, broken, moment
from replicator.models import AuditFinding, MediaFile, TargetRun


class AuditFilter(RunFilter):
    title = _("audit")

    def newest(self) -> QuerySet[TargetRun]:
        return TargetRun.objects.filter(kind=TargetRun.Kind.AUDIT).defer("seen").order_by("-pk")


class WhatFilter(admin.SimpleListFilter):
    """Of the words that there are: a filter of Django's own would not take an empty one in a link."""

    title = _("what")
    parameter_name = "what"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(str(what), what.label) for what in AuditFinding.What]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(what=self.value()) if self.value() else queryset


class CureFilter(admin.SimpleListFilter):
    title = _("cure")
    parameter_name = "cure"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(str(cure), cure.label) for cure in AuditFinding.Cure]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset if self.value() is None else queryset.filter(cure=self.value())


@admin.register(AuditFinding)
class AuditFindingAdmin(ReadOnlyAdmin):
    list_display = ["broken_name", "storage", "what_badge", "cure_text", "text", "found", "of_run"]
    list_select_related = ["run"]
    list_filter = [AuditFilter, WhatFilter, CureFilter]
    search_fields = ["name"]
    search_help_text = _("part of a file's name")
    ordering = ["-pk"]
    fields = ["file", "storage", "name", "what_badge", "cure_text", "text", "found", "of_run"]
    readonly_fields = ["file", "what_badge", "cure_text", "found", "of_run"]

    class Media:
        css = {"all": ["replicator/admin.css", "replicator/copies.css", "replicator/overview.css"]}

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"title": _("What audits found"), **(extra_context or {})})

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditFinding]:
        rows: QuerySet[AuditFinding] = super().get_queryset(request)
        return rows.defer("run__seen")

    @admin.display(description=_("name"), ordering="name")
    def broken_name(self, finding: AuditFinding) -> SafeString:
        return broken(finding.name)

    @admin.display(description=_("what"), ordering="what")
    def what_badge(self, finding: AuditFinding) -> SafeString:
        kind = "missing" if finding.what == AuditFinding.What.UNKNOWN else "failed"
        return badge(kind, finding.get_what_display())

    @admin.display(description=_("cure"), ordering="cure")
    def cure_text(self, finding: AuditFinding) -> str:
        return finding.get_cure_display()

    @admin.display(description=_("found"), ordering="found_at")
    def found(self, finding: AuditFinding) -> SafeString | str:
        return moment(finding.found_at)

    @admin.display(description=_("audit"), ordering="run")
    def of_run(self, finding: AuditFinding) -> SafeString:
        url = reverse(f"{self.admin_site.name}:replicator_targetrun_change", args=[finding.run_id])
        return format_html('<a href="{}">{}</a>', url, finding.run)

    @admin.display(description=_("file"))
    def file(self, finding: AuditFinding) -> SafeString | str:
        """Its row in the ledger, if that knows it."""
        known = MediaFile.objects.filter(storage=finding.storage, name=finding.name).first()
        if known is None:
            return "-"
        url = reverse(f"{self.admin_site.name}:replicator_mediafile_change", args=[known.pk])
        return format_html('<a href="{}">{}</a>', url, known)
