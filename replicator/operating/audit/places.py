"""Which part of a target is which storage's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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


def others_at(prefix: str, alias: str) -> list[str]:
    """The other storages in the ledger whose files may be below *prefix* at a target: those of this prefix, whether
    they have the target or not, and those that STORAGES does not name any more."""
    apart = {storage.alias for storage in replicated_storages() if prefix_of(storage) != prefix}
    return [known for known in _recorded() if known != alias and known not in apart]


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
