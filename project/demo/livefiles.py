"""What a live site holds: names and sizes of every kind, and the rows of its database that name them."""

from __future__ import annotations

import hashlib
import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

#: Characters of a name, which the fields take, and bytes of each of its segments, which lighttpd takes.
LONGEST_NAME, LONGEST_PART = 255, 245

_ACCENTS = "Ünïcödé é {n}.jpg"
#: Names that a copy may get wrong; those that differ in one thing only have the same number in them.
_ODD = (
    ("{n}.jpg",),
    ("IMG {n} with spaces.jpg",),
    ("hash#{n}?query=%25&a+b;c=d.jpg",),
    (unicodedata.normalize("NFC", _ACCENTS), unicodedata.normalize("NFD", _ACCENTS)),
    ("文件 {n} 📷.png",),
    ("%41 {n}.jpg", "A {n}.jpg", "a {n}.jpg"),
    ("{n} 'quotes\" and ~!@$^()[],:.jpg",),
    ("deep/er/and/dee/per/{n}.bin",),
    ("{n} as long as it may be " + "x" * LONGEST_PART,),
    ("{n} " + "文" * LONGEST_PART,),
)


@dataclass(frozen=True, slots=True)
class Column:
    """One file field of the gallery."""

    model: str
    field: str
    share: float
    """Of all names."""
    names_in: str
    """The folder that its names have in them: two storages never share a name, since the live bucket is one."""
    media_in: str
    """The folder of the media that its storage is."""


COLUMNS = (
    Column("Picture", "image", 0.4, "pictures/2026/", ""),
    Column("Picture", "attachment", 0.2, "attachments/2026/", ""),
    Column("Picture", "thumb", 0.15, "thumbs-of/2026/", "thumbs/"),
    Column("Profile", "avatar", 0.15, "avatars-of/", "avatars/"),
    Column("Example", "cdn", 0.1, "on-cdn/", "cdn/"),
)


class LiveFiles:
    """Those of a live site with so many *objects* that its rows name; the same, for a number, in every process."""

    def __init__(self, objects: int) -> None:
        chance = random.Random(objects)  # noqa: S311  # not for secrets
        gone = objects // 100
        total = objects + gone
        #: Field → its names, each once.
        self.names: dict[str, list[str]] = {}
        left = total
        for column in COLUMNS:
            share = left if column is COLUMNS[-1] else round(total * column.share)
            left -= share
            self.names[column.field] = _names(column.names_in, share)
        everything = [name for names in self.names.values() for name in names]
        #: What rows name and the bucket has lost.
        self.missing = set(chance.sample(everything, gone))
        #: Key → size in bytes.
        self.sizes = {name: _size(chance) for name in everything if name not in self.missing}
        #: What the bucket has and no row names.
        self.unnamed = {f"pictures/2026/nobody's {n}.jpg": 1000 * n for n in range(max(1, gone))}

    def content(self, name: str) -> bytes:
        """What the bucket has under a key."""
        size = self.sizes[name] if name in self.sizes else self.unnamed[name]
        return random.Random(name).randbytes(size)  # noqa: S311  # not for secrets

    def on_staging(self) -> dict[str, str]:
        """Path below the media, on the staging site and on each of its hosts → SHA-256."""
        return {
            column.media_in + name: hashlib.sha256(self.content(name)).hexdigest()
            for column in COLUMNS
            for name in self.names[column.field]
            if name in self.sizes
        }

    def missing_on_staging(self) -> list[str]:
        """Paths below the media, of what can't be copied."""
        return [
            column.media_in + name for column in COLUMNS for name in self.names[column.field] if name in self.missing
        ]

    def make_rows(self) -> int:
        """Those of a dump of the live database, in this site's; how many. No file is saved."""
        from django.contrib.auth import get_user_model

        from project.gallery.models import Example, Picture, Profile

        chance = random.Random(2)  # noqa: S311  # not for secrets
        images, attachments, thumbs, avatars, cdn = self.names.values()
        # Many rows name one file: those without one of their own, and two fields whose files are in one storage.
        image = _shuffled(chance, [*images, *images[:1] * (len(images) // 20)])
        attachment = _shuffled(chance, [*attachments, *images[:10]], len(image))
        thumb = _shuffled(chance, [*thumbs, *thumbs[:5]], len(image))
        avatar = _shuffled(chance, [*avatars, *avatars[-1:] * (len(avatars) // 10)], len(avatars) * 5 // 4)
        pictures = [
            Picture(title=f"Picture {n}", image=image[n], attachment=attachment[n], thumb=thumb[n])
            for n in range(len(image))
        ]
        users = get_user_model().objects.bulk_create(
            [get_user_model()(username=f"user-{n}", password="!") for n in range(len(avatar))]  # noqa: S106
        )
        profiles = [Profile(user=user, avatar=name) for user, name in zip(users, avatar, strict=True)]
        examples = [Example(shape="cdn", cdn=name) for name in [*cdn, "", *cdn[:3]]]
        Picture.objects.bulk_create(pictures, 500)
        Profile.objects.bulk_create(profiles, 500)
        Example.objects.bulk_create(examples, 500)
        return len(pictures) + len(profiles) + len(examples)


def _names(folder: str, count: int) -> list[str]:
    found: list[str] = []
    number = 0
    while len(found) < count:
        for form in _ODD[number % len(_ODD)]:
            name = f"{folder}{number % 7:02}/" + _cut(form.format(n=number), LONGEST_PART)
            found.append(name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 4] + ".jpg")
        number += 1
    return found[:count]


def _cut(path: str, most: int) -> str:
    """Its last part, of not more than *most* bytes."""
    return path.encode()[:most].decode(errors="ignore")


def _size(chance: random.Random) -> int:
    kind = chance.random()
    if kind < 0.02:
        return 0
    if kind < 0.7:
        return int(10 ** chance.uniform(0, 4))
    if kind < 0.994:
        return int(10 ** chance.uniform(4, 5.2))
    return chance.randrange(1_000_000, 3_000_000)


def _shuffled(chance: random.Random, names: Sequence[str], rows: int = 0) -> list[str]:
    """*names*, and empty ones for the other *rows*."""
    found = [*names, *[""] * (rows - len(names))]
    chance.shuffle(found)
    return found
