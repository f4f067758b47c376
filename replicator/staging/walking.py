"""Reading the names of a model's files, some rows at a time, in the order of the primary key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from types import SimpleNamespace
from typing import Any

from django.db import router
from django.db.models import ExpressionWrapper, F, Field, Model, Q, QuerySet, TextField, Value
from django.db.models.lookups import GreaterThan

from replicator.staging.choices import Choices
from replicator.staging.filefields import FileFields, fields_of, file_fields

__all__ = ["FileFields", "Row", "Walked", "fields_of", "file_fields", "read", "total"]


@dataclass(frozen=True, slots=True)
class Row:
    """A row that names files."""

    text: str
    """Its primary key, as fixtures have it."""
    names: Sequence[tuple[str, str]]
    """Field and file, of the fields that have one."""


@dataclass(frozen=True, slots=True)
class Walked:
    """What one call has read."""

    rows: Sequence[Row]
    """Those of the sample, in the order of the walk."""
    cursor: str | None
    """The primary key of the last row walked, in the sample or not; what the next call goes on after."""
    count: int
    """Rows walked, in the sample or not: what ``total`` counts."""
    done: bool
    """There are no more."""


def read(of: FileFields, choices: Choices, after: str | None, limit: int) -> Walked:
    """The next *limit* rows that name a file and fit the filters: after *after*, or from the start if it is None.

    Raises ``DatabaseError`` as the database does, ``NotCopied`` for a filter that the model can't be asked any more.
    """
    rows = _rows(of, choices)
    if after is not None:
        rows = rows.filter(**{"pk__lt" if choices.newest_first else "pk__gt": _key(of.model, after)})
    found = list(rows.order_by("-pk" if choices.newest_first else "pk").values_list("pk", *of.names)[:limit])
    chosen = []
    for key, *values in found:
        text = _text(of.model, key)
        if choices.samples(of.label, text):
            named = zip(of.names, map(_name, values), strict=True)
            chosen.append(Row(text, [(field, name) for field, name in named if name]))
    return Walked(
        rows=chosen,
        cursor=_text(of.model, found[-1][0]) if found else after,
        count=len(found),
        done=len(found) < limit,
    )


def total(of: FileFields, choices: Choices) -> int:
    """How many rows ``read`` will walk, in the sample or not. Raises as it does."""
    return _rows(of, choices).values("pk").count()


def _rows(of: FileFields, choices: Choices) -> QuerySet[Model]:
    """Those that name a file and fit the filters, each once."""
    # No manager: even a model's base manager may leave rows out, or give columns other names.
    rows: QuerySet[Model] = QuerySet(of.model, using=router.db_for_read(of.model))
    # Compared as text: a field may take an empty name for NULL, which nothing is greater than.
    named = (
        Q(GreaterThan(ExpressionWrapper(F(field.name), output_field=TextField()), Value("", TextField())))
        for field in of.fields
    )
    rows = rows.filter(reduce(or_, named), *choices.conditions(of.label, of.model))
    # Through a relation to many, a row would come several times.
    return rows.distinct() if len(rows.query.alias_map) > 1 else rows


def _text(model: type[Model], key: Any) -> str:
    """A primary key as the serializers write it: every kind of field comes back from it as it was."""
    field = _key_field(model)
    return field.value_to_string(SimpleNamespace(**{field.attname: key}))  # type: ignore[arg-type]


def _key(model: type[Model], text: str) -> Any:
    return _key_field(model).to_python(text)


def _key_field(model: type[Model]) -> Field[Any, Any]:
    """Whose values the primary key has: that of a user's profile, say, has those of the user's."""
    field: Any = model._meta.pk
    while field.is_relation:
        field = field.target_field
    return field  # type: ignore[no-any-return]


def _name(value: Any) -> str:
    """The name in a file field's column: text, unless the field makes something else of it, such as a file."""
    return str(getattr(value, "name", value) or "")
