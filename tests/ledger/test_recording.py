"""``record``, ``record_new`` and ``hold``: what is noted in the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable
from threading import Barrier, Event
from uuid import UUID, uuid4

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from replicator import ledger
from replicator.errors import Refused
from replicator.ledger import Outcome, Recorded, Write, life
from replicator.models import MediaFile, Replica
from tests.ledger.rows import claim, row, seconds_until_due, set_row, synced, write
from tests.ledger.sessions import Session, postgresql_only, wait_until_blocked

pytestmark = pytest.mark.django_db(transaction=True)

Sessions = Callable[[], Session]


@pytest.mark.parametrize("count", [0, 1, 3, 50])
def test_a_write_takes_two_statements_whatever_the_number_of_targets(count: int) -> None:
    """Promise 4: saving never waits for a target, and hardly for the ledger."""
    targets = [f"media{n}" for n in range(count)]
    life.closed()  # which targets drain is read once a minute, unless announcing has read it meanwhile
    for _ in range(2):  # a new name, and one that is known
        with transaction.atomic(), CaptureQueriesContext(connection) as queries:
            ledger.record(Write("default", "a.txt"), targets)
        assert len(queries) == (2 if count else 1)
    assert Replica.objects.count() == count


def test_a_write_over_what_was_seen_is_noted_only_if_that_is_still_so() -> None:
    """Promise 2, for who looked first and then took his time: a write in between wins, a delete too."""

    def over(version: UUID | None) -> Recorded:
        return ledger.record_over(Write("default", "a.txt", size=9), ["media1", "media2"], version)

    assert over(uuid4()) is Recorded.NOTED, "one that the ledger does not know any more has been pruned"
    MediaFile.objects.all().delete()
    assert over(None) is Recorded.NOTED
    assert over(None) is Recorded.TAKEN
    seen = row("a.txt").file.version
    assert over(seen) is Recorded.NOTED
    assert row("a.txt").file.version != seen
    write("a.txt", "media1", deleted=True)
    before = row("a.txt")
    assert over(seen) is Recorded.TAKEN
    assert over(None) is Recorded.TAKEN, "a tombstone is something too"
    after = row("a.txt")
    assert (after.file.version, after.file.deleted, after.due_at) == (before.file.version, True, before.due_at)
    assert over(before.file.version) is Recorded.NOTED
    assert not row("a.txt").file.deleted


def test_a_rolled_back_write_leaves_nothing() -> None:
    """Promise 3: also of a name that is known."""
    synced("old.txt")
    before = row("old.txt")
    with transaction.atomic():
        write("new.txt")
        write("old.txt", deleted=True)
        transaction.set_rollback(True)
    assert not MediaFile.objects.filter(name="new.txt").exists()
    after = row("old.txt")
    assert (after.status, after.due_at, after.file.version, after.file.deleted) == (
        "synced", before.due_at, before.file.version, False,
    )  # fmt: skip


def test_a_write_makes_every_target_due() -> None:
    """Whatever was known of the version before is no longer of interest."""
    first = write("a.txt", "media1", "media2")
    batch = claim()
    ledger.settle(batch.lease, [Outcome(batch.claims[0], Refused("no", status=403))])
    assert row("a.txt").status == "failed"
    second = write("a.txt", "media1", "media2", size=7, sha256="ab", content_type="text/plain", mogile_class="x")
    assert second.version != first.version
    for target in ("media1", "media2"):
        after = row("a.txt", target)
        assert (after.status, after.attempts, after.sent) == ("pending", 0, None)
        assert (after.error_kind, after.error_text, after.http_status) == ("", "", None)
        assert seconds_until_due("a.txt") <= 0
        file = after.file
        assert (file.version, file.size, file.sha256) == (second.version, 7, "ab")
        assert (file.content_type, file.mogile_class, file.deleted) == ("text/plain", "x", False)


def test_a_write_never_touches_a_lease() -> None:
    """Two senders could finish in either order."""
    write("a.txt")
    claim()
    before = row("a.txt")
    write("a.txt")
    after = row("a.txt")
    assert after.lease == before.lease is not None
    assert after.lease_until == before.lease_until
    assert after.sent is None
    assert claim().claims == []


def test_a_write_of_the_same_version_twice_is_as_once() -> None:
    """The ledger's functions are safe to call twice."""
    again = write("a.txt")
    ledger.record(again, ["media1"])
    assert row("a.txt").file.version == again.version
    assert MediaFile.objects.count() == Replica.objects.count() == 1


def test_a_living_name_is_not_free() -> None:
    """Two web hosts never take the same name: the second learns of it, and nothing changes."""
    first = write("a.txt")
    assert ledger.record(Write("default", "a.txt"), ["media1", "media2"], only_if_free=True) is Recorded.TAKEN
    assert row("a.txt").file.version == first.version
    assert not Replica.objects.filter(target="media2").exists()
    assert ledger.record(Write("other", "a.txt"), ["media1"], only_if_free=True), "another storage's name"


