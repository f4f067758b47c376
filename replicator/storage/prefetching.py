"""Asking once, for a whole list of objects, which targets hold their files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TypeVar

from django.db.models import FileField, Model
from django.db.models.fields.files import FieldFile

from replicator.storage.holders import holders_of_each
from replicator.storage.protected import ProtectedStorage
from replicator.storage.replicated import ReplicatedStorage
from replicator.storage.urls import HeldName

M = TypeVar("M", bound=Model)

#: Names in one query; SQLite takes 32,766 parameters.
_BATCH = 1000


def prefetch_urls(objects: Iterable[M], *field_names: str) -> list[M]:
    """Have ``url`` of the files of *objects* cost no query: one for each storage and 1,000 files now. The objects.

    *field_names*: the file fields that are meant; all of them unless given. Fields that were deferred, and files of
    storages whose URLs do not depend on targets, are left alone. The answer stays with each object, and is as old as
    this call: a page that was made with it still names a host that went down meanwhile.
    """
    found = list(objects)
    storages: dict[str, dict[str, list[FieldFile]]] = {}
    for each in found:
        if not isinstance(each, Model):
            raise TypeError(f"{each!r} is no model instance: give objects, as in Photo.objects.all()[:100]")
        for field in _file_fields(type(each), field_names):
            # To look at a deferred one would be a query.
            if field.attname not in each.__dict__:
                continue
            file: FieldFile = getattr(each, field.attname)
            storage = file.storage
            if not file.name or not isinstance(storage, ReplicatedStorage) or not _asks(storage):
                continue
            storages.setdefault(storage.alias, {}).setdefault(file.name, []).append(file)
    for alias, files in storages.items():
        names = iter(files)
        while batch := list(islice(names, _BATCH)):
            held = holders_of_each(alias, batch)
            for name in batch:
                answer = HeldName(name, alias, held.get(name, ()))
                for file in files[name]:
                    file.name = answer
    return found


def _asks(storage: ReplicatedStorage) -> bool:
    """Whether its ``url`` depends on who holds a file."""
    return storage.serve_from == "replicas" or (isinstance(storage, ProtectedStorage) and storage.sign == "target")


def _file_fields(model: type[Model], names: Sequence[str]) -> list[FileField]:
    if not names:
        return [field for field in model._meta.concrete_fields if isinstance(field, FileField)]
    fields = []
    for name in names:
        field = model._meta.get_field(name)
        if not isinstance(field, FileField):
            known = ", ".join(each.name for each in _file_fields(model, ())) or "it has none"
            raise TypeError(f"{model.__name__}.{name} is no FileField: name one of those ({known})")
        fields.append(field)
    return fields
