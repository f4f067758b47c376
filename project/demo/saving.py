"""What a site does to its files, and what should be true of them afterwards: by what was done, not by the ledger."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from project.demo import checking, samples

T = TypeVar("T")

#: Of those of the folder that don't say: where a file goes by its number. Most have no class.
STORAGES = ("default", "avatars", "default", "thumbs")


class Failed(Exception):
    """The tour can't go on; says why."""


class Each(Protocol):
    """Goes through items, and shows how far it is."""

    def __call__(self, items: list[T], word: str, /) -> Iterator[T]: ...


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """One file of one storage."""

    storage: str
    """Its alias."""
    name: str

    @property
    def path(self) -> str:
        """Below the media: the storages other than the default one are folders there."""
        return self.name if self.storage == "default" else f"{self.storage}/{self.name}"


def place_of(name: str, number: int) -> Place:
    """Where the *number*th file of a folder goes, which has this *name* in it."""
    folder, _, rest = name.partition("/")
    if folder in STORAGES and rest:
        # The default storage has these folders too: two storages must not share a path.
        return Place(folder, rest)
    place = Place(STORAGES[number % len(STORAGES)], name)
    return place if len(place.path.encode()) <= samples.LONGEST else Place("default", name)


class Saving:
    """The site's part of a tour."""

    def __init__(self, each: Each, chance: random.Random) -> None:
        from django.core.files.storage import storages

        self.storages: Any = storages
        self.each = each
        self.chance = chance
        self.saved: dict[Place, samples.Sample | bytes] = {}
        self.deleted: set[Place] = set()

    def save(self, files: Iterable[tuple[int, samples.Sample]]) -> None:
        from django.core.exceptions import SuspiciousFileOperation
        from django.core.files import File

        for number, sample in self.each(list(files), "saved"):
            place = place_of(sample.name, number)
            try:
                with sample.path.open("rb") as file:
                    name = self.storages[place.storage].save(place.name, File(file))
            except (SuspiciousFileOperation, PermissionError):
                continue
            self._is_saved(Place(place.storage, name), sample)

    def save_new(self, name: str, content: bytes) -> None:
        """In the default storage."""
        from django.core.files.base import ContentFile

        self._is_saved(Place("default", self.storages["default"].save(name, ContentFile(content))), content)

    def overwrite_some(self) -> None:
        from django.core.files.base import ContentFile

        for place in self.each(self._some(0.1), "overwritten"):
            content = self.chance.randbytes(self.chance.choice([0, 1, 4096, 50_000]))
            self.storages[place.storage].replace(place.name, ContentFile(content))
            self.saved[place] = content

    def delete_some(self) -> None:
        for place in self.each(self._some(0.1), "deleted"):
            self.storages[place.storage].delete(place.name)
            del self.saved[place]
            self.deleted.add(place)

    def save_again_some(self) -> None:
        """Some of the deleted names come back, with other content."""
        from django.core.files.base import ContentFile

        again = self.chance.sample(sorted(self.deleted), len(self.deleted) // 5)
        for place in self.each(again, "saved again"):
            content = self.chance.randbytes(2000)
            if self.storages[place.storage].save(place.name, ContentFile(content)) != place.name:
                raise Failed(f"{place.path} was deleted, and yet its name is taken")
            self._is_saved(place, content)

    def expected(self) -> dict[Place, str]:
        """SHA-256 of each file. Raises ``Failed`` if one is not even here what was saved."""
        digests = {}
        for place, source in self.saved.items():
            digests[place] = checking.digest_of(Path(self.storages[place.storage].path(place.name)))
            if digests[place] != _digest(source):
                raise Failed(f"{place.path}: the local file is not what was saved")
        return digests

    def paths_at(self, target: str, places: Iterable[Place]) -> dict[str, Place]:
        """Those of *places* that *target* must know of, by their paths."""
        return {place.path: place for place in places if target in self.storages[place.storage].targets}

    def _is_saved(self, place: Place, source: samples.Sample | bytes) -> None:
        self.saved[place] = source
        self.deleted.discard(place)

    def _some(self, part: float) -> list[Place]:
        places = sorted(place for place in self.saved if not place.name.startswith("large-"))
        return self.chance.sample(places, min(len(places), max(1, round(len(places) * part))))


def _digest(source: samples.Sample | bytes) -> str:
    return hashlib.sha256(source).hexdigest() if isinstance(source, bytes) else checking.digest_of(source.path)
