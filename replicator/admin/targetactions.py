"""What people do with a target in the admin: the page that says what will happen, asks, and has it done."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from replicator.admin.base import ReadOnlyAdmin
from replicator.admin.overview import LABELS
from replicator.ledger import life
from replicator.models import TargetState
from replicator.operating import audit, steering
from replicator.operating.places import storages_at
from replicator.operating.retiring import is_confirmed
from replicator.operating.steering import Done, NotStarted, Plan

if TYPE_CHECKING:
    Base = ReadOnlyAdmin
else:
    Base = object

#: Verbs that start a run: they can be tried without changing anything.
_RUNS = ("backfill", "resync", "retire", "audit")
_DRY_RUN = gettext_lazy("Look first: count what would be done, and change nothing")


class ActionForm(forms.Form):
    """What is asked of whoever does *verb*. Its options are those of ``steering``."""

    why = forms.CharField(
        label=gettext_lazy("Why"),
        required=False,
        max_length=500,
        strip=True,
        help_text=gettext_lazy("Kept with the target, for those who wonder later."),
    )
    #: The options that the effect on the page was said of.
    seen = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, verb: str, target: str, plan: Plan | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.verb = verb
        if verb == "retire":
            label = _("Delete the files that it holds, too")
            self.fields["delete"] = forms.BooleanField(label=label, required=False)
        if verb == "audit":
            self._add_audit(target)
        if verb in _RUNS:
            self.fields["dry_run"] = forms.BooleanField(label=_DRY_RUN, required=False)
        if plan and plan.confirm:
            self.fields["confirm"] = forms.CharField(
                label=_("To confirm, type the number of files: %(number)s") % {"number": f"{int(plan.confirm):,}"},
                required=False,
                help_text=_("It is more than a tenth of all files. A look first needs no number."),
                widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"}),
            )
        order = [name for name in self.fields if name not in ("dry_run", "confirm", "why")]
        self.order_fields([*order, "dry_run", "confirm", "why"])

    def _add_audit(self, target: str) -> None:
        levels = [("size", _("Is each file there, and as long as it should be?")),
                  ("content", _("Its bytes, too: each file is read back, and hashed"))]  # fmt: skip
        self.fields["level"] = forms.ChoiceField(
            label=_("What is compared"), choices=levels, widget=forms.RadioSelect, initial="size", required=False
        )
        self.fields["repair"] = forms.BooleanField(
            label=_("Repair what is missing or wrong"), required=False, initial=True
        )
        if target:
            self.fields["delete_unknown"] = forms.BooleanField(
                label=_("Delete what the ledger does not know, if it is a day old"), required=False
            )
        aliases = [storage.alias for storage in storages_at(target)]
        if len(aliases) > 1:
            self.fields["storages"] = forms.MultipleChoiceField(
                label=_("Only these storages"),
                choices=[(alias, alias) for alias in aliases],
                widget=forms.CheckboxSelectMultiple,
                required=False,
                help_text=_("None: all of them."),
            )
        self.fields["sample"] = forms.FloatField(
            label=_("Sample, in per cent"),
            required=False,
            min_value=0.001,
            max_value=100,
            help_text=_("Empty: every file."),
        )
        self.fields["files_per_second"] = forms.FloatField(
            label=_("At most so many files per second"),
            required=False,
            min_value=0.01,
            help_text=_("Empty: no limit."),
        )

    @property
    def options(self) -> dict[str, Any]:
        """As ``steering`` takes them; of a form that is valid."""
        found = {
            name: value
            for name, value in self.cleaned_data.items()
            if name not in ("why", "seen", "confirm") and value not in (None, "", [], False)
        }
        if self.verb == "audit":
            found["repair"] = self.cleaned_data["repair"]
        return found


class ActionPages(Base):
    """Adds the pages of all verbs to the admin of targets."""

    verbs = steering.VERBS

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active and request.user.has_perm("replicator.operate_target"))

    def action_view(self, request: HttpRequest, object_id: str, verb: str) -> HttpResponse:
        """A GET says what would happen; a POST does it, if that is still what was said."""
        target = unquote(object_id)
        if not self.has_operate_permission(request):
            raise PermissionDenied
        if request.method not in ("GET", "HEAD", "POST"):
            raise PermissionDenied
        form = ActionForm(request.POST or None, verb=verb, target=target)
        # As the form is when nothing has been chosen in it.
        chosen: dict[str, Any] = {"level": "size", "repair": True} if verb == "audit" else {}
        if request.method == "POST" and form.is_valid():
            chosen = form.options
        try:
            # A look first needs no number, and changes nothing: what is said is of the real thing.
            plan = steering.plan(verb, target, chosen) if target else _plan_local(chosen)
        except NotStarted as refused:
            return self._ask(request, verb, target, form, refused=str(refused))
        form = ActionForm(request.POST or None, verb=verb, target=target, plan=plan)
        if request.method != "POST" or not form.is_valid():
            return self._ask(request, verb, target, form, plan, chosen)
        if form.cleaned_data["seen"] != _sign(chosen):
            return self._ask(request, verb, target, form, plan, chosen, changed=True)
        number = form.cleaned_data.get("confirm", "")
        if plan.confirm and not chosen.get("dry_run") and not is_confirmed(plan.confirm, number):
            form.add_error("confirm", _("Type %(number)s.") % {"number": f"{int(plan.confirm):,}"})
            return self._ask(request, verb, target, form, plan, chosen)
        why = form.cleaned_data["why"]
        who = request.user.get_username()
        try:
            if target:
                done = steering.do(verb, target, options=chosen, confirm=number, who=who, why=why)
            else:
                done = _do_local(chosen, who)
        except NotStarted as refused:
            return self._ask(request, verb, target, form, plan, chosen, refused=str(refused))
        return self._did(request, verb, target, done, why, chosen)

    def _ask(
        self,
        request: HttpRequest,
        verb: str,
        target: str,
        form: ActionForm,
        plan: Plan | None = None,
        chosen: dict[str, Any] | None = None,
        *,
        refused: str = "",
        changed: bool = False,
    ) -> TemplateResponse:
        name = target or _("the local disk")
        # Bound or not, the page says of which options it speaks.
        seen = _sign(chosen or {})
        return self.page(
            request,
            "action",
            title=_("%(verb)s %(target)s?") % {"verb": LABELS.get(verb, verb), "target": name},
            target=name,
            verb=verb,
            label=LABELS.get(verb, verb),
            form=form,
            fields=[field for field in form if field.name not in ("seen", "why", "confirm")],
            plan=plan,
            seen=seen,
            refused=refused,
            changed=changed,
            danger=verb in ("retire", "resync"),
            target_url=self.url_of("change", target) if target else self.url_of("changelist"),
        )

    def _did(
        self, request: HttpRequest, verb: str, target: str, done: Done, why: str, chosen: dict[str, Any]
    ) -> HttpResponse:
        if done.changed:
            text = _history(verb, done, why, chosen)
            if target:
                self.log_action_at(request, target, text)
            elif done.run is not None:
                self.log_change(request, done.run, text)
            self.message_user(request, done.text, messages.SUCCESS)
        else:
            self.message_user(request, done.text, messages.INFO)
        if done.run is not None and request.user.has_perm("replicator.view_targetrun"):
            url = reverse(f"{self.admin_site.name}:replicator_targetrun_change", args=[done.run.pk])
            return HttpResponseRedirect(url)
        return HttpResponseRedirect(self.url_of("changelist"))

    def log_action_at(self, request: HttpRequest, target: str, text: str) -> None:
        """Shown at the target's History."""
        state = TargetState.objects.filter(pk=target).first() or life.meet(target)
        self.log_change(request, state, text)

    if TYPE_CHECKING:

        def url_of(self, page: str, *args: str) -> str: ...
        def page(self, request: HttpRequest, name: str, **context: Any) -> TemplateResponse: ...


def _plan_local(options: dict[str, Any]) -> Plan:
    """An audit of the local disk: that of this node, where each has its own."""
    return Plan("audit", "", audit.effect("", options, dry_run=bool(options.get("dry_run"))))


def _do_local(options: dict[str, Any], who: str) -> Done:
    wanted = {name: value for name, value in options.items() if name != "dry_run"}
    run = audit.begin("", wanted, dry_run=bool(options.get("dry_run")), who=who)
    return Done(True, _("The audit of the local disk has begun."), run)


def _sign(options: dict[str, Any]) -> str:
    return json.dumps(options, sort_keys=True)


def _history(verb: str, done: Done, why: str, chosen: dict[str, Any]) -> str:
    words = [f"{LABELS.get(verb, verb)}: {done.text}"]
    options = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in sorted(chosen.items()))
    if options:
        words.append(f"({options})")
    if why:
        words.append(_("Why: %(why)s") % {"why": why})
    return " ".join(words)
