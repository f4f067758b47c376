"""The admin's pages of replicas."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from replicator.admin.base import (
    ErrorFilter,
    FileStorageFilter,
    ReplicaColumns,
    RequeueAdmin,
    TargetFilter,
    broken,
    exact_first,
    task_link,
)
from replicator.models import Replica


@admin.register(Replica)
class ReplicaAdmin(ReplicaColumns, RequeueAdmin):
    list_display = ["file_link", "target", "status_badge", "error", "waits_since", "due", "attempts", "in_doubt"]
    list_display_links = ["status_badge"]
    list_select_related = ["file"]
    list_filter = ["status", TargetFilter, ErrorFilter, FileStorageFilter]
    search_fields = ["file__name"]
    search_help_text = _("a file's whole name, which is quick, or part of one")
    fieldsets = [
        (None, {"fields": ["file_link", "target", "status_badge", "waits_since", "due", "attempts", "attempted_at"]}),
        (_("Error"), {"fields": ["error_kind", "http_status", "error_text"]}),
        (_("What is confirmed"), {"fields": ["synced_at", "version", "doubt", "provisional"]}),
        (_("In a worker's hands"), {"fields": ["task_link", "lease", "lease_until", "sent"]}),
    ]
    readonly_fields = ["file_link", "status_badge", "waits_since", "due", "task_link"]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"title": _("Replicas"), **(extra_context or {})})

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        if request.GET.get("status__exact") != Replica.Status.FAILED:
            return self.list_display
        # What is due no more: its place is better used by what is wrong.
        return [column for column in self.list_display if column not in ("due", "attempts", "in_doubt")]

    def get_ordering(self, request: HttpRequest) -> list[Any]:
        # Also what keeps the database to the partial index of a status: in the order of the primary key it would
        # rather pass over millions of synced rows until it has found a page of failed ones.
        orders = {Replica.Status.FAILED.value: ["-since"], Replica.Status.PENDING.value: ["due_at"]}
        return orders.get(request.GET.get("status__exact", ""), ["-pk"])

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        found, may_repeat = super().get_search_results(request, queryset, search_term)
        return exact_first(queryset, search_term, "file", found), may_repeat

    def chosen_replicas(self, queryset: QuerySet[Any]) -> QuerySet[Replica]:
        return queryset

    def left_alone(self, selected: int, requeued: int) -> str:
        left = selected - requeued
        if left <= 0:
            return ""
        return ngettext(
            "%(count)s of the selected has not failed and was left as it is.",
            "%(count)s of the selected have not failed and were left as they are.",
            left,
        ) % {"count": f"{left:,}"}

    @admin.display(description=_("last task"))
    def task_link(self, replica: Replica) -> SafeString | str:
        """Its page in Flower, which knows the last some thousand."""
        return task_link(replica.task)

    @admin.display(description=_("file"), ordering="file__name")
    def file_link(self, replica: Replica) -> SafeString:
        url = reverse(f"{self.admin_site.name}:replicator_mediafile_change", args=[replica.file_id])
        return format_html('<a href="{}">{}</a>', url, broken(replica.file))
