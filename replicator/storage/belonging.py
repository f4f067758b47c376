"""Whether a storage is what its alias in STORAGES is: workers find its files through that alias."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from django.core.files.storage import InvalidStorageError, storages

if TYPE_CHECKING:
    from replicator.storage.replicated import ReplicatedStorage


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
