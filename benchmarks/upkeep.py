"""What a large ledger and a long outage cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median
from time import monotonic, sleep

from tqdm import tqdm

from benchmarks.report import Row, ms
from benchmarks.site import NOWHERE, DurablePostgres, Site, beat, worker
from tests.servers import Nginx, Redis

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
    due = 10_000 if quick else 100_000
    portion = 5_000
    with DurablePostgres() as postgres, Redis() as redis, Nginx() as nginx, ExitStack() as site_parts:
        site = site_parts.enter_context(Site(database=postgres.url, broker=redis.url, targets={"host1": nginx.url}))
        site.call("ledger.make")
        site.call("ledger.write_files", "source", portion, 4096)
        for part in range(due // portion):
            site.call("ledger.link_files", f"outage/{part}", "source")
        site_parts.enter_context(worker(site))
        site_parts.enter_context(beat(site))

        def drain(folder: str) -> tuple[float, float]:
            """Seconds until the host, back again, has its first file, and from there until it has all."""
            site.call("ledger.record_files", folder)
            nginx.start()
            back = monotonic()
            first = 0.0
            while (done := site.call("delivering.progress", "host1"))["synced"] < done["count"]:
                # The first on the host's own disk: the ledger says so a little later.
                if not first and (nginx.root / "media" / folder).exists():
                    first = monotonic()
                if monotonic() - back > 600:
                    raise RuntimeError(f"not drained within 600 s: {done}")
                sleep(0.02 if not first else 0.25)
            first = first or monotonic()
            return first - back, monotonic() - first

        # The rate that is held against: the same, with the host up all the time.
        site.call("ledger.record_files", "source")
        full = portion / _drain_with_host_up(site)

        begun = []
        for number in tqdm(range(2 if quick else 5), "outages", leave=False):
            _take_down(site, nginx)
            if number:
                site.call("ledger.link_files", f"small/{number}", "source")
                begun.append(drain(f"small/{number}")[0])
                continue
            site.call("ledger.empty")
            site.call("ledger.record_files", "outage")
            sleep(12)  # two probes and a sweep
            spent = site.call("delivering.progress", "host1")["attempts"]
            seconds, whole = drain("outage")
            begun.append(seconds)
            rate = due / whole
    title = f"a host back with {due:,} due"
    most = max(begun)
    yield Row(f"{title}: draining after", f"{most:.1f} s (most of {len(begun)})", budget="≤ 5 s", met=most <= 5)
    shown = f"{full:,.0f} files/s (host never down)"
    yield Row(f"{title}: rate", f"{rate:,.0f} files/s", shown, f"{rate / full:.2f}x", "≥ 0.9x", rate >= 0.9 * full)
    yield Row(f"{title}: attempts spent", str(spent), budget="0", met=spent == 0)


def _drain_with_host_up(site: Site) -> float:
    start = monotonic()
    while (done := site.call("delivering.progress", "host1"))["synced"] < done["count"]:
        sleep(0.02)
    return monotonic() - start


def _take_down(site: Site, nginx: Nginx) -> None:
    """Stop the host; return when it is marked down."""
    nginx.stop()
    site.call("delivering.save_some", 8)
    deadline = monotonic() + 120
    while not site.call("delivering.is_down", "host1"):
        if monotonic() > deadline:
            raise RuntimeError("a host that is down was not marked so within 120 s")
        sleep(0.1)
