"""Whatever happens to writers, messages, workers and targets: in the end every target holds what was committed.

``REPLICATOR_EXAMPLES=5000 pytest tests/property`` looks further, and elsewhere each time.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from replicator import delivery, ledger
from replicator.errors import Unavailable
from replicator.models import MediaFile, Replica
from tests.property.faults import FAULTS
from tests.property.world import TARGETS, Change, World

# Mostly the same file at the same target: that is where things meet.
names = st.sampled_from(["a.txt", "a.txt", "a.txt", "b.txt", "d/c.txt"])
aliases = st.sampled_from([TARGETS[0], TARGETS[0], TARGETS[0], TARGETS[1]])
numbers = st.integers(0, 3)
workers = st.integers(0, 1)
#: Small, or more than a target reads at once.
sizes = st.sampled_from([1, 1, 1, 30_000])
simple: st.SearchStrategy[Change] = st.tuples(
    st.sampled_from(["save", "replace", "replace", "copy", "delete"]), names, sizes
)


def in_savepoints(changes: st.SearchStrategy[Change]) -> st.SearchStrategy[Change]:
    return st.tuples(st.just("savepoint"), st.lists(changes, min_size=1, max_size=3), st.booleans())


changes = st.recursive(simple, in_savepoints, max_leaves=4)
faults = st.sampled_from([*FAULTS, "held", "held"])


SAVE: Change = ("save", "a.txt", 1)
REPLACE: Change = ("replace", "a.txt", 1)
DELETE: Change = ("delete", "a.txt", 1)
FOUND = [
    # An overwrite that a savepoint took back was in the place when the delete before it committed.
    [([SAVE], False), ([DELETE, ("savepoint", [REPLACE], True)], False)],
    # The traces of an overwrite that was rolled back before the delete are found with those of a later one.
    [([SAVE], False), ([REPLACE], True), ([DELETE], False), ([SAVE], True)],
]


class Convergence(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    def teardown(self) -> None:
        try:
            self.world.quiesce()
            self.world.check_quiet()
            self.world.check_always()
        finally:
            self.world.close()

    # The site

    @rule(change=simple)
    def write(self, change: Change) -> None:
        self.world.one(change)

    @rule(changes=st.lists(changes, min_size=1, max_size=4), rolled_back=st.booleans())
    def write_in_a_transaction(self, changes: list[Change], rolled_back: bool) -> None:
        self.world.transaction(changes, rolled_back=rolled_back)

    # A copy from elsewhere: what it writes over is what it has seen, or it writes nothing.

    @rule(name=names)
    def copy_looks(self, name: str) -> None:
        self.world.look(name)

    @precondition(lambda self: self.world.seen)
    @rule(data=st.data(), size=sizes)
    def copy_writes(self, data: st.DataObject, size: int) -> None:
        self.world.put_over(data.draw(st.sampled_from(sorted(self.world.seen))), size)

    # Workers: each step of them at any time. A lost wake-up is one of these that is not done.

    @rule(alias=aliases)
    def deliver(self, alias: str) -> None:
        delivery.deliver(alias)

    @rule(number=workers, alias=aliases, limit=st.integers(1, 3), which=numbers)
    def work(self, number: int, alias: str, limit: int, which: int) -> None:
        worker = self.world.workers[number]
        if worker.is_idle:
            worker.claim(alias, limit)
        elif worker.to_send:
            self.world.send(worker, which)
        else:
            worker.settle()

    @rule(number=workers, alias=aliases)
    def claim_and_send(self, number: int, alias: str) -> None:
        self.work(number, alias, 1, 0)
        self.work(number, alias, 1, 0)

    @rule(number=workers)
    def settle_early_or_renew(self, number: int) -> None:
        worker = self.world.workers[number]
        if worker.outcomes:
            worker.settle()
        elif worker.batch is not None:
            ledger.renew(worker.batch.lease, [c.id for c in worker.to_send])

    @rule(number=workers)
    def kill(self, number: int) -> None:
        self.world.workers[number].die()

    @rule(number=workers, alias=aliases)
    def kill_in_mid_request(self, number: int, alias: str) -> None:
        worker = self.world.workers[number]
        if worker.is_idle:
            self.world.faults[alias].queue.insert(0, "held")
            self.claim_and_send(number, alias)
            worker.die()

    @rule()
    def leases_end(self) -> None:
        self.world.end_leases()

    # Targets

    @rule(alias=aliases, fault=faults)
    def go_wrong(self, alias: str, fault: str) -> None:
        self.world.faults[alias].queue.append(fault)

    @rule(alias=aliases, up=st.booleans())
    def go_down_or_come_up(self, alias: str, up: bool) -> None:
        self.world.targets[alias].fail_with = None if up else Unavailable("down", status=503)

    @precondition(lambda self: any_late(self.world))
    @rule(alias=aliases, number=numbers, lands=st.booleans())
    def end_late_request(self, alias: str, number: int, lands: bool) -> None:
        self.world.late(alias, number, lands=lands)

    # Time, beat and people

    @rule()
    def time_passes(self) -> None:
        self.world.pass_time()

    @rule()
    def sweep(self) -> None:
        self.world.sweep()

    @rule(alias=aliases)
    def look_after(self, alias: str) -> None:
        ledger.hasten(alias)
        ledger.requeue(Replica.objects.all())

    @rule()
    def tidy(self) -> None:
        self.world.storage.tidy()

    # A day later: nobody has anything in hand for so long.
    @precondition(lambda self: all(w.is_idle for w in self.world.workers) and not any_late(self.world))
    @rule()
    def prune(self) -> None:
        # As the task does it.
        self.world.storage.tidy()
        ledger.prune()

    @precondition(lambda self: self.world.contents > 3)
    @rule()
    def all_is_quiet(self) -> None:
        self.world.quiesce()
        self.world.check_quiet()
        ledger.prune()
        assert set(MediaFile.objects.values_list("name", flat=True)) == set(self.world.wanted)

    @invariant()
    def promises_hold(self) -> None:
        self.world.check_always()


def any_late(world: World) -> bool:
    return any(target.held for target in world.targets.values())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("found", FOUND)
def test_what_was_found_before(found: Sequence[tuple[list[Change], bool]]) -> None:
    """Transactions, and whether they were rolled back, after which a deleted file came back to the local disk."""
    world = World()
    try:
        for transaction, rolled_back in found:
            world.transaction(transaction, rolled_back=rolled_back)
        world.quiesce()
        world.check_quiet()
    finally:
        world.close()


@pytest.mark.django_db(transaction=True)
def test_it_always_converges() -> None:
    """Promises 1, 2 and 3, and the local disk: the checker reads the targets, not the ledger."""
    examples = os.environ.get("REPLICATOR_EXAMPLES")
    run_state_machine_as_test(
        Convergence,
        settings=settings(
            max_examples=int(examples or 80),
            stateful_step_count=40,
            derandomize=examples is None,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
