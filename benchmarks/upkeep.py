"""What a large ledger and a long outage cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median
from time import monotonic, sleep

from tqdm import tqdm

from benchmarks.report import Row, ms
from benchmarks.site import NOWHERE, DurablePostgres, MediaHost, Site, beat, worker
from tests.servers import Redis

#: How much slower counts as the same: the noise of a busy machine.
SAME = 1.25


def sweep(*, quick: bool) -> Iterator[Row]:
    """Looking for due work among ten million synced replicas, beside looking among ten thousand."""
    many = 1_000_000 if quick else 10_000_000
    with DurablePostgres() as postgres, ExitStack() as open_sites:
        postgres.run(
            [postgres._binary("createdb"), *("-h", "127.0.0.1", "-p", str(postgres.port), "-U", "postgres", "few")]
        )
        sites = {}
        for size, database in ((many, "postgres"), (10_000, "few")):
            url = postgres.url.removesuffix("postgres") + database
            targets = {f"host{n}": NOWHERE for n in (1, 2, 3)}
            sites[size] = open_sites.enter_context(Site(database=url, targets=targets))
            sites[size].call("ledger.make")
            sites[size].call("ledger.fill_with_synced", size)
        seconds: dict[int, tuple[list[float], list[float]]] = {size: ([], []) for size in sites}
        for _ in tqdm(range(10), "sweeping", leave=False):
            for size, site in sites.items():
                for kept, found in zip(seconds[size], site.call("delivering.look_for_work", 20), strict=True):
                    kept += found
    for what, large, small in zip(("sweep", "claim that finds nothing"), *seconds.values(), strict=True):
        ratio = median(large) / median(small)
        title = f"{what}, {many:,} synced and none due"
        yield Row(title, ms(large), f"{ms(small)} (10,000)", f"{ratio:.2f}x", f"the same (≤ {SAME}x)", ratio <= SAME)


def outage(*, quick: bool) -> Iterator[Row]:
    """A host that is back with a large backlog: how soon work begins, how fast it goes, what the outage cost."""
    due, portion = (10_000, 5_000) if quick else (100_000, 5_000)
    begun: list[float] = []
    with DurablePostgres() as postgres, Redis() as redis, MediaHost() as nginx, ExitStack() as parts:
        site = parts.enter_context(Site(database=postgres.url, broker=redis.url, targets={"host1": nginx.url}))
        site.call("ledger.make")
        site.call("ledger.write_files", "source", portion, 4096)
        for part in range(due // portion):
            for folder in ("up", "outage"):
                site.call("ledger.link_files", f"{folder}/{part:02d}", "source")
        parts.enter_context(worker(site))
        # What the rate is held against: as many, with the host up all the time.
        site.call("ledger.record_files", "up")
        site.call("delivering.wake", "host1")
        full = due / _drained(site, nginx, "up")[1]

        parts.enter_context(beat(site))
        for number in tqdm(range(1 if quick else 5), "outages", leave=False):
            _take_down(site, nginx)
            site.call("ledger.empty")
            folder = "outage" if not number else f"outage-{number}"
            if number:
                site.call("ledger.link_files", folder, "source")
            site.call("ledger.record_files", folder)
            # Two probes and a sweep, and not always at one point of the probes' rhythm.
            sleep(7 if quick else 12 + 1.3 * number)
            spent = site.call("delivering.progress", "host1")["spent"]
            nginx.start()
            first, rest = _drained(site, nginx, folder)
            begun.append(first)
            if not number:
                rate, attempts = due / rest, spent
    title = f"a host back with {due:,} due"
    most = max(begun)
    yield Row(f"{title}: draining after", f"{most:.1f} s (most of {len(begun)})", budget="≤ 5 s", met=most <= 5)
    shown = f"{full:,.0f} files/s (host never down)"
    yield Row(f"{title}: rate", f"{rate:,.0f} files/s", shown, f"{rate / full:.2f}x", "≥ 0.9x", rate >= 0.9 * full)
    yield Row(f"{title}: attempts spent", str(attempts), budget="0", met=attempts == 0)


def _drained(site: Site, nginx: MediaHost, folder: str) -> tuple[float, float]:
    """Seconds until the host has the first file of *folder*, and from there until the ledger calls all synced."""
    start = monotonic()
    while not (nginx.root / "media" / folder).exists():
        _in_time(start, 60)
        sleep(0.01)
    first = monotonic()
    while (done := site.call("delivering.progress", "host1"))["synced"] < done["count"]:
        _in_time(start, 600)
        sleep(0.2)
    return first - start, monotonic() - first


def _take_down(site: Site, nginx: MediaHost) -> None:
    """Stop the host; return when it is marked down."""
    nginx.stop()
    site.call("delivering.save_some", 8)
    start = monotonic()
    while not site.call("delivering.is_down", "host1"):
        _in_time(start, 120)
        sleep(0.1)


def _in_time(start: float, seconds: float) -> None:
    if monotonic() - start > seconds:
        raise RuntimeError(f"what was waited for did not happen within {seconds:g} s")
