"""What the admin's pages of this app share."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.humanize.templatetags.humanize import naturaltime
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import Truncator
from django.utils.timezone import localtime
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from replicator.admin.counting import CappedPaginator
from replicator.conf import config
from replicator.errors import kinds
from replicator.models import MediaFile, Replica
from replicator.operating.audit.verifying import MOST, verify
from replicator.requeueing import requeue, send_again
from replicator.storage.replicated import replicated_storages

if TYPE_CHECKING:
    ReadOnlyBase = admin.ModelAdmin[Any]
else:
    ReadOnlyBase = admin.ModelAdmin


class ReadOnlyAdmin(ReadOnlyBase):
    """Lists and shows; adds, changes and deletes nothing, whatever permissions a user has."""

    # Neither the unfiltered number nor one for each filter's choice: on millions of rows each takes seconds.
    show_full_result_count = False
    if hasattr(admin, "ShowFacets"):  # not on Django 4.2
        show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    paginator = CappedPaginator

    class Media:
        css = {"all": ["replicator/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class RequeueAdmin(ReadOnlyAdmin):
    """With what can be done about replicas: try failed ones again, send them again, ask their targets for them."""

    actions = ["requeue_failed", "verify_now", "send_again"]

    def has_requeue_permission(self, request: HttpRequest) -> bool:
        """Whoever may change replicas may have them tried again: that is the one thing people can change there."""
        return request.user.has_perm("replicator.change_replica")

    def chosen_replicas(self, queryset: QuerySet[Any]) -> QuerySet[Replica]:
        """The replicas that a selection stands for."""
        raise NotImplementedError

    @admin.action(description=_("Requeue failed replicas"), permissions=["requeue"])
    def requeue_failed(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Asks nothing: what has not failed needs no other try, and is left as it is."""
        selected = queryset.count()
        done = requeue(self.chosen_replicas(queryset))
        if done.count:
            text = ngettext(
                "%(count)s failed replica is pending again.",
                "%(count)s failed replicas are pending again.",
                done.count,
            ) % {"count": f"{done.count:,}"}
            if left := self.left_alone(selected, done.count):
                text = f"{text} {left}"
            self.message_user(request, text, messages.SUCCESS)
        else:
            self.message_user(request, _("Nothing to do: none of the selected has failed."), messages.INFO)
        for note in done.notes() if done.count else []:
            self.message_user(request, note, messages.WARNING)

    @admin.action(description=_("Verify now"), permissions=["requeue"])
    def verify_now(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Asks the targets, and sends again what they lack. For a few: whoever asks waits for it."""
        ids = list(self.chosen_replicas(queryset).order_by("pk").values_list("pk", flat=True)[: MOST + 1])
        found = verify(ids[:MOST], repair=True)
        well = sum(not each.what for each in found)
        text = ngettext("%(count)s replica is as recorded.", "%(count)s replicas are as recorded.", well)
        self.message_user(request, text % {"count": well}, messages.SUCCESS if well else messages.INFO)
        for each in found:
            if each.what:
                end = _("It is sent again.") if each.sent else ""
                words = f"{each.storage}: {each.name} at {each.target}: {each.text or each.what}. {end}".strip()
                self.message_user(request, words, messages.WARNING)
                if each.sent:
                    self.log_change(request, Replica(pk=each.replica), f"Verified: {each.what}; sent again.")
        if len(ids) > MOST:
            self.message_user(
                request,
                _("Only the first %(most)s were looked at: to look at more, start an audit of the target.")
                % {"most": MOST},
                messages.WARNING,
            )

    @admin.action(description=_("Send again, whatever was confirmed"), permissions=["requeue"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """For who knows that targets have lost files. Harmless: they get what they should hold."""
        done = send_again(self.chosen_replicas(queryset))
        text = ngettext("%(count)s replica is sent again.", "%(count)s replicas are sent again.", done.count)
        self.message_user(request, text % {"count": f"{done.count:,}"}, messages.SUCCESS)
        for note in done.notes() if done.count or done.kept else []:
            self.message_user(request, note, messages.WARNING)

    def left_alone(self, selected: int, requeued: int) -> str:
        """What to say of those of the selection that were not requeued."""
        return ""


def badge(kind: str, text: object, title: str = "") -> SafeString:
    """*text* on the colour of *kind*: synced, pending, failed, up, down."""
    return format_html('<span class="replicator-badge replicator-{}" title="{}">{}</span>', kind, title, text)


def broken(name: object) -> SafeString:
    """*name*, which goes on in the next line behind a slash, if it must, and not in the middle of a file's name."""
    return format_html_join(mark_safe("/<wbr>"), "{}", ((part,) for part in str(name).split("/")))


def moment(when: datetime | None) -> SafeString | str:
    """How long ago or ahead, with the exact time when pointed at."""
    if when is None:
        return "-"
    exact = date_format(localtime(when), "DATETIME_FORMAT")
    return format_html('<time datetime="{}" title="{}">{}</time>', when.isoformat(), exact, naturaltime(when))


def task_link(task: UUID | None) -> SafeString | str:
    """A Celery task's id, and its page in Flower, if the settings say where that is."""
    if task is None:
        return "-"
    if not config().flower_url:
        return str(task)
    url = f"{config().flower_url.rstrip('/')}/task/{task}"
    return format_html('<a href="{}" rel="noreferrer">{}</a>', url, task)


class ReplicaColumns:
    """What a list of replicas says of each."""

    @admin.display(description=_("status"), ordering="status")
    def status_badge(self, replica: Replica) -> SafeString:
        if replica.provisional:
            title = _("succeeded; confirmed once nothing sent earlier can take effect any more")
            return badge(replica.status, _("pending, to be confirmed"), str(title))
        return badge(replica.status, replica.get_status_display())

    @admin.display(description=_("due since"), ordering="since")
    def waits_since(self, replica: Replica) -> SafeString | str:
        return "-" if replica.status == Replica.Status.SYNCED else moment(replica.since)

    @admin.display(description=_("due"), ordering="due_at")
    def due(self, replica: Replica) -> SafeString | str:
        return moment(replica.due_at) if replica.status == Replica.Status.PENDING else "-"

    @admin.display(description=_("doubt"), ordering="doubt")
    def in_doubt(self, replica: Replica) -> str:
        return str(_("in doubt")) if replica.doubt else "-"

    @admin.display(description=_("error"), ordering="error_kind")
    def error(self, replica: Replica) -> SafeString | str:
        if not replica.error_kind:
            return "-"
        http = f" (HTTP {replica.http_status})" if replica.http_status else ""
        text = Truncator(replica.error_text).chars(200)
        return format_html('<div class="replicator-error"><b>{}</b>{}<br>{}</div>', replica.error_kind, http, text)


class Choices(admin.SimpleListFilter):
    """A filter whose choices come from the settings: asking ten million rows which values they have takes long."""

    column: str

    def known(self) -> Iterable[str]:
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        words = list(self.known())
        # One that the settings have no more can still be asked for, by a link.
        if (value := self.used_parameters.get(str(self.parameter_name))) and value not in words:
            words.append(str(value))
        return [(word, word) for word in words]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{self.column: self.value()}) if self.value() else queryset


