"""``reclass`` and ``record_held``: files whose bytes are where they should be already.

That a change of the class keeps promise 2 in every interleaving is the model's (``tests/model``), which
``test_counterexamples.py`` compares with the ledger.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from replicator import ledger
from replicator.errors import Refused, Unavailable
from replicator.ledger import Claim, Outcome, Write
from replicator.models import MediaFile, Replica
from tests.ledger.rows import TARGET, ago, many, row, seconds_until_due, set_row
from tests.ledger.rows import claim as claim_batch
from tests.ledger.rows import write as write_any
from tests.ledger.sessions import ON_POSTGRESQL, Session, postgresql_only, wait_until_blocked, writers_queue_up

pytestmark = pytest.mark.django_db(transaction=True)

Sessions = Callable[[], Session]
SHA256 = "0" * 64


def write(name: str, *targets: str, **more: Any) -> Write:
    return write_any(name, *targets, **{"size": 5, "sha256": SHA256, **more})


def reclass(wanted: str, names: Iterable[str] = (), targets: Iterable[str] = (TARGET,), **more: Any) -> int:
    """Of *names*, or of all."""
    files = MediaFile.objects.all()
    return ledger.reclass(files.filter(name__in=names) if names else files, wanted, [*targets], **more)


def claim() -> Claim:
    (claimed,) = claim_batch().claims
    return claimed


def settle(claimed: Claim, error: Any = None) -> None:
    assert ledger.settle(claimed.lease, [Outcome(claimed, error)]) == []


def synced(name: str = "a.txt", **more: Any) -> UUID:
    """Record it and have it delivered; its version."""
    version = write(name, **more).version
    settle(claim())
    return version


# reclass


def test_a_new_class_makes_the_targets_with_classes_due() -> None:
    """The others have nothing to do: the bytes are the same, and so is the version."""
    version = write("a.txt", "media1", "media2", mogile_class="avatar").version
    for target in ("media1", "media2"):
        batch = ledger.claim(target, 1)
        settle(batch.claims[0])
    assert reclass("thumb") == 1
    here, there = row("a.txt"), row("a.txt", "media2")
    assert (here.status, here.version, here.attempts, here.sent) == ("pending", version, 0, None)
    assert seconds_until_due("a.txt") <= 0
    assert timezone.now() - here.since < timedelta(minutes=1)
    assert there.status == "synced"
    assert (here.file.version, here.file.mogile_class) == (version, "thumb")
    claimed = claim()
    assert (claimed.version, claimed.mogile_class, claimed.confirmed) == (version, "thumb", True)
    settle(claimed)
    assert (row("a.txt").status, row("a.txt").version) == ("synced", version)


def test_only_living_files_of_another_class_are_given_it() -> None:
    """Safe to call twice; a tombstone has no class."""
    synced("old", mogile_class="avatar")
    synced("new", mogile_class="thumb")
    write("gone", deleted=True)
    settle(claim())
    assert reclass("thumb") == 1
    assert {r.file.name for r in Replica.objects.pending()} == {"old"}
    assert reclass("thumb") == 0
    assert reclass("", ["new"]) == 1, "no class is a class too"


def test_many_are_reclassed_in_batches() -> None:
    """Each a transaction of its own, of four statements at most, so that no save waits for long; and it is told."""
    many(25, status="synced")
    told: list[int] = []
    with CaptureQueriesContext(connection) as queries:
        assert reclass("thumb", batch=10, progress=told.append) == 25
    assert told == [10, 10, 5]
    statements = [q for q in queries if not q["sql"].startswith(("BEGIN", "COMMIT"))]
    assert len(statements) <= 4 * 3
    assert Replica.objects.pending().count() == 25


def test_any_selection_can_be_reclassed() -> None:
    """Ordered, joined, sliced."""
    many(20, status="synced")
    selection = MediaFile.objects.filter(replicas__target=TARGET).order_by("-name").distinct()
    assert ledger.reclass(selection[:7], "thumb", [TARGET], batch=3) == 7
    assert ledger.reclass(selection, "thumb", [TARGET], batch=3) == 13


def test_what_was_never_confirmed_is_sent_whole() -> None:
    """A new file's class can't go without its bytes."""
    write("a.txt", mogile_class="avatar")
    assert reclass("thumb") == 1
    claimed = claim()
    assert (claimed.mogile_class, claimed.confirmed) == ("thumb", False)


def test_a_later_write_is_sent_whole() -> None:
    """What is confirmed is the version before."""
    synced()
    write("a.txt", mogile_class="avatar")
    reclass("thumb")
    assert not claim().confirmed


def test_a_class_that_a_target_refuses_is_corrected() -> None:
    """What failed is pending again, and still known to be there; requeueing it is no second upload either."""
    synced()
    for cure in (lambda: ledger.requeue(Replica.objects.all()), lambda: reclass("thumb")):
        reclass("avatr")
        settle(claim(), Refused("the domain has no class 'avatr'"))
        assert row("a.txt").status == "failed"
        assert cure() == 1
        assert claim().confirmed
        set_row("a.txt", lease=None, lease_until=None, sent=None, status="synced")
        MediaFile.objects.update(mogile_class="")


@pytest.mark.parametrize("ends", ["success", "failure", "refused", "silence", "nothing"])
def test_a_worker_that_is_sending_the_old_class_is_followed_by_another(ends: str) -> None:
    """Promise 2: whatever becomes of its request, the new class is due when it settles, and not before: its lease is
    left alone."""
    write("a.txt", mogile_class="avatar")
    sending = claim()
    assert reclass("thumb") == 1
    assert claim_batch().claims == []
    if ends == "nothing":
        set_row("a.txt", lease_until=ago(seconds=1))
    else:
        errors = {"failure": Unavailable("503"), "refused": Refused("no"), "silence": Unavailable("?", doubt=True)}
        settle(sending, errors.get(ends))
        assert (row("a.txt").status, row("a.txt").attempts) == ("pending", 0)
    again = claim()
    assert (again.mogile_class, again.confirmed) == ("thumb", False)
    assert row("a.txt").doubt is (ends in ("silence", "nothing"))


def test_a_class_changed_in_the_doubt_window_is_sent_whole_and_twice() -> None:
    """Something sent earlier may still take effect: only bytes that come after it are sure to stay."""
    write("a.txt", mogile_class="avatar")
    settle(claim(), Unavailable("no answer", doubt=True))
    set_row("a.txt", due_at=ago(seconds=1))
    settle(claim())
    assert row("a.txt").provisional
    reclass("thumb")
    assert not row("a.txt").provisional
    for expected in ("pending", "synced"):
        claimed = claim()
        assert not claimed.confirmed
        settle(claimed)
        assert row("a.txt").status == expected
        set_row("a.txt", due_at=ago(seconds=1))


def test_a_change_of_class_without_an_answer_is_followed_by_the_bytes() -> None:
    """The late one may undo a later one: that is what a doubt is."""
    synced()
    reclass("avatar")
    settle(claim(), Unavailable("no answer", doubt=True))
    set_row("a.txt", due_at=ago(seconds=1))
    assert not claim().confirmed


def test_a_rolled_back_change_leaves_no_trace() -> None:
    """Promise 3: if a site does it in a transaction of its own."""
    synced(mogile_class="avatar")
    before = Replica.objects.values().get()
    with transaction.atomic():
        assert reclass("thumb") == 1
        transaction.set_rollback(True)
    assert Replica.objects.values().get() == before
    assert MediaFile.objects.get().mogile_class == "avatar"


# reclass, beside others


@postgresql_only
@pytest.mark.parametrize("commits", [True, False])
def test_what_a_site_is_writing_is_passed_over(session: Sessions, commits: bool) -> None:
    """Nobody waits for the site. A write gives the file its storage's class; one that is rolled back leaves it as it
    was, to be found by another run."""
    synced("a.txt")
    synced("b.txt")
    writer = session()
    writer.begin()
    newer = writer.do(write, "b.txt", mogile_class="storage's")
    assert reclass("thumb") == 1
    writer.commit() if commits else writer.roll_back()
    after = row("b.txt")
    if commits:
        assert (after.file.version, after.file.mogile_class, after.status) == (newer.version, "storage's", "pending")
    else:
        assert (after.file.mogile_class, after.status) == ("", "synced")
    assert reclass("thumb") == 1
    assert row("b.txt").file.mogile_class == "thumb"


@postgresql_only
@pytest.mark.parametrize("deleted", [True, False])
def test_a_write_after_a_change_of_class_wins(session: Sessions, deleted: bool) -> None:
    """Promise 2: it waits for the batch, and is not touched by it."""
    synced()
    person, writer = session(), session()
    person.begin()
    assert person.do(reclass, "thumb") == 1
    written = writer.start(write, "a.txt", mogile_class="storage's", deleted=deleted)
    wait_until_blocked(written)
    person.commit()
    wanted = written.result(timeout=20)
    claimed = claim()
    assert (claimed.version, claimed.mogile_class, claimed.deleted) == (wanted.version, "storage's", deleted)
    assert not claimed.confirmed


@postgresql_only
def test_a_delete_that_commits_meanwhile_stays_a_delete(session: Sessions) -> None:
    """Nothing of a tombstone is changed: looked at again when its row is locked."""
    synced()
    writer = session()
    writer.begin()
    gone = writer.do(write, "a.txt", deleted=True)
    assert reclass("thumb") == 0
    writer.commit()
    assert reclass("thumb") == 0
    claimed = claim()
    assert (claimed.version, claimed.deleted, claimed.mogile_class) == (gone.version, True, "")


@postgresql_only
def test_a_worker_claims_what_is_reclassed_before_or_after_not_between(session: Sessions) -> None:
    """Else it would send the old class, and call it the new one."""
    synced(mogile_class="avatar")
    set_row("a.txt", status="pending", due_at=ago(seconds=1))
    person, worker = session(), session()
    # Before the claim: the row is passed over.
    person.begin()
    person.do(reclass, "thumb")
    assert worker.do(claim_batch).claims == []
    person.roll_back()
    # While it is made: the change waits, and then empties ``sent``.
    worker.begin()
    (held,) = worker.do(claim_batch).claims
    changed = person.start(reclass, "thumb")
    wait_until_blocked(changed)
    worker.commit()
    assert changed.result(timeout=20) == 1
    assert held.mogile_class == "avatar"
    assert row("a.txt").sent is None
    settle(held)
    assert claim().mogile_class == "thumb"


@postgresql_only
def test_a_worker_settles_what_is_reclassed_before_or_after_not_between(session: Sessions) -> None:
    """It does not wait for people; the old class is never called synced once the new one is committed."""
    write("a.txt", mogile_class="avatar")
    held = claim()
    person, worker = session(), session()
    person.begin()
    person.do(reclass, "thumb")
    left = worker.do(ledger.settle, held.lease, [Outcome(held)])
    assert [o.claim for o in left] == [held]
    person.commit()
    assert worker.do(ledger.settle, held.lease, left) == []
    assert row("a.txt").status == "pending"
    # The other way round: the settling first.
    held = claim()
    worker.begin()
    assert worker.do(ledger.settle, held.lease, [Outcome(held)]) == []
    changed = person.start(reclass, "avatar")
    wait_until_blocked(changed)
    worker.commit()
    assert changed.result(timeout=20) == 1
    assert (row("a.txt").status, row("a.txt").file.mogile_class) == ("pending", "avatar")


@postgresql_only
def test_no_change_of_class_ends_a_sites_transaction(session: Sessions) -> None:
    """Two that wait for each other would be a deadlock, and the site's could be the one that is ended."""
    synced("a.txt")
    synced("b.txt")
    writer, person = session(), session()
    writer.begin()
    writer.do(write, "b.txt")
    person.begin()
    assert person.do(reclass, "thumb") == 1
    second = writer.start(write, "a.txt")
    wait_until_blocked(second)
    assert person.do(reclass, "other", ["b.txt"]) == 0
    person.commit()
    second.result(timeout=20)
    writer.commit()
    assert {(r.file.mogile_class, r.status) for r in Replica.objects.select_related("file")} == {("", "pending")}


