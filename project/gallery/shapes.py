"""What the page of storage shapes shows: each storage, and the newest files that were saved to try it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.core.files.storage import storages
from django.db.models import F, Window
from django.db.models.fields.files import FieldFile
from django.db.models.functions import RowNumber
from django.utils import timezone

from project.gallery import status
from project.gallery.models import Example
from replicator.storage import prefetch_urls
from replicator.targets import get_target

#: Files shown of each.
NEWEST = 3


@dataclass(frozen=True, slots=True)
class Shape:
    """One storage, by its alias in ``STORAGES``."""

    alias: str
    title: str
    options: str
    does: str
    attempt: str
    """What to do to see it."""


SHAPES = (
    Shape(
        "assets",
        "A folder of its own",
        'PrefixedStorage, prefix="assets"',
        "Its files are in assets/, here and at each target; one of these is another folder: the target second.",
        "Look at the paths of the links.",
    ),
    Shape(
        "private",
        "Private files",
        "ProtectedStorage",
        "A link ends by itself; one that was changed is refused.",
        "Open both links, and the first one again when its time is over.",
    ),
    Shape(
        "archive",
        "No local copy",
        "keep_local=False",
        "A file leaves this machine once every media host has said that it has it; never before.",
        "Stop a host before you save: the file stays here until that host is back.",
    ),
    Shape(
        "careful",
        "Saves that wait",
        "min_copies=2, wait=5",
        "A save returns when two media hosts have confirmed the file, or says that they have not.",
        "Stop one host: it still succeeds. Stop a second one: it says so, and the file is kept and still on its way.",
    ),
    Shape(
        "cdn",
        "Links to media hosts",
        'serve_from="replicas"',
        "A link leads to a media host that holds the file and is up; until there is one, to this site.",
        "Stop the host that a link names: once it is marked down, within half a minute, the link is another's.",
    ),
    Shape(
        "bucket",
        "S3",
        'StorageTarget, sign="target"',
        "The file is an object of a bucket. Its link is signed for the bucket; until the object is there, one to "
        "this site.",
        "Save, and watch the link become the bucket's. The S3 of make run refuses links without a signature; a real "
        "one also those that have ended.",
    ),
)


@dataclass(frozen=True, slots=True)
class Link:
    """What ``url()`` gives."""

    url: str
    where: str
    """Who answers: a target, or this site."""
    ends: float
    """Seconds since the epoch; 0: never."""
    seconds: int
    """Until then."""
    tampered: str
    """The same with another signature, or without S3's; empty if it has none."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One file."""

    pk: int
    name: str
    path: str
    """As in ``FileStatus.name``."""
    link: Link
    badges: list[status.Badge]
    local: str
    """``here``, ``leaving`` or ``released``."""
    milliseconds: int | None
    copies: int | None
    targets: int


def find(alias: str) -> Shape | None:
    """The shape of this alias, if this site has it."""
    return next((shape for shape in SHAPES if shape.alias == alias and alias in settings.STORAGES), None)


def cards() -> list[dict[str, Any]]:
    """Each shape that this site has, with its newest files. A fixed number of queries, and no network."""
    # One query for the newest of each.
    number = Window(RowNumber(), partition_by="shape", order_by=F("pk").desc())
    aliases = [shape.alias for shape in SHAPES if find(shape.alias)]
    examples = prefetch_urls(
        Example.objects.filter(shape__in=aliases).annotate(number=number).filter(number__lte=NEWEST).order_by("-pk")
    )
    known = status.of_files(example.file for example in examples)
    return [
        {"shape": shape, "files": [_shown(example, known) for example in examples if example.shape == shape.alias]}
        for shape in SHAPES
        if shape.alias in aliases
    ]


def confirmed(file: FieldFile) -> int:
    """How many targets have confirmed it."""
    return sum(badge.status == "synced" for its in status.of_files([file]).values() for badge in its.badges)


def _shown(example: Example, known: dict[str, status.FileStatus]) -> Shown:
    file: Any = example.file
    path = status.path_of(file)
    its = known.get(path)
    is_here = os.path.lexists(file.storage.path(file.name))
    local = "released" if not is_here else "here" if file.storage.keep_local else "leaving"
    return Shown(
        example.pk,
        str(file.name),
        path,
        _link(file),
        its.badges if its else [],
        local,
        None if example.seconds is None else round(1000 * example.seconds),
        example.copies,
        len(file.storage.targets),
    )


def _link(file: FieldFile) -> Link:
    url = file.url
    ends = _end_of(url)
    tampered = ""
    head, mark, signature = url.partition("signature=")
    if mark:
        tampered = f"{head}{mark}{'B' if signature.startswith('A') else 'A'}{signature[1:]}"
    elif ends:
        tampered = url.partition("?")[0]
    left = round(ends - timezone.now().timestamp())
    return Link(url, _who_answers(file, url), ends, max(0, left), tampered)


def _end_of(url: str) -> float:
    """When a signed link ends, as it says itself: ours, or one of S3's."""
    said = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    if "expires" in said:
        return float(said["expires"])
    if "X-Amz-Expires" in said:
        made = datetime.strptime(said["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        return (made + timedelta(seconds=int(said["X-Amz-Expires"]))).timestamp()
    return 0.0


def _who_answers(file: FieldFile, url: str) -> str:
    if url.startswith("/"):
        return "this site"
    storage: Any = file.storage
    for alias in storage.targets:
        public = get_target(alias).public_url
        if public and url.startswith(f"{public}/"):
            return str(alias)
    return "the bucket" if storage.alias == "bucket" else urlsplit(url).netloc


def names_of(alias: str) -> list[str]:
    """Of the files that the storage *alias* has by this page."""
    return [str(example.file.name) for example in Example.objects.filter(shape=alias).order_by("pk")]


def write_again(alias: str) -> int:
    """Have every target of this storage get its files once more; their number."""
    storage: Any = storages[alias]
    names = names_of(alias)
    for name in names:
        with storage.open(name) as file:
            storage.replace(name, file)
    return len(names)
