"""Reading the names of a model's files, some rows at a time, in the order of the primary key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from types import SimpleNamespace
from typing import Any

from django.db.models import F, Field, Model, Q, QuerySet, TextField, Value
from django.db.models.lookups import GreaterThan

from replicator.staging.choices import Choices
from replicator.staging.filefields import FileFields, fields_of, file_fields

__all__ = ["FileFields", "Row", "Walked", "fields_of", "file_fields", "read", "total"]

#: Keys that a database is asked about at once: as many alternatives SQLite takes of keys of several columns.
_JOINED_ROWS = 500
#: Pages in which nothing fits, before the caller hears of it.
_JOINED_PAGES = 20


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
    """The next rows that name a file and fit the filters, *limit* at most: after *after*, or from the start if None.

    It may find none though there are more. Raises ``DatabaseError`` as the database does, ``NotCopied`` for a filter
    that the model can't be asked any more.
    """
    rows = fitting = _rows(of, choices.conditions(of.label, of.model))
    if joined := _is_joined(fitting):
        # Joins are asked about a page's keys: from a key on, databases join all that fits again for each page.
        rows, limit = _rows(of), min(limit, _JOINED_ROWS)
    for _ in range(_JOINED_PAGES):
        page = _page(rows, of, after, limit, newest_first=choices.newest_first)
        after = _text(of.model, page[-1][0]) if page else after
        done = len(page) < limit
        if joined and page:
            fit = {*fitting.filter(pk__in=[key for key, *_ in page]).values_list("pk", flat=True)}
            page = [each for each in page if each[0] in fit]
        if page or done:
            break
    named = ((_text(of.model, key), zip(of.names, map(_name, names), strict=True)) for key, *names in page)
    return Walked(
        rows=[
            Row(text, [(field, name) for field, name in pairs if name])
            for text, pairs in named
            if choices.samples(of.label, text)
        ],
        cursor=after,
        count=len(page),
        done=done,
    )


def total(of: FileFields, choices: Choices) -> int:
    """How many rows ``read`` will walk, in the sample or not. Raises as it does."""
    rows = _rows(of, choices.conditions(of.label, of.model)).values("pk")
    return (rows.distinct() if _is_joined(rows) else rows).count()


def _rows(of: FileFields, conditions: Sequence[Q] = ()) -> QuerySet[Any, Any]:
    """Those that name a file and fit *conditions*; through a relation to many, once for each that fits."""
    # No manager: even a model's base manager may leave rows out, or give columns other names. The database is the one
    # that the router reads the model from.
    rows: QuerySet[Any] = QuerySet(of.model)
    # Compared as text: a field may take an empty name for NULL, which nothing is greater than.
    named = (Q(GreaterThan(F(name), Value("", TextField()))) for name in of.names)
    return rows.filter(reduce(or_, named), *conditions)


def _is_joined(rows: QuerySet[Any, Any]) -> bool:
    return len(rows.query.alias_map) > 1


def _page(
    rows: QuerySet[Any, Any], of: FileFields, after: str | None, limit: int, *, newest_first: bool
) -> Sequence[tuple[Any, ...]]:
    """Key and names of the next *limit* of *rows*."""
    if after is not None:
        rows = rows.filter(**{"pk__lt" if newest_first else "pk__gt": _key(of.model, after)})
    return list(rows.order_by("-pk" if newest_first else "pk").values_list("pk", *of.names)[:limit])


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
