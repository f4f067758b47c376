"""What the pages that people on call keep open cost with a large ledger."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks.report import Row, ms, percentile
from benchmarks.site import NOWHERE, DurablePostgres, Site

BUDGET = 0.1
#: Requests of which the median is told.
REQUESTS = 20


def page(*, quick: bool) -> Iterator[Row]:
    """The admin's overview with a day of samples, while nothing waits and while much does."""
    many, waiting = (100_000, 10_000) if quick else (1_000_000, 100_000)
    with DurablePostgres() as postgres:
        targets = {f"host{n}": f"{NOWHERE}/{n}" for n in (1, 2, 3)}
        with Site(database=postgres.url, targets=targets) as site:
            site.call("ledger.make")
            site.call("ledger.fill_with_synced", many)
            site.call("overview.note_two_days")
            site.call("overview.collect_static")
            for pending in (0, waiting):
                if pending:
                    site.call("overview.make_pending", "host1", pending)
                for name, path in (("overview", ""), ("  its update", "now/")):
                    seconds, busy, statements = site.call("overview.open_page", path, REQUESTS)
                    title = f"{name}, {many:,} replicas, {pending:,} pending"
                    slowest = percentile(seconds, 100) * 1000
                    shown = f"{ms(seconds)} (slowest {slowest:.0f} ms, busy {busy * 1000:.0f} ms, {statements} SQL)"
                    met = median(seconds) < BUDGET
                    yield Row(title, shown, budget=f"< {BUDGET * 1000:.0f} ms (median)", met=met)
