"""URLs of a list of files, in each way that there is to know them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter

from django.conf import settings
from django.core.files.storage import FileSystemStorage
from django.db import connection
from django.test.utils import CaptureQueriesContext, override_settings

from project.gallery.models import Picture
from replicator.storage import prefetch_urls

Way = Callable[[list[Picture]], Iterable[str]]

_PLAIN = FileSystemStorage("/nonexistent", "/media/")


def _plain(pictures: list[Picture]) -> list[str]:
    return [_PLAIN.url(picture.image.name) for picture in pictures]


def _each(pictures: list[Picture]) -> list[str]:
    return [picture.image.url for picture in pictures]


def _prefetched(pictures: list[Picture]) -> list[str]:
    return _each(prefetch_urls(pictures))


def measure(rounds: int, files: int) -> dict[str, tuple[list[float], int]]:
    """Seconds for all *files* in each round, and SQL statements, by the way: plain, origin, replicas, prefetched.

    The ledger has these files as ``ledger.fill_with_synced`` leaves them.
    """
    ways: dict[str, tuple[Way, str]] = {
        "plain": (_plain, "origin"),
        "origin": (_each, "origin"),
        "replicas": (_each, "replicas"),
        "prefetched": (_prefetched, "replicas"),
    }
    found: dict[str, tuple[list[float], int]] = {}
    for name, (way, serve_from) in ways.items():
        with _serving(serve_from):
            seconds = []
            for number in range(rounds + 1):
                pictures = _pictures(files)
                start = perf_counter()
                list(way(pictures))
                if number:
                    seconds.append(perf_counter() - start)
            with CaptureQueriesContext(connection) as queries:
                urls = list(way(_pictures(files)))
            hosts = {url.partition("/media/")[0] for url in urls}
            expected = 3 if serve_from == "replicas" else 1
            assert len(hosts) == expected, f"{name} serves from {sorted(hosts)}"
            found[name] = seconds, len(queries)
    return found


def _pictures(files: int) -> list[Picture]:
    """As a page gets them: their fields have been looked at by nobody."""
    return [Picture(title="picture", image=f"uploads/file-{n + 1}.bin") for n in range(files)]


def _serving(serve_from: str) -> override_settings:
    targets = {
        alias: {**target, "OPTIONS": {**target["OPTIONS"], "public_url": f"https://{alias}.example.com"}}
        for alias, target in settings.REPLICATOR["TARGETS"].items()
    }
    default = {"BACKEND": "replicator.storage.ReplicatedStorage", "OPTIONS": {"serve_from": serve_from}}
    return override_settings(
        REPLICATOR={**settings.REPLICATOR, "TARGETS": targets},
        STORAGES={**settings.STORAGES, "default": default},
    )
