"""Files on nodes' own disks: synced at once where the disk is a target, and noted as outdated where it is none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from replicator import ledger
from replicator.errors import Refused, Unavailable
from replicator.ledger import Outcome, Recorded, Write, life, nodes
from replicator.models import MediaFile, Replica
from tests.ledger.nodes import As
from tests.ledger.rows import ago, row, set_row, write
from tests.ledger.sessions import Session, postgresql_only

pytestmark = pytest.mark.django_db(transaction=True)

Sessions = Callable[[], Session]

OWN = {"web1": {"node": "web1"}, "web2": {"node": "web2"}, "media1": {}}
ALL = ("web1", "web2", "media1")


@pytest.fixture
def at_home(as_node: As) -> As:
    """Node web1, whose disk is the target of that name."""
    as_node("web1", targets=OWN)
    return as_node


def statuses(name: str = "a.txt") -> dict[str, str]:
    return dict(Replica.objects.filter(file__name=name).values_list("target", "status"))


def deliver(name: str, target: str, error: Any = None) -> None:
    batch = ledger.claim(target, 10)
    assert name in [c.name for c in batch.claims]
    assert ledger.settle(batch.lease, [Outcome(c, error) for c in batch.claims]) == []


# Synced at once


@pytest.mark.parametrize("only_if_free", [True, False])
def test_a_file_is_at_its_nodes_own_target_at_once(at_home: As, *, only_if_free: bool) -> None:
    """It was written there. Everywhere else it is pending, as any."""
    wanted = Write("default", "a.txt")
    assert ledger.record(wanted, ALL, only_if_free=only_if_free) is Recorded.NOTED
    assert statuses() == {"web1": "synced", "web2": "pending", "media1": "pending"}
    own, other = row("a.txt", "web1"), row("a.txt", "web2")
    assert own.version == wanted.version
    assert own.synced_at is not None
    assert abs(own.synced_at - timezone.now()) < timedelta(seconds=5)
    assert (own.lease, own.sent, own.doubt, own.provisional) == (None, None, False, False)
    assert (other.version, other.synced_at) == (None, None)
    assert {own.node, other.node} == {"web1"}


def test_an_overwrite_is_there_at_once_too(at_home: As) -> None:
    """Whatever was known before: failed, waiting for another try, or an older version."""
    write("a.txt", *ALL)
    for columns in (
        {"status": "pending", "attempts": 7, "error_kind": "unavailable", "http_status": 503},
        {"status": "failed", "attempts": 7, "error_kind": "refused", "error_text": "no"},
        {"status": "synced", "version": None},
    ):  # fmt: skip
        Replica.objects.filter(target="web1").update(synced_at=ago(days=2), **columns)
        second = Write("default", "a.txt")
        assert ledger.record(second, ALL) is Recorded.NOTED
        own = row("a.txt", "web1")
        assert (own.status, own.version, own.attempts, own.error_kind) == ("synced", second.version, 0, "")
        assert (own.error_text, own.http_status) == ("", None)
        assert own.synced_at is not None
        assert timezone.now() - own.synced_at < timedelta(seconds=5)


def test_another_nodes_target_is_sent_what_is_written_here(at_home: As) -> None:
    """Also what it had at once before."""
    first = write("a.txt", *ALL)
    at_home("web2")
    second = write("a.txt", *ALL)
    assert statuses() == {"web1": "pending", "web2": "synced", "media1": "pending"}
    assert row("a.txt", "web1").version == first.version
    assert row("a.txt", "web2").version == second.version


@pytest.mark.parametrize("ended", [False, True])
def test_under_a_lease_a_file_is_not_there_at_once(at_home: As, *, ended: bool) -> None:
    """Promise 2: whoever has the lease, or had it, may be about to overwrite this disk with something older."""
    at_home("web2")
    first = write("a.txt", *ALL)
    deliver("a.txt", "web1")
    write("a.txt", *ALL)
    [held] = ledger.claim("web1", 1).claims
    if ended:
        Replica.objects.filter(target="web1").update(lease_until=ago(seconds=1))
    before = row("a.txt", "web1")
    at_home("web1")
    assert ledger.record(Write("default", "a.txt"), ALL) is Recorded.DISTURBED
    after = row("a.txt", "web1")
    assert (after.status, after.node) == ("pending", "web1")
    assert (after.version, after.synced_at) == (first.version, before.synced_at), "what was confirmed before"
    assert (after.lease, after.lease_until, after.sent) == (before.lease, before.lease_until, None)
    assert after.lease == held.lease.token
    if not ended:
        # The older version is settled, which counts for nothing; this node's own delivery is what counts.
        ledger.settle(held.lease, [Outcome(held)])
        assert statuses()["web1"] == "pending"
    deliver("a.txt", "web1")
    assert row("a.txt", "web1").provisional is ended
    assert statuses()["web1"] == ("pending" if ended else "synced")


@pytest.mark.parametrize("provisional", [False, True])
def test_in_doubt_a_file_is_not_there_at_once(at_home: As, *, provisional: bool) -> None:
    """Promise 2: a request that got no answer may still overwrite this disk; nor is the doubt forgotten."""
    write("a.txt", *ALL)
    set_row("a.txt", doubt=True, provisional=provisional, status="pending", due_at=ago(seconds=-60))
    assert ledger.record(Write("default", "a.txt"), ALL) is Recorded.DISTURBED
    own = row("a.txt", "web1")
    assert (own.status, own.doubt, own.provisional, own.sent) == ("pending", True, False, None)
    assert own.due_at <= timezone.now()


def test_in_a_doubt_that_failed_for_good_a_file_is_not_there_at_once(at_home: As) -> None:
    """It is made pending again, as by any write."""
    write("a.txt", *ALL)
    set_row("a.txt", doubt=True, status="failed")
    assert ledger.record(Write("default", "a.txt"), ALL) is Recorded.DISTURBED
    assert statuses()["web1"] == "pending"


def test_a_delete_is_sent_to_this_disk_too(at_home: As) -> None:
    """The local file goes only when the transaction commits, and may not go at all."""
    write("a.txt", *ALL)
    assert ledger.record(Write("default", "a.txt", deleted=True), ALL) is Recorded.NOTED
    assert set(statuses().values()) == {"pending"}
    # Nor is a name that was deleted, and is taken again while the DELETE is under way, there at once.
    ledger.claim("web1", 1)
    again = ledger.record(Write("default", "a.txt"), ALL, only_if_free=True)
    assert again is Recorded.DISTURBED
    assert statuses()["web1"] == "pending"


def test_a_taken_name_changes_nothing(at_home: As) -> None:
    first = write("a.txt", *ALL)
    at_home("web2")
    assert ledger.record(Write("default", "a.txt"), ALL, only_if_free=True) is Recorded.TAKEN
    assert not Recorded.TAKEN
    assert statuses() == {"web1": "synced", "web2": "pending", "media1": "pending"}
    assert row("a.txt", "web1").version == first.version


def test_a_storage_that_is_not_at_home_there_is_pending_everywhere(at_home: As) -> None:
    """Whether it is decided by the storage's own targets."""
    assert ledger.record(Write("default", "a.txt"), ("media1", "web2")) is Recorded.NOTED
    assert statuses() == {"media1": "pending", "web2": "pending"}
    set_row("a.txt", doubt=True)
    assert ledger.record(Write("default", "a.txt"), ("media1", "web2")) is Recorded.NOTED


