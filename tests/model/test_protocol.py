"""The delivery protocol keeps its promises in every interleaving, and each of its rules is needed for that."""

from __future__ import annotations

import pytest

from tests.model import protocol
from tests.model.protocol import RULES
from tests.model.search import Space, undisturbed


def test_no_interleaving_ends_with_a_stale_file_that_is_called_synced() -> None:
    """Promise 2: the last write wins, whoever stalls, dies, or is answered late or never."""
    space = Space(writes=3, late=2)
    assert space.counterexample() is None
    assert len(space) > 10_000, "the model has lost most of its states: does it still do anything?"


def test_one_undisturbed_worker_gets_there_from_everywhere() -> None:
    """Promise 1: nothing is lost. Whatever happened, what is due is found, sent and confirmed (once requeued, if
    it had failed)."""
    space = Space(writes=3, late=1)
    assert space.counterexample() is None
    ends = {undisturbed(state) for state in space.states}
    wrong = [s for s in ends if s.status != protocol.SYNCED or s.doubt or s.lease]
    wrong += [s for s in ends if (s.held, s.held_bytes) != (s.desired, s.bytes)]
    assert not wrong
    assert {s.desired for s in ends} == {1, 2, 3}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_is_needed(rule: str) -> None:
    """Without it, the model finds the steps to a stale file that is called synced: so it can find them at all."""
    steps = Space(without=frozenset({rule}), writes=3, late=1).counterexample()
    assert steps is not None, f"without {rule!r} nothing goes wrong: it is no rule"
    ends = (protocol.SETTLE, protocol.FAIL, protocol.KILL, protocol.LATE_LANDS, protocol.LATE_LOST)
    assert steps[-1].verb in ends
