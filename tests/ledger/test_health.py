"""The targets' health, and the slots of those who are busy with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from threading import Barrier
from uuid import uuid4

import pytest
from django.utils import timezone

from replicator import signals
from replicator.ledger import health
from replicator.models import Slot, TargetState
from tests.ledger.sessions import Session

pytestmark = pytest.mark.django_db(transaction=True)

Sessions = Callable[[], Session]


@pytest.fixture
def told() -> Iterator[list[tuple[str, str, str]]]:
    """The signals that were sent."""
    calls: list[tuple[str, str, str]] = []

    def down(target: str, reason: str, **_: object) -> None:
        calls.append(("down", target, reason))

    def up(target: str, reason: str, **_: object) -> None:
        calls.append(("up", target, reason))

    signals.target_down.connect(down)
    signals.target_up.connect(up)
    yield calls
    signals.target_down.disconnect(down)
    signals.target_up.disconnect(up)


def state(target: str = "media1") -> TargetState:
    return TargetState.objects.get(pk=target)


def test_a_target_nobody_knows_is_up() -> None:
    """Nothing must be set up for a new one."""
    assert not health.is_down("media1")
    assert health.down_targets() == set()
    assert not health.mark_up("media1")


def test_down_and_up_are_news_once(told: list[tuple[str, str, str]]) -> None:
    """Two workers find out at the same time: people are told once."""
    health.note_failures("media1", 7, "no connection")
    assert [health.mark_down("media1", "refused"), health.mark_down("media1", "again")] == [True, False]
    assert health.is_down("media1")
    assert health.down_targets() == {"media1"}
    assert state().reason == "refused"
    assert [health.mark_up("media1"), health.mark_up("media1")] == [True, False]
    assert not health.is_down("media1")
    assert (state().reason, state().failures) == ("", 0)
    assert told == [("down", "media1", "refused"), ("up", "media1", "")]


def test_marking_down_is_news_to_one_of_many(session: Sessions) -> None:
    """Also when they do it at the same moment."""
    barrier = Barrier(3)

    def mark(turn: Callable[[], bool]) -> bool:
        barrier.wait(timeout=20)
        return turn()

    for turn in (lambda: health.mark_down("media1", "no"), lambda: health.mark_up("media1")):
        futures = [s.start(mark, turn) for s in [session() for _ in range(3)]]
        assert sorted(f.result(timeout=20) for f in futures) == [False, False, True]


def test_failures_are_counted_in_a_row(session: Sessions) -> None:
    """By all workers together, until one succeeds."""
    assert health.note_failures("media1", 2, "a") == 2
    futures = [s.start(health.note_failures, "media1", 5, "b") for s in [session() for _ in range(3)]]
    assert max(f.result(timeout=20) for f in futures) == 17
    assert state().reason == "b"
    health.note_success("media1")
    assert (state().failures, health.note_failures("media1", 1, "c")) == (0, 1)


def test_a_success_ends_the_row_at_once() -> None:
    """Whenever the last one was noted: else a failure now and then would add up to a target that is down."""
    for _ in range(3):
        health.note_success("media1")
        assert health.note_failures("media1", 1, "no connection") == 1


def test_a_breaker_is_tried_each_five_minutes_at_least() -> None:
    """However long the trouble lasts: a target that is well again has not to wait for an hour."""
    for _ in range(20):
        health.trip("media1", "each PUT hangs")
        retry_at = state().retry_at
        assert retry_at is not None
        assert retry_at - timezone.now() <= timedelta(minutes=5)
    assert state().trips == 20


def test_a_breaker_begins_anew_once_the_target_has_been_well_for_a_while() -> None:
    """Not with the first success: one that trips again at once is tried the later."""
    health.trip("media1", "each PUT hangs")
    assert health.mark_up("media1")
    health.note_failures("media1", 1, "no connection")
    health.note_success("media1")
    assert state().trips == 1
    TargetState.objects.update(since=timezone.now() - timedelta(seconds=61), last_success_at=None)
    health.note_success("media1")
    assert state().trips == 0


@pytest.mark.parametrize("columns", [{"paused": True}, {"phase": "retired"}])
def test_what_people_have_stopped_is_neither_probed_nor_tried(columns: dict[str, object]) -> None:
    long_ago = timezone.now() - timedelta(hours=1)
    health.trip("media1", "each PUT hangs")
    TargetState.objects.update(retry_at=long_ago, last_failure_at=long_ago)
    assert (health.to_probe(), health.trials_due()) == ({"media1"}, {"media1"})
    TargetState.objects.update(**columns)
    assert (health.to_probe(), health.trials_due()) == (set(), set())
    assert not health.begin_trial("media1")


def test_success_is_noted_now_and_then() -> None:
    """It is on the path of every batch, so it does not write each time."""
    health.note_success("media1")
    first = state().last_success_at
    health.note_success("media1")
    assert state().last_success_at == first
    TargetState.objects.update(last_success_at=timezone.now() - timedelta(seconds=11))
    health.note_success("media1")
    assert state().last_success_at != first


def test_no_more_workers_than_slots(session: Sessions) -> None:
    """Promise 7: one bad target harms no other, since it can't take every worker."""
    barrier = Barrier(6)

    def take() -> bool:
        barrier.wait(timeout=20)
        return health.take_slot("media1", 2, uuid4(), 60)

    futures = [s.start(take) for s in [session() for _ in range(6)]]
    # Two who reach for the same slot may both leave one free; never do more get one than there are.
    assert 1 <= sum(f.result(timeout=20) for f in futures) <= 2
    assert Slot.objects.count() == 2
    assert health.take_slot("media2", 2, uuid4(), 60)


def test_a_slot_is_free_again_when_its_worker_left_or_died() -> None:
    """Left: at once. Died: when its lease ended. A renewed one is not."""
    left, died, renewed = uuid4(), uuid4(), uuid4()
    for token in (left, died, renewed):
        assert health.take_slot("media1", 3, token, 60)
    assert not health.take_slot("media1", 3, uuid4(), 60)
    health.free_slot(left)
    assert health.take_slot("media1", 3, uuid4(), 60)
    assert not health.take_slot("media1", 3, uuid4(), 60)
    Slot.objects.update(lease_until=timezone.now() + timedelta(seconds=1))
    health.renew_slot(renewed, 3600)
    Slot.objects.exclude(lease_until__gt=timezone.now() + timedelta(minutes=1)).update(lease_until=timezone.now())
    assert health.take_slot("media1", 3, uuid4(), 60)
    assert health.take_slot("media1", 3, uuid4(), 60)
    assert not health.take_slot("media1", 3, uuid4(), 60)


def test_fewer_slots_are_fewer_at_once() -> None:
    """When the option is lowered, the higher numbers are no longer given."""
    for _ in range(3):
        assert health.take_slot("media1", 3, uuid4(), 60)
    Slot.objects.update(lease=None)
    assert health.take_slot("media1", 1, uuid4(), 60)
    assert not health.take_slot("media1", 1, uuid4(), 60)