def test_with_a_shared_disk_the_option_means_nothing(at_home: As) -> None:
    """Every node's workers would then find the file on "their" disk, and no target is the only one."""
    at_home(None, NODE="web1")
    write("a.txt", *ALL)
    assert set(statuses().values()) == {"pending"}
    assert set(Replica.objects.values_list("node", flat=True)) == {""}


@pytest.mark.parametrize("count", [1, 3, 20])
def test_a_write_at_home_takes_two_statements(at_home: As, count: int) -> None:
    """Promise 4: whatever the number of targets, for a new name, a known one, and one in doubt."""
    targets = {"web1": {"node": "web1"}, **{f"media{n}": {} for n in range(count)}}
    at_home("web1", targets=targets)
    life.closed()  # which targets drain is read once a minute, unless announcing has read it meanwhile
    for _ in range(3):
        with transaction.atomic(), CaptureQueriesContext(connection) as queries:
            assert ledger.record(Write("default", "a.txt"), list(targets))
        assert len(queries) == 2
        Replica.objects.update(doubt=True)


def test_what_was_at_home_is_confirmed_as_any(at_home: As) -> None:
    """Failures of the others leave it alone; and prune waits for all."""
    write("a.txt", *ALL)
    deliver("a.txt", "web2")
    deliver("a.txt", "media1", Refused("403 Forbidden"))
    assert statuses() == {"web1": "synced", "web2": "synced", "media1": "failed"}