@writers_queue_up
def test_what_is_called_synced_always_has_the_class_that_was_sent(session: Sessions) -> None:
    """People, a site and a worker race over the same files, with real sessions: the last class that a target was told
    of is the file's, of whatever the ledger calls synced, and all get there."""
    names = [f"{n}.txt" for n in range(6)]
    for name in names:
        write(name, mogile_class="c0")
    held: dict[str, tuple[UUID, str]] = {}
    end = time.monotonic() + (3 if ON_POSTGRESQL else 2)

    def change() -> None:
        number = 0
        while time.monotonic() < end:
            number += 1
            reclass(f"c{number}", batch=2)

    def save() -> None:
        while time.monotonic() < end:
            for name in names:
                write(name, mogile_class="saved")
                time.sleep(0.01)

    def work() -> None:
        batch = claim_batch(4)
        for c in batch.claims:
            if c.confirmed:
                assert held[c.name][0] == c.version, "a class went to other bytes"
            held[c.name] = (c.version, c.mogile_class)
        outcomes = [Outcome(c) for c in batch.claims]
        while outcomes:
            outcomes = ledger.settle(batch.lease, outcomes)

    def work_on() -> None:
        while time.monotonic() < end:
            work()
            check()

    def check() -> None:
        files = MediaFile.objects.filter(replicas__status="synced").values_list("name", "version", "mogile_class")
        assert [name for name, *wanted in files if held[name] != tuple(wanted)] == []

    for future in [session().start(job) for job in (change, save, work_on)]:
        future.result(timeout=60)
    for _ in range(10):
        work()
    check()
    assert not Replica.objects.backlog().exists()


