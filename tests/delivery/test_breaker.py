"""The circuit breaker: a target that answers its probe, and yet is of no use, is tried with one file at a time."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connections
from django.utils import timezone

from replicator import delivery, tasks, wake
from replicator.delivery import turn
from replicator.errors import Refused, Unavailable
from replicator.ledger import health, life
from replicator.models import NodeState, Replica, TargetState
from replicator.targets import get_target
from replicator.targets.base import TargetFile
from replicator.testing import MemoryTarget
from replicator.wake import announce

pytestmark = pytest.mark.django_db(transaction=True)


def state() -> TargetState:
    return TargetState.objects.get(target="media1")


def save(count: int) -> None:
    for number in range(count):
        default_storage.save(f"{number}.txt", ContentFile(b"1"))


def with_setting(settings: Any, **numbers: float) -> MemoryTarget:
    """The target of a site that has these settings, too."""
    settings.REPLICATOR = {**settings.REPLICATOR, **numbers}
    target = get_target("media1")
    assert isinstance(target, MemoryTarget)
    return target


def hang(operation: str, _: object) -> None:
    if operation == "put":
        raise Unavailable("no answer", doubt=True)


def trial_is_due() -> None:
    TargetState.objects.update(retry_at=timezone.now())


@pytest.fixture
def tripped(target: MemoryTarget) -> MemoryTarget:
    """A target whose breaker is open, since it fails every PUT."""
    target.before, target.lag = hang, 0.1
    # So few at once that most of them wait for their turn when it is found out, however slow this machine is.
    target.concurrency = 2
    save(40)
    delivery.deliver("media1")
    assert state().state == "down"
    assert Replica.objects.filter(attempts=0).count() > 10
    return target


def test_failures_in_a_row_open_it_although_the_probe_is_answered(tripped: MemoryTarget) -> None:
    """Promise 7; and people see why: what it was that failed."""
    assert "answers its probe, and yet files fail, one after the other: no answer" in state().reason
    assert (state().trips, state().retry_at is not None) == (1, True)
    assert delivery.deliver("media1").skipped == "down"
    waiting = Replica.objects.filter(attempts=0, lease=None, status="pending").count()
    assert waiting > 0, "no attempt is spent on what waits"


def test_an_answered_probe_does_not_close_it(tripped: MemoryTarget) -> None:
    """What it does with files, its probe can't tell."""
    TargetState.objects.update(last_failure_at=timezone.now() - timedelta(minutes=5))
    assert tasks.probe() == {"media1": True}
    assert state().state == "down"


def test_a_trial_sends_one_file(tripped: MemoryTarget) -> None:
    """However much waits: a host that hangs costs one worker one request."""
    tripped.operations.clear()
    trial_is_due()
    assert delivery.deliver("media1").failed == 1
    assert [operation for operation, _ in tripped.operations] == ["put", "probe"]
    assert (state().state, state().trips) == ("down", 2)


def test_the_next_trial_comes_the_later_the_more_have_failed(tripped: MemoryTarget) -> None:
    waits = []
    for _ in range(3):
        trial_is_due()
        delivery.deliver("media1")
        retry_at = state().retry_at
        assert retry_at is not None
        waits.append((retry_at - timezone.now()).total_seconds())
    assert waits[0] * 1.5 < waits[1] < waits[2] / 1.5, waits


