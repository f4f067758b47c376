"""What it costs to store in MogileFS, beside the client that PyPI has, at the same tracker and nodes."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

from tqdm import tqdm

from benchmarks.peers import Missing
from benchmarks.report import Row
from replicator.targets.base import TargetFile
from replicator.targets.mogilefs import MogileFSTarget
from replicator.testing import BytesContent
from tests.mogilefs.cluster import MogileFS

MIB = 1024**2
SMALL = 4096

Store = Callable[[str, bytes], object]


def stores(*, quick: bool) -> Iterator[Row]:
    """Files of 4 KiB, by one thread and by eight; then large ones."""
    files, rounds = (200, 3) if quick else (1_000, 7)
    large = (32 if quick else 256) * MIB
    with MogileFS() as mogilefs:
        contenders = {"ours": _ours(mogilefs), "pymogilefs": _pymogilefs(mogilefs)}
        for threads in (1, 8):
            rates = _rates(contenders, partial(_many, files, threads), rounds)
            ours, peer = files / rates["ours"], files / rates["pymogilefs"]
            title = f"MogileFS: store 4 KiB, {threads} thread{'s' if threads > 1 else ''}"
            yield Row(title, f"{ours:,.0f} files/s", f"{peer:,.0f} files/s (pymogilefs)", f"{ours / peer:.2f}x")
        rates = _rates(contenders, partial(_one, large), rounds)
        speed = {who: large / MIB / seconds for who, seconds in rates.items()}
        yield Row(
            f"MogileFS: store {large // MIB} MiB, with Content-MD5 (ours)",
            f"{speed['ours']:,.0f} MiB/s",
            f"{speed['pymogilefs']:,.0f} MiB/s (pymogilefs)",
            f"{speed['ours'] / speed['pymogilefs']:.2f}x",
        )


def _rates(contenders: dict[str, Store], run: Callable[[Store, str], object], rounds: int) -> dict[str, float]:
    """Median seconds of each; in turns, so that a noisy minute is everyone's."""
    seconds: dict[str, list[float]] = {who: [] for who in contenders}
    for number in tqdm(range(rounds + 1), "storing", leave=False):
        for who, store in contenders.items():
            start = perf_counter()
            run(store, f"{who}/{number}/{start}")
            seconds[who].append(perf_counter() - start)
    # The first round warms both up.
    return {who: median(each[1:]) for who, each in seconds.items()}


def _many(files: int, threads: int, store: Store, name: str) -> None:
    data = os.urandom(SMALL)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda number: store(f"{name}/{number}", data), range(files)))


def _one(size: int, store: Store, name: str) -> None:
    store(name, os.urandom(MIB) * (size // MIB))


def _ours(mogilefs: MogileFS) -> Store:
    target = MogileFSTarget("mogilefs", domain=mogilefs.domain, trackers=mogilefs.trackers, base_url="/")
    return lambda name, data: target.put(TargetFile("default", name, size=len(data)), BytesContent(data))


def _pymogilefs(mogilefs: MogileFS) -> Store:
    try:
        from pymogilefs.client import Client
    except ImportError:
        raise Missing("install pymogilefs (PyPI)") from None

    client: Any = Client(trackers=mogilefs.trackers, domain=mogilefs.domain)
    return lambda name, data: client.store_file(io.BytesIO(data), name)
