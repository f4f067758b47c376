"""Checks of ``STORAGES``, as far as they replicate."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import storages
from django.core.management import BaseCommand, get_commands, load_command_class
from django.utils.module_loading import import_string

from replicator import legacy
from replicator.checks import places
from replicator.conf import config, nearest
from replicator.storage import copies
from replicator.storage.replicated import ReplicatedStorage
from replicator.storage.static import ReplicatedStaticFilesStorage
from replicator.targets.base import url_path

#: Named, not imported: commands and checks do not know each other.
_COLLECTSTATIC = "replicator.management.commands.collectstatic"
_EXAMPLE = '"default": {"BACKEND": "replicator.storage.ReplicatedStorage"}'


def problems() -> Iterator[CheckMessage]:
    """E009: two settings for one storage. W004: none replicates. W003: a target that none uses."""
    for alias in legacy.conflicts():
        setting, entry = legacy.SETTINGS[alias], f"STORAGES[{alias!r}]".replace("'", '"')
        yield Error(
            f"{setting} and {entry} are both set, and differ: {legacy.named(alias)!r} is ignored.",
            hint=f"Remove {setting}, and name the storage you mean in {entry}.",
            id="replicator.E009",
        )
    found: dict[str, ReplicatedStorage] = {}
    broken = False
    for entry in _replicated_entries():
        messages = list(_problems_of_entry(entry))
        yield from messages
        broken = broken or bool(messages)
        if not messages:
            storage: Any = storages[entry]
            found[entry] = storage
    targets = config().targets
    if broken:
        return
    if targets and not found:
        yield Warning(
            'REPLICATOR["TARGETS"] is set, but no storage in STORAGES replicates: nothing is sent to any target.',
            hint=f"Write STORAGES = {{{_EXAMPLE}, …}}.",
            id="replicator.W004",
        )
        return
    used = {target for storage in found.values() for target in storage.targets}
    for target in targets:
        if target not in used:
            yield Warning(
                f"No storage uses the target {target!r}: nothing is sent there.",
                hint='Add it to "targets" in the OPTIONS of a storage, or remove it from REPLICATOR["TARGETS"].',
                id="replicator.W003",
            )
    if any(isinstance(storage, ReplicatedStaticFilesStorage) for storage in found.values()):
        yield from _problems_of_collectstatic()
    for (one, its), (other, others) in combinations(found.items(), 2):
        if its.alias != others.alias:
            yield from _clashes(one, its, other, others)
    yield from places.problems(list(found.values()))


def _problems_of_collectstatic() -> Iterator[CheckMessage]:
    """W025: a command that deletes at every target what it then sends again."""
    app = get_commands().get("collectstatic")
    if app is None or app == "replicator":
        return
    command = app if isinstance(app, BaseCommand) else load_command_class(app, "collectstatic")
    if not any(kind.__module__ == _COLLECTSTATIC for kind in type(command).__mro__):
        yield Warning(
            f"collectstatic is a command of {app}: targets are without a file between its delete and its save.",
            hint=f"Derive its Command from {_COLLECTSTATIC}.Command.",
            id="replicator.W025",
        )


def _replicated_entries() -> Iterator[str]:
    """Those whose class replicates. The others are none of our business: making them could ask a network."""
    for entry, parameters in _entries().items():
        try:
            backend = import_string(parameters.get("BACKEND", ""))
        except (ImportError, AttributeError):
            continue  # Django says so itself, when the storage is used
        if isinstance(backend, type) and issubclass(backend, ReplicatedStorage):
            yield entry


def _entries() -> dict[str, dict[str, Any]]:
    entries: Any = storages.backends
    return dict(entries)


def _problems_of_entry(entry: str) -> Iterator[CheckMessage]:
    """E005: a wrong option or an unknown target. E006: another entry's files. E008: no place for them."""
    where = f"STORAGES[{entry!r}]"
    options: Mapping[str, Any] = _entries()[entry].get("OPTIONS", {})
    known = list(config().targets)
    targets = options.get("targets")
    if isinstance(targets, str) or not (targets is None or isinstance(targets, list | tuple)):
        yield Error(
            f'{where}: the option "targets" is {targets!r}, not a list.',
            hint=f'Write "targets": ["{targets if isinstance(targets, str) else "media1"}"].',
            id="replicator.E005",
        )
        return
    unknown = [target for target in targets or () if target not in known]
    for target in unknown:
        yield Error(
            f'{where} names the target {target!r}, which REPLICATOR["TARGETS"] does not have.',
            hint=nearest(str(target), known),
            id="replicator.E005",
        )
    if unknown:
        return
    try:
        storage: Any = storages[entry]
        list(storage.targets)
    except (TypeError, ValueError, ImproperlyConfigured) as error:
        hint = f'Write what the storage takes into "OPTIONS" of {where}.'
        yield Error(f"{where} can't be made: {error}", hint=hint, id="replicator.E005")
        return
    try:
        copies.check(storage)
    except ImproperlyConfigured as error:
        yield Error(f"{error}.", hint="Without min_copies all its targets are meant.", id="replicator.E005")
        return
    if isinstance(storage, ReplicatedStaticFilesStorage) and not storage.location:
        yield Error(
            f"{where} has no place for its files: STATIC_ROOT is not set.",
            hint='Write STATIC_ROOT = BASE_DIR / "static", or give the storage the option "location".',
            id="replicator.E008",
        )
        return
    if not storage.base_location:
        yield Error(
            f"{where} keeps its files in MEDIA_ROOT, which is empty: that is the folder a process happens to run in.",
            hint='Write MEDIA_ROOT = BASE_DIR / "media", or give the storage the option "location".',
            id="replicator.E008",
        )
        return
    if problem := storage.problem_with_alias:
        hint = f"Write STORAGES[{storage.alias!r}], or the alias of an entry with the same location and targets."
        if "alias" not in options and entry != storage.alias:
            hint = f'Write {where}["OPTIONS"] = {{"alias": {entry!r}, …}}.'
        yield Error(f"{where}: {problem}.", hint=hint, id="replicator.E006")
    if not storage.keep_local:
        yield from _problems_of_keeping_nothing(where, storage)


