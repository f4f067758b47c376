"""``settle``: what becomes of a replica when its worker has an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from threading import Barrier

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from replicator import ledger
from replicator.errors import Corrupt, DeliveryError, LeaseEnded, LocalMissing, Refused, Unavailable
from replicator.ledger import Claim, Outcome, Write
from replicator.models import Replica
from tests.ledger.rows import TARGET, ago, claim, row, seconds_until_due, set_row, write
from tests.ledger.sessions import Session, postgresql_only, wait_until_blocked, writers_queue_up

pytestmark = pytest.mark.django_db(transaction=True)

Sessions = Callable[[], Session]


def claimed(name: str = "a.txt") -> Claim:
    """A claim of a new write."""
    write(name)
    (c,) = claim().claims
    return c


def settle(c: Claim, error: DeliveryError | None = None, **more: bool) -> None:
    assert ledger.settle(c.lease, [Outcome(c, error, **more)]) == []


def test_a_success_is_synced() -> None:
    """And nothing of earlier failures stays."""
    c = claimed()
    set_row("a.txt", attempts=3, error_kind="unavailable", error_text="no", http_status=503)
    settle(c)
    after = row("a.txt")
    assert (after.status, after.version, after.lease, after.lease_until, after.sent) == (
        "synced", c.version, None, None, None,
    )  # fmt: skip
    assert (after.attempts, after.error_kind, after.error_text, after.http_status) == (0, "", "", None)
    assert after.synced_at is not None
    assert timezone.now() - after.synced_at < timedelta(seconds=10)


def test_a_batch_is_settled_in_one_statement() -> None:
    """Whatever the number of its successes."""
    counts = []
    for count in (2, 50):
        for n in range(count):
            write(f"{count}/{n}")
        batch = claim()
        with CaptureQueriesContext(connection) as queries:
            assert ledger.settle(batch.lease, [Outcome(c) for c in batch.claims]) == []
        counts.append(len(queries))
        assert sum("UPDATE" in q["sql"].split()[:1] for q in queries) == 1
    assert counts[0] == counts[1]
    assert not Replica.objects.exclude(status="synced").exists()


def test_successes_and_failures_of_a_batch_are_told_apart() -> None:
    """Each row gets its own answer."""
    for name in ("good", "bad", "changed"):
        write(name)
    batch = claim()
    write("changed")
    errors = {"bad": Unavailable("no", status=503)}
    assert ledger.settle(batch.lease, [Outcome(c, errors.get(c.name)) for c in batch.claims]) == []
    assert {name: row(name).status for name in ("good", "bad", "changed")} == {
        "good": "synced", "bad": "pending", "changed": "pending",
    }  # fmt: skip
    assert row("bad").http_status == 503
    assert seconds_until_due("changed") <= 0 < seconds_until_due("bad")


@pytest.mark.parametrize("doubt", [True, False])
def test_a_success_of_an_older_version_does_not_count(doubt: bool) -> None:
    """Promise 2: the write in between is due at once, and the doubt stays as it was."""
    c = claimed()
    set_row("a.txt", doubt=doubt)
    newer = write("a.txt", deleted=True)
    settle(c)
    after = row("a.txt")
    assert (after.status, after.version, after.lease, after.doubt, after.provisional) == (
        "pending", None, None, doubt, False,
    )  # fmt: skip
    (again,) = claim().claims
    assert (again.version, again.deleted) == (newer.version, True)


def test_a_doubtful_success_is_confirmed_after_the_window() -> None:
    """What was sent without an answer may take effect until then."""
    c = claimed()
    settle(c, Unavailable("no answer", doubt=True))
    assert row("a.txt").doubt
    for expected in ("pending", "synced"):
        set_row("a.txt", due_at=ago(seconds=1))
        (c,) = claim().claims
        settle(c)
        assert row("a.txt").status == expected
        if expected == "pending":
            assert row("a.txt").provisional
            assert 58 < seconds_until_due("a.txt") <= 60
            assert claim().claims == []
    assert not row("a.txt").doubt
    assert not row("a.txt").provisional


def test_a_lost_lease_makes_doubtful_and_keeps_the_new_one() -> None:
    """It may have overwritten what the new holder sent."""
    zombie = claimed()
    set_row("a.txt", lease_until=ago(seconds=1))
    (holder,) = claim().claims
    set_row("a.txt", doubt=False)
    settle(zombie)
    after = row("a.txt")
    assert (after.status, after.doubt, after.provisional, after.lease, after.sent) == (
        "pending", True, False, holder.lease.token, holder.version,
    )  # fmt: skip
    settle(holder)
    assert (row("a.txt").status, row("a.txt").provisional) == ("pending", True)
    settle(zombie)
    assert (row("a.txt").status, row("a.txt").provisional) == ("pending", False)
    assert seconds_until_due("a.txt") <= 0


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("status", ["synced", "failed"])
def test_a_late_failure_makes_doubtful_if_anything_was_sent(status: str, sent: bool) -> None:
    """Even what was called synced: an answered failure may have had an effect."""
    zombie = claimed()
    set_row("a.txt", status=status, lease=None, lease_until=None, sent=None)
    settle(zombie, Unavailable("500", status=500), sent=sent)
    assert row("a.txt").status == ("pending" if sent else status)
    assert row("a.txt").doubt is sent


@pytest.mark.parametrize(
    "error", [Unavailable("no", status=503), Corrupt("size"), LocalMissing("gone"), Unavailable("?", doubt=True)]
)
def test_a_failure_is_tried_again_later(error: DeliveryError) -> None:
    """The schedule is in the row: a factor of two each time, the upper half of it by chance."""
    write("a.txt")
    for attempt in range(4):
        (c,) = claim().claims
        settle(c, error)
        after = row("a.txt")
        assert (after.status, after.attempts, after.lease, after.sent) == ("pending", attempt + 1, None, None)
        assert (after.error_kind, after.error_text, after.http_status) == (error.kind, str(error), error.status)
        assert after.doubt is error.doubt
        full = 16 * 2**attempt
        assert full / 2 - 2 < seconds_until_due("a.txt") <= full
        set_row("a.txt", due_at=ago(seconds=1))


def test_what_the_target_asks_for_is_kept_in_the_row() -> None:
    """``Retry-After``, up to the cap."""
    for asked, least, most in ((600, 598, 600), (100_000, 3598, 3600), (1, 6, 16)):
        c = claimed(f"{asked}")
        settle(c, Unavailable("later", status=503, retry_after=asked))
        assert least < seconds_until_due(f"{asked}") <= most


def test_what_only_a_person_can_cure_fails_at_once() -> None:
    """No attempt is wasted, and the row says why."""
    c = claimed()
    settle(c, Refused("not allowed", status=403))
    after = row("a.txt")
    assert (after.status, after.error_kind, after.error_text, after.http_status) == (
        "failed", "refused", "not allowed", 403,
    )  # fmt: skip
    assert claim().claims == []


def test_what_was_tried_for_too_long_fails() -> None:
    """After a week, counted from the write (or from when a person asked for another try)."""
    c = claimed()
    settle(replace(c, since=ago(days=6.9)), Unavailable("no"))
    assert row("a.txt").status == "pending"
    set_row("a.txt", due_at=ago(seconds=1))
    (c,) = claim().claims
    settle(replace(c, since=ago(days=7.1)), Unavailable("no", doubt=True))
    assert (row("a.txt").status, row("a.txt").doubt) == ("failed", True)


@pytest.mark.parametrize("error", [Refused("no"), Unavailable("no"), LeaseEnded("over")])
def test_a_failure_of_an_older_version_says_nothing_of_the_newer(error: DeliveryError) -> None:
    """That one is due at once, with no attempt counted."""
    c = claimed()
    write("a.txt")
    settle(c, error)
    after = row("a.txt")
    assert (after.status, after.attempts, after.error_kind, after.lease) == ("pending", 0, "", None)
    assert after.doubt is error.doubt
    assert seconds_until_due("a.txt") <= 0


def test_settling_twice_is_harmless() -> None:
    """It looks like a lost lease: delivered once more, and confirmed."""
    c = claimed()
    settle(c)
    settle(c)
    for _ in range(2):
        set_row("a.txt", due_at=ago(seconds=1))
        (again,) = claim().claims
        settle(again)
    assert (row("a.txt").status, row("a.txt").doubt) == ("synced", False)


def test_there_is_nothing_to_settle_of_a_row_that_is_gone() -> None:
    """It was pruned, or its target retired."""
    c = claimed()
    row("a.txt").file.delete()
    settle(c)
    settle(c, Unavailable("no"))
    assert not Replica.objects.exists()
    assert ledger.settle(c.lease, []) == []


@postgresql_only
def test_a_row_in_a_sites_transaction_is_left_over(session: Sessions) -> None:
    """A worker does not wait for a site: the others are settled, that one is tried again."""
    for name in ("busy", "free"):
        write(name)
    batch = claim()
    writer = session()
    writer.begin()
    newer = writer.do(write, "busy")
    outcomes = [Outcome(c) for c in batch.claims]
    left = ledger.settle(batch.lease, outcomes)
    assert [o.claim.name for o in left] == ["busy"]
    assert row("free").status == "synced"
    writer.commit()
    assert ledger.settle(batch.lease, left) == []
    assert row("busy").status == "pending"
    (again,) = claim().claims
    assert again.version == newer.version


@postgresql_only
@pytest.mark.parametrize("half", ["before", "after"])
def test_a_write_that_commits_while_a_worker_settles_wins(session: Sessions, half: str) -> None:
    """The trap of READ COMMITTED: a statement that waited for a row sees that row as it became, but everything else
    as it was before. Promise 2: the old version is never called synced once the new one is committed."""
    c = claimed()
    writer, worker = session(), session()
    newer = Write("default", "a.txt")
    writer.begin()
    # Half of a record: the file has its new version, the replica's row is not touched yet.
    writer.do(ledger.record, newer, [])
    worker.begin()
    if half == "before":
        writer.do(ledger.record, newer, [TARGET])
        left = worker.do(ledger.settle, c.lease, [Outcome(c)])
        assert [o.claim for o in left] == [c]
        writer.commit()
        assert worker.do(ledger.settle, c.lease, left) == []
    else:
        assert worker.do(ledger.settle, c.lease, [Outcome(c)]) == []
        rest = writer.start(ledger.record, newer, [TARGET])
        wait_until_blocked(rest)
        worker.commit()
        assert rest.result(timeout=20)
        writer.commit()
        worker.begin()
    worker.commit()
    after = row("a.txt")
    assert (after.status, after.file.version) == ("pending", newer.version)
    (again,) = claim().claims
    assert again.version == newer.version


@writers_queue_up
@pytest.mark.parametrize("round_", range(3))
def test_synced_is_always_the_last_committed_version(session: Sessions, round_: int) -> None:
    """Writers and a worker race over the same rows: whatever their order, what is called synced is the file's."""
    names = [f"{round_}/{n}" for n in range(8)]
    writer, worker = session(), session()
    barrier = Barrier(2)

    def write_all() -> None:
        barrier.wait(timeout=20)
        for _ in range(6):
            for name in names:
                write(name)

    def work() -> None:
        barrier.wait(timeout=20)
        for _ in range(30):
            batch = claim(3)
            outcomes = [Outcome(c) for c in batch.claims]
            for _ in range(100):
                outcomes = ledger.settle(batch.lease, outcomes)
                if not outcomes:
                    break
            wrong = Replica.objects.filter(status="synced").exclude(version=F("file__version"))
            assert not wrong.exists()

    for future in [writer.start(write_all), worker.start(work)]:
        future.result(timeout=60)
    Replica.objects.update(lease_until=ago(seconds=1))
    for _ in range(2):
        Replica.objects.update(due_at=ago(seconds=1))
        batch = claim()
        assert ledger.settle(batch.lease, [Outcome(c) for c in batch.claims]) == []
    assert Replica.objects.filter(status="synced", version=F("file__version")).count() == len(names)
