"""Which storage a file belongs to: workers find it through one alias, and no other storage may write it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from django.core.files.storage import InvalidStorageError, storages
from django.core.signals import setting_changed

from replicator.targets.storageentries import sources

if TYPE_CHECKING:
    from replicator.storage.reading import Reading
    from replicator.storage.replicated import ReplicatedStorage


#: Settings that say where storages are.
_PLACES = {"STORAGES", "DEFAULT_FILE_STORAGE", "STATICFILES_STORAGE", "MEDIA_ROOT", "STATIC_ROOT"}


def problem(storage: ReplicatedStorage, kind: type[ReplicatedStorage]) -> str:
    """What is wrong, and what to write instead; empty if nothing is. *kind*: what the alias must be."""
    alias = storage.alias
    write = f'pass alias="…" to {type(storage).__name__}() (in STORAGES: "OPTIONS": {{"alias": "…"}}), naming'
    try:
        known = storages[alias]
    except InvalidStorageError:
        return f"STORAGES has no {alias!r}: {write} an entry of STORAGES"
    if not isinstance(known, kind):
        return f"STORAGES[{alias!r}] is no {kind.__name__}: {write} one that is"
    if os.path.realpath(known.location) != os.path.realpath(storage.location):
        differs = "location"
        said = f"this storage writes to {storage.location}, but its alias {alias!r} to {known.location}"
    elif known.base_url != storage.base_url:
        differs = "base_url"
        said = f"this storage shows its files at {storage.base_url}, but its alias {alias!r} at {known.base_url}"
    elif list(known.targets) != list(storage.targets):
        differs = "targets"
        said = f"this storage has the targets {list(storage.targets)}, but its alias {alias!r} {list(known.targets)}"
    else:
        return ""
    return f"{said}: {write} an entry of STORAGES with this {differs}"


def nested(storage: Reading) -> Mapping[str, str]:
    """The folders in a storage's own that are other replicated storages': their names in it → their aliases.

    What is in them is recorded as theirs alone: of two rows for one place, the last write would not win.
    """
    return _nested(storage.alias, os.fspath(storage.location))


@cache
def _nested(alias: str, location: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for _, other, _ in sources():
        its: Any = other
        if its.alias == alias or not its.location:
            continue
        # A folder may be inside by its name, and by a link be elsewhere; or the other way round.
        for resolve in (os.path.realpath, os.path.abspath):
            way = os.path.relpath(resolve(its.location), resolve(location))
            if way.partition("/")[0] not in (".", ".."):
                found[way] = its.alias
    return found


def _forget(*, setting: str, **_: object) -> None:
    if setting in _PLACES:
        _nested.cache_clear()


setting_changed.connect(_forget, dispatch_uid="replicator.storage.belonging")
