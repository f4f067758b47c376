"""Where browsers find a file that targets hold."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from replicator.errors import Refused
from replicator.storage.holders import holders
from replicator.storage.reading import target_file
from replicator.targets import get_target

if TYPE_CHECKING:
    from replicator.storage.replicated import ReplicatedStorage


class HeldName(str):
    """A file's name that knows which targets held the file when that was asked; elsewhere a text like any other."""

    __slots__ = ("alias", "holders")

    def __new__(cls, name: str, alias: str, holders: Sequence[str]) -> HeldName:
        made = super().__new__(cls, name)
        made.alias = alias
        made.holders = holders
        return made

    alias: str
    """Of the storage that was asked: a field of another one may be given the name too."""
    holders: Sequence[str]

    def __reduce__(self) -> tuple[Any, ...]:
        # Caches and sessions keep it for longer than the answer is worth.
        return str, (str(self),)


def known_holders(alias: str, name: str) -> Sequence[str]:
    """As ``holders``; no query, if the name was prefetched."""
    if isinstance(name, HeldName) and name.alias == alias:
        return name.holders
    return holders(alias, name)


def replica_url(storage: ReplicatedStorage, name: str) -> str:
    """The URL of *name* at one of the targets that hold it; empty if browsers can read it at none of them.

    One query, unless the name was prefetched. A file keeps its URL as long as its target is among them, for caches;
    when one goes, only its own files move (rendezvous hashing).
    """
    held = known_holders(storage.alias, name)
    if not held:
        return ""
    file = target_file(storage, name)
    for alias in sorted(held, key=lambda alias: _weight(alias, storage.alias, name)) if len(held) > 1 else held:
        try:
            if url := get_target(alias).public_url_of(file):
                return url
        except Refused:  # a name that can't be there: then it is not
            continue
    return ""


def _weight(target: str, storage: str, name: str) -> bytes:
    return blake2b(f"{target}\0{storage}\0{name}".encode(), digest_size=8).digest()
