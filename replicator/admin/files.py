"""The admin's pages of files."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib import admin
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import InvalidStorageError, storages
from django.db.models import FileField, Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from replicator.admin.base import (
    Choices,
    ReplicaColumns,
    RequeueAdmin,
    StorageFilter,
    badge,
    broken,
    exact_first,
    moment,
)
from replicator.conf import config
from replicator.models import MediaFile, Replica
from replicator.storage.protected import ProtectedStorage
from replicator.storage.replicated import replicated_storages
from replicator.targets import get_target

#: Targets that a file's row shows one by one; of more, those that lack the file are what people look for.
_FEW = 5

if TYPE_CHECKING:
    InlineBase = admin.TabularInline[Any, Any]
else:
    InlineBase = admin.TabularInline


class ReplicaInline(ReplicaColumns, InlineBase):
    model = Replica
    readonly_fields = ["at", "status_badge", "waits_since", "due", "attempts", "in_doubt", "synced", "error"]
    fields = (*readonly_fields,)
    ordering = ["target"]
    extra = 0
    can_delete = False
    verbose_name_plural = _("replicas, one at each target")

    @admin.display(description=_("target"))
    def at(self, replica: Replica) -> SafeString:
        url = reverse(f"{self.admin_site.name}:replicator_replica_change", args=[replica.pk])
        return format_html('<a href="{}">{}</a>', url, replica.target)

    @admin.display(description=_("synced"))
    def synced(self, replica: Replica) -> SafeString | str:
        return moment(replica.synced_at)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ClassFilter(Choices):
    """The classes of the storages, in the settings and of the fields of models; "default" for none."""

    title = _("MogileFS class")
    parameter_name = "mogile_class"

    def known(self) -> Iterable[str]:
        fields = (field for model in apps.get_models() for field in model._meta.local_fields)
        of_fields = (field.storage for field in fields if isinstance(field, FileField))
        classes = {getattr(storage, "mogile_class", "") for storage in (*replicated_storages(), *of_fields)}
        return ["default", *sorted(classes - {"", "default"})]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        wanted = self.value()
        if not wanted:
            return queryset
        return queryset.filter(mogile_class__in=["", "default"] if wanted == "default" else [wanted])


@admin.register(MediaFile)
class MediaFileAdmin(RequeueAdmin):
    list_display = ["broken_name", "storage", "human_size", "written", "targets"]
    list_filter = [StorageFilter, "deleted"]
    search_fields = ["name"]
    search_help_text = _("a whole name, which is quick, or part of one")
    ordering = ["-pk"]
    inlines = [ReplicaInline]
    fieldsets = [
        (None, {"fields": ["name", "storage", "link", "human_size", "content_type", "sha256"]}),
        (_("Where it comes from"), {"fields": ["updated_at", "created_at", "node", "mogile_class", "version"]}),
    ]
    readonly_fields = ["link", "human_size"]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"title": _("Files"), **(extra_context or {})})

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return [*self.list_display, *(["mogile_class"] if _has_classes() else [])]

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        return [*self.list_filter, *([ClassFilter] if _has_classes() else [])]

    def get_queryset(self, request: HttpRequest) -> QuerySet[MediaFile]:
        # One query for all badges of a page.
        in_order = Prefetch("replicas", Replica.objects.order_by("target"))
        files: QuerySet[MediaFile] = super().get_queryset(request)
        return files.prefetch_related(in_order)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        found, may_repeat = super().get_search_results(request, queryset, search_term)
        return exact_first(queryset, search_term, "pk", found), may_repeat

    def chosen_replicas(self, queryset: QuerySet[Any]) -> QuerySet[Replica]:
        return Replica.objects.filter(file__in=queryset.order_by().values("pk"))

    @admin.display(description=_("name"), ordering="name")
    def broken_name(self, file: MediaFile) -> SafeString:
        return broken(file.name)

    @admin.display(description=_("size"), ordering="size")
    def human_size(self, file: MediaFile) -> SafeString | str:
        return badge("gone", _("deleted")) if file.deleted else filesizeformat(file.size)

    @admin.display(description=_("written"), ordering="updated_at")
    def written(self, file: MediaFile) -> SafeString | str:
        return moment(file.updated_at)

    @admin.display(description=_("targets"))
    def targets(self, file: MediaFile) -> SafeString:
        known = list(config().targets)
        order = {target: number for number, target in enumerate(known)}
        replicas = sorted(file.replicas.all(), key=lambda replica: order.get(replica.target, len(known)))
        well = [each for each in replicas if each.status == Replica.Status.SYNCED and each.target in order]
        together = well if len(replicas) > _FEW else []
        shown = format_html_join(
            " ",
            '<a href="{}">{}</a>',
            (
                (
                    reverse(f"{self.admin_site.name}:replicator_replica_change", args=[replica.pk]),
                    badge(replica.status if replica.target in order else "gone", replica.target, _reason(replica)),
                )
                for replica in replicas
                if replica not in together
            ),
        )
        if not together:
            return shown
        text = _("%(count)s synced") % {"count": len(together)}
        return format_html("{} {}", shown, badge("synced", text, ", ".join(each.target for each in together)))

    @admin.display(description=_("address"))
    def link(self, file: MediaFile) -> SafeString | str:
        try:
            storage = storages[file.storage]
            # Who may look at the ledger need not be one who may read private files.
            url = "" if file.deleted or isinstance(storage, ProtectedStorage) else storage.url(file.name)
        except (InvalidStorageError, ValueError):  # the storage is gone from the settings, or has no addresses
            url = ""
        return format_html('<a href="{}">{}</a>', url, url) if url else "-"


def _has_classes() -> bool:
    """Whether some target has classes."""
    for alias in config().targets:
        with suppress(ImproperlyConfigured):  # one that can't be made is a check's business
            if get_target(alias).has_classes:
                return True
    return False


def _reason(replica: Replica) -> str:
    words = [str(replica.get_status_display())]
    if replica.error_kind:
        words.append(f"{replica.error_kind}: {replica.error_text}")
    return ", ".join(words)
