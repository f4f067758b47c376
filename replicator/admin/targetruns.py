"""The admin's pages of long pieces of work at targets: the list, the page of one, stopping it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator, capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from replicator import operating
from replicator.admin import live, runshown
from replicator.admin.base import ReadOnlyAdmin, TargetFilter, badge, moment, task_link
from replicator.admin.copyshown import percent
from replicator.models import AuditFinding, TargetRun, TargetState
from replicator.operating.progress import RunProgress, progress_of

#: Verb → what it does, what the history says, and what is said when it did.
_VERBS: dict[str, tuple[Callable[[TargetRun], bool], Any, Any]] = {
    "pause": (operating.pause, _("Paused %(run)s."), _("%(run)s is paused. What it did stays.")),
    "resume": (operating.resume, _("Resumed %(run)s."), _("%(run)s goes on.")),
    "cancel": (operating.cancel, _("Cancelled %(run)s."), _("%(run)s is cancelled. What it did stays.")),
}
#: Findings that a run's own page shows.
_FINDINGS = 50
_FOLDER = "admin/replicator/targetrun"


@admin.register(TargetRun)
class TargetRunAdmin(ReadOnlyAdmin):
    list_display = ["title", "state_badge", "share", "numbers", "started"]
    list_filter = ["kind", "state", TargetFilter]
    ordering = ["-pk"]

    class Media:
        css = {
            "all": [
                "replicator/admin.css",
                "replicator/copies.css",
                "replicator/copyrun.css",
                "replicator/overview.css",
            ]
        }

    def get_queryset(self, request: HttpRequest) -> QuerySet[TargetRun]:
        runs: QuerySet[TargetRun] = super().get_queryset(request)
        # One bit for each file of an audit.
        return runs.defer("seen")

    def get_urls(self) -> list[URLPattern]:
        def to(route: str, view: Callable[..., HttpResponse], name: str, **kwargs: str) -> URLPattern:
            return path(route, self.admin_site.admin_view(view), kwargs, name=f"replicator_targetrun_{name}")

        return [
            to("<int:pk>/now/", self.now_view, "now"),
            to("<int:pk>/cancel/", self.cancel_view, "cancel"),
            *(to(f"<int:pk>/{verb}/", self.verb_view, verb, verb=verb) for verb in ("pause", "resume")),
            *super().get_urls(),
        ]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_view_permission(request, obj) or self.has_steer_permission(request)

    def has_steer_permission(self, request: HttpRequest) -> bool:
        """Whoever may have work begun at a target may have it stopped."""
        return bool(request.user.has_perm("replicator.operate_target"))

    # The list

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"title": _("Work at targets"), **(extra_context or {})})

    @admin.display(description=_("run"), ordering="pk")
    def title(self, run: TargetRun) -> str:
        return f"{run.pk}: {runshown.run_title(run.kind, run.target, run.node, run.dry_run)}"

    @admin.display(description=_("state"), ordering="state")
    def state_badge(self, run: TargetRun) -> SafeString:
        found = badge(run.state, runshown.state_words(run.state))
        why = run.reason or (run.trouble if run.state == TargetRun.State.RUNNING else "")
        text = Truncator(why).chars(200)
        return format_html('{}<div class="replicator-why">{}</div>', found, text) if why else found

    @admin.display(description=_("done"))
    def share(self, run: TargetRun) -> SafeString:
        share = progress_of(run).share
        value = "" if share is None else format_html(' value="{}"', f"{share:.4f}")
        bar = (
            '<progress class="replicator-bar replicator-bar-{}" max="1"{} aria-label="{}"></progress> <span>{}</span>'
        )
        return format_html(bar, run.state, value, run, percent(share))

    @admin.display(description=_("files"))
    def numbers(self, run: TargetRun) -> SafeString | str:
        counts = runshown.counts_of(run.counts)
        return format_html_join("", "<div>{} {}</div>", ((number, label) for _word, label, number in counts)) or "-"

    @admin.display(description=_("started"), ordering="started_at")
    def started(self, run: TargetRun) -> SafeString | str:
        when = moment(run.started_at)
        return format_html("{}<br>{}", when, run.started_by) if run.started_by else when

    # One run

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        run = self._run(request, unquote(object_id))
        if request.method not in ("GET", "HEAD"):
            raise PermissionDenied
        return self._page(
            request, "run", title=capfirst(str(run)), poll_url=self._url("now", run), **self._context(request, run)
        )

    def now_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The page's parts as they are now, for its script."""
        context = self._context(request, self._run(request, str(pk)))
        names = {name: f"{_FOLDER}/{name}.html" for name in ("progress", "findings")}
        return live.parts(request, names, context, over=context["shown"].over)

    def _context(self, request: HttpRequest, run: TargetRun) -> dict[str, Any]:
        progress = progress_of(run)
        return {
            "object": run,
            "run": progress,
            "shown": runshown.of_run(progress, self._reverse),
            "can_operate": self.has_steer_permission(request),
            "task": task_link(run.task) if run.task else "",
            "target_url": self._reverse("targetstate_change", run.target) if run.target else "",
            **self._findings(request, progress),
        }

    def _findings(self, request: HttpRequest, run: RunProgress) -> dict[str, Any]:
        if run.kind != TargetRun.Kind.AUDIT or not request.user.has_perm("replicator.view_auditfinding"):
            return {}
        rows = AuditFinding.objects.filter(run=run.id)
        whats, cures = dict(AuditFinding.What.choices), dict(AuditFinding.Cure.choices)
        numbers = rows.order_by().values_list("what", "cure").annotate(n=Count("pk"))
        url = reverse(f"{self.admin_site.name}:replicator_auditfinding_changelist")
        kinds = [
            (whats.get(what, what), cures.get(cure, cure), f"{n:,}", f"{url}?run={run.id}&what={what}&cure={cure}")
            for what, cure, n in sorted(numbers)
        ]
        return {
            "kinds": kinds,
            "findings": list(rows.order_by("pk")[:_FINDINGS]),
            "findings_url": f"{url}?run={run.id}",
            "findings_more": sum(n for _what, _cure, n in numbers) > _FINDINGS,
        }

    def verb_view(self, request: HttpRequest, pk: int, verb: str) -> HttpResponse:
        run = self._run(request, str(pk))
        if not self.has_steer_permission(request) or request.method != "POST":
            raise PermissionDenied
        do, history, said = _VERBS[verb]
        words = {"run": str(run)}
        if do(run):
            self._log(request, run, str(history) % words)
            self.message_user(request, capfirst(str(said) % words), messages.SUCCESS)
        else:
            words |= {"state": runshown.state_words(run.state)}
            self.message_user(request, gettext("Nothing to do: %(run)s is %(state)s.") % words, messages.INFO)
        return HttpResponseRedirect(self._url("change", run))

    def cancel_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Asks first: it can't be undone."""
        run = self._run(request, str(pk))
        if not self.has_steer_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            return self.verb_view(request, pk, "cancel")
        title = gettext("Cancel %(run)s?") % {"run": run}
        return self._page(request, "cancel", title=title, object=run, run=progress_of(run))

    def _log(self, request: HttpRequest, run: TargetRun, text: str) -> None:
        """At the run, and at its target, where people look first."""
        self.log_change(request, run, text)
        state = TargetState.objects.filter(pk=run.target).first()
        if state is not None:
            self.log_change(request, state, text)

    def _run(self, request: HttpRequest, pk: str) -> TargetRun:
        if not self.has_view_permission(request):
            raise PermissionDenied
        run: TargetRun | None = self.get_object(request, pk)
        if run is None:
            raise Http404
        return run

    def _url(self, page: str, run: TargetRun) -> str:
        return self._reverse(f"targetrun_{page}", run.pk)

    def _reverse(self, page: str, *args: str | int) -> str:
        return reverse(f"{self.admin_site.name}:replicator_{page}", args=[quote(arg) for arg in args])

    def _page(self, request: HttpRequest, name: str, **context: Any) -> TemplateResponse:
        shared = {**self.admin_site.each_context(request), "opts": self.opts, "media": self.media}
        request.current_app = self.admin_site.name
        return TemplateResponse(request, f"{_FOLDER}/{name}.html", {**shared, **context})
