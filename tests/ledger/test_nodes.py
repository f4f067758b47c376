"""Nodes with disks of their own: whose replicas are claimed by whom, and which nodes are there."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from replicator import ledger
from replicator.errors import LocalMissing
from replicator.ledger import Outcome, health, nodes
from replicator.models import MediaFile, NodeState, Replica, Slot
from tests.ledger.nodes import As
from tests.ledger.rows import TARGET, ago, claim, names, row, set_row, write
from tests.ledger.sessions import Session, postgresql_only

pytestmark = pytest.mark.django_db(transaction=True)

Sessions = Callable[[], Session]


def seen(node: str, when: Any = None) -> None:
    NodeState.objects.update_or_create(node=node, defaults={"seen_at": when or timezone.now()})


def gone(*names: str) -> None:
    for name in names:
        seen(name, ago(seconds=301))


# Which nodes are there


def test_a_node_is_gone_when_it_gave_no_sign_for_long(as_node: As) -> None:
    seen("web2", ago(seconds=295))
    gone("web3")
    assert not nodes.is_gone("web2")
    assert nodes.is_gone("web3")
    as_node("web1", NODE_GONE_AFTER=200)
    assert nodes.is_gone("web2")


def test_a_node_that_never_had_workers_is_gone_when_work_has_waited_for_so_long(as_node: As) -> None:
    """A site is set up on it, and nobody started workers there: its files must not wait in silence."""
    as_node("web2")
    write("a.txt")
    as_node("web1")
    assert not nodes.is_gone("web2")
    set_row("a.txt", due_at=ago(seconds=301))
    assert nodes.is_gone("web2")
    assert not nodes.is_gone("web4"), "nothing waits for it"
    # Others have tried: that it waits for another try does not bring the node back.
    batch = ledger.claim(TARGET, 1)
    ledger.settle(batch.lease, [Outcome(batch.claims[0], LocalMissing("only the node web2 had it"))])
    assert row("a.txt").due_at > timezone.now()
    assert nodes.is_gone("web2")
    # At a target that the settings do not name nothing is delivered anyway.
    set_row("a.txt", target="retired")
    assert not nodes.is_gone("web2")


def test_a_sign_of_life_is_noted_now_and_then(as_node: As) -> None:
    """It is on the path of every batch."""
    assert nodes.known() == []
    nodes.note_seen("web2")
    assert nodes.known() == ["web2"]
    first = NodeState.objects.get().seen_at
    with CaptureQueriesContext(connection) as queries:
        assert nodes.note_seen("web2") is False
    assert len(queries) == 1
    assert NodeState.objects.get().seen_at == first
    seen("web2", ago(seconds=11))
    assert nodes.note_seen("web2") is False
    assert timezone.now() - NodeState.objects.get().seen_at < timedelta(seconds=5)
    nodes.note_seen("web1")
    assert nodes.known() == ["web1", "web2"]


def test_a_node_that_was_gone_learns_it_once(as_node: As) -> None:
    """It then makes its files due, which others may have tried meanwhile."""
    gone("web1")
    assert nodes.note_seen("web1") is True
    assert nodes.note_seen("web1") is False


def test_a_node_whose_workers_come_for_the_first_time_was_gone(as_node: As) -> None:
    """Its site may have saved files for hours, which others have tried."""
    assert nodes.note_seen("web1") is True
    assert nodes.note_seen("web1") is False


# Whose replicas are claimed


def test_a_node_claims_its_own_replicas_then_those_of_any_then_those_of_the_gone(as_node: As) -> None:
    """Its own first, however long the others have waited; never those of a node that lives."""
    for node in ("web2", "web3", "web4"):
        as_node(node)
        write(f"{node}.txt")
    as_node(None)
    write("any.txt")
    as_node("web1")
    write("own.txt")
    for age, name in enumerate(("own.txt", "any.txt", "web2.txt", "web3.txt", "web4.txt")):
        set_row(name, due_at=ago(seconds=age))
    seen("web2")
    gone("web3", "web4")
    assert nodes.to_serve(TARGET) == ["web1", "", "web3", "web4"]
    assert [names(claim(1)) for _ in range(5)] == [["own.txt"], ["any.txt"], ["web3.txt"], ["web4.txt"], []]
    assert row("web2.txt").lease is None
    gone("web2")
    assert names(claim()) == ["web2.txt"]


def test_one_claim_takes_from_several_nodes_up_to_its_limit(as_node: As) -> None:
    for node in ("web1", "web2"):
        as_node(node)
        for number in range(3):
            write(f"{node}/{number}.txt")
    gone("web2")
    as_node("web1")
    batch = claim(4)
    assert sorted(names(batch)) == ["web1/0.txt", "web1/1.txt", "web1/2.txt", "web2/0.txt"]
    assert len({c.lease.token for c in batch.claims}) == 1
    assert Replica.objects.filter(lease=None).count() == 2


def test_a_claim_of_one_storage_goes_by_nodes_too(as_node: As) -> None:
    as_node("web2")
    ledger.record(ledger.Write("other", "b.txt"), [TARGET])
    as_node("web1")
    ledger.record(ledger.Write("other", "a.txt"), [TARGET])
    write("c.txt")
    assert names(ledger.claim(TARGET, 10, storage="other")) == ["a.txt"]


def test_with_a_shared_disk_nobody_asks_for_nodes(as_node: As) -> None:
    """One process, one query for the rows: as it was."""
    as_node(None)
    write("a.txt")
    assert Replica.objects.get().node == ""
    with CaptureQueriesContext(connection) as queries:
        assert names(claim()) == ["a.txt"]
    assert not any("nodestate" in query["sql"] for query in queries)
    assert nodes.to_serve(TARGET) == [""]
    assert ledger.due_targets([TARGET]) == []


def test_a_replica_goes_to_the_node_that_wrote_last(as_node: As) -> None:
    """It is the one that has the file."""
    write("a.txt")
    assert row("a.txt").node == "web1"
    as_node("web2")
    write("a.txt")
    assert (row("a.txt").node, row("a.txt").file.node) == ("web2", "web2")
    assert names(claim()) == ["a.txt"]
    as_node("web1")
    assert names(claim()) == []


def test_due_targets_are_those_that_this_node_may_work_for(as_node: As) -> None:
    as_node("web2")
    write("a.txt", "media1")
    as_node("web1")
    write("b.txt", "media2")
    assert ledger.due_targets(["media1", "media2"]) == ["media2"]
    gone("web2")
    assert ledger.due_targets(["media1", "media2"]) == ["media1", "media2"]


def test_due_work_is_found_for_every_node(as_node: As) -> None:
    """Beat is on one of them, and wakes them all. What waits for one that is gone is anybody's."""
    for node, targets in {"web1": ["media1"], "web2": ["media1", "media2"], "web3": ["media1"]}.items():
        as_node(node)
        write(f"{node}.txt", *targets)
    as_node(None)
    write("any.txt", "media1", "media2")
    as_node("web1")
    write("later.txt", "media2")
    set_row("later.txt", due_at=timezone.now() + timedelta(hours=1))
    for node in ("web1", "web2"):
        seen(node)
    gone("web3")
    assert ledger.due_work(["media1", "media2"]) == {
        "": ["media1", "media2"],
        "web1": ["media1"],
        "web2": ["media1", "media2"],
    }


