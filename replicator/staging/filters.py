"""A person's filter of one model's rows, in Django's look-up syntax."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import EmptyResultSet, FieldDoesNotExist, FieldError, ValidationError
from django.db import NotSupportedError, router
from django.db.models import BooleanField, Field, ForeignObject, JSONField, Lookup, Model, Q, QuerySet
from django.utils import timezone

from replicator.conf import nearest
from replicator.staging.base import NotCopied
from replicator.staging.filefields import find_label

_FORM = "Write app.Model:lookup=value, such as blog.Post:created__gte=2026-01-01."
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
#: Look-ups that take several values.
_MANY = ("in", "range", "has_keys", "has_any_keys")


class Filter(NamedTuple):
    """One thing that those rows of a model have in common that are walked."""

    label: str
    """``app_label.ModelName``."""
    lookup: str
    """``created__gte``."""
    text: str
    """The value, as people write it; for the look-ups of several, with commas between them."""

    def __str__(self) -> str:
        return f"{self.label}:{self.lookup}={self.text}"

    def condition(self, model: type[Model]) -> Q:
        """For ``QuerySet.filter``. Raises ``NotCopied`` if *model* can't be asked this (any more)."""
        value, _ = _value(self, model)
        return Q(**{self.lookup: value})


def parse_filter(text: str) -> Filter:
    """``app.Model:lookup=value``, as people write it. Raises ``NotCopied`` with what to write instead.

    Times without a zone are of the current one, and come out with it: a worker's may be another.
    """
    label, colon, rest = text.partition(":")
    lookup, equals, value = rest.partition("=")
    if not (colon and equals and label.strip() and lookup.strip()):
        raise NotCopied(f"{text!r} is no filter. {_FORM}")
    of, field = find_label(label.strip())
    if field:
        raise NotCopied(f"{text!r}: a filter is of a model, not of one field. Write {of.label}:{rest}.")
    found = Filter(of.label, lookup.strip(), value.strip())
    converted, portable = _value(found, of.model)
    database = router.db_for_read(of.model)
    try:
        QuerySet(of.model).filter(Q(**{found.lookup: converted})).query.get_compiler(database).as_sql()
    except EmptyResultSet:  # a number too large for the column, say
        pass
    except (FieldError, NotSupportedError, TypeError, ValueError, ValidationError) as error:
        raise NotCopied(f"{found}: this can't be asked: {error}") from error
    return found._replace(text=portable)


def _value(given: Filter, model: type[Model]) -> tuple[Any, str]:
    """The value as the look-up takes it, and as text that means the same in every process."""
    lookup, field = _resolved(given, model)
    if lookup.lookup_name == "isnull":
        return _converted(given, given.text, _boolean), given.text
    if lookup.lookup_name in _MANY:
        texts = [part.strip() for part in given.text.split(",")]
        if lookup.lookup_name == "range" and len(texts) != 2:
            raise NotCopied(f"{given}: a range has two ends. Write {given.lookup}=first,last.")
        values = [_converted(given, part, lambda text: _of_field(field, text)) for part in texts]
        return values, ",".join(map(_portable, values, texts))
    if not lookup.prepare_rhs:  # such as contains, of a field of any kind
        return given.text, given.text
    value = _converted(given, given.text, lambda text: _of_field(field, text))
    return value, _portable(value, given.text)


def _resolved(given: Filter, model: type[Model]) -> tuple[type[Lookup[Any]], Field[Any, Any]]:
    """The class of its look-up, and a field whose values that one compares with."""
    at, field, rest = _path(given, model)
    if field.is_relation:
        lookups = ForeignObject.class_lookups
        name, *more = rest or ["exact"]
        if name not in lookups or more:
            raise _unknown(given, name, field.related_model, lookups)
        while field.is_relation:
            field = field.target_field
        return lookups[name], field
    left: Any = field.cached_col
    for name in rest:
        found = left.get_lookup(name) if name is rest[-1] else None
        if found is not None:
            return found, left.output_field
        transform = left.get_transform(name)
        if transform is None:
            known = nearest(name, list(left.output_field.get_lookups()))
            raise NotCopied(f"{given}: {at} has no look-up {name!r}. {known}")
        left = transform(left)
    return left.get_lookup("exact"), left.output_field


def _path(given: Filter, model: type[Model]) -> tuple[str, Any, Sequence[str]]:
    """The field that the look-up leads to, after the name of its model and its own; what comes behind it."""
    parts = given.lookup.split("__")
    here: type[Model] | None = model
    at, field = model._meta.label, None
    for position, part in enumerate(parts):
        if here is None:
            return at, field, parts[position:]
        try:
            found = here._meta.pk if part == "pk" else here._meta.get_field(part)
        except FieldDoesNotExist:
            if field is None or part not in ForeignObject.class_lookups:
                raise _unknown(given, part, here, ForeignObject.class_lookups if field else ()) from None
            return at, field, parts[position:]
        if found.is_relation and found.related_model is None:
            raise NotCopied(f"{given}: {part!r} can lead to any model. Write a filter of its content type and id.")
        at, field, here = f"{here._meta.label}.{part}", found, found.related_model
    return at, field, []


def _unknown(given: Filter, part: str, model: type[Model], lookups: Sequence[str] | dict[str, Any]) -> NotCopied:
    known = [*(field.name for field in model._meta.get_fields()), *lookups]
    return NotCopied(f"{given}: {model._meta.label} has no field {part!r}. {nearest(part, known)}")


def _converted(given: Filter, text: str, convert: Callable[[str], Any]) -> Any:
    try:
        value = convert(text)
    except ValidationError as error:
        raise NotCopied(f"{given}: {' '.join(error.messages)}") from error
    except (TypeError, ValueError, ArithmeticError) as error:
        raise NotCopied(f"{given}: {text!r} is no value for it: {error}") from error
    if value is None:
        raise NotCopied(f"{given}: a value is missing. For rows that have none, write …__isnull=true.")
    return value


def _boolean(text: str) -> bool:
    if text.lower() not in _BOOLEANS:
        raise ValueError("write true or false")
    return _BOOLEANS[text.lower()]


def _of_field(field: Field[Any, Any], text: str) -> Any:
    """*text* as a value of *field*."""
    if isinstance(field, BooleanField):
        return _boolean(text)
    if isinstance(field, JSONField):
        try:
            return json.loads(text)
        except ValueError:  # a word without quotes
            return text
    value = field.to_python(text)
    if isinstance(value, datetime):
        if settings.USE_TZ and timezone.is_naive(value):
            return timezone.make_aware(value)
        if not settings.USE_TZ and timezone.is_aware(value):
            return timezone.make_naive(value)
    return value


def _portable(value: Any, text: str) -> str:
    return value.isoformat() if isinstance(value, datetime) else text
