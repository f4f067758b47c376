"""What a save costs that waits until targets have confirmed the file."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from statistics import median

from benchmarks.peers import Missing
from benchmarks.report import Row, ms
from benchmarks.site import DurablePostgres, MediaHost, Site, worker
from tests.servers import Redis


def beside_resto(*, quick: bool) -> Iterator[Row]:
    """``save()`` of 4 KiB that waits for all of 3 hosts, beside django-resto's to the same hosts."""
    if importlib.util.find_spec("django_resto") is None:
        raise Missing("install django-resto (PyPI)")
    rounds, samples = (3, 20) if quick else (15, 20)
    with (
        DurablePostgres() as postgres,
        Redis() as redis,
        MediaHost() as one,
        MediaHost() as two,
        MediaHost() as three,
    ):
        hosts = {f"host{number}": host for number, host in enumerate((one, two, three), start=1)}
        places = [f"127.0.0.1:{host.port}" for host in hosts.values()]
        targets = {alias: host.url for alias, host in hosts.items()}
        with Site(database=postgres.url, broker=redis.url, targets=targets) as site:
            site.call("ledger.make")
            alone = site.call("saves.waiting_beside_resto", rounds, samples, places, 3)
            saved = 2 * (rounds + 1) * samples
            held = [len(host.files()) for host in hosts.values()]
            if held != [saved] * 3:
                raise RuntimeError(f"of {saved} files that were waited for, the hosts have {held}")
            with worker(site):
                beside = site.call("saves.waiting_beside_resto", rounds, samples, places, 3)
            three.pause()
            hung = site.call("saves.waiting_beside_resto", 1, 2, places, 2)
            three.resume()
    for what, found in (
        ("save 4 KiB and wait for 3 nginx hosts on loopback, PostgreSQL", alone),
        ("  beside a worker", beside),
        ("  one of the hosts hangs, 2 copies will do", hung),
    ):
        ratio = median(found["resto"]) / median(found["ours"])
        yield Row(what, ms(found["ours"]), f"{ms(found['resto'])} (django-resto)", f"{ratio:.2f}x")