def _problems_of_keeping_nothing(where: str, storage: ReplicatedStorage) -> Iterator[CheckMessage]:
    """E045: files that never may go from here."""
    if not storage.targets:
        yield Error(
            f"{where} is to keep no local copy, and has no target that could keep its files instead: they stay.",
            hint='Name targets in REPLICATOR["TARGETS"], or remove "keep_local": False (DUST_USE_LOCAL_FS = False).',
            id="replicator.E045",
        )
    for target in sorted(config().home.intersection(storage.targets)):
        yield Error(
            f"{where} is to keep no local copy, but its target {target!r} is this node's own media root, where the "
            "local file is the target's copy: they stay.",
            hint=f'Write "targets" without {target!r}, or remove "keep_local": False.',
            id="replicator.E045",
        )


def _clashes(one: str, its: ReplicatedStorage, other: str, others: ReplicatedStorage) -> Iterator[CheckMessage]:
    """E007: two storages that take each other's place, here or at a target."""
    hint = 'Give each its own "location" and "base_url", one inside the other for both or for neither.'
    here = _relation(os.path.realpath(its.location), os.path.realpath(others.location))
    there = _relation(_path(its), _path(others))
    if here == ".":
        yield Error(
            f"STORAGES[{one!r}] and STORAGES[{other!r}] keep their files in the same folder, {its.location}: "
            "each would replicate the other's.",
            hint=f'{hint} Or name the same "alias" in both.',
            id="replicator.E007",
        )
    elif (shared := sorted({*its.targets} & {*others.targets})) and there is not None and here != there:
        # The design's own example nests one storage in another: then one path is one file, here and there.
        yield Error(
            f"STORAGES[{one!r}] and STORAGES[{other!r}] send different files to the same place at {shared[0]!r}: "
            f"their base_url has the path {_path(its)} and {_path(others)}.",
            hint=hint,
            id="replicator.E007",
        )


def _relation(one: str, other: str) -> str | None:
    """The way from *one* path to *other* if one is inside the other (``.``: they are the same); else None."""
    way = os.path.relpath(other, one)
    if way == "." or not way.startswith(".."):
        return way
    back = os.path.relpath(one, other)
    return None if back.startswith("..") else f"up from {back}"


def _path(storage: ReplicatedStorage) -> str:
    """Where a target keeps this storage's files; without a slash at its end but for the root."""
    return url_path(storage.base_url or "/").rstrip("/") or "/"
