"""Rows to begin with, and what became of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.utils import timezone

from replicator import ledger
from replicator.ledger import Batch, Outcome, Write
from replicator.models import MediaFile, Replica

TARGET = "media1"


def write(name: str, *targets: str, **more: Any) -> Write:
    """Record a write of *name*; it."""
    wanted = Write("default", name, **more)
    assert ledger.record(wanted, targets or (TARGET,))
    return wanted


def row(name: str, target: str = TARGET) -> Replica:
    return Replica.objects.select_related("file").get(file__name=name, target=target)


def set_row(name: str, **columns: Any) -> None:
    """Make something true that takes time."""
    assert Replica.objects.filter(file__name=name).update(**columns)


def synced(*names: str) -> None:
    """Record these, and have them delivered."""
    for name in names:
        write(name)
    batch = claim()
    assert {c.name for c in batch.claims} == set(names)
    assert ledger.settle(batch.lease, [Outcome(c) for c in batch.claims]) == []


def claim(limit: int = 100) -> Batch:
    return ledger.claim(TARGET, limit)


def names(batch: Batch) -> list[str]:
    return [c.name for c in batch.claims]


def seconds_until_due(name: str) -> float:
    return (row(name).due_at - timezone.now()).total_seconds()


def ago(**amount: float) -> Any:
    return timezone.now() - timedelta(**amount)


def many(count: int, **columns: Any) -> None:
    """So many replicas, made without the ledger since that would take long."""
    now = timezone.now()
    files = [
        MediaFile(storage="default", name=f"many/{n}", version=uuid4(), created_at=now, updated_at=now)
        for n in range(count)
    ]
    MediaFile.objects.bulk_create(files, batch_size=500)
    values = {"target": TARGET, "since": now, "due_at": now, **columns}
    Replica.objects.bulk_create([Replica(file=file, **values) for file in files], batch_size=500)