def test_a_deleted_name_is_free() -> None:
    """Its row is used again, doubts and all."""
    write("a.txt", deleted=True)
    set_row("a.txt", doubt=True)
    again = Write("default", "a.txt")
    assert ledger.record(again, ["media1"], only_if_free=True)
    assert row("a.txt").file.version == again.version
    assert not row("a.txt").file.deleted
    assert row("a.txt").doubt
    assert ledger.is_recorded("default", "a.txt")


def test_one_of_many_who_choose_a_name_at_once_gets_it(session: Sessions) -> None:
    """With real sessions, at the same moment; also when the name was deleted before."""
    sessions = [session() for _ in range(4)]
    for name in ("new.txt", "deleted.txt"):
        if name == "deleted.txt":
            write(name, deleted=True)
        barrier = Barrier(4)

        def choose(name: str = name, barrier: Barrier = barrier) -> bool:
            connection.ensure_connection()
            barrier.wait(timeout=10)
            return bool(ledger.record(Write("default", name), ["media1"], only_if_free=True))

        assert sorted(f.result(timeout=20) for f in [s.start(choose) for s in sessions]) == [False] * 3 + [True]


@postgresql_only
@pytest.mark.parametrize("commits", [True, False])
def test_the_second_to_choose_a_name_waits_for_the_first(session: Sessions, commits: bool) -> None:
    """What was not committed has taken no name yet."""
    first, second = session(), session()
    first.begin()
    assert first.do(ledger.record, Write("default", "a.txt"), ["media1"], only_if_free=True)
    answer = second.start(ledger.record, Write("default", "a.txt"), ["media1"], only_if_free=True)
    wait_until_blocked(answer)
    first.commit() if commits else first.roll_back()
    assert answer.result(timeout=20) is not commits


def test_adopting_skips_what_is_known() -> None:
    """A tombstone too: a deleted file never comes back."""
    living, dead = write("living.txt"), write("dead.txt", deleted=True)
    wanted = [Write("default", name) for name in ("new2.txt", "living.txt", "dead.txt", "new1.txt")]
    assert ledger.record_new(wanted, ["media1", "media2"]) == 2
    assert row("living.txt").file.version == living.version
    assert row("dead.txt").file.version == dead.version
    assert row("new1.txt", "media2").status == "pending"
    assert Replica.objects.count() == 2 + 2 * 2
    assert ledger.record_new(wanted, ["media1"]) == 0
    assert ledger.record_new([], ["media1"]) == 0


@pytest.mark.parametrize("known", [True, False])
def test_whoever_holds_a_name_is_alone_with_it(session: Sessions, known: bool) -> None:
    """A writer waits: a local clean-up must not meet a file that is just being put in its place."""
    if known:
        write("a.txt")
    holding, may_end, other = Event(), Event(), session()

    def hold() -> None:
        with ledger.hold("default", "a.txt") as held:
            assert (held is not None) is known
            holding.set()
            assert may_end.wait(timeout=20)

    keeper = session()
    held = keeper.start(hold)
    assert holding.wait(timeout=20)
    written = other.start(write, "a.txt")
    try:
        with pytest.raises(TimeoutError):
            written.result(timeout=0.3)
    finally:
        may_end.set()
    held.result(timeout=20)
    wanted = written.result(timeout=20)
    assert row("a.txt").file.version == wanted.version


def test_holding_an_unknown_name_leaves_no_row() -> None:
    """Also when the work in it fails."""
    with ledger.hold("default", "a.txt") as held:
        assert held is None
    with pytest.raises(RuntimeError), ledger.hold("default", "a.txt"):
        raise RuntimeError
    assert not MediaFile.objects.exists()


def test_holding_a_name_that_is_written_meanwhile_keeps_the_write() -> None:
    """In one transaction: what the block records stays."""
    with ledger.hold("default", "a.txt"):
        wanted = write("a.txt")
    assert row("a.txt").file.version == wanted.version


@postgresql_only
def test_a_name_can_be_held_while_its_tombstone_is_pruned(session: Sessions) -> None:
    """The clean-up waits, and then finds that the name is unknown."""
    write("a.txt", deleted=True)
    pruner, keeper = session(), session()
    pruner.begin()
    pruner.do(MediaFile.objects.all().delete)

    def hold() -> MediaFile | None:
        with ledger.hold("default", "a.txt") as held:
            return held

    held = keeper.start(hold)
    wait_until_blocked(held)
    pruner.commit()
    assert held.result(timeout=20) is None
    assert not MediaFile.objects.exists()
