"""Which part of a target is which storage's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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


def _inside(prefix: str) -> Iterator[str]:
    for storage in replicated_storages():
        other = prefix_of(storage)
        if other != prefix and other.startswith(prefix):
            yield other.removeprefix(prefix)