# record_held


def held(*names: str, storage: str = "default") -> int:
    return ledger.record_held([Write(storage, n, 5, mogile_class="avatar") for n in names], "mogile")


def test_what_a_target_has_is_recorded_as_synced_there() -> None:
    """And nowhere else: no worker has anything to do, no node has it."""
    assert held("b.txt", "a.txt") == 2
    replica = Replica.objects.select_related("file").get(file__name="a.txt")
    file = replica.file
    assert (replica.target, replica.status, replica.version) == ("mogile", "synced", file.version)
    assert (replica.doubt, replica.provisional, replica.attempts, replica.lease) == (False, False, 0, None)
    assert replica.synced_at is not None
    assert (file.size, file.sha256, file.mogile_class, file.node, file.deleted) == (5, "", "avatar", "", False)
    assert Replica.objects.count() == 2
    assert ledger.is_recorded("default", "a.txt")
    assert len(set(MediaFile.objects.values_list("version", flat=True))) == 2


def test_what_is_known_is_not_recorded_as_held() -> None:
    """A tombstone too: a deleted file never comes back. Another storage's name is another file."""
    known = write("known.txt")
    gone = write("gone.txt", deleted=True)
    assert held("known.txt", "gone.txt", "new.txt", "new.txt") == 1
    assert row("known.txt").file.version == known.version
    assert row("gone.txt").file.version == gone.version
    assert not Replica.objects.filter(target="mogile").exclude(file__name="new.txt").exists()
    assert held("new.txt") == 0
    assert held("new.txt", storage="avatars") == 1
    assert held() == 0


