"""Which part of a target is which storage's."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from unicodedata import normalize

from replicator.ledger import database
from replicator.models import MediaFile
from replicator.storage.replicated import ReplicatedStorage, replicated_storages
from replicator.targets.base import url_path


def prefix_of(storage: ReplicatedStorage) -> str:
    """Of the paths of its files at targets."""
    return url_path(storage.base_url or "/")


def by_prefix(storages: Iterable[ReplicatedStorage]) -> dict[str, list[ReplicatedStorage]]:
    """Two with one prefix share a place, and are compared with it together."""
    found: dict[str, list[ReplicatedStorage]] = {}
    for storage in storages:
        found.setdefault(prefix_of(storage), []).append(storage)
    return found


def elsewhere(prefix: str) -> tuple[str, ...]:
    """How names below *prefix* begin that are other storages', whether they have this target or not."""
    return tuple(set(_inside(prefix)))


def recorded() -> dict[str, set[str]]:
    """Storage → its prefixes, of those that the ledger has files of; none of one that STORAGES names no more."""
    prefixes: dict[str, set[str]] = {alias: set() for alias in _recorded()}
    for storage in replicated_storages():
        if storage.alias in prefixes:
            prefixes[storage.alias].add(prefix_of(storage))
    return prefixes


def names_at(path: str, prefixes: Collection[str]) -> set[str]:
    """The names that a file of a storage with these *prefixes* may have in the ledger if its *path* at targets is
    this one. Without a prefix it may be any part of the path, up to its end."""
    parts = path.strip("/").split("/")
    names = {path.removeprefix(prefix) for prefix in prefixes if path.startswith(prefix)}
    if not prefixes:
        names = {"/".join(parts[start:]) for start in range(len(parts))}
    # Some file systems give names back in another form of Unicode than they got them.
    return {form for name in names for form in (name, normalize("NFC", name), normalize("NFD", name))}


def _recorded() -> Iterator[str]:
    """The storages that the ledger has files of, each by one look into its index."""
    files = MediaFile.objects.using(database.alias()).order_by("storage").values_list("storage", flat=True)
    found = files.first()
    while found is not None:
        yield found
        found = files.filter(storage__gt=found).first()


def _inside(prefix: str) -> Iterator[str]:
    for storage in replicated_storages():
        other = prefix_of(storage)
        if other != prefix and other.startswith(prefix):
            yield other.removeprefix(prefix)
