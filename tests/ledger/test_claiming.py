"""``claim``, ``renew`` and ``release``: who may send what."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from replicator import ledger
from replicator.ledger import Write
from replicator.models import Replica
from tests.ledger.rows import TARGET, ago, claim, many, names, row, set_row, synced, write
from tests.ledger.sessions import ON_POSTGRESQL, Session, postgresql_only, writers_queue_up

pytestmark = pytest.mark.django_db(transaction=True)

Sessions = Callable[[], Session]


def test_the_oldest_due_come_first() -> None:
    """So no file waits for ever behind newer ones."""
    for hours, name in ((1, "b"), (3, "c"), (2, "a")):
        write(name)
        set_row(name, due_at=ago(hours=hours))
    assert names(claim(2)) == ["c", "a"]
    assert names(claim(2)) == ["b"]


def test_only_what_is_due_is_claimed() -> None:
    """Not what is synced, failed, waiting, in other hands, or another target's."""
    synced("synced")
    write("failed")
    set_row("failed", status="failed")
    write("waiting")
    set_row("waiting", due_at=timezone.now() + timedelta(minutes=1))
    write("leased")
    assert names(claim()) == ["leased"]
    write("elsewhere", "media2")
    write("due")
    assert names(claim()) == ["due"]
    assert claim().claims == []


def test_a_claim_says_what_to_send() -> None:
    """As it should be now; noted in the row, with an end."""
    wanted = write("a.txt", size=3, sha256="abc", content_type="text/plain", mogile_class="k", deleted=True)
    (c,) = claim().claims
    assert (c.target, c.storage, c.name, c.version, c.deleted) == (TARGET, "default", "a.txt", wanted.version, True)
    assert (c.size, c.sha256, c.content_type, c.mogile_class) == (3, "abc", "text/plain", "k")
    after = row("a.txt")
    assert (after.pk, after.file_id, after.lease, after.sent) == (c.id, c.file_id, c.lease.token, wanted.version)
    assert after.lease_until is not None
    assert timedelta(seconds=58) < after.lease_until - timezone.now() <= timedelta(seconds=60)
    assert c.live()


def test_a_claim_costs_the_same_for_one_and_for_many() -> None:
    """Promise 8: the size of the backlog costs nothing but its rows."""
    counts = []
    for count in (1, 60):
        for n in range(count):
            write(f"{count}/{n}")
        with CaptureQueriesContext(connection) as queries:
            assert len(claim(count).claims) == count
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 5


@writers_queue_up
def test_no_replica_is_claimed_twice(session: Sessions) -> None:
    """By four sessions at once, until nothing is left."""
    many(120)

    def take() -> list[str]:
        taken: list[str] = []
        misses = 0
        # One that finds every row locked goes away, and comes back with the next wake-up.
        while misses < 3:
            batch = claim(7)
            misses = 0 if batch.claims else misses + 1
            taken += names(batch)
        return taken

    futures = [s.start(take) for s in [session() for _ in range(4)]]
    taken = [name for future in futures for name in future.result(timeout=60)]
    assert len(taken) == len(set(taken))
    assert len(taken) + len(claim(200).claims) == 120
    assert not Replica.objects.filter(doubt=True).exists()


@postgresql_only
def test_a_worker_never_waits_for_a_sites_transaction(session: Sessions) -> None:
    """Two that wait for each other would be a deadlock, and the site's could be the one that is ended."""
    write("busy")
    write("free")
    writer = session()
    writer.begin()
    writer.do(write, "busy")
    began = time.monotonic()
    batch = claim()
    assert names(batch) == ["free"]
    ledger.release(batch.lease, [row("busy").pk])
    ledger.renew(batch.lease, [row("busy").pk])
    assert time.monotonic() - began < 5
    writer.commit()
    assert names(claim()) == ["busy"]


@postgresql_only
def test_a_claim_sees_the_last_committed_version(session: Sessions) -> None:
    """One that is being written is claimed as it was, and its writer empties ``sent``."""
    old = write("a.txt")
    writer = session()
    writer.begin()
    # The first half of a record: the file's row is written, the replica's is not yet.
    new = Write("default", "a.txt")
    writer.do(ledger.record, new, [])
    (c,) = claim().claims
    assert c.version == old.version
    writer.do(ledger.record, new, [TARGET])
    writer.commit()
    after = row("a.txt")
    assert (after.file.version, after.sent, after.lease) == (new.version, None, c.lease.token)