# Alone with this disk


def test_this_disk_is_held_only_if_nothing_is_on_its_way(at_home: As) -> None:
    """For the clean-up, which looks and then acts."""
    write("a.txt", *ALL)
    file = MediaFile.objects.get()

    def held() -> bool:
        with transaction.atomic():
            return nodes.hold_home(file)

    assert held()
    own = Replica.objects.filter(target="web1")
    own.update(doubt=True)
    assert not held()
    own.update(doubt=False, status="pending")
    assert held()
    Replica.objects.filter(target="web2").update(doubt=True)
    assert held(), "that is another disk"
    ledger.claim("web1", 1)
    assert not held()
    own.update(lease_until=ago(hours=1))
    assert not held(), "who had it may still be sending"
    own.delete()
    assert held()
    at_home("web1", targets={"web1": {}})
    with CaptureQueriesContext(connection) as queries:
        assert held()
    assert not any("SELECT" in query["sql"] for query in queries), "nobody pays for what is no target"


@postgresql_only
def test_nobody_claims_what_is_to_be_sent_to_a_disk_that_is_held(at_home: As, session: Sessions) -> None:
    """And a claim that is being made is not waited for: the clean-up comes again."""
    at_home("web2")
    write("a.txt", *ALL)
    at_home("web1")
    file = MediaFile.objects.get()
    tidy, worker = session(), session()
    tidy.begin()
    assert tidy.do(nodes.hold_home, file)
    at_home("web2")
    assert worker.do(ledger.claim, "web1", 1).claims == []
    tidy.commit()
    worker.begin()
    assert len(worker.do(ledger.claim, "web1", 1).claims) == 1
    at_home("web1")
    tidy.begin()
    assert tidy.do(nodes.hold_home, file) is False
    worker.commit()


# Outdated at


def outdated(name: str = "a.txt") -> str:
    return MediaFile.objects.get(name=name).outdated_at


def test_what_another_node_writes_is_outdated_where_it_was(as_node: As) -> None:
    """Each write notes the disk that had the last version; nobody is noted twice."""
    steps = [
        ("web1", ""),
        ("web1", ""),
        ("web2", ",web1,"),
        ("web2", ",web1,"),
        ("web1", ",web1,web2,"),
        ("web2", ",web1,web2,"),
        ("web3", ",web1,web2,"),
        ("web1", ",web1,web2,web3,"),
    ]
    for node, expected in steps:
        as_node(node)
        write("a.txt", "media1")
        assert outdated() == expected, (node, expected)


def test_what_another_node_deletes_is_outdated_where_it_was(as_node: As) -> None:
    write("a.txt")
    as_node("web2")
    write("a.txt", deleted=True)
    assert outdated() == ",web1,"
    as_node("web3")
    assert ledger.record(Write("default", "a.txt"), ["media1"], only_if_free=True)
    assert outdated() == ",web1,web2,"


def test_a_node_that_deletes_its_own_file_has_nothing_outdated(as_node: As) -> None:
    write("a.txt")
    write("a.txt", deleted=True)
    assert outdated() == ""


def test_a_taken_name_is_not_outdated_anywhere(as_node: As) -> None:
    write("a.txt")
    as_node("web2")
    assert not ledger.record(Write("default", "a.txt"), ["media1"], only_if_free=True)
    assert outdated() == ""


