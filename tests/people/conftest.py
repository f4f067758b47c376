"""A site with two storages and two targets, and what its workers are told."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.files.storage import storages
from django.core.management import CommandError, call_command
from django.utils import timezone

from replicator import wake
from replicator.ledger import Write, record_new
from replicator.models import MediaFile, Replica
from replicator.storage import ReplicatedStorage

BACKEND = "replicator.storage.ReplicatedStorage"
TARGETS = {f"media{n}": {"BACKEND": "replicator.testing.MemoryTarget"} for n in (1, 2)}


class Woken(list[str]):
    """The targets that were woken, in order. ``broker_is_up`` is what the broker is."""

    broker_is_up = True


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> Woken:
    """Here no worker and no broker are."""
    calls = Woken()

    def note(targets: Any) -> bool:
        calls.extend(targets)
        return calls.broker_is_up or not targets

    monkeypatch.setattr(wake, "announce", note)
    monkeypatch.setattr(wake, "wake", note)
    return calls


@pytest.fixture
def site(settings: Any, tmp_path: Path, woken: Woken) -> ReplicatedStorage:
    """The default storage of a site that has another one, "avatars", at a place of its own below it."""
    media = tmp_path / "media"
    media.mkdir()
    settings.MEDIA_ROOT = str(media)
    settings.REPLICATOR = {"TARGETS": TARGETS}
    avatars = {"alias": "avatars", "location": str(media / "avatars"), "base_url": "/media/avatars/"}
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": BACKEND},
        "avatars": {"BACKEND": BACKEND, "OPTIONS": {**avatars, "targets": ["media1"], "mogile_class": "avatar"}},
    }
    storage = storages["default"]
    assert isinstance(storage, ReplicatedStorage)
    return storage


class Output:
    """What a command wrote, and how it ended."""

    def __init__(self, out: str, err: str, error: str) -> None:
        self.out, self.err, self.error = out, err, error


@pytest.fixture
def manage() -> Callable[..., Output]:
    """``manage("status", "--json")``: its output, and the message of its error (exit code 1)."""

    def run(*args: str) -> Output:
        out, err = io.StringIO(), io.StringIO()
        error = ""
        try:
            call_command("replicator", *args, stdout=out, stderr=err)
        except CommandError as raised:
            error = str(raised) if raised.returncode == 1 else f"exit code {raised.returncode}"
        return Output(out.getvalue(), err.getvalue(), error)

    return run


def record(name: str, storage: str = "default", targets: tuple[str, ...] = ("media1", "media2")) -> MediaFile:
    """A file in the ledger, pending everywhere."""
    record_new([Write(storage, name, 5, "0" * 64)], targets)
    return MediaFile.objects.get(storage=storage, name=name)


def fail(replicas: Any, *, kind: str = "refused", text: str = "403 Forbidden", status: int | None = 403) -> None:
    """Make *replicas* what delivery leaves of those that a target refused."""
    replicas.update(
        status=Replica.Status.FAILED,
        error_kind=kind,
        error_text=text,
        http_status=status,
        attempts=1,
        attempted_at=timezone.now(),
    )


def record_many(count: int, *, status: str, target: str = "media1", error_kind: str = "") -> None:
    """*count* files with one replica each, quickly."""
    now = timezone.now()
    known = MediaFile.objects.count()
    files = MediaFile.objects.bulk_create(
        [
            MediaFile(storage="default", name=f"many/{known + n}", version=uuid4(), created_at=now, updated_at=now)
            for n in range(count)
        ],
        batch_size=2000,
    )
    rows = [
        Replica(file=file, target=target, status=status, since=now, due_at=now, error_kind=error_kind)
        for file in files
    ]
    Replica.objects.bulk_create(rows, batch_size=2000)