def test_nodes_with_pending_replicas_are_found_by_one_look_each(as_node: As) -> None:
    for node in ("web1", "web2", "web3"):
        as_node(node)
        for number in range(20):
            write(f"{node}/{number}.txt")
    set_row("web1/0.txt", node="")
    Replica.objects.filter(node="web3").update(status="synced")
    with CaptureQueriesContext(connection) as queries:
        assert nodes.with_pending(TARGET) == ["", "web1", "web2"]
    assert len(queries) == 4
    assert nodes.with_pending("media2") == []


def test_waiting_replicas_of_one_node_are_hastened(as_node: As) -> None:
    """It is back: its files are due. Others' retries keep their time; without a node, all are."""
    later = timezone.now() + timedelta(hours=1)
    for node in ("web1", "web2"):
        as_node(node)
        for number in range(5):
            write(f"{node}/{number}.txt")
    Replica.objects.update(due_at=later)
    as_node("web1")
    assert ledger.hasten(TARGET, node="web1", batch=2) == 5
    assert {c.name[:4] for c in claim().claims} == {"web1"}
    assert set(Replica.objects.of("web2").values_list("due_at", flat=True)) == {later}
    assert ledger.hasten(TARGET) == 5


# A disk that is shared again


def test_a_shared_disk_makes_everything_anybodys(as_node: As) -> None:
    """In batches; else what waited for a node's queue would wait for ever."""
    for node in ("web1", "web2"):
        as_node(node)
        for number in range(5):
            write(f"{node}/{number}.txt", "media1", "media2")
    as_node(None)
    write("c.txt", "media1")
    Replica.objects.filter(file__name="web1/0.txt", target="media2").update(status="synced")
    assert claim().claims[0].name == "c.txt"
    assert nodes.share(batch=2) == 19
    assert set(Replica.objects.pending().values_list("node", flat=True)) == {""}
    assert Replica.objects.get(status="synced").node == "web1"
    assert nodes.share() == 0
    assert len(claim().claims) == 10