def test_a_trial_that_succeeds_closes_it_and_all_that_waits_is_due(
    tripped: MemoryTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 1: then it is drained at once, also what had failed and would have waited for another try."""
    woken: list[list[str]] = []
    monkeypatch.setattr("replicator.wake.wake", lambda targets, *_: woken.append(list(targets)))
    tripped.before, tripped.lag = None, 0.0
    trial_is_due()
    assert delivery.deliver("media1").put == 1
    assert (state().state, state().retry_at, state().failures) == ("up", None, 0)
    assert woken == [["media1"]]
    Replica.objects.filter(provisional=True).update(due_at=timezone.now())
    assert not Replica.objects.filter(attempts__gt=0, provisional=False, due_at__gt=timezone.now()).exists()
    delivery.deliver("media1")
    assert not Replica.objects.filter(status="pending", doubt=False).exists()


def test_of_two_workers_one_makes_the_trial(tripped: MemoryTarget) -> None:
    trial_is_due()
    assert [health.begin_trial("media1") for _ in range(2)] == [True, False]


def test_a_trial_with_a_file_that_is_not_here_shows_nothing(tripped: MemoryTarget, settings: Any) -> None:
    """Neither that the target is well nor that it is not: another file is tried, soon."""
    Replica.objects.update(due_at=timezone.now() + timedelta(hours=1))
    save(1)
    lost = Replica.objects.order_by("-pk").first()
    assert lost is not None
    (Path(settings.MEDIA_ROOT) / lost.file.name).unlink()
    Replica.objects.filter(pk=lost.pk).update(attempts=0, due_at=timezone.now())
    tripped.before = None
    trial_is_due()
    assert delivery.deliver("media1").failed == 1
    assert (state().state, state().trips) == ("down", 1)
    retry_at = state().retry_at
    assert retry_at is not None
    assert retry_at - timezone.now() < timedelta(minutes=2)


def test_many_files_that_are_not_here_do_not_keep_a_target_closed(tripped: MemoryTarget, settings: Any) -> None:
    """Promise 7: a lost folder of a hundred files, due before the others, is not worth a hundred trials."""
    Replica.objects.update(due_at=timezone.now() + timedelta(hours=1))
    for number in range(5):
        lost = default_storage.save(f"lost/{number}.txt", ContentFile(b"1"))
        (Path(settings.MEDIA_ROOT) / lost).unlink()
    default_storage.save("good.txt", ContentFile(b"1"))
    tripped.before, tripped.lag = None, 0.0
    trial_is_due()
    summary = delivery.deliver("media1")
    assert (summary.put, summary.failed) == (1, 5)
    assert state().state == "up"


def test_a_trial_gives_no_file_up_for_its_age(tripped: MemoryTarget) -> None:
    """Promise 1: a host that is closed for more than a week would else fail one file after the other for good."""
    Replica.objects.update(since=timezone.now() - timedelta(days=30))
    for _ in range(3):
        trial_is_due()
        assert delivery.deliver("media1").failed == 1
    assert not Replica.objects.failed().exists()
    tripped.fail_with, tripped.before = Refused("no such folder"), None
    trial_is_due()
    delivery.deliver("media1")
    assert Replica.objects.failed().count() == 1, "an answer is one all the same"


def test_who_has_nothing_to_try_leaves_the_trial_to_who_has(tripped: MemoryTarget, settings: Any) -> None:
    """Where nodes have disks of their own, a message from before may reach one that has nothing for this target."""
    settings.REPLICATOR = {**settings.REPLICATOR, "SHARED_MEDIA": False, "NODE": "web2"}
    for node in ("web1", "web2"):
        NodeState.objects.create(node=node, seen_at=timezone.now())
    Replica.objects.update(node="web1", due_at=timezone.now())
    trial_is_due()
    delivery.deliver("media1")
    assert state().state == "down", "web1's files would fail as before"
    assert health.trials_due() == {"media1"}
    Replica.objects.all().delete()
    delivery.deliver("media1")
    assert state().state == "up"


def test_a_refusal_is_an_answer(tripped: MemoryTarget) -> None:
    tripped.fail_with, tripped.before = Refused("no such folder"), None
    trial_is_due()
    assert delivery.deliver("media1").failed == 1
    assert state().state == "up"


def test_with_nothing_due_a_trial_closes_it(tripped: MemoryTarget) -> None:
    """Files that only fail themselves must not keep a target that is well from being read."""
    Replica.objects.update(due_at=timezone.now() + timedelta(hours=1))
    trial_is_due()
    delivery.deliver("media1")
    assert state().state == "up"


def test_the_sweep_has_a_trial_made(tripped: MemoryTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[str] = []
    monkeypatch.setattr("replicator.wake.wake", lambda targets, *_: woken.extend(targets))
    tasks.sweep()
    assert woken == [], "not before it is due"
    trial_is_due()
    tasks.sweep()
    assert woken == ["media1"]
    TargetState.objects.update(paused=True)
    woken.clear()
    tasks.sweep()
    assert woken == [], "nothing is sent to a target that people have paused"


def test_a_target_whose_probe_fails_meanwhile_is_simply_down(tripped: MemoryTarget) -> None:
    """What is to be cured first is said; and its probe says when it is."""
    tripped.fail_with = Unavailable("connection refused")
    TargetState.objects.update(last_failure_at=timezone.now() - timedelta(minutes=5))
    tasks.probe()
    assert (state().state, state().reason, state().retry_at) == ("down", "connection refused", None)
    tripped.fail_with = None
    TargetState.objects.update(last_failure_at=timezone.now() - timedelta(minutes=5))
    tasks.probe()
    assert state().state == "up"


def test_slow_deliveries_in_a_row_open_it(target: MemoryTarget, settings: Any) -> None:
    """Promise 7: a host that takes its time for each file would take the workers' from the others."""
    target = with_setting(settings, SLOW_AFTER=1.0)
    target.lag = 1.2
    save(24)
    delivery.deliver("media1")
    assert state().state == "down"
    assert "it is slow" in state().reason
    assert Replica.objects.filter(status="pending", attempts=0).exists()
    trial_is_due()
    assert delivery.deliver("media1").put == 1
    assert (state().state, state().trips) == ("down", 2), "a slow success shows nothing new"
    target.lag = 0.0
    trial_is_due()
    delivery.deliver("media1")
    assert (state().state, state().reason) == ("up", "")


def test_a_quick_one_ends_the_row_of_slow_ones(target: MemoryTarget, settings: Any) -> None:
    """Now and then a file takes its time anywhere."""
    target = with_setting(settings, SLOW_AFTER=0.8)
    target.concurrency = 1
    names = iter(range(20))

    def now_and_then(operation: str, _: object) -> None:
        if operation == "put" and next(names) % 3:
            time.sleep(0.9)

    target.before = now_and_then
    save(7)
    assert delivery.deliver("media1").put == 7
    assert state().state == "up"


def test_a_large_file_may_take_its_time(target: MemoryTarget, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow is what takes longer than the size explains."""
    target = with_setting(settings, SLOW_AFTER=0.05)
    monkeypatch.setattr(turn, "_SLOW_RATE", 1)
    target.lag = 0.2
    save(20)
    delivery.deliver("media1")
    assert state().state == "up"
    assert not Replica.objects.exclude(status="synced").exists()


def test_slowness_can_be_left_out_of_account(target: MemoryTarget, settings: Any) -> None:
    target = with_setting(settings, SLOW_AFTER=0)
    target.lag = 0.1
    save(20)
    delivery.deliver("media1")
    assert state().state == "up"


def refuse_poison(operation: str, file: TargetFile) -> None:
    if operation == "put" and file.name.startswith("poison"):
        raise Unavailable("HTTP 500", status=500)


def save_poison(count: int) -> None:
    for number in range(count):
        default_storage.save(f"poison{number}.txt", ContentFile(b"1"))


def test_a_trial_takes_a_file_that_was_never_tried(target: MemoryTarget) -> None:
    """Promise 7: a dozen files that fail by themselves, and are due before it, must not keep a new one waiting."""
    target.before = refuse_poison
    save_poison(12)
    delivery.deliver("media1")
    assert state().state == "down"
    save(1)
    Replica.objects.filter(file__name__startswith="poison").update(due_at=timezone.now(), attempts=1)
    trial_is_due()
    assert delivery.deliver("media1").put == 1
    assert state().state == "up"


def test_files_that_were_answered_with_a_failure_before_do_not_open_it_again(target: MemoryTarget) -> None:
    """Promise 7: some files that a host says no to, again and again, are no trouble of the host's."""
    target.before = refuse_poison
    save_poison(12)
    Replica.objects.update(attempts=1)
    assert delivery.deliver("media1").failed == 12
    assert health.suspects() == set()
    Replica.objects.update(attempts=1, due_at=timezone.now(), status="pending")
    target.before = hang
    delivery.deliver("media1")
    assert state().state == "down", "no answer at all is news, whatever the file"


def test_slow_reads_from_another_target_do_not_open_it(
    target: MemoryTarget, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 7: a slow source harms no target that gets files from it."""
    targets = {**settings.REPLICATOR["TARGETS"], "source": {"BACKEND": "replicator.testing.MemoryTarget"}}
    settings.REPLICATOR = {**settings.REPLICATOR, "TARGETS": targets, "SLOW_AFTER": 0.2}
    save(6)
    delivery.deliver("source")
    for path in (Path(settings.MEDIA_ROOT)).glob("*.txt"):
        path.unlink()
    source = get_target("source")
    assert isinstance(source, MemoryTarget)
    source.lag = 0.3
    assert delivery.deliver("media1").put == 6
    assert state().state == "up"


def test_a_read_only_target_is_not_down_for_a_trial_that_nobody_makes(tripped: MemoryTarget) -> None:
    """Nothing is sent to it: that it answers is all that its readers need."""
    life.enter("media1", "read-only")
    TargetState.objects.update(
        retry_at=timezone.now() - timedelta(minutes=1), last_failure_at=timezone.now() - timedelta(minutes=5)
    )
    assert health.trials_due() == set()
    assert delivery.deliver("media1").skipped == "read-only"
    assert tasks.probe() == {"media1": True}
    assert (state().state, state().retry_at) == ("up", None)


def test_a_paused_target_is_neither_sent_to_nor_probed(target: MemoryTarget) -> None:
    """People work at the machine: nothing is asked of it."""
    target.fail_with = Unavailable("being repaired")
    save(1)
    delivery.deliver("media1")
    assert state().failures == 1
    assert life.pause("media1", note="anna: new disk")
    assert tasks.probe() == {}
    assert delivery.deliver("media1").skipped == "paused"
    assert life.resume("media1")
    assert tasks.probe() == {"media1": False}


def test_a_pause_ends_a_run_that_is_under_way(target: MemoryTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within seconds, not when the backlog is through."""
    monkeypatch.setattr(life, "_BELIEVED", 0.1)
    save(120)
    seen: list[float] = []

    def pause(operation: str, _: object) -> None:
        if operation == "put" and not seen:
            seen.append(time.monotonic())
            TargetState.objects.update_or_create(target="media1", defaults={"paused": True})
            connections.close_all()  # this is one of the threads that send

    target.before, target.lag, target.concurrency = pause, 0.05, 2
    delivery.deliver("media1")
    assert Replica.objects.filter(status="pending").exists()
    assert delivery.deliver("media1").skipped == "paused"


def test_who_is_found_down_by_others_is_left_and_not_announced(
    target: MemoryTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 7: neither does a worker go on there, nor does each save wake one."""
    monkeypatch.setattr(life, "_BELIEVED", 0.1)
    save(120)

    def mark_down(operation: str, _: object) -> None:
        if operation == "put" and not health.is_down("media1"):
            health.mark_down("media1", "connection refused")
        connections.close_all()  # this is one of the threads that send

    target.before, target.lag, target.concurrency = mark_down, 0.05, 2
    delivery.deliver("media1")
    assert Replica.objects.filter(status="pending", attempts=0, lease=None).exists()
    told: list[str] = []
    monkeypatch.setattr(wake._announcer, "add", told.extend)
    monkeypatch.setattr(wake, "_leave_alone_until", 0.0)
    announce(["media1", "media2"])
    assert told == ["media2"]


def test_a_host_down_for_long_is_probed_seldom(target: MemoryTarget) -> None:
    """A probe every five seconds for a week would be a hundred thousand lines in somebody's log."""
    target.fail_with = Unavailable("gone")
    now = timezone.now()
    TargetState.objects.create(
        target="media1",
        state="down",
        since=now - timedelta(hours=2),
        last_failure_at=now - timedelta(seconds=30),
    )
    assert tasks.probe() == {}
    TargetState.objects.update(last_failure_at=now - timedelta(seconds=61))
    assert tasks.probe() == {"media1": False}
    TargetState.objects.update(since=now - timedelta(minutes=1), last_failure_at=now - timedelta(seconds=4))
    assert tasks.probe() == {"media1": False}
