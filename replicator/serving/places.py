"""Which file a key names, and what the ledger says of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import storages
from django.db.models import Exists, FilteredRelation, OuterRef, Q
from django.utils.module_loading import import_string

from replicator.conf import media_url
from replicator.errors import Refused
from replicator.ledger.database import alias as database_alias
from replicator.models import MediaFile, TargetState
from replicator.storage import ProtectedStorage, ReplicatedStorage, replicated_storages
from replicator.storage.reading import target_file
from replicator.targets import get_target
from replicator.targets.base import Target, TargetFile, safe_name, url_path
from replicator.targets.mogilefs import MogileFSTarget


@dataclass(frozen=True, slots=True)
class Place:
    """One name in one storage, whether there is such a file or not."""

    storage: ReplicatedStorage
    name: str

    @property
    def targets(self) -> list[Target]:
        """Those of the storage's targets that the view reads from, in its order."""
        targets = map(get_target, self.storage.targets)
        # Browsers read from other kinds themselves; but what is private must not be had there without a link.
        everywhere = isinstance(self.storage, ProtectedStorage)
        return [target for target in targets if everywhere or isinstance(target, MogileFSTarget)]

    @property
    def target_file(self) -> TargetFile:
        return target_file(self.storage, self.name)


@dataclass(frozen=True, slots=True)
class Holding:
    """What the ledger knows of a file at one target."""

    held: UUID | None
    """The version that it last was seen to have."""
    confirmed: bool
    """That is the file's version, and nothing sent earlier can undo it."""
    down: bool
    """The target is marked down."""


@dataclass(frozen=True, slots=True)
class Record:
    """A file's row, with what is known of it at some targets, by their aliases."""

    version: UUID
    deleted: bool
    size: int
    sha256: str
    content_type: str
    updated_at: datetime
    at: Mapping[str, Holding]


def place_of(key: str) -> Place | None:
    """The place that *key*, a path below ``MOGILEFS_MEDIA_URL``, names: in the storage whose ``base_url`` is the
    longest beginning of it. None if no storage can have such a file, or one whose links are signed."""
    if key.startswith("/"):
        # That of a storage outside, whose files are not below this URL: it may have a view that asks who comes.
        return None
    root = url_path(media_url())
    found: tuple[str, ReplicatedStorage] | None = None
    _check_protected()
    for storage in replicated_storages():
        # As targets make keys.
        prefix = url_path(storage.base_url or "/").removeprefix(root)
        if key.startswith(prefix) and (found is None or len(prefix) > len(found[0])):
            found = prefix, storage
    if found is None:
        return None
    prefix, storage = found
    name = key.removeprefix(prefix)
    if isinstance(storage, ProtectedStorage) or not _is_name(name):
        return None
    return Place(storage, name)


def _check_protected() -> None:
    """Raises what is wrong with a ``ProtectedStorage`` that can't be made: its files would pass for those of the
    storage around it."""
    entries: Any = storages.backends
    for alias, entry in entries.items():
        try:
            storages[alias]
        except (ImproperlyConfigured, ImportError, TypeError, ValueError):
            kind: object = None
            with suppress(ImportError):
                kind = import_string(entry.get("BACKEND", ""))
            if isinstance(kind, type) and issubclass(kind, ProtectedStorage):
                raise


def protected_place(alias: str, name: str) -> tuple[ProtectedStorage, Place] | None:
    """The file that a signed link to the storage *alias* names; None if no such storage can have it."""
    storage: Any = storages[alias]
    if not isinstance(storage, ProtectedStorage) or not _is_name(name):
        return None
    return storage, Place(storage, name)


def _is_name(name: str) -> bool:
    try:
        safe_name(name)
        name.encode()
    except (Refused, UnicodeEncodeError):
        return False
    return True


def down_among(targets: Iterable[Target]) -> set[str]:
    """The aliases of those that are marked down."""
    aliases = [target.alias for target in targets]
    states = TargetState.objects.using(database_alias()).unreadable().filter(target__in=aliases)
    return set(states.values_list("target", flat=True))


def record_of(place: Place) -> Record | None:
    """What the ledger says; None if it never heard of the file. One query, to the database that writes go to:
    a copy of it may not know yet what was just uploaded."""
    # Of a storage without targets the file is known, too: an empty list would be taken for no rows at all.
    targets = [target.alias for target in place.targets] or [""]
    rows = (
        MediaFile.objects.using(database_alias())
        .filter(storage=place.storage.alias, name=place.name)
        .annotate(
            at=FilteredRelation("replicas", condition=Q(replicas__target__in=targets)),
            down=Exists(TargetState.objects.unreadable().filter(target=OuterRef("at__target"))),
        )
        .values_list(
            *("version", "deleted", "size", "sha256", "content_type", "updated_at"),
            *("at__target", "at__version", "at__doubt", "down"),
        )
    )
    record: Record | None = None
    at: dict[str, Holding] = {}
    for version, deleted, size, sha256, content_type, updated_at, target, held, doubt, down in rows:
        record = record or Record(version, deleted, size, sha256, content_type, updated_at, at)
        if target is not None:
            # A changed class makes it pending, and leaves the bytes as they are. So does doubt where nobody ever
            # sent any: of those files no hash is known.
            confirmed = held == version and (not doubt or not sha256)
            at[target] = Holding(held, confirmed, down)
    return record
