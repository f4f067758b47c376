"""Workers that leave a backlog for the sake of targets that no process is free for."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import OperationalError, connection
from django.utils import timezone

from replicator import delivery, tasks, wake
from replicator.delivery import neglected, run, turn
from replicator.ledger import counters, health, life
from replicator.models import Replica, Slot
from replicator.targets import get_target
from replicator.testing import MemoryTarget

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def woken(settings: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of a site with two targets, where workers have little patience: the wake-ups that they send."""
    settings.MEDIA_ROOT = str(tmp_path)
    memory = {"BACKEND": "replicator.testing.MemoryTarget"}
    settings.REPLICATOR = {"TARGETS": {"media1": memory, "media2": memory}, "BATCH_SIZE": 20}
    calls: list[str] = []

    def note(*targets: str) -> bool:
        calls.extend(targets)
        return True

    monkeypatch.setattr(wake, "announce", lambda targets: None)
    monkeypatch.setattr(wake, "wake", lambda targets, *_: note(*targets))
    monkeypatch.setattr(wake, "call", lambda target, node: note(f"help at {target}"))
    monkeypatch.setattr(neglected, "_LYING", 0.2)
    monkeypatch.setattr(turn, "_ASK_AGAIN", 0.1)
    for module in (neglected, run):
        monkeypatch.setattr(module, "PATIENCE", 0.5)
    return calls


def target(alias: str) -> MemoryTarget:
    found = get_target(alias)
    assert isinstance(found, MemoryTarget)
    return found


def backlog(*, lag: float = 0.1) -> None:
    """At media1, of some seconds; nothing waits for media2."""
    for number in range(200):
        default_storage.save(f"{number}.txt", ContentFile(b"1"))
    delivery.deliver("media2")
    target("media1").concurrency, target("media1").lag = 4, lag


def save_for_media2(name: str = "new.txt") -> None:
    default_storage.save(name, ContentFile(b"1"))
    # It has been lying.
    Replica.objects.filter(file__name=name).update(due_at=timezone.now() - timedelta(seconds=5))


def test_a_backlog_gives_way_to_a_target_that_no_process_is_free_for(woken: list[str]) -> None:
    """Promise 7: the only process works at a large backlog, and another target's file does not wait for its end."""
    backlog()
    save_for_media2()
    done = tasks.deliver("media1")
    assert "media/new.txt" in target("media2").files
    assert woken[-1] == "media1", "its backlog goes on"
    assert 0 < done["put"] < 150
    left = Replica.objects.filter(target="media1", status="pending")
    assert left.exists()
    assert not left.exclude(attempts=0, lease=None, doubt=False).exists(), "as it was: no attempt was spent on it"
    assert not Slot.objects.exclude(lease=None).exists()


def test_who_is_alone_with_a_backlog_works_on(woken: list[str]) -> None:
    backlog(lag=0.02)
    assert tasks.deliver("media1")["put"] == 200
    assert [call for call in woken if not call.startswith("help")] == []


@pytest.mark.parametrize("why", ["somebody is at it", "it is closed", "it has just come"])
def test_it_does_not_leave_where_nobody_needs_it(woken: list[str], why: str) -> None:
    """Each time costs what is on its way: so not for a target that has a worker, or that nothing is sent to."""
    backlog(lag=0.02)
    save_for_media2()
    if why == "somebody is at it":
        assert health.take_slot("media2", 1, uuid4(), 60)
    elif why == "it is closed":
        life.pause("media2")
    else:
        Replica.objects.filter(target="media2", status="pending").update(due_at=timezone.now() + timedelta(hours=1))
    assert neglected.neglected("media1") == []
    assert tasks.deliver("media1")["put"] == 201
    assert [call for call in woken if not call.startswith("help")] == []


def test_wake_ups_from_before_it_left_are_answered_by_the_one_that_it_sent(woken: list[str]) -> None:
    """What beat sends must not wait behind a wake-up for each upload of the last minutes, each good for a run."""
    backlog()
    save_for_media2()
    before = time.time()
    assert tasks.deliver("media1")["put"]
    sent = target("media1").operations.copy()
    assert delivery.attend("media1", sent_at=before).skipped == "busy"
    assert target("media1").operations == sent
    target("media1").lag = 0.0
    assert delivery.attend("media1", sent_at=time.time()).put > 0
    save_for_media2("another.txt")
    assert delivery.attend("media2", sent_at=before).put == 1, "nobody has left anything there"


def test_a_long_transfer_holds_it_and_then_other_files_go_on_beside_it(
    woken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 7, within a target: a process that can't leave yet need not idle."""
    monkeypatch.setattr(turn, "_LINGER", 0.3)
    release = threading.Event()

    def slow(operation: str, file: Any) -> None:
        if file.name == "0.txt":
            assert release.wait(30)

    backlog(lag=0.02)
    target("media1").before = slow
    save_for_media2()

    def work() -> None:
        try:
            tasks.deliver("media1")
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        end = time.monotonic() + 20
        while len(target("media1").files) < 200:
            assert time.monotonic() < end, "they wait for the large one"
            time.sleep(0.05)
        assert "media/new.txt" not in target("media2").files
    finally:
        release.set()
        thread.join()
    assert "media/new.txt" in target("media2").files


def test_who_was_called_for_one_target_only_does_not_give_way(woken: list[str]) -> None:
    """A command that delivers has no broker to hand over to."""
    backlog(lag=0.02)
    save_for_media2()
    assert delivery.deliver("media1").put == 201
    assert "media/new.txt" not in target("media2").files


def test_a_ledger_that_fails_to_say_so_ends_no_run(woken: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    backlog(lag=0.02)

    def fails(*_: Any) -> bool:
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(turn, "is_wanted", fails)
    assert tasks.deliver("media1")["put"] == 200


def test_it_leaves_for_what_beat_has_sent(woken: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes, and what people have started, wait with the sweep: it is late, perhaps for want of a process."""
    backlog()
    counters.note_swept()
    assert not neglected.is_wanted("media1", 0.0)
    counters._write([("", counters.SWEPT_AT, time.time() - 3600)], add=False)
    assert neglected.is_wanted("media1", 0.0)
    assert not neglected.is_wanted("media1", time.time()), "who has just come does not leave for that"
    monkeypatch.setattr(neglected, "_SWEPT", -1.0)
    assert tasks.deliver("media1")["put"] < 150
    assert woken[-1] == "media1"
    assert delivery.deliver("media1").put > 50, "who is no worker has nothing else to do"
