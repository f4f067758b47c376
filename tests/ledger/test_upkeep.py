"""``due_targets``, ``hasten``, ``requeue`` and ``prune``: finding work, clearing up, and what people ask for."""

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
from replicator.errors import Refused, Unavailable
from replicator.ledger import Outcome
from replicator.models import MediaFile, Replica
from tests.ledger.rows import TARGET, ago, claim, many, names, row, seconds_until_due, set_row, synced, write
from tests.ledger.sessions import Session, postgresql_only, wait_until_blocked

pytestmark = pytest.mark.django_db(transaction=True)

Sessions = Callable[[], Session]


def test_targets_with_work_are_found() -> None:
    """New work, retries, ended leases; not what waits or is in hand."""
    write("a", "new", "waiting", "held", "ended")
    Replica.objects.filter(target="waiting").update(due_at=timezone.now() + timedelta(hours=1))
    ledger.claim("held", 1)
    ledger.claim("ended", 1)
    Replica.objects.filter(target="ended").update(lease_until=ago(seconds=1))
    assert ledger.due_targets(["ended", "held", "new", "unknown", "waiting"]) == ["ended", "new"]


# hasten


def test_what_waits_for_a_target_is_due_when_it_is_up() -> None:
    """In batches; other targets' retries keep their time."""
    later = timezone.now() + timedelta(hours=1)
    many(25, due_at=later)
    write("elsewhere", "media2")
    Replica.objects.filter(target="media2").update(due_at=later)
    assert ledger.hasten(TARGET, batch=10) == 25
    assert len(claim().claims) == 25
    assert ledger.hasten(TARGET) == 0
    assert ledger.claim("media2", 10).claims == []


def test_a_doubt_window_is_not_cut_short() -> None:
    """Its waiting is not about the target being down."""
    write("a")
    set_row("a", doubt=True)
    batch = claim()
    ledger.settle(batch.lease, [Outcome(batch.claims[0])])
    assert row("a").provisional
    assert ledger.hasten(TARGET) == 0
    assert claim().claims == []


def test_a_confirmation_that_failed_is_hastened() -> None:
    """Its window was over when it was tried: it waits for the target, like any other."""
    write("a")
    set_row("a", doubt=True)
    batch = claim()
    ledger.settle(batch.lease, [Outcome(batch.claims[0])])
    set_row("a", due_at=ago(seconds=1))
    batch = claim()
    ledger.settle(batch.lease, [Outcome(batch.claims[0], Unavailable("no connection"))])
    assert row("a").provisional
    assert ledger.hasten(TARGET) == 1
    batch = claim()
    ledger.settle(batch.lease, [Outcome(batch.claims[0])])
    assert row("a").status == "synced"


# requeue


def fail(*wanted: str) -> None:
    for name in wanted:
        write(name)
    batch = claim()
    assert set(names(batch)) >= set(wanted)
    ledger.settle(batch.lease, [Outcome(c, Refused("no", status=403)) for c in batch.claims])


def test_requeued_is_due_now() -> None:
    """Only what failed; its age counts from here, and it says why it failed until it is tried again."""
    fail("a", "b")
    synced("c")
    Replica.objects.update(since=ago(days=9))
    assert ledger.requeue(Replica.objects.exclude(file__name="b")) == 1
    after = row("a")
    assert (after.status, after.attempts, after.http_status) == ("pending", 0, 403)
    assert timezone.now() - after.since < timedelta(minutes=1)
    assert seconds_until_due("a") <= 0
    assert (row("b").status, row("c").status) == ("failed", "synced")
    assert ledger.requeue(Replica.objects.all()) == 1
    assert ledger.requeue(Replica.objects.all()) == 0


def test_any_selection_is_requeued_in_one_statement() -> None:
    """As the admin and people make them: ordered, joined, sliced, with thousands of rows."""
    many(5000, status="failed")
    selection = Replica.objects.filter(file__storage="default").select_related("file").order_by("-file__name", "pk")
    assert ledger.requeue(selection[:10]) == 10
    assert ledger.requeue(selection.filter(status="failed").distinct()[5:15]) == 10
    with CaptureQueriesContext(connection) as queries:
        assert ledger.requeue(selection) == 4980
    assert len([q for q in queries if q["sql"] not in ("BEGIN", "BEGIN IMMEDIATE", "COMMIT")]) == 1


@postgresql_only
def test_requeueing_never_ends_a_sites_transaction(session: Sessions) -> None:
    """Two that wait for each other would be a deadlock. What is being written is made pending by that."""
    fail("a", "b")
    writer, person = session(), session()
    first, second = Replica.objects.order_by("pk").values_list("file__name", flat=True)
    writer.begin()
    writer.do(write, second)
    requeued = person.start(ledger.requeue, Replica.objects.all())
    time.sleep(0.2)
    writer.do(write, first)
    writer.commit()
    assert requeued.result(timeout=20) == 1
    assert (row("a").status, row("b").status) == ("pending", "pending")


# prune


def tombstone(name: str, *targets: str) -> None:
    """One that every target confirmed two days ago."""
    write(name, *targets, deleted=True)
    MediaFile.objects.filter(name=name).update(updated_at=ago(days=2))
    set_row(name, status="synced", synced_at=ago(days=2), version=MediaFile.objects.get(name=name).version)


def test_a_finished_tombstone_is_removed() -> None:
    """A day after its last target confirmed; in batches."""
    for n in range(5):
        tombstone(f"gone/{n}", "media1", "media2")
    assert ledger.prune(batch=2) == 5
    assert not MediaFile.objects.exists()
    assert not Replica.objects.exists()


@pytest.mark.parametrize(
    ("replica", "file"),
    [
        ({"status": "pending"}, {}),
        ({"status": "failed"}, {}),
        ({"synced_at": ago(hours=23)}, {}),
        ({"version": uuid4()}, {}),
        ({"version": None}, {}),
        ({}, {"updated_at": ago(hours=23)}),
        ({}, {"deleted": False}),
    ],
)
def test_an_unfinished_tombstone_stays(replica: dict[str, object], file: dict[str, object]) -> None:
    """Promise 2: a deleted file never comes back, so what is not confirmed at *every* target is not forgotten."""
    tombstone("a", "media1", "media2")
    Replica.objects.filter(target="media2").update(**replica)
    MediaFile.objects.update(**file)
    assert ledger.prune() == 0
    assert Replica.objects.count() == 2


def test_a_file_written_anew_is_no_tombstone() -> None:
    """However old its deletion was."""
    tombstone("a")
    write("a")
    assert ledger.prune() == 0


@postgresql_only
def test_a_tombstone_that_is_being_written_stays(session: Sessions) -> None:
    """And pruning does not wait for the writer."""
    tombstone("a")
    tombstone("b")
    writer = session()
    writer.begin()
    wanted = writer.do(write, "a")
    assert ledger.prune() == 1
    writer.commit()
    assert row("a").file.version == wanted.version
    assert not MediaFile.objects.filter(name="b").exists()


@postgresql_only
def test_a_write_of_a_name_that_is_being_pruned_is_kept(session: Sessions) -> None:
    """The writer waits, and then finds the name free: nothing is lost."""
    tombstone("a")
    pruner, writer = session(), session()
    pruner.begin()
    assert pruner.do(ledger.prune) == 1
    written = writer.start(write, "a")
    wait_until_blocked(written)
    pruner.commit()
    wanted = written.result(timeout=20)
    assert (row("a").file.version, row("a").status) == (wanted.version, "pending")
