"""What one run at a target does when something else goes wrong."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from replicator import delivery, ledger, tasks
from replicator.ledger import health
from replicator.models import Replica
from replicator.targets import get_target
from replicator.testing import MemoryTarget

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_database_that_fails_once_costs_no_second_transfer(
    target: MemoryTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 1: the target has the files; that the database does not know it yet is no reason to send them again."""
    real, failures = ledger.settle, [OperationalError("server closed the connection unexpectedly")]

    def settle(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(*args)

    monkeypatch.setattr(ledger, "settle", settle)
    for number in range(20):
        default_storage.save(f"{number}.txt", ContentFile(b"1"))
    assert delivery.deliver("media1").put == 20
    assert len(target.operations) == 20
    assert set(Replica.objects.values_list("status", "doubt", "lease")) == {("synced", False, None)}


@pytest.mark.parametrize("place", ["ledger.claim", "ledger.health.note_success"])
def test_nor_does_one_that_fails_while_files_are_on_their_way(
    target: MemoryTarget, monkeypatch: pytest.MonkeyPatch, settings: Any, place: str
) -> None:
    """Promise 1: whatever statement it fails at, what is on its way then is settled when it is back."""
    settings.REPLICATOR = {**settings.REPLICATOR, "BATCH_SIZE": 10}
    target = get_target("media1")  # type: ignore[assignment]
    target.lag = 0.1
    owner: Any = ledger if place == "ledger.claim" else health
    name = place.rpartition(".")[2]
    real, calls = getattr(owner, name), []

    def fails_once(*args: Any, **named: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise InterfaceError("the connection is closed")
        return real(*args, **named)

    monkeypatch.setattr(owner, name, fails_once)
    for number in range(30):
        default_storage.save(f"{number}.txt", ContentFile(b"1"))
    delivery.deliver("media1")
    delivery.deliver("media1")
    assert len(calls) > 2
    assert sorted(target.operations) == sorted({*target.operations}), "none was sent twice"
    assert set(Replica.objects.values_list("status", "doubt", "lease")) == {("synced", False, None)}


def test_small_files_go_on_beside_a_transfer_that_outlasts_the_run(target: MemoryTarget) -> None:
    """Promise 7, within a target: a long transfer keeps one thread, not the whole target."""
    going, release = threading.Event(), threading.Event()

    def slow(operation: str, file: Any) -> None:
        if file.name == "large.bin":
            going.set()
            assert release.wait(90)

    target.before = slow

    def run() -> None:
        try:
            delivery.deliver("media1", seconds=1.0)
        finally:
            connection.close()

    default_storage.save("large.bin", ContentFile(b"large"))
    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert going.wait(30)
        time.sleep(1.3)
        default_storage.save("small.txt", ContentFile(b"small"))
        end = time.monotonic() + 60
        while "media/small.txt" not in target.files:
            assert time.monotonic() < end, "the small file waits for the large one"
            time.sleep(0.02)
        assert "media/large.bin" not in target.files
    finally:
        release.set()
        thread.join()
    assert delivery.deliver("media1").put == 0
    assert set(Replica.objects.values_list("status", flat=True)) == {"synced"}


def test_pruning_passes_over_a_storage_that_can_not_be_made(target: MemoryTarget, settings: Any) -> None:
    """A project without static files has Django's own entry for them in STORAGES, which can't be made."""
    settings.STORAGES = {
        **settings.STORAGES,
        "broken": {"BACKEND": "nowhere.Storage"},
        "staticfiles": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"unknown": 1}},
    }
    assert tasks.prune() == {"tombstones": 0, "leftovers": 0, "outdated": 0}


def test_a_wake_up_for_a_target_that_is_gone_is_no_error(
    target: MemoryTarget, caplog: pytest.LogCaptureFixture
) -> None:
    """Tasks are hints: one may wait in the broker while the settings change, and be read by the workers after."""
    assert tasks.deliver("renamed")["skipped"] == "unknown"
    assert "woken for a target that the settings do not name" in caplog.text


def test_a_doubt_is_settled_without_the_local_file(target: MemoryTarget, settings: Any) -> None:
    """Promise 1: the target has exactly these bytes, read back: the local file may be gone by then."""
    settings.REPLICATOR = {**settings.REPLICATOR, "DOUBT_WINDOW": 0.2}
    target = get_target("media1")  # type: ignore[assignment]
    name = default_storage.save("a.txt", ContentFile(b"whole"))
    target.lose_answer = 1
    delivery.deliver("media1")
    assert Replica.objects.get().doubt
    Path(default_storage.path(name)).unlink()
    for expected in (("pending", True), ("synced", False)):
        Replica.objects.update(due_at=timezone.now())
        delivery.deliver("media1")
        assert Replica.objects.values_list("status", "doubt").get() == expected
    assert [operation for operation, _ in target.operations] == ["put", "open", "open"]


def test_other_bytes_at_the_target_do_not_stand_in_for_the_local_file(target: MemoryTarget) -> None:
    """Promise 2: an older version, or none, is not the file, and the replica says what is missing."""
    name = default_storage.save("a.txt", ContentFile(b"whole"))
    Path(default_storage.path(name)).unlink()
    for there in ({}, {"media/a.txt": b"older"}):
        target.files = dict(there)
        Replica.objects.update(due_at=timezone.now())
        delivery.deliver("media1")
        assert Replica.objects.values_list("status", "error_kind").get() == ("pending", "local-missing")


def test_a_message_that_finds_others_busy_leaves_no_flag(
    target: MemoryTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save right after it is announced again, and does not wait for the sweep."""
    calls: list[str] = []
    monkeypatch.setattr("replicator.wake.clear_flag", lambda alias: calls.append(f"clear {alias}"))
    monkeypatch.setattr("replicator.ledger.health.take_slot", lambda *_: calls.append("take"))
    assert delivery.deliver("media1").skipped == "busy"
    assert calls == ["clear media1", "take"], "first: who leaves its slot later looks again"