@postgresql_only
def test_sharing_passes_over_what_a_site_is_writing(as_node: As, session: Sessions) -> None:
    """A worker never waits for a transaction of the site."""
    write("a.txt")
    write("b.txt")
    as_node(None)
    site = session()
    site.begin()
    site.do(lambda: Replica.objects.filter(file__name="a.txt").update(attempts=1))
    sweep = session().start(nodes.share)
    assert sweep.result(timeout=60) == 1
    site.commit()
    assert nodes.share() == 1


# Slots


def test_each_node_has_slots_of_its_own(as_node: As) -> None:
    """Its files wait for its workers only: others' that are busy with the target must not take their place."""
    assert health.take_slot(TARGET, 1, uuid4(), 60)
    assert not health.take_slot(TARGET, 1, uuid4(), 60)
    as_node("web2")
    token = uuid4()
    assert health.take_slot(TARGET, 1, token, 60)
    assert not health.take_slot(TARGET, 1, uuid4(), 60)
    health.free_slot(token)
    assert health.take_slot(TARGET, 1, uuid4(), 60)
    assert sorted(Slot.objects.values_list("node", "number")) == [("web1", 0), ("web2", 0)]
    as_node(None)
    assert health.take_slot(TARGET, 1, uuid4(), 60)


# Where else a file is


def test_sources_hold_this_very_version_and_are_up(as_node: As) -> None:
    as_node("web1", targets=[f"media{n}" for n in range(1, 7)])
    wanted = write("a.txt", *[f"media{n}" for n in range(1, 8)])
    states: dict[str, dict[str, Any]] = {
        "media1": {"status": "pending"},
        "media2": {"status": "synced", "version": wanted.version},
        "media3": {"status": "synced", "version": uuid4()},
        "media4": {"status": "failed", "version": wanted.version},
        "media5": {"status": "synced", "version": wanted.version},
        "media6": {"status": "synced", "version": wanted.version},
        "media7": {"status": "synced", "version": wanted.version},
    }
    for target, columns in states.items():
        Replica.objects.filter(target=target).update(**columns)
    health.mark_down("media5", "connection refused")
    [found] = claim().claims
    assert ledger.sources([found]) == {found.id: ["media2", "media6"]}, "media7 is in no settings any more"
    # Not for a version that was written since, though targets hold that one.
    write("a.txt", "media1", "media2")
    second = MediaFile.objects.get().version
    Replica.objects.filter(target="media2").update(status="synced", version=second)
    assert ledger.sources([found]) == {}


def test_a_target_is_never_its_own_source(as_node: As) -> None:
    """What is to be sent there is not known to be there."""
    write("a.txt", "media1", "media2")
    Replica.objects.filter(target="media1").update(version=MediaFile.objects.get().version)
    [found] = claim().claims
    assert found.confirmed
    assert ledger.sources([found]) == {}


def test_a_file_that_nobody_here_has_is_a_failure_that_is_tried_again(as_node: As) -> None:
    """Promise 1: its row says why not."""
    write("a.txt")
    batch = claim()
    ledger.settle(batch.lease, [Outcome(batch.claims[0], LocalMissing("only the node web3 had it"))])
    after = row("a.txt")
    assert (after.status, after.attempts, after.error_kind) == ("pending", 1, "local-missing")
    assert not after.doubt


# What a claim and a sweep cost