class StorageFilter(Choices):
    title = _("storage")
    parameter_name = "storage"
    column = "storage"

    def known(self) -> Iterable[str]:
        return sorted({storage.alias for storage in replicated_storages()})


class FileStorageFilter(StorageFilter):
    """Of the replicas of a storage's files."""

    column = "file__storage"


class TargetFilter(Choices):
    title = _("target")
    parameter_name = "target"
    column = "target"

    def known(self) -> Iterable[str]:
        return config().targets


class RunFilter(admin.SimpleListFilter):
    """Of the newest runs; any other can be asked for by a link."""

    parameter_name = "run"
    named: ClassVar[int] = 20

    def newest(self) -> QuerySet[Any]:
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        runs = {str(run.pk): str(run) for run in self.newest()[: self.named]}
        if (value := str(self.used_parameters.get("run", ""))) and value not in runs:
            runs[value] = value
        return list(runs.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if not value:
            return queryset
        return queryset.filter(run=int(value)) if value.isascii() and value.isdigit() else queryset.none()


class ErrorFilter(Choices):
    title = _("error")
    parameter_name = "error_kind"
    column = "error_kind"

    def known(self) -> Iterable[str]:
        return sorted(kinds())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        # What is synced has none: said so, the partial indexes of the others will do.
        open_work = Q(status=Replica.Status.PENDING) | Q(status=Replica.Status.FAILED)
        rows = super().queryset(request, queryset)
        return rows.filter(open_work) if self.value() else rows


def exact_first(rows: QuerySet[Any], term: str, column: str, found: QuerySet[Any]) -> QuerySet[Any]:
    """*found*, unless *term* is a whole name: then the files of that name, which an index has, whatever their number.

    *column*: the id of the file, in *rows*.
    """
    files = MediaFile.objects.filter(storage__in=[storage.alias for storage in replicated_storages()], name=term)
    ids = list(files.values_list("pk", flat=True))
    return rows.filter(**{f"{column}__in": ids}) if ids else found
