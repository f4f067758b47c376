"""The form with which people choose what a copy takes, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

from django import forms
from django.apps import apps
from django.contrib.admin.widgets import AdminTextareaWidget, AdminTextInputWidget
from django.utils.text import capfirst
from django.utils.timezone import localtime
from django.utils.translation import gettext_lazy as _

from replicator.staging import Choices, NotCopied
from replicator.staging.choices import parse_filter, parse_sample, parse_since, parse_size
from replicator.staging.filefields import FileFields, file_fields

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AppChoice:
    """An app, as a branch of the tree of file fields."""

    name: str
    models: Sequence[tuple[str, Sequence[dict[str, Any]]]]
    """Name, and the options of its fields as the widget has them."""
    count: int
    """File fields."""


class FieldTree(forms.CheckboxSelectMultiple):
    """Checkboxes of file fields below their models, and these below their apps."""

    template_name = "replicator/widgets/field_tree.html"

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, value, attrs)
        options = {option["value"]: option for _, group, _ in context["widget"]["optgroups"] for option in group}
        context["tree"] = list(_branches(options))
        return context


def _branches(options: Mapping[str, dict[str, Any]]) -> Iterator[AppChoice]:
    for app, models in groupby(file_fields(), key=lambda of: of.model._meta.app_label):
        found = [
            (
                str(capfirst(of.model._meta.verbose_name)),
                [options[label] for label in _labels(of) if label in options],
            )
            for of in models
        ]
        yield AppChoice(str(apps.get_app_config(app).verbose_name), found, sum(len(fields) for _, fields in found))


def _labels(of: FileFields) -> list[str]:
    return [f"{of.label}.{name}" for name in of.names]


def _all() -> list[tuple[str, str]]:
    return [(f"{of.label}.{field.name}", field.name) for of in file_fields() for field in of.fields]


class CopyForm(forms.Form):
    """All of ``Choices``; ``choices`` are those, once it is valid."""

    only = forms.MultipleChoiceField(
        label=_("File fields"),
        choices=_all,
        initial=lambda: [value for value, _ in _all()],
        widget=FieldTree,
        error_messages={"required": _("Choose at least one file field.")},
    )
    filters = forms.CharField(
        label=_("Filters"),
        required=False,
        widget=AdminTextareaWidget(attrs={"rows": 3, "placeholder": "blog.Post:created__gte=2026-01-01"}),
        help_text=_(
            "One per line: app.Model:lookup=value, in Django's look-up syntax. A row has to fit all filters of its "
            "model; a model without any has all of its rows taken."
        ),
    )
    sample = forms.CharField(
        label=_("Sample"),
        required=False,
        widget=AdminTextInputWidget(attrs={"placeholder": "5%", "class": "replicator-short"}),
        help_text=_("Percent of each model's rows: the same ones each time. Empty: all rows."),
    )
    newest_first = forms.BooleanField(label=_("Newest rows first"), required=False)
    since = forms.CharField(
        label=_("Modified since"),
        required=False,
        widget=AdminTextInputWidget(attrs={"placeholder": "2026-01-01, 30d", "class": "replicator-short"}),
        help_text=_("A date, with or without a time, or an age such as 12h, 30d or 2w. Empty: however old."),
    )
    max_size = forms.CharField(
        label=_("Largest size"),
        required=False,
        widget=AdminTextInputWidget(attrs={"placeholder": "20M", "class": "replicator-short"}),
        help_text=_("Of one file: such as 500 KiB, 20M or 1.5 GiB. Empty: however large."),
    )
    compare = forms.ChoiceField(
        label=_("Files that are here"),
        choices=[
            ("size", _("are left alone if their size is the same")),
            ("checksum", _("are left alone if their checksum is the same, where the source knows one")),
            ("nothing", _("are copied again")),
        ],
        initial="size",
        widget=forms.RadioSelect,
    )
    overwrite_newer = forms.BooleanField(
        label=_("Overwrite what is newer here"),
        required=False,
        help_text=_("Else what was written here after the source's file stays as it is."),
    )
    require_read_only = forms.BooleanField(
        label=_("Refuse a source that takes writes"),
        required=False,
        help_text=_("Tried before anything is copied, without leaving anything there."),
    )
    dry_run = forms.BooleanField(
        label=_("Dry run"),
        required=False,
        help_text=_("Counts files and bytes, and copies nothing."),
    )

    choices: Choices

    def clean_filters(self) -> list[Any]:
        only = _shortened(self.cleaned_data.get("only", ()))
        found, errors = [], []
        for line in filter(str.strip, self.cleaned_data["filters"].splitlines()):
            try:
                found.append(parse_filter(line.strip(), only))
            except NotCopied as error:
                errors.append(str(error))
        if errors:
            raise forms.ValidationError(errors)
        return found

    def clean_sample(self) -> float | None:
        return self._parsed("sample", parse_sample)

    def clean_since(self) -> Any:
        return self._parsed("since", parse_since)

    def clean_max_size(self) -> int | None:
        return self._parsed("max_size", parse_size)

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = self.cleaned_data
        if not self.errors:
            self.choices = Choices(**{**found, "only": _shortened(found["only"]), "filters": tuple(found["filters"])})
        return found

    def _parsed(self, name: str, parse: Callable[[str], T]) -> T | None:
        text = self.cleaned_data[name].strip()
        try:
            return parse(text) if text else None
        except NotCopied as error:
            raise forms.ValidationError(str(error)) from error


def initial_of(choices: Choices) -> dict[str, Any]:
    """What the form has for *choices*; they may be of a time when the site had other models."""
    only = [
        label
        for of in file_fields()
        for label in _labels(of)
        if not choices.only or {of.model._meta.app_label, of.label, label} & set(choices.only)
    ]
    return {
        "only": only,
        "filters": "\n".join(map(str, choices.filters)),
        "sample": f"{choices.sample:g}%" if choices.sample is not None else "",
        "since": localtime(choices.since).isoformat(" ", "seconds") if choices.since else "",
        "max_size": _size(choices.max_size) if choices.max_size is not None else "",
        "compare": choices.compare,
        "newest_first": choices.newest_first,
        "overwrite_newer": choices.overwrite_newer,
        "require_read_only": choices.require_read_only,
    }


def _shortened(chosen: Sequence[str]) -> tuple[str, ...]:
    """The same in the fewest words: nothing for all, else apps and models of which all fields are chosen."""
    known = file_fields()
    if set(chosen) >= {label for of in known for label in _labels(of)}:
        return ()
    words: list[str] = []
    for app, group in groupby(known, key=lambda of: of.model._meta.app_label):
        models = list(group)
        if set(chosen) >= {label for of in models for label in _labels(of)}:
            words.append(app)
            continue
        for of in models:
            mine = [label for label in _labels(of) if label in chosen]
            words += [of.label] if len(mine) == len(of.names) else mine
    return tuple(words)


def _size(count: int) -> str:
    """As ``parse_size`` takes it; exactly."""
    for unit in ("", " KiB", " MiB", " GiB"):
        if count % 1024 or not count:
            return f"{count}{unit}"
        count //= 1024
    return f"{count} TiB"
