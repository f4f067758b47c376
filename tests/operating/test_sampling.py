"""How targets stood, minute by minute; and the word that is given when one falls behind."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.utils import timezone

from replicator import tasks, wake
from replicator.ledger import backlogs, counters, life, samples
from replicator.models import Replica, TargetSample, TargetState
from replicator.operating import sampling
from replicator.storage import ReplicatedStorage
from replicator.targets import get_target
from replicator.targets.base import Space
from tests.people.conftest import fail, record, record_many, site, woken  # noqa: F401  # fixtures

pytestmark = pytest.mark.django_db

Later = Callable[[float], None]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    """``later(seconds)``: the clock of the samples goes on."""
    gone = 0.0
    now = timezone.now

    def advance(seconds: float) -> None:
        nonlocal gone
        gone += seconds
        monkeypatch.setattr(timezone, "now", lambda: now() + timedelta(seconds=gone))

    return advance


def sample_of(target: str) -> TargetSample:
    found = TargetSample.objects.filter(target=target).order_by("at").last()
    assert found is not None
    return found


def test_each_target_has_one_sample_a_minute(site: ReplicatedStorage, later: Later) -> None:  # noqa: F811
    """Whoever comes second in the same minute notes nothing."""
    assert sampling.sample() == ["media1", "media2"]
    if timezone.now().second < 58:
        assert sampling.sample() == []
    later(60)
    assert sampling.sample() == ["media1", "media2"]
    assert TargetSample.objects.filter(target="media1").count() == 2


def test_a_sample_has_the_backlog_the_lag_and_the_counts(site: ReplicatedStorage) -> None:  # noqa: F811
    """Everything that a chart of the last day shows."""
    for number in range(3):
        record(f"{number}.txt", targets=("media1",))
    Replica.objects.filter(file__name="1.txt").update(since=timezone.now() - timedelta(seconds=100))
    fail(Replica.objects.filter(file__name="2.txt"))
    counted = {"put": 7.0, "deleted": 2.0, "failed": 3.0, "bytes": 900.0, "within": 5.0}
    counters._write([("media1", key, value) for key, value in counted.items()], add=True)
    sampling.sample()
    found = sample_of("media1")
    assert (found.pending, found.failed) == (2, 1)
    assert 100 <= found.lag < 110
    assert (found.put, found.deleted, found.errors, found.bytes, found.within) == (7, 2, 3, 900, 5)
    nothing = sample_of("media2")
    assert (nothing.pending, nothing.failed, nothing.lag, nothing.put) == (0, 0, 0, 0)


def test_a_sample_says_what_is_most_worth_knowing(site: ReplicatedStorage) -> None:  # noqa: F811
    """Down before the phase, paused before down."""
    life.meet("media1")
    life.enter("media1", "active")
    state = TargetState.objects.get(pk="media1")
    assert samples.state_of(state) == "active"
    state.state = "down"
    assert samples.state_of(state) == "down"
    state.paused = True
    assert samples.state_of(state) == "paused"
    state.phase = "retired"
    assert samples.state_of(state) == "retired"


def test_a_retired_target_has_no_samples(site: ReplicatedStorage) -> None:  # noqa: F811
    """Its row stays for people, for ever."""
    life.enter("media2", "retired")
    assert sampling.sample() == ["media1"]


def test_samples_are_kept_for_two_days(site: ReplicatedStorage, later: Later) -> None:  # noqa: F811
    """A chart shows one; the table must not grow."""
    sampling.sample()
    later(47 * 3600)
    sampling.sample()
    assert TargetSample.objects.filter(target="media1").count() == 2
    later(2 * 3600)
    sampling.sample()
    assert TargetSample.objects.filter(target="media1").count() == 2


def lag_events(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(r.message, vars(r)["target"]) for r in caplog.records if r.name == "replicator.lag"]


def test_the_log_tells_once_when_the_objective_is_missed_and_once_when_it_is_met_again(
    site: ReplicatedStorage,  # noqa: F811
    settings: Any,
    later: Later,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A host that is away for a day must not fill the log."""
    settings.REPLICATOR = {**settings.REPLICATOR, "LAG_OBJECTIVE": 120}
    sampling.sample()
    record("a.txt", targets=("media1",))
    later(100)
    sampling.sample()
    assert lag_events(caplog) == []
    for _ in range(3):
        later(60)
        sampling.sample()
    assert lag_events(caplog) == [("lag objective missed", "media1")]
    facts = vars(caplog.records[-1])
    assert (facts["objective"], facts["backlog"], facts["levelno"]) == (120, 1, logging.WARNING)
    assert 120 < facts["lag"] < 300
    Replica.objects.update(status="synced")
    for _ in range(2):
        later(60)
        sampling.sample()
    assert lag_events(caplog)[1:] == [("lag objective met again", "media1")]


