"""Which file fields the site's models have."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from django.apps import apps
from django.db.models import FileField, Model

from replicator.conf import nearest
from replicator.staging.base import NotCopied


@dataclass(frozen=True, slots=True)
class FileFields:
    """One model and those of its file fields that are columns of its own table."""

    model: type[Model]
    fields: Sequence[FileField]
    label: str
    """``app_label.ModelName``."""

    @property
    def names(self) -> list[str]:
        """Of the fields."""
        return [field.name for field in self.fields]

    def narrowed(self, names: Collection[str]) -> FileFields:
        """Only those of *names*."""
        return replace(self, fields=tuple(field for field in self.fields if field.name in names))


def file_fields() -> list[FileFields]:
    """Every model that has some, ordered by label.

    Each column is here once: a field that is inherited from a model with its own table is that model's, one of an
    abstract model is each child's. Proxies have no columns of their own, models that are swapped out no table.
    """
    found = []
    for model in apps.get_models(include_auto_created=True):
        fields = tuple(field for field in model._meta.local_concrete_fields if isinstance(field, FileField))
        if fields:
            found.append(FileFields(model, fields, model._meta.label))
    return sorted(found, key=lambda each: each.label)


def fields_of(label: str, names: Sequence[str]) -> FileFields:
    """The file fields *names* of the model *label*. Raises ``NotCopied`` if the site has them no more."""
    known = {each.label: each for each in file_fields()}
    if label not in known:
        raise NotCopied(f"This site has no model {label} with file fields. {nearest(label, list(known))}")
    for name in names:
        if name not in known[label].names:
            raise NotCopied(f"{label} has no file field {name!r}. {nearest(name, known[label].names)}")
    return known[label].narrowed(names)


def find_app(text: str) -> str:
    """The label of an app with file fields. Raises ``NotCopied`` with what to write."""
    known = sorted({each.model._meta.app_label for each in file_fields()})
    if text not in known:
        raise NotCopied(f"This site has no app {text!r} with file fields. {nearest(text, known)}")
    return text


def find_label(text: str) -> tuple[FileFields, str]:
    """What ``app.Model`` or ``app.Model.field`` stands for; the field's name is empty for all of them.

    Raises ``NotCopied`` with what to write.
    """
    app, _, rest = text.partition(".")
    name, _, field = rest.partition(".")
    known = {each.label: each for each in file_fields()}
    try:
        model = apps.get_model(app, name)
    except (LookupError, ValueError):
        raise NotCopied(f"This site has no model {app}.{name}. {nearest(f'{app}.{name}', list(known))}") from None
    if instead := model._meta.swapped or (model._meta.proxy and model._meta.concrete_model._meta.label):
        raise NotCopied(f"{model._meta.label} has no table of its own. Write {instead}{field and f'.{field}'}.")
    of = known.get(model._meta.label)
    names = of.names if of else []
    if of is not None and (not field or field in names):
        return of, field
    inherited = [
        each for each in model._meta.concrete_fields if isinstance(each, FileField) and each.name not in names
    ]
    for each in inherited:
        parent = each.model._meta.label
        if field == each.name:
            raise NotCopied(f"{model._meta.label}.{field} is in the table of {parent}. Write {parent}.{field}.")
        if not field:
            raise NotCopied(f"{model._meta.label} has file fields only in the table of {parent}. Write {parent}.")
    if of is None:
        raise NotCopied(
            f"{model._meta.label} has no file fields. Models that have some: {', '.join(known) or 'none'}."
        )
    raise NotCopied(f"{of.label} has no file field {field!r}. {nearest(field, names)}")
