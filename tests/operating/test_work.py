"""How a worker does a run: alone, step by step, each noted once, and no further than people want."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from django.utils import timezone

from replicator.errors import Unavailable
from replicator.models import TargetRun
from replicator.operating import runs
from replicator.operating.work import Later, Stopped, Work, work
from tests.operating.audits import Site

pytestmark = pytest.mark.django_db(transaction=True)

Step = Callable[["Counting"], object]


class Counting(Work):
    """Ten parts of one file each. What is to happen in a part is done before it is noted."""

    kind: ClassVar[str] = TargetRun.Kind.BACKFILL
    before: ClassVar[dict[int, Step]] = {}
    within: ClassVar[dict[int, Step]] = {}

    def begin(self) -> int:
        return 10

    def step(self) -> bool:
        number = self.run.position + 1
        if number > 10:
            return False
        if number in self.before:
            self.before[number](self)
        with self.held.noting(position=number, done=1) as counts:
            counts["seen"] += 1
            if number in self.within:
                self.within[number](self)
        return True


WORKS: dict[str, type[Work]] = {Counting.kind: Counting}


@pytest.fixture
def run(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TargetRun:
    Site(settings, tmp_path, monkeypatch)
    monkeypatch.setattr(Counting, "before", {})
    monkeypatch.setattr(Counting, "within", {})
    return runs.start(Counting.kind, "media1")


def worked(run: TargetRun) -> TargetRun:
    work(run.pk, WORKS)
    run.refresh_from_db()
    return run


def is_whole(run: TargetRun) -> bool:
    """Each part was noted, and noted once."""
    return (run.state, run.done, run.counts, run.lease) == ("done", 10, {"seen": 10}, None)


def once(step: Step) -> Step:
    """The first time only."""
    asked: list[Counting] = []

    def first(this: Counting) -> None:
        if not asked:
            asked.append(this)
            step(this)

    return first


def test_a_run_is_done_part_by_part(run: TargetRun) -> None:
    assert is_whole(worked(run))
    assert run.ended_at is not None
    assert work(run.pk, WORKS) == {"skipped": "busy, or not running"}


def test_a_second_worker_leaves_it_alone(run: TargetRun) -> None:
    """However often it is woken."""
    said: list[object] = []
    Counting.before[5] = once(lambda this: said.append(work(this.run.pk, WORKS)))
    assert is_whole(worked(run))
    assert said == [{"skipped": "busy, or not running"}]


def test_one_that_lost_it_to_another_writes_no_more(run: TargetRun) -> None:
    """It stalled until its lease ended; the other does the part, and each is counted once."""

    def stall(this: Counting) -> None:
        TargetRun.objects.update(lease_until=timezone.now())
        work(this.run.pk, WORKS)

    Counting.before[5] = once(stall)
    assert is_whole(worked(run))


def test_one_that_was_paused_and_resumed_meanwhile_writes_no_more(run: TargetRun) -> None:
    """Another worker may have it by then."""

    def pause(this: Counting) -> None:
        assert runs.pause(TargetRun.objects.get(pk=this.run.pk))
        assert runs.resume(TargetRun.objects.get(pk=this.run.pk))
        work(this.run.pk, WORKS, seconds=0)

    Counting.before[5] = once(pause)
    worked(run)
    assert (run.state, run.done, run.counts) == ("running", 5, {"seen": 5})
    assert is_whole(worked(run))


@pytest.mark.parametrize("end", [runs.pause, runs.cancel])
def test_what_people_end_is_not_noted(run: TargetRun, end: Callable[[TargetRun], bool]) -> None:
    """Nor goes on by itself: it is theirs."""
    Counting.before[5] = once(lambda this: end(TargetRun.objects.get(pk=this.run.pk)))
    worked(run)
    assert (run.state in ("paused", "cancelled"), run.done, run.lease) == (True, 4, None)
    assert work(run.pk, WORKS) == {"skipped": "busy, or not running"}
    if run.state == "paused":
        assert runs.resume(run)
        assert is_whole(worked(run))
    else:
        assert not runs.resume(run)


def test_a_part_that_breaks_off_is_done_again_and_counted_once(run: TargetRun) -> None:
    """What it wrote into the ledger and that it was done are one transaction."""

    def fail(_: Counting) -> None:
        raise ValueError("https://user:password@media1/")

    Counting.within[5] = once(fail)
    worked(run)
    assert (run.state, run.done, run.attempts, run.lease) == ("running", 4, 1, None)
    assert "ValueError" in run.trouble
    assert "password" not in run.trouble
    assert run.due_at > timezone.now()
    assert work(run.pk, WORKS) == {"skipped": "busy, or not running"}, "not before it is due"
    assert runs.resume(run)
    assert is_whole(worked(run))
    assert (run.trouble, run.attempts) == ("", 0)


def test_a_target_in_trouble_holds_it_up_the_longer_the_more_often(run: TargetRun) -> None:
    def fail(_: Counting) -> None:
        raise Unavailable("connection refused")

    Counting.before[5] = fail
    waits = []
    for attempt in range(3):
        TargetRun.objects.update(due_at=timezone.now())
        worked(run)
        assert (run.state, run.trouble, run.attempts) == ("running", "connection refused", attempt + 1)
        waits.append((run.due_at - timezone.now()).total_seconds())
    assert waits[0] * 1.5 < waits[1] < waits[2] / 1.5


def test_one_that_waits_or_must_stop_says_why(run: TargetRun) -> None:
    def wait(_: Counting) -> None:
        raise Later("somebody is just writing", seconds=30)

    def stop(_: Counting) -> None:
        raise Stopped("no storage has it")

    Counting.before[5], Counting.before[7] = once(wait), once(stop)
    worked(run)
    assert (run.state, run.trouble, run.attempts, run.lease) == ("running", "somebody is just writing", 0, None)
    assert timedelta(seconds=20) < run.due_at - timezone.now() <= timedelta(seconds=30)
    TargetRun.objects.update(due_at=timezone.now())
    worked(run)
    assert (run.state, run.reason, run.done) == ("stopped", "no storage has it", 6)
    assert run.ended_at is not None


def test_the_sweep_finds_what_a_dead_worker_had(run: TargetRun) -> None:
    """And not what one has."""
    taken = TargetRun.objects.filter(pk=run.pk)
    assert runs.sweep() == [run.pk]
    taken.update(lease=uuid4(), lease_until=timezone.now() + timedelta(seconds=10))
    assert runs.sweep() == []
    taken.update(lease_until=timezone.now())
    assert runs.sweep() == [run.pk]
    taken.update(due_at=timezone.now() + timedelta(seconds=10))
    assert runs.sweep() == []


def test_a_long_step_holds_on_to_it_and_finds_out_that_it_is_over(run: TargetRun) -> None:
    """Cheap: the ledger is asked now and then."""
    until: list[Any] = []

    def long(this: Counting) -> None:
        this.held.renew()
        until.append(TargetRun.objects.get().lease_until)
        this.held._renewed -= 3600
        ends = this.held.ends
        this.held.renew()
        until.append(TargetRun.objects.get().lease_until)
        assert this.held.ends > ends
        runs.cancel(TargetRun.objects.get())
        this.held._renewed -= 3600
        this.held.renew()
        raise AssertionError("it is cancelled")

    Counting.before[5] = long
    assert worked(run).state == "cancelled"
    assert until[0] < until[1]
