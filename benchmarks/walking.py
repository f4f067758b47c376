"""What it costs to walk a million rows for a copy."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any

from benchmarks.report import Row, ms
from benchmarks.site import NOWHERE, DurablePostgres, Site, worker
from tests.brokers import Redis

#: How much slower counts as the same: the noise of a busy machine.
SAME = 1.25
#: Plannings of the first and the last chunks that are compared.
PLANNED = 40


def rows(*, quick: bool) -> Iterator[Row]:
    """A dry run, each row's file looked at, and the start of one that copies."""
    count = 100_000 if quick else 1_000_000
    environment = {"DJANGO_SETTINGS_MODULE": "benchmarks.stagingsettings", "BENCH_SOURCE": "any name"}
    with DurablePostgres() as postgres, Redis() as redis:
        at: dict[str, Any] = {"database": postgres.url, "broker": redis.url, "environment": environment}
        at["targets"] = {f"host{n}": NOWHERE for n in (1, 2, 3)}
        with Site(**at) as site:
            site.call("ledger.make")
            site.call("staging.make_rows", count)
            with worker(site, 2, queue="copies"):
                firsts = {newest: site.call("staging.first_file", newest) for newest in (False, True)}
            # Each in a process of its own: what one has grown by is none of the next one's.
            with Site(**at, folder=site.folder) as alone:
                walked = alone.call("staging.walk", {})
            with Site(**at, folder=site.folder) as alone:
                sampled = alone.call("staging.walk", {"sample": 1.0, "newest_first": True})
    for newest, seconds in firsts.items():
        title = f"copy, {count:,} rows to walk{', newest first' if newest else ''}: first file after"
        yield Row(title, f"{seconds:.1f} s", budget="≤ 5 s", met=seconds <= 5)
    yield from _walked(count, walked)
    seconds = sampled["steps"][-1][0]
    yield Row("  a sample of 1%, newest first", f"{seconds:.1f} s, {sampled['copied']:,} files")


def _walked(count: int, walked: dict[str, Any]) -> Iterator[Row]:
    steps = walked["steps"]
    # Some are there, of the runs that were cancelled.
    assert walked["copied"] + walked["there"] == steps[-1][1] == count, steps[-1]
    yield Row("  walked and looked at, one process", f"{count / steps[-1][0]:,.0f} rows/s")
    parts = [next(resident for _, rows, resident in steps if rows >= count * part) for part in (0.1, 0.5, 1)]
    growth = (parts[-1] - parts[0]) / 1024**2
    shown = ", ".join(f"{resident / 1024**2:.0f}" for resident in parts)
    yield Row("  memory at 10%, 50%, 100% of the rows", f"{shown} MiB", "", "", "≤ 5 MiB more", growth <= 5)
    # The first one counts the rows, too; the last one finds that there are no more.
    first, last = walked["plans"][2 : 2 + PLANNED], walked["plans"][-PLANNED - 2 : -2]
    ratio = median(last) / median(first)
    yield Row("  planning a chunk at the end", ms(last), f"{ms(first)} (at the start)", f"{ratio:.2f}x",
              f"the same (≤ {SAME}x)", ratio <= SAME)  # fmt: skip
