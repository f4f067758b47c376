"""What a scrape, and noting how targets stand, cost with a large ledger."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks.report import Row, ms
from benchmarks.site import NOWHERE, DurablePostgres, Site

BUDGET = 0.1
#: Of which the median is told.
SCRAPES = 20


def scrape(*, quick: bool) -> Iterator[Row]:
    """/metrics, while nothing waits, while much does, and without beat; the task that counts what waits."""
    many, waiting = (100_000, 10_000) if quick else (1_000_000, 100_000)
    with DurablePostgres() as postgres:
        targets = {f"host{n}": f"{NOWHERE}/{n}" for n in (1, 2, 3)}
        with Site(
            database=postgres.url, targets=targets, environment={"METRICS_TOKEN": "only-for-benchmarks"}
        ) as site:
            site.call("ledger.make")
            site.call("ledger.fill_with_synced", many)
            yield _row(f"/metrics, {many:,} replicas, none pending", site)
            site.call("overview.make_pending", "host1", waiting)
            site.call("metrics.note_a_minute")
            yield _row(f"/metrics, {many:,} replicas, {waiting:,} pending", site)
            site.call("metrics.forget_samples")
            yield _row("  without beat, which counts them each minute", site, budget=False)
            taken = [site.call("metrics.note_a_minute") for _ in range(5)]
            yield Row(f"noting a minute, {waiting:,} pending", ms(taken))


def _row(title: str, site: Site, *, budget: bool = True) -> Row:
    seconds, busy, statements = site.call("metrics.scrape", "only-for-benchmarks", SCRAPES)
    shown = f"{ms(seconds)} (busy {busy * 1000:.0f} ms, {statements} SQL)"
    if not budget:
        return Row(title, shown)
    return Row(title, shown, budget=f"< {BUDGET * 1000:.0f} ms (median)", met=median(seconds) < BUDGET)