def test_held_files_take_two_statements_a_batch() -> None:
    """Whatever their number; a third says, on PostgreSQL, how long to wait."""
    counts = []
    for count in (1, 500):
        with CaptureQueriesContext(connection) as queries:
            assert held(*(f"{count}/{n}" for n in range(count))) == count
        counts.append(len([q for q in queries if q["sql"].startswith("INSERT")]))
    assert counts == [2, 2]


def test_a_file_that_only_a_target_has_gets_another_class_whatever_the_doubt() -> None:
    """There are no bytes to send; and nobody ever sent any, so that only the class can be in doubt."""
    held("a.txt")
    assert reclass("thumb", targets=["mogile"]) == 1
    (c,) = ledger.claim("mogile", 1).claims
    settle(c, Unavailable("no answer", doubt=True))
    for expected in ("pending", "synced"):
        set_row("a.txt", due_at=ago(seconds=1))
        (c,) = ledger.claim("mogile", 1).claims
        assert (c.confirmed, c.mogile_class) == (True, "thumb")
        settle(c)
        assert row("a.txt", "mogile").status == expected


def test_a_held_file_is_written_and_deleted_like_any_other() -> None:
    """From then on its bytes are known, and doubts are about them."""
    held("a.txt", "b.txt")
    newer = write("a.txt", "mogile", "media2")
    gone = write("b.txt", "mogile", "media2", deleted=True)
    claims = {c.name: c for c in ledger.claim("mogile", 10).claims}
    assert {n: (c.version, c.deleted, c.confirmed) for n, c in claims.items()} == {
        "a.txt": (newer.version, False, False),
        "b.txt": (gone.version, True, False),
    }
    assert len(ledger.claim("media2", 10).claims) == 2


@postgresql_only
@pytest.mark.parametrize("commits", [True, False])
def test_a_save_of_the_same_name_wins(session: Sessions, commits: bool) -> None:
    """Recording what a target has gives way soon, before a wait for each other could end the site's transaction."""
    writer = session()
    writer.begin()
    wanted = writer.do(write, "a.txt")
    began = time.monotonic()
    with pytest.raises(OperationalError):
        held("a.txt", "b.txt")
    assert time.monotonic() - began < 3
    assert not MediaFile.objects.exists(), "half a batch was recorded"
    writer.commit() if commits else writer.roll_back()
    assert held("a.txt", "b.txt") == (1 if commits else 2)
    assert (row("a.txt").file.version == wanted.version) if commits else row("a.txt", "mogile")


@postgresql_only
def test_a_save_after_it_takes_another_name(session: Sessions) -> None:
    """What the target has is not overwritten."""
    person, writer = session(), session()
    person.begin()
    assert person.do(held, "a.txt") == 1
    answer = writer.start(ledger.record, Write("default", "a.txt", 1, SHA256), [TARGET], only_if_free=True)
    wait_until_blocked(answer)
    person.commit()
    assert not answer.result(timeout=20)
    assert row("a.txt", "mogile").status == "synced"
