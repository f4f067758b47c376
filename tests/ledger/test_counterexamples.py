"""The real ledger goes through what the model finds: its counterexamples, and every kind of step."""

from __future__ import annotations

import random
from collections.abc import Hashable
from functools import cache

import pytest

from replicator.models import Replica
from tests.ledger.simulated import World
from tests.model.protocol import RULES, State, Step, steps
from tests.model.search import Space

pytestmark = pytest.mark.django_db(transaction=True)


def assert_converges(world: World) -> None:
    world.settle_down()
    assert world.held == world.versions[-1]
    assert world.row.status == Replica.Status.SYNCED
    assert world.row.version == world.versions[-1].bytes
    assert not world.row.doubt


@pytest.mark.parametrize("rule", RULES)
def test_the_ledger_survives_the_counterexample_to(rule: str) -> None:
    """Promise 2: a late request after a time-out, a stalled worker that sends after its lease, a takeover, a write in
    the doubt window, …: what goes wrong without a rule does not go wrong here. The model prints the steps."""
    counterexample = Space(without=frozenset({rule}), writes=3, late=1).counterexample()
    assert counterexample is not None
    world = World(rule)
    for step in counterexample:
        world.do(step)
        assert not world.is_stale, f"stale after {step}"
    # Without "bytes" the row goes the same way: it is what is sent that differs, and what the target then holds.
    went_along = not world.skipped and world.row.status == Replica.Status.SYNCED
    assert rule == "bytes" or not went_along, "the ledger went along with a broken rule"
    assert_converges(world)


def test_the_ledger_does_what_the_model_does() -> None:
    """In every kind of state a row can be in, each kind of step has the effect that the model says: so what was
    checked over every interleaving is what runs."""
    for number, way in enumerate(ways()):
        follow(World(f"way {number}"), way)


@pytest.mark.parametrize("seed", range(12))
def test_the_ledger_does_what_the_model_does_in_the_long_run(seed: int) -> None:
    """The same, along random walks."""
    choose = random.Random(seed)
    state, way = State(), []
    for _ in range(60):
        step, state = choose.choice(list(steps(state, frozenset(RULES), writes=20, late=2)))
        way.append((step, state))
    world = World(f"walk {seed}")
    follow(world, way)
    assert_converges(world)


def follow(world: World, way: list[tuple[Step, State]]) -> None:
    for step, state in way:
        world.do(step)
        assert world.skipped == 0, f"impossible: {step}"
        assert world.seen() == World.expected(state), f"after {step}, in {[str(s) for s, _ in way]}"
        assert not world.is_stale


@cache
def ways() -> list[list[tuple[Step, State]]]:
    """Short ways that together lead through each kind of step from each kind of row."""
    space, shortest = Space(writes=3, late=1), {}
    for state, step, following in space.explore():
        if (kind := kind_of(state, step)) not in shortest:
            shortest[kind] = space.way_to(state, step, following)
    found, covered = [], set()
    # The longest first: they cover most of the others.
    for kind, way in sorted(shortest.items(), key=lambda item: -len(item[1])):
        if kind not in covered:
            found.append(way)
            befores = [State(), *(state for _, state in way)]
            covered |= {kind_of(before, step) for before, (step, _) in zip(befores, way, strict=False)}
    return found


def kind_of(state: State, step: Step) -> Hashable:
    worker = state.workers[step.number] if "{w}" in step.verb else None
    row = (state.status, state.lease, state.ended, state.sent, state.doubt, state.provisional)
    return step.verb, row, worker and (worker.at, worker.mine, worker.landed)
