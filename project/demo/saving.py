"""What a site does to its files, and what should be true of them afterwards: by what was done, not by the ledger."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from project.demo import checking, samples

T = TypeVar("T")

#: Of those of the folder that don't say: where a file goes by its number. Most have no class.
STORAGES = ("default", "avatars", "default", "thumbs")


#: Those of the shapes that are folders of the media, as avatars and thumbs are; and those that are folders beside it.
NESTED = ("avatars", "thumbs", "assets", "archive", "careful", "cdn")
BESIDE = ("private", "bucket")


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
        """Below the media: most storages other than the default one are folders there."""
        return self.name if self.storage == "default" else f"{self.storage}/{self.name}"

    @property
    def at_root(self) -> str:
        """Below the root of a media host, a folder or a bucket."""
        return self.path if self.storage in BESIDE else f"media/{self.path}"


def place_of(name: str, number: int) -> Place:
    """Where the *number*th file of a folder goes, which has this *name* in it."""
    folder, _, rest = name.partition("/")
    if folder in NESTED and rest:
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
        #: How many saves that wait for two copies returned with them, or raised.
        self.returned = self.raised = 0
        #: Saves that returned with less.
        self.short: list[Place] = []
        #: How many media hosts have these bytes now: path below their root, SHA-256.
        self.copies: Callable[[str, str], int] = lambda path, digest: 0

    def save(self, files: Iterable[tuple[int, samples.Sample]]) -> None:
        from django.core.exceptions import SuspiciousFileOperation
        from django.core.files import File

        for number, sample in self.each(list(files), "saved"):
            place = place_of(sample.name, number)
            try:
                with sample.path.open("rb") as file:
                    self._write(place, sample, File(file))
            except (SuspiciousFileOperation, PermissionError):
                continue

    def save_new(self, name: str, content: bytes, storage: str = "default") -> None:
        from django.core.files.base import ContentFile

        self._write(Place(storage, name), content, ContentFile(content))

    def overwrite_some(self) -> None:
        from django.core.files.base import ContentFile

        for place in self.each(self._some(0.1), "overwritten"):
            content = self.chance.randbytes(self.chance.choice([0, 1, 4096, 50_000]))
            self._write(place, content, ContentFile(content), replace=True)

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
            if self._write(place, content, ContentFile(content)) != place:
                raise Failed(f"{place.path} was deleted, and yet its name is taken")

    def expected(self) -> dict[Place, str]:
        """SHA-256 of each file. Raises ``Failed`` if one is not even here what was saved."""
        digests = {}
        for place in self.saved:
            digests[place] = self.digest(place)
            storage = self.storages[place.storage]
            if storage.keep_local and digests[place] != checking.digest_of(Path(storage.path(place.name))):
                raise Failed(f"{place.path}: the local file is not what was saved")
        return digests

    def paths_at(self, target: str, places: Iterable[Place]) -> dict[str, Place]:
        """Those of *places* that *target* must know of, by their paths there."""
        here = [place for place in places if target in self.storages[place.storage].targets]
        return {place.path if target == "mogilefs" else place.at_root: place for place in here}

    def digest(self, place: Place) -> str:
        """SHA-256 of what was saved."""
        return _digest(self.saved[place])

    def _write(self, place: Place, source: samples.Sample | bytes, content: Any, *, replace: bool = False) -> Place:
        """Save *content*, which is *source*; where it is then."""
        from replicator.waiting import NotSynced

        storage = self.storages[place.storage]
        enough = True
        try:
            name = (storage.replace if replace else storage.save)(place.name, content)
        except NotSynced as error:
            ((_, name),) = error.files
            enough = False
        written = Place(place.storage, name)
        self.saved[written] = source
        self.deleted.discard(written)
        if storage.wait is not None:
            if not enough:
                self.raised += 1
            elif self.copies(written.at_root, self.digest(written)) >= storage.min_copies:
                self.returned += 1
            else:
                self.short.append(written)
        return written

    def _some(self, part: float) -> list[Place]:
        places = sorted(place for place in self.saved if not place.name.startswith("large-"))
        return self.chance.sample(places, min(len(places), max(1, round(len(places) * part))))


def _digest(source: samples.Sample | bytes) -> str:
    return hashlib.sha256(source).hexdigest() if isinstance(source, bytes) else checking.digest_of(source.path)
