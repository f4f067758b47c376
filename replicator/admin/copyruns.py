"""The admin's pages of copies from the live site: the list, starting one, watching it, stopping it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.cache import add_never_cache_headers
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator, capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from replicator import staging
from replicator.admin import copyshown
from replicator.admin.base import ReadOnlyAdmin, badge, moment
from replicator.admin.copyforms import CopyForm, initial_of
from replicator.conf import config
from replicator.models import CopyRun
from replicator.staging import Choices, NotCopied
from replicator.staging.progress import Progress

#: Verb → what it does, what the history says, and what is said when it did.
_VERBS: dict[str, tuple[Callable[[CopyRun], bool], Any, Any]] = {
    "pause": (staging.pause, _("Paused."), _("%(run)s is paused. What was half copied is fetched anew later.")),
    "resume": (staging.resume, _("Resumed."), _("%(run)s goes on.")),
    "cancel": (staging.cancel, _("Cancelled."), _("%(run)s is cancelled. What it had copied is here to stay.")),
}


class CopyAdmin(ReadOnlyAdmin):
    """What the pages of copies share."""

    class Media:
        css = {"all": ["replicator/admin.css", "replicator/copies.css"]}


@admin.register(CopyRun)
class CopyRunAdmin(CopyAdmin):
    list_display = ["title", "state_badge", "started", "done", "copied", "there", "missing", "failed", "pace"]
    ordering = ["-pk"]
    change_list_template = "admin/replicator/copyrun/change_list.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[CopyRun]:
        runs: QuerySet[CopyRun] = super().get_queryset(request)
        return runs.prefetch_related("parts")

    def get_urls(self) -> list[URLPattern]:
        def to(route: str, view: Callable[..., HttpResponse], name: str, **kwargs: str) -> URLPattern:
            return path(route, self.admin_site.admin_view(view), kwargs, name=f"replicator_copyrun_{name}")

        return [
            to("<int:pk>/progress/", self.progress_view, "progress"),
            to("<int:pk>/cancel/", self.cancel_view, "cancel"),
            *(to(f"<int:pk>/{verb}/", self.verb_view, verb, verb=verb) for verb in ("pause", "resume")),
            *super().get_urls(),
        ]

    # Who may do what

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Only on a staging site: nowhere else is there anything to start."""
        return config().staging is not None and request.user.has_perm("replicator.add_copyrun")

    def has_steer_permission(self, request: HttpRequest) -> bool:
        """Whoever may change copies may pause, resume and cancel them: nothing else of them can be changed."""
        return request.user.has_perm("replicator.change_copyrun")

    # The list

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        more = {"title": _("Copies from the live site"), "staging": config().staging}
        return super().changelist_view(request, more | (extra_context or {}))

    @admin.display(description=_("copy"), ordering="pk")
    def title(self, run: CopyRun) -> str:
        number = gettext("%(number)s from %(source)s") % {"number": run.pk, "source": run.source}
        return gettext("%(run)s (dry run)") % {"run": number} if _progress(run).dry_run else number

    @admin.display(description=_("state"), ordering="state")
    def state_badge(self, run: CopyRun) -> SafeString:
        found = badge(run.state, run.get_state_display())
        if not run.trouble or run.state != CopyRun.State.RUNNING:
            return found
        return format_html('{}<div class="replicator-why">{}</div>', found, Truncator(run.trouble).chars(200))

    @admin.display(description=_("started"), ordering="started_at")
    def started(self, run: CopyRun) -> SafeString | str:
        when = moment(run.started_at)
        return format_html("{}<br>{}", when, run.started_by) if run.started_by else when

    @admin.display(description=_("done"))
    def done(self, run: CopyRun) -> SafeString:
        return _bar(run, _progress(run).share)

    @admin.display(description=_("copied"))
    def copied(self, run: CopyRun) -> SafeString:
        progress = _progress(run)
        return format_html("{}<br>{}", f"{progress.counts['copied']:,}", filesizeformat(progress.bytes))

    @admin.display(description=_("there already"))
    def there(self, run: CopyRun) -> str:
        return f"{_progress(run).counts['there']:,}"

    @admin.display(description=_("missing"))
    def missing(self, run: CopyRun) -> SafeString | str:
        return self._failures(run, "missing")

    @admin.display(description=_("failed"))
    def failed(self, run: CopyRun) -> SafeString | str:
        return self._failures(run, "failed")

    @admin.display(description=_("rate"))
    def pace(self, run: CopyRun) -> SafeString | str:
        words = copyshown.pace_words(_progress(run))
        return format_html("{}<br>{}", words[0], words[-1] if words[1:] else "") if words else "-"

    def _failures(self, run: CopyRun, state: str) -> SafeString | str:
        count = _progress(run).counts[state]
        if not count:
            return "0"
        return format_html(
            '<a href="{}?run={}&amp;state={}">{}</a>', self._failures_url(), run.pk, state, f"{count:,}"
        )

    def _failures_url(self) -> str:
        return reverse(f"{self.admin_site.name}:replicator_copyfailure_changelist")

    # Starting

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        found = config().staging
        if found is None:  # the list says what to do about it
            return HttpResponseRedirect(reverse(f"{self.admin_site.name}:replicator_copyrun_changelist"))
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = CopyForm(request.POST) if request.method == "POST" else CopyForm(initial=self._initial(request))
        if form.is_valid() and (run := self._start(request, found.source, form)):
            if self.has_view_permission(request, run):
                return HttpResponseRedirect(self._url("change", run))
            return HttpResponseRedirect(reverse(f"{self.admin_site.name}:index"))
        fieldsets = [
            (_("What is copied"), {"fields": ["only"]}),
            (_("Which rows"), {"fields": ["filters", "sample", "newest_first"]}),
            (_("Which files"), {"fields": ["since", "max_size", "compare", "overwrite_newer"]}),
            (_("Caution"), {"fields": ["require_read_only", "dry_run"]}),
        ]
        return self._page(
            request,
            "add_form",
            title=_("Copy from %(source)s") % {"source": found.source},
            form=form,
            adminform=helpers.AdminForm(form, fieldsets, {}, model_admin=self),  # type: ignore[arg-type]
            under_way=self._under_way(request),
        )

    def _initial(self, request: HttpRequest) -> dict[str, Any]:
        """As another run was started, if the address names one."""
        like = request.GET.get("like", "")
        run = self.get_queryset(request).filter(pk=like).first() if like.isascii() and like.isdigit() else None
        try:
            return initial_of(Choices.from_json(run.choices)) if run else {}
        except NotCopied:  # of another version
            return {}

    def _start(self, request: HttpRequest, source: str, form: CopyForm) -> CopyRun | None:
        try:
            run = staging.start(source, form.choices, who=request.user.get_username())
        except NotCopied as error:
            form.add_error(None, gettext("Nothing was started: %(why)s") % {"why": error})
            return None
        self.log_addition(request, run, gettext("Started: %(words)s") % {"words": " ".join(form.choices.words())})
        self.message_user(request, gettext("%(run)s has begun.") % {"run": capfirst(str(run))}, messages.SUCCESS)
        return run

    def _under_way(self, request: HttpRequest) -> CopyRun | None:
        """One beside which no other can copy."""
        runs = self.get_queryset(request).filter(state__in=[CopyRun.State.RUNNING, CopyRun.State.PAUSED])
        return next((run for run in runs if not _progress(run).dry_run), None)

    # One run

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        run: CopyRun | None = self.get_object(request, unquote(object_id))
        if run is None:
            raise Http404
        if not self.has_view_permission(request, run) or request.method not in ("GET", "HEAD"):
            raise PermissionDenied
        progress = _progress(run)
        page = copyshown.page_of(progress)
        labels = copyshown.count_labels(progress.dry_run)
        return self._page(
            request,
            "change_form",
            title=capfirst(str(run)),
            object=run,
            page=page,
            progress=progress,
            labels=labels,
            counts=[(state, label, page.run.texts[state]) for state, label in labels.items()],
            models=[
                (model, shown, [(state, label, shown.texts[state]) for state, label in labels.items()])
                for model, shown in zip(progress.models, page.models, strict=True)
            ],
            can_steer=self.has_steer_permission(request),
            can_start=self.has_add_permission(request),
            failures_url=self._failures_url(),
            poll_url=self._url("progress", run),
        )

    def progress_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """What the page shows, for its script."""
        run = self._run(request, pk)
        if not self.has_view_permission(request, run):
            raise PermissionDenied
        response = JsonResponse(copyshown.page_of(_progress(run)).as_json())
        add_never_cache_headers(response)
        return response

    def verb_view(self, request: HttpRequest, pk: int, verb: str) -> HttpResponse:
        run = self._run(request, pk)
        if not self.has_steer_permission(request) or request.method != "POST":
            raise PermissionDenied
        do, history, said = _VERBS[verb]
        if do(run):
            self.log_change(request, run, str(history))
            self.message_user(request, str(said) % {"run": capfirst(str(run))}, messages.SUCCESS)
        else:
            words = {"run": capfirst(str(run)), "state": run.get_state_display()}
            self.message_user(request, gettext("Nothing to do: %(run)s is %(state)s.") % words, messages.INFO)
        return HttpResponseRedirect(self._url("change", run))

    def cancel_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Asks first: it can't be undone."""
        run = self._run(request, pk)
        if not self.has_steer_permission(request):
            raise PermissionDenied
        progress = _progress(run)
        if request.method == "POST" or progress.is_over:
            return self.verb_view(request, pk, "cancel")
        title = gettext("Cancel %(run)s?") % {"run": run}
        copied = f"{progress.counts['copied']:,}"
        return self._page(request, "cancel", title=title, object=run, progress=progress, copied=copied)

    def _run(self, request: HttpRequest, pk: int) -> CopyRun:
        run: CopyRun | None = self.get_object(request, str(pk))
        if run is None:
            raise Http404
        return run

    def _url(self, page: str, run: CopyRun) -> str:
        return reverse(f"{self.admin_site.name}:replicator_copyrun_{page}", args=[run.pk])

    def _page(self, request: HttpRequest, name: str, **context: Any) -> TemplateResponse:
        shared = {**self.admin_site.each_context(request), "opts": self.opts, "media": self.media}
        request.current_app = self.admin_site.name
        return TemplateResponse(request, f"admin/replicator/copyrun/{name}.html", {**shared, **context})


def _progress(run: CopyRun) -> Progress:
    """Asked for by several columns of a row: reckoned once."""
    found: Progress | None = getattr(run, "_shown", None)
    if found is None:
        found = staging.progress_of(run)
        run._shown = found  # type: ignore[attr-defined]
    return found


def _bar(run: CopyRun, share: float | None) -> SafeString:
    value = "" if share is None else format_html(' value="{}"', f"{share:.4f}")
    bar = '<progress class="replicator-bar replicator-bar-{}" max="1"{} aria-label="{}"></progress> <span>{}</span>'
    return format_html(bar, run.state, value, run, copyshown.percent(share))