def test_taking_over_an_ended_lease_makes_doubtful() -> None:
    """What its last holder sent may still take effect. It counts as a failed attempt."""
    write("a.txt")
    (dead,) = claim().claims
    set_row("a.txt", lease_until=ago(seconds=1), provisional=True, doubt=True)
    (c,) = claim().claims
    after = row("a.txt")
    assert after.lease == c.lease.token != dead.lease.token
    assert (after.doubt, after.provisional, after.attempts, c.attempts) == (True, False, 1, 1)


def test_a_renewed_lease_begins_anew() -> None:
    """For as long as its worker lives, nobody takes it over."""
    write("a.txt")
    (c,) = claim().claims
    set_row("a.txt", lease_until=timezone.now() + timedelta(seconds=5))
    c.lease.ends = time.monotonic() + 1
    ledger.renew(c.lease, [c.id])
    until = row("a.txt").lease_until
    assert until is not None
    assert until - timezone.now() > timedelta(seconds=58)
    assert 50 < c.lease.ends - time.monotonic() < 60, "the worker's own clock says so a little before the database's"
    assert c.live()


@pytest.mark.parametrize("how", ["ended", "taken over", "gone"])
def test_a_lost_lease_cannot_be_renewed(how: str) -> None:
    """And its worker knows: it starts no request for that replica. Others of the batch are not concerned."""
    write("lost")
    write("kept")
    batch = claim()
    lost, kept = sorted(batch.claims, key=lambda c: c.name, reverse=True)
    if how == "gone":
        row("lost").file.delete()
    else:
        set_row("lost", lease_until=ago(seconds=1))
        if how == "taken over":
            assert names(claim()) == ["lost"]
    ledger.renew(batch.lease, [c.id for c in batch.claims])
    assert not lost.live()
    assert kept.live()


def test_a_worker_starts_nothing_once_its_own_clock_has_run_out() -> None:
    """Without asking anybody: it may have been stopped for an hour."""
    write("a.txt")
    (c,) = claim().claims
    c.lease.ends = time.monotonic() - 0.001
    assert not c.live()


def test_a_released_claim_is_as_if_never_made() -> None:
    """Due as before, without doubt and without an attempt spent; a stranger's lease is not touched."""
    write("a.txt")
    before = row("a.txt")
    (c,) = claim().claims
    stranger = ledger.Lease(uuid4(), 60, 0)
    ledger.release(stranger, [c.id])
    assert row("a.txt").lease == c.lease.token
    ledger.release(c.lease, [c.id])
    ledger.release(c.lease, [c.id])
    after = row("a.txt")
    for column in ("status", "lease", "lease_until", "sent", "doubt", "provisional", "attempts", "due_at"):
        assert getattr(after, column) == getattr(before, column), column
    assert names(claim()) == ["a.txt"]


def test_looking_for_due_work_reads_the_partial_index() -> None:
    """So a sweep over ten million synced rows costs what it costs over none."""
    many(3000, status="synced")
    for n in range(3):
        write(f"due/{n}")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    due = Replica.objects.due(timezone.now()).at(TARGET)
    for query in (due, due.order_by("due_at")[:250].values("pk"), due.values("pk")[:1]):
        plan = query.explain()
        assert "replicator_due" in plan, plan
        if not ON_POSTGRESQL:
            assert "SCAN" not in plan, plan
    failed = Replica.objects.failed().at(TARGET).order_by("since").explain()
    assert "replicator_failed" in failed, failed


@postgresql_only
def test_a_backlog_at_one_target_costs_the_others_no_look_through_the_table() -> None:
    """Promise 7: where much is pending, PostgreSQL takes it that some of it is anybody's, and looks for one row in
    the table: of ten million rows, several times a minute."""
    many(20_000, status="pending", target="down")
    table = Replica._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} (file_id, target, node, status, since, due_at, attempts, doubt, provisional,"
            " error_kind, error_text)"
            f" SELECT file_id, %s, '', 'synced', since, due_at, 0, FALSE, FALSE, '', '' FROM {table}",
            [TARGET],
        )
        cursor.execute("ANALYZE")
        with CaptureQueriesContext(connection) as queries:
            assert ledger.due_targets([TARGET]) == []
            assert ledger.due_work([TARGET]) == {}
        for query in queries:
            cursor.execute(f"EXPLAIN {query['sql']}")
            plan = "\n".join(row[0] for row in cursor.fetchall())
            assert "replicator_due" in plan, plan
            assert "Seq Scan" not in plan, plan
