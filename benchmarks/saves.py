"""What a save costs the site that saves."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median

from tqdm import tqdm

from benchmarks.peers import Missing
from benchmarks.report import Row, ms
from benchmarks.site import NOWHERE, DurablePostgres, MediaHost, Site
from tests.servers import Redis


def statements(*, quick: bool) -> Iterator[Row]:
    """SQL statements in a save, for several numbers of targets."""
    with DurablePostgres() as postgres:
        for number in (1, 3, 10):
            with Site(database=postgres.url, targets=_nowhere(number), announce_pause=3600) as site:
                site.call("ledger.make")
                site.call("ledger.empty")
                most = max(site.call("saves.count_statements", 5 if quick else 50))
            yield Row(f"SQL statements in a save, {number} targets", str(most), budget="≤ 3", met=most <= 3)


def beside_plain(*, quick: bool) -> Iterator[Row]:
    """``save()`` of 4 KiB to 3 targets, beside ``FileSystemStorage`` and one INSERT."""
    rounds = 3 if quick else 15
    with Redis() as redis, ExitStack() as servers:
        for name in ("PostgreSQL", "SQLite"):
            database = servers.enter_context(DurablePostgres()).url if name == "PostgreSQL" else ""
            cases = [
                # what, broker, saves in one transaction, whether each has to wake workers
                ("each wakes workers", redis.url, 1, True),
                ("a wake-up is waiting", redis.url, 1, False),
                ("no broker", "", 1, False),
                ("20 in one transaction", redis.url, 20, True),
            ]
            for what, broker, together, forget in tqdm(cases, f"saves on {name}", leave=False):
                options = {} if broker else {"announce_pause": 3600}
                with Site(database=database, broker=broker, targets=_nowhere(3), **options) as site:
                    site.call("ledger.make")
                    seconds = site.call("saves.beside_plain", rounds, together, forget)
                redis.flush()
                ours, plain, synced = (seconds[kind] for kind in ("ours", "plain", "synced"))
                ratio = median(ours) / median(plain)
                title = f"save 4 KiB, 3 targets, {name}, {what}"
                yield Row(title, ms(ours), f"{ms(plain)} (plain)", f"{ratio:.2f}x", "≤ 2x", ratio <= 2)
                ratio = median(ours) / median(synced)
                yield Row("  beside plain with fsync", ms(ours), f"{ms(synced)} (plain, fsync)", f"{ratio:.2f}x")


def beside_resto(*, quick: bool) -> Iterator[Row]:
    """``save()`` to 3 hosts, beside django-resto's, which waits for all of them."""
    if importlib.util.find_spec("django_resto") is None:
        raise Missing("install django-resto (PyPI)")
    with (
        DurablePostgres() as postgres,
        Redis() as redis,
        MediaHost() as one,
        MediaHost() as two,
        MediaHost() as three,
    ):
        hosts = [f"127.0.0.1:{host.port}" for host in (one, two, three)]
        with Site(database=postgres.url, broker=redis.url, targets=_nowhere(3)) as site:
            site.call("ledger.make")
            seconds = site.call("saves.beside_resto", 3 if quick else 15, hosts)
    ratio = median(seconds["resto"]) / median(seconds["ours"])
    title = "save 4 KiB, 3 nginx hosts on loopback, PostgreSQL"
    yield Row(
        title,
        ms(seconds["ours"]),
        f"{ms(seconds['resto'])} (django-resto)",
        f"{ratio:.2f}x",
        "≥ 5x faster",
        ratio >= 5,
    )


def _nowhere(number: int) -> dict[str, str]:
    return {f"host{n + 1}": NOWHERE for n in range(number)}
