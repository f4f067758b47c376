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
from django.db import connection, models
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
    """*count* files with one replica each, quickly: the database copies the first ones."""
    now = timezone.now()
    known = MediaFile.objects.count()
    file = MediaFile.objects.create(
        storage="default", name=f"many/{known}", version=uuid4(), created_at=now, updated_at=now
    )
    row = Replica.objects.create(
        file=file, target=target, status=status, since=now, due_at=now, error_kind=error_kind
    )
    last = known + count - 1
    numbers = (
        f"WITH RECURSIVE n(i) AS (SELECT {known} UNION ALL SELECT i + 1 FROM n WHERE i < {last}) SELECT i FROM n"
    )
    _copy(file, f"({numbers}) AS number", f"number.i > {known}", name="'many/' || number.i")
    _copy(row, f"{file._meta.db_table} AS file", f"file.id > {file.pk}", file_id="file.id")


def _copy(row: models.Model, source: str, condition: str, **changed: str) -> None:
    """Insert *row* again for each row of *source*; *changed*: column → SQL."""
    columns = [field.column for field in row._meta.concrete_fields if not field.primary_key]
    values = [changed.get(column, f"original.{column}") for column in columns]
    table = row._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} "
            f"FROM {source}, {table} AS original WHERE original.id = {row.pk} AND {condition}"
        )
