"""What it costs a page to name its files."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks.report import Row, ms
from benchmarks.site import NOWHERE, DurablePostgres, Site

#: Files of one page.
FILES = 1000


def of_a_list(*, quick: bool) -> Iterator[Row]:
    """``url()`` for 1,000 files: of the origin, of replicas one by one, and prefetched; beside Django's storage."""
    hosts = {f"host{n}": NOWHERE for n in (1, 2, 3)}
    with DurablePostgres() as postgres, Site(database=postgres.url, targets=hosts) as site:
        site.call("ledger.make")
        site.call("ledger.fill_with_synced", 30_000 if quick else 900_000)
        found = site.call("urls.measure", 3 if quick else 15, FILES)
    plain, _ = found["plain"]
    for what, way in (
        (f"url() of {FILES:,} files, origin", "origin"),
        ("  replicas, one by one", "replicas"),
        ("  replicas, prefetched", "prefetched"),
    ):
        seconds, statements = found[way]
        said = f"{ms(seconds)}, {statements} statement{'s' * (statements != 1)}"
        yield Row(what, said, f"{ms(plain)} (plain)", f"{median(seconds) / median(plain):.2f}x")