@pytest.mark.django_db(transaction=True)
def test_several_workers_tell_it_once(
    site: ReplicatedStorage,  # noqa: F811
    settings: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Beat's message may come twice, and another worker may be at it."""
    settings.REPLICATOR = {**settings.REPLICATOR, "LAG_OBJECTIVE": 10}
    record("a.txt", targets=("media1",))
    Replica.objects.update(since=timezone.now() - timedelta(seconds=60))
    at = timezone.now()
    barrier = threading.Barrier(4)

    def work() -> None:
        try:
            barrier.wait(60)
            sampling.sample()
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    minutes = TargetSample.objects.filter(target="media1").count()
    assert minutes == 1 or timezone.now().minute != at.minute
    assert lag_events(caplog) == [("lag objective missed", "media1")]


class _Roomy:
    def __init__(self, answer: Space | Exception | None) -> None:
        self.answer = answer

    def __call__(self) -> Space | None:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_targets_are_asked_what_room_they_have(
    site: ReplicatedStorage,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    later: Later,
) -> None:
    """Where they tell; what one told stays while it can't be asked, and one's defect is its own."""
    for alias in ("media1", "media2"):
        life.meet(alias)
    monkeypatch.setattr(get_target("media1"), "space", _Roomy(Space(free=5, total=20)), raising=False)
    monkeypatch.setattr(get_target("media2"), "space", _Roomy(ZeroDivisionError("a defect")), raising=False)
    sampling.sample()
    known = {state.target: (state.free_bytes, state.total_bytes) for state in TargetState.objects.all()}
    assert known == {"media1": (5, 20), "media2": (None, None)}
    monkeypatch.setattr(get_target("media1"), "space", _Roomy(ValueError("later")), raising=False)
    later(60)
    sampling.sample()
    assert TargetState.objects.get(pk="media1").free_bytes == 5
    monkeypatch.setattr(get_target("media1"), "space", _Roomy(None), raising=False)
    later(60)
    sampling.sample()
    assert TargetState.objects.get(pk="media1").free_bytes is None


def test_a_target_that_nothing_may_be_asked_of_is_not(
    site: ReplicatedStorage,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Paused or down: no request goes there."""
    asked = []
    for alias in ("media1", "media2"):
        monkeypatch.setattr(get_target(alias), "space", lambda alias=alias: asked.append(alias), raising=False)
    life.pause("media1")
    sampling.sample()
    assert asked == ["media2"]


def test_the_sweep_leaves_word_when_it_ran(
    site: ReplicatedStorage,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An alert goes by it: without sweeps nothing that was lost is made up for."""
    monkeypatch.setattr(wake, "wake", lambda targets, node=None: True)
    before = timezone.now().timestamp()
    tasks.sweep()
    first = counters.read()[""][counters.SWEPT_AT]
    assert before <= first <= timezone.now().timestamp()
    tasks.sweep()
    assert counters.read()[""][counters.SWEPT_AT] > first


# How much waits, in little time


def test_a_small_backlog_is_counted_exactly(site: ReplicatedStorage) -> None:  # noqa: F811
    """Whatever the last sample said."""
    TargetSample.objects.create(target="media1", at=timezone.now(), pending=77, lag=5)
    record_many(30, status="pending")
    record_many(20, status="failed")
    Replica.objects.filter(pk=Replica.objects.pending().first().pk).update(  # type: ignore[union-attr]
        since=timezone.now() - timedelta(hours=2)
    )
    found = backlogs.current(["media1", "media2"])
    assert {key: backlog.count for key, backlog in found.items()} == {
        ("media1", "pending"): 30,
        ("media1", "failed"): 20,
        ("media2", "pending"): 0,
        ("media2", "failed"): 0,
    }
    assert 7200 <= found["media1", "pending"].lag(timezone.now()) < 7260
    assert found["media2", "pending"].lag(timezone.now()) == 0


def test_of_a_large_backlog_the_last_sample_tells(
    site: ReplicatedStorage,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    later: Later,
) -> None:
    """No more rows are looked at than some; without a young sample all of them, rather than to say a wrong number."""
    monkeypatch.setattr(backlogs, "_MOST", 10)
    record_many(50, status="pending")
    old = Replica.objects.order_by("pk").last()
    assert old is not None
    # Of those that are due first, none was written first.
    Replica.objects.filter(pk=old.pk).update(
        since=timezone.now() - timedelta(hours=3), due_at=timezone.now() + timedelta(hours=1)
    )
    assert backlogs.current(["media1"])["media1", "pending"].count == 50
    sampling.sample()
    record_many(1, status="pending")
    found = backlogs.current(["media1"])["media1", "pending"]
    assert found.count == 50
    assert 3 * 3600 <= found.lag(timezone.now()) < 3 * 3600 + 120
    later(200)
    assert backlogs.current(["media1"])["media1", "pending"].count == 51


def test_a_large_backlog_that_has_just_come_is_not_old(
    site: ReplicatedStorage,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When nothing waited at the last sample, nothing can have waited since then."""
    monkeypatch.setattr(backlogs, "_MOST", 10)
    sampling.sample()
    TargetSample.objects.update(at=timezone.now() - timedelta(seconds=100))
    record_many(50, status="pending")
    assert backlogs.current(["media1"])["media1", "pending"].lag(timezone.now()) < 50


def test_counting_what_waits_reads_no_table_on_postgresql(site: ReplicatedStorage) -> None:  # noqa: F811
    """Whatever its statistics say: a look goes along the index, and ends."""
    if connection.vendor != "postgresql":
        pytest.skip("a plan of PostgreSQL's: TEST_DATABASE_URL is not PostgreSQL")
    record_many(3000, status="pending")
    record_many(3000, status="failed")
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {Replica._meta.db_table}")
        for status, index in ((backlogs.PENDING, "replicator_due"), (backlogs.FAILED, "replicator_failed")):
            cursor.execute(
                f"EXPLAIN SELECT since FROM {Replica._meta.db_table} WHERE status = '{status}' AND target = 'media1' "
                f"ORDER BY {backlogs._ORDER[status]} LIMIT 2001"
            )
            plan = "\n".join(row[0] for row in cursor.fetchall())
            assert index in plan, plan
            assert "Sort" not in plan, plan