def test_a_disk_that_is_a_target_of_the_file_is_never_outdated(at_home: As) -> None:
    """What is written elsewhere is sent there. If the storage has that target; and of the others it is noted."""
    write("a.txt", *ALL)
    write("b.txt", "media1")
    at_home("web2")
    write("a.txt", *ALL)
    write("b.txt", "media1")
    assert (outdated("a.txt"), outdated("b.txt")) == ("", ",web1,")
    at_home("web3")
    write("a.txt", *ALL)
    assert outdated("a.txt") == ""
    at_home("web1")
    write("a.txt", *ALL)
    assert outdated("a.txt") == ",web3,"


@pytest.mark.parametrize(("one", "other"), [("web_1", "web-1"), ("web-1", "web_1"), ("web1", "web11"), ("b", "a.b")])
def test_nodes_with_names_alike_are_two(as_node: As, one: str, other: str) -> None:
    """Underscores and the like mean something to LIKE."""
    as_node(one)
    write("a.txt")
    as_node(other)
    write("a.txt")
    as_node(one)
    write("a.txt")
    as_node("third")
    write("a.txt")
    assert outdated() == f",{one},{other},"
    file = MediaFile.objects.get()
    nodes.note_up_to_date(file, one)
    assert outdated() == f",{other},"
    assert nodes.outdated(one, 10) == []
    assert nodes.outdated(other, 10) == [file]
    nodes.note_up_to_date(MediaFile.objects.get(), other)
    assert outdated() == ""
    assert nodes.outdated(other, 10) == []


def test_outdated_files_are_given_in_portions(as_node: As) -> None:
    for name in "abc":
        write(name)
    as_node("web2")
    for name in "cba":
        write(name)
    assert [file.name for file in nodes.outdated("web1", 2)] == ["a", "b"]
    nodes.note_up_to_date(MediaFile.objects.get(name="a"), "web1")
    assert [file.name for file in nodes.outdated("web1", 2)] == ["b", "c"]


def test_what_nobody_is_known_to_have_is_outdated_nowhere(as_node: As) -> None:
    """Adopted from a target, or from before the nodes had names."""
    ledger.record_held([Write("default", "a.txt")], "media1")
    write("a.txt")
    assert outdated() == ""


def test_static_files_are_not_marked(as_node: As) -> None:
    """Each node collects those of its own release."""
    ledger.record_changed([Write("default", "a.css", size=1, sha256="a")], ["media1"])
    as_node("web2")
    ledger.record_changed([Write("default", "a.css", size=2, sha256="b")], ["media1"])
    assert outdated("a.css") == ""
    assert MediaFile.objects.get().node == "web2"


def test_a_shared_disk_has_nothing_outdated(as_node: As) -> None:
    as_node(None, NODE="web1")
    write("a.txt")
    as_node(None, NODE="web2")
    write("a.txt")
    assert outdated() == ""


def test_a_rolled_back_overwrite_leaves_the_disk_up_to_date(as_node: As) -> None:
    """Promise 3: else it would lose the only copy."""
    write("a.txt")
    as_node("web2")
    with transaction.atomic():
        write("a.txt")
        transaction.set_rollback(True)
    assert outdated() == ""


# Tombstones


def test_a_tombstone_stays_until_every_node_has_removed_the_file(as_node: As) -> None:
    """Promise 2: a node that comes back, and finds a file that the ledger has forgotten, would take it for new."""
    write("a.txt", "media1")
    as_node("web2")
    write("a.txt", "media1", deleted=True)
    deliver("a.txt", "media1")
    long_ago = ago(days=2)
    Replica.objects.update(synced_at=long_ago)
    MediaFile.objects.update(updated_at=long_ago)
    assert ledger.prune() == 0
    nodes.note_up_to_date(MediaFile.objects.get(), "web1")
    assert ledger.prune() == 1


def test_a_delete_that_fails_is_tried_by_its_own_node(as_node: As) -> None:
    """It could be any: but then each delete would wake all."""
    nodes.note_seen("web1")
    write("a.txt", "media1", deleted=True)
    deliver("a.txt", "media1", Unavailable("503"))
    set_row("a.txt", due_at=ago(seconds=1))
    as_node("web2")
    assert ledger.claim("media1", 1).claims == []
    as_node("web1")
    deliver("a.txt", "media1")