def many_of_others(count: int) -> None:
    """So many due replicas of other nodes at the same target, as old as can be."""
    file, replica = MediaFile._meta.db_table, Replica._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {file} (storage, name, version, deleted, size, sha256, content_type, mogile_class, node,"
            " outdated_at, created_at, updated_at)"
            " SELECT 'default', 'other/' || n, gen_random_uuid(), FALSE, 0, '', '', '', 'web' || (2 + n %% 3), '',"
            " now(), now() FROM generate_series(1, %s) n",
            [count],
        )
        cursor.execute(
            f"INSERT INTO {replica} (file_id, target, node, status, since, due_at, attempts, doubt, provisional,"
            " error_kind, error_text)"
            " SELECT id, %s, node, 'pending', now(), now() - interval '1 day', 0, FALSE, FALSE, '', ''"
            f" FROM {file} WHERE name LIKE 'other/%%'",
            [TARGET],
        )


def plans(work: Callable[[], object]) -> list[dict[str, Any]]:
    """The plan of each query that *work* runs on replicas, with what it read."""
    with CaptureQueriesContext(connection) as queries:
        work()
    wanted = [q["sql"] for q in queries if q["sql"].startswith("SELECT") and Replica._meta.db_table in q["sql"]]
    found = []
    with connection.cursor() as cursor:
        for sql in wanted:
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}")
            answer = cursor.fetchone()
            assert answer is not None
            [explained] = answer[0] if isinstance(answer[0], list) else json.loads(answer[0])
            found.append(explained["Plan"])
    return found


def pages(found: list[dict[str, Any]]) -> list[int]:
    return [plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in found]


def scans(plan: dict[str, Any]) -> set[str]:
    here = {plan.get("Index Name", plan["Node Type"])} if "Relation Name" in plan else set()
    return here.union(*(scans(each) for each in plan.get("Plans", ())))


@postgresql_only
@pytest.mark.parametrize("analyzed", [True, False])
def test_a_claim_and_a_sweep_cost_the_same_whatever_waits_for_others(as_node: As, *, analyzed: bool) -> None:
    """Promise 7, among nodes: a node that stands still with a large backlog does not slow the others' batches."""
    for number in range(5):
        write(f"{number}.txt")
    for node in ("web1", "web2", "web3", "web4"):
        seen(node)

    def sweep() -> None:
        assert ledger.due_targets([TARGET])

    def look() -> None:
        batch = ledger.claim(TARGET, 250)
        assert len(batch.claims) == 5
        Replica.objects.filter(lease=batch.lease.token).update(lease=None, lease_until=None, sent=None)

    with connection.cursor() as cursor:
        if analyzed:
            cursor.execute("ANALYZE")
        before = {work.__name__: pages(plans(work)) for work in (sweep, look)}
        many_of_others(100_000)
        cursor.execute("ANALYZE" if analyzed else "SELECT 1")
    for work in (sweep, look):
        after = plans(work)
        for plan in after[: -1 if work is look else None]:  # the last of a claim's reads the rows that it took
            assert scans(plan) == {"replicator_due"}, plan
        # An index of so many rows has a level more, or two.
        assert max(pages(after)) <= max(before[work.__name__]) + 10, (before, pages(after))


@postgresql_only
def test_finding_what_is_outdated_costs_nothing_while_nothing_is(as_node: As) -> None:
    many_of_others(20_000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        with CaptureQueriesContext(connection) as queries:
            assert nodes.outdated("web1", 100) == []
        cursor.execute(f"EXPLAIN {queries[0]['sql']}")
        assert "replicator_outdated" in "\n".join(line[0] for line in cursor.fetchall())


def test_a_claim_reads_a_range_of_the_due_index(as_node: As) -> None:
    """On SQLite, too: by target and node, in the order of the times."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL's plans depend on numbers: see above")
    write("a.txt")
    with CaptureQueriesContext(connection) as queries:
        claim()
    wanted = next(q["sql"] for q in queries if q["sql"].startswith("SELECT") and "LIMIT 100" in q["sql"])
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {wanted}")
        plan = "\n".join(str(line) for line in cursor.fetchall())
    assert "replicator_due (target=? AND node=? AND due_at<?)" in plan, plan
    assert "TEMP B-TREE" not in plan, plan
