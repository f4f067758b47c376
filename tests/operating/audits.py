"""A site whose targets and whose disk are audited, and what people do to their files behind its back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.utils import timezone

from replicator import delivery, operating, wake
from replicator.ledger import life
from replicator.models import AuditFinding, MediaFile, Replica, TargetRun
from replicator.operating import audit
from replicator.storage import ReplicatedStorage
from replicator.targets import get_target
from replicator.testing import MemoryTarget

MEMORY = {"BACKEND": "replicator.testing.MemoryTarget"}
BACKEND = "replicator.storage.ReplicatedStorage"


class Site:
    """Its default storage, with these targets. No broker: what is due is done when a test says so."""

    def __init__(
        self,
        settings: Any,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        targets: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        self.settings = settings
        self.media = folder / "media"
        self.media.mkdir(exist_ok=True)
        settings.MEDIA_ROOT = str(self.media)
        settings.REPLICATOR = {"TARGETS": targets or {"media1": MEMORY, "media2": MEMORY}, **more}
        #: Targets that were announced.
        self.announced: list[str] = []
        #: How often a delivery is tried. Real hosts may end a kept connection just as a file is sent.
        self.tries = 1
        monkeypatch.setattr(wake, "announce", self.announced.extend)
        monkeypatch.setattr(wake, "wake", lambda targets, node=None: True)
        monkeypatch.setattr(wake, "send", lambda task, *messages, node="": True)
        for target in settings.REPLICATOR["TARGETS"]:
            life.enter(target, "active")

    @property
    def storage(self) -> ReplicatedStorage:
        storage = storages["default"]
        assert isinstance(storage, ReplicatedStorage)
        return storage

    def save(self, *names: str, data: bytes = b"as it should be") -> None:
        """Save these files, and deliver them everywhere."""
        for name in names:
            assert self.storage.save(name, ContentFile(data)) == name
        self.deliver()

    def deliver(self) -> None:
        for target in self.settings.REPLICATOR["TARGETS"]:
            delivery.deliver(target)
            for _ in range(self.tries - 1):
                if not Replica.objects.at(target).pending().update(due_at=timezone.now()):
                    break
                delivery.deliver(target)

    def audit(self, target: str = "media1", *, dry_run: bool = False, **options: Any) -> TargetRun:
        """Start an audit and work at it until it is over."""
        # What is synced in the same instant as it begins is taken for younger.
        Replica.objects.update(synced_at=timezone.now() - timedelta(seconds=5))
        MediaFile.objects.update(updated_at=timezone.now() - timedelta(seconds=5))
        return finish(audit.begin(target, options, dry_run=dry_run))


def finish(run: TargetRun, *, most: int = 100) -> TargetRun:
    """Work at it until it has ended, or waits."""
    for _ in range(most):
        operating.work(run.pk)
        run.refresh_from_db()
        if run.state != TargetRun.State.RUNNING or run.due_at > timezone.now():
            break
    return run


def at(alias: str) -> MemoryTarget:
    target = get_target(alias)
    assert isinstance(target, MemoryTarget)
    return target


def found(run: TargetRun) -> list[tuple[str, str, str]]:
    """Its findings: name, what, cure; by name."""
    rows = AuditFinding.objects.filter(run=run).order_by("name")
    return list(rows.values_list("name", "what", "cure"))


def asked(target: MemoryTarget, *operations: str) -> list[str]:
    """The paths that these operations were about, in order."""
    return [path for operation, path in target.operations if operation in operations]


def names(count: int, folder: str = "f") -> Sequence[str]:
    return [f"{folder}/{number:05}.bin" for number in range(count)]
