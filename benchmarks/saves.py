"""What a save costs the site that saves."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median, median_low

from tqdm import tqdm

from benchmarks.peers import Missing
from benchmarks.report import Row, ms
from benchmarks.site import NOWHERE, DurablePostgres, MediaHost, Site
from tests.servers import Redis


def statements(*, quick: bool) -> Iterator[Row]:
    """SQL statements in a save, for several numbers of targets."""
    with DurablePostgres() as postgres, Redis() as redis:
        for number in (1, 3, 10):
            with Site(database=postgres.url, broker=redis.url, targets=_nowhere(number)) as site:
                site.call("ledger.make")
                site.call("ledger.empty")
                counts = site.call("saves.count_statements", 20 if quick else 200)
            # A process looks at the targets' health once in some seconds: the first save, and few others.
            usual, most = median_low(counts[1:]), max(counts)
            title = f"SQL statements in a save, {number} target{'s' if number > 1 else ''}"
            shown = f"{usual} ({most} with the look at the targets' health)" if most > usual else str(usual)
            yield Row(title, shown, budget="≤ 3", met=usual <= 3)


def beside_plain(*, quick: bool) -> Iterator[Row]:
    """``save()`` of 4 KiB to 3 targets, beside ``FileSystemStorage`` and one INSERT."""
    rounds = 2 if quick else 15
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
            seconds = site.call("saves.beside_resto", 3 if quick else 15, 20, hosts)
            three.pause()
            hung = site.call("saves.beside_resto", 1, 2, hosts)
            three.resume()
    for what, found, budget in (
        ("3 nginx hosts on loopback", seconds, "≥ 5x faster"),
        ("  one of the hosts hangs", hung, ""),
    ):
        ratio = median(found["resto"]) / median(found["ours"])
        title = what if what.startswith(" ") else f"save 4 KiB, {what}, PostgreSQL"
        met = ratio >= 5 if budget else None
        yield Row(title, ms(found["ours"]), f"{ms(found['resto'])} (django-resto)", f"{ratio:.2f}x", budget, met)


def _nowhere(number: int) -> dict[str, str]:
    return {f"host{n + 1}": NOWHERE for n in range(number)}
