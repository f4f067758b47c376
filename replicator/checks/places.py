"""Checks of where targets keep copies, and where browsers find them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import combinations

from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured

from replicator.conf import config
from replicator.errors import Refused
from replicator.storage.belonging import nested
from replicator.storage.reading import target_file
from replicator.storage.replicated import ReplicatedStorage
from replicator.targets import get_target

#: What a target keeps of a storage: the storage, and what comes before a name in the addresses there.
Kept = tuple[ReplicatedStorage, str]


def problems(storages: Sequence[ReplicatedStorage]) -> Iterator[CheckMessage]:
    """E036: two targets that keep copies in one place. W037: URLs of replicas that browsers can't read."""
    for storage in storages:
        if storage.serve_from == "replicas" and not any(_is_public(target, storage) for target in storage.targets):
            yield Warning(
                f'STORAGES[{storage.alias!r}] has "serve_from": "replicas", but no target of it a public_url: each '
                "url() asks the database, and gives the URL of the origin.",
                hint='Write "public_url": "https://…" into the OPTIONS of the targets that browsers can read from.',
                id="replicator.W037",
            )
    kept = {alias: list(_kept(alias, storages)) for alias in config().targets}
    for one, other in combinations(kept, 2):
        # One message for each two of them.
        for problem in _clashes(kept[one], kept[other]):
            yield Error(
                f'REPLICATOR["TARGETS"][{one!r}] and [{other!r}] keep copies in the same place: each would undo what '
                f"the other does ({problem}).",
                hint="Remove one of them, give one another path or prefix, or give them different storages.",
                id="replicator.E036",
            )
            break


def _is_public(alias: str, storage: ReplicatedStorage) -> bool:
    with suppress(ImproperlyConfigured, Refused):
        return bool(get_target(alias).public_url_of(target_file(storage, "x")))
    return False


def _kept(alias: str, storages: Iterable[ReplicatedStorage]) -> Iterator[Kept]:
    for storage in storages:
        # Its own check says why a target can't be made, or can't keep a storage's files.
        with suppress(ImproperlyConfigured, Refused):
            if alias in storage.targets:
                for address in get_target(alias).addresses(target_file(storage, "x")):
                    yield storage, address.removesuffix("x")


def _clashes(kept: Sequence[Kept], others: Sequence[Kept]) -> Iterator[str]:
    """What two targets have in one place."""
    for one in kept:
        for other in others:
            for (outer, folder), (inner, inside) in ((one, other), (other, one)):
                way = inside.removeprefix(folder)
                if not inside.startswith(folder) or way.startswith("/"):
                    continue
                # A storage writes nothing into the folder of one that is nested in it.
                if nested(outer).get(way.rstrip("/")) != inner.alias:
                    yield f"{way}x of STORAGES[{outer.alias!r}] is where x of STORAGES[{inner.alias!r}] is"
