"""The admin's pages of targets: the overview of all, the page of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext_lazy as _

from replicator.admin import live, runshown
from replicator.admin.base import ReadOnlyAdmin
from replicator.admin.overview import Shown, Words
from replicator.admin.targetactions import ActionPages
from replicator.conf import config
from replicator.models import TargetRun, TargetState
from replicator.operating.progress import progress_of
from replicator.overview import overview

#: Runs that a target's own page shows.
_RUNS = 10
_FOLDER = "admin/replicator/targetstate"


@admin.register(TargetState)
class TargetStateAdmin(ActionPages, ReadOnlyAdmin):
    """Its list is the overview: what a person on call looks for is found first."""

    search_fields = ["target"]

    class Media:
        css = {"all": ["replicator/admin.css", "replicator/copies.css", "replicator/overview.css"]}

    def get_urls(self) -> list[URLPattern]:
        def to(route: str, view: Callable[..., HttpResponse], name: str, **kwargs: str) -> URLPattern:
            return path(route, self.admin_site.admin_view(view), kwargs, name=f"replicator_targetstate_{name}")

        return [
            to("overview/", self.overview_view, "overview"),
            to("now/", self.now_view, "now"),
            # In a target's own URLs a colon is quoted: no alias is called so.
            to(":disk/audit/", self.action_view, "local_audit", verb="audit", object_id=""),
            *(to(f"<path:object_id>/{verb}/", self.action_view, verb, verb=verb) for verb in self.verbs),
            to("<path:object_id>/now/", self.target_now_view, "target_now"),
            *super().get_urls(),
        ]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever may operate them sees them, too."""
        return super().has_view_permission(request, obj) or self.has_operate_permission(request)

    # All of them

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request) or request.method not in ("GET", "HEAD"):
            raise PermissionDenied
        context = self._shown(request) | {"title": _("Targets"), **(extra_context or {})}
        return self.page(request, "overview", poll_url=self.url_of("now"), **context)

    def overview_view(self, request: HttpRequest) -> HttpResponse:
        """A name by which the list is found, too."""
        return HttpResponseRedirect(self.url_of("changelist"))

    def now_view(self, request: HttpRequest) -> HttpResponse:
        """The parts of the overview as they are now, for its script."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return live.parts(
            request,
            {part: f"{_FOLDER}/{part}.html" for part in ("all", "work", "cards", "site")},
            self._shown(request),
        )

    def _shown(self, request: HttpRequest, only: str = "") -> dict[str, Any]:
        shown: Shown = Words(overview(only), request, self.admin_site.name).shown(numbers=bool(only))
        return {"shown": shown, "can_operate": self.has_operate_permission(request)}

    # One

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method not in ("GET", "HEAD"):
            raise PermissionDenied
        target = unquote(object_id)
        context = self._one(request, target)
        poll = self.url_of("target_now", target)
        history = self.url_of("history", target)
        return self.page(
            request, "target", title=target, poll_url=poll, history_url=history, target=target, **context
        )

    def target_now_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        context = self._one(request, unquote(object_id))
        return live.parts(request, {"target": f"{_FOLDER}/one.html"}, context)

    def _one(self, request: HttpRequest, target: str) -> dict[str, Any]:
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = self._shown(request, target)
        if not context["shown"].cards:
            raise Http404
        shown: Shown = context["shown"]
        runs = TargetRun.objects.filter(target=target).defer("seen").order_by("-pk")[:_RUNS]
        may_see = request.user.has_perm("replicator.view_targetrun")
        recent = [runshown.of_run(progress_of(run), shown.reverse) for run in runs] if may_see else []
        return context | {"card": shown.cards[0], "recent": recent, "facts": self._facts(target)}

    def _facts(self, target: str) -> list[tuple[str, str]]:
        conf = config().targets.get(target)
        # The class alone: among the options are passwords.
        return [(str(_("kind")), conf.backend)] if conf else []

    # What the pages share

    def url_of(self, page: str, *args: str) -> str:
        return reverse(f"{self.admin_site.name}:replicator_targetstate_{page}", args=[quote(arg) for arg in args])

    def page(self, request: HttpRequest, name: str, **context: Any) -> TemplateResponse:
        shared = {**self.admin_site.each_context(request), "opts": self.opts, "media": self.media}
        request.current_app = self.admin_site.name
        return TemplateResponse(request, f"{_FOLDER}/{name}.html", {**shared, **context})
