"""Delivering, as a worker process does."""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter, sleep, time

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import Count, Q, Sum

from benchmarks.inside import memory
from replicator import delivery, ledger, tasks
from replicator.models import Replica, TargetState
from replicator.wake import wake as wake_workers

_DATA = os.urandom(4096)


def deliver(target: str) -> dict[str, float]:
    """One run of the task; what it did, and when (by the wall clock)."""
    start = time()
    summary = delivery.deliver(target)
    return {"put": summary.put, "failed": summary.failed, "start": start, "end": time()}


def deliver_one(target: str) -> tuple[float, int]:
    """Seconds of one run, and the bytes by which this process grew at its peak."""
    memory.forget_peak()
    before = memory.peak()
    start = perf_counter()
    summary = delivery.deliver(target)
    seconds = perf_counter() - start
    assert summary.put == 1, summary
    return seconds, memory.peak() - before


def seconds_until_visible(saves: int, roots: list[str], pause: float) -> list[float]:
    """For each save: seconds from its commit until the file is there below all of *roots*."""
    found = []
    for number in range(saves):
        committed = 0.0

        def mark() -> None:
            nonlocal committed
            committed = perf_counter()

        with transaction.atomic():
            transaction.on_commit(mark)
            name = default_storage.save(f"visible-{number}.bin", ContentFile(_DATA))
        missing = [f"{root}/media/{name}" for root in roots]
        while missing:
            missing = [place for place in missing if not Path(place).exists()]
            if perf_counter() - committed > 30:
                raise RuntimeError(f"{missing} did not come within 30 s")
            sleep(0.0003)
        found.append(perf_counter() - committed)
        sleep(pause)
    return found


def look_for_work(rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each sweep, and of each claim, that finds nothing."""
    sweeps, claims = [], []
    for _ in range(rounds):
        start = perf_counter()
        assert tasks.sweep() == []
        sweeps.append(perf_counter() - start)
        start = perf_counter()
        assert not ledger.claim("host1", 250).claims
        claims.append(perf_counter() - start)
    return sweeps, claims


def is_down(target: str) -> bool:
    return TargetState.objects.filter(target=target, state=TargetState.State.DOWN).exists()


def progress(target: str) -> dict[str, int]:
    """Replicas of *target*: how many, how many are synced, the attempts that were spent on them."""
    counts = {"count": Count("pk"), "synced": Count("pk", filter=Q(status="synced")), "spent": Sum("attempts")}
    return Replica.objects.at(target).aggregate(**counts)


def save_some(count: int) -> None:
    for _ in range(count):
        default_storage.save("before.bin", ContentFile(_DATA))


def wake(target: str) -> None:
    wake_workers([target])
