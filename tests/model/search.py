"""Searching the states that the protocol can reach."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from tests.model import protocol
from tests.model.protocol import RULES, State, Step, is_stale, same, steps


class Space:
    """The states that can be reached when the rules *without* are removed."""

    def __init__(self, *, without: frozenset[str] = frozenset(), writes: int = 3, late: int = 1) -> None:
        self._kept, self._writes, self._late = frozenset(RULES) - without, writes, late
        self._came_from: dict[State, tuple[State, Step] | None] = {}

    def __len__(self) -> int:
        return len(self._came_from)

    def explore(self) -> Iterator[tuple[State, Step, State]]:
        """Every step between them, those from states nearer to the start first."""
        start = State()
        seen, queue = {same(start)}, deque([start])
        self._came_from = {start: None}
        while queue:
            state = queue.popleft()
            for step, following in steps(state, self._kept, self._writes, self._late):
                # Most lead to where something else led before.
                if following not in self._came_from and (key := same(following)) not in seen:
                    seen.add(key)
                    self._came_from[following] = (state, step)
                    queue.append(following)
                yield state, step, following

    @property
    def states(self) -> list[State]:
        """Those that ``explore`` has found."""
        return list(self._came_from)

    def way_to(self, state: State, step: Step, following: State) -> list[tuple[Step, State]]:
        """The steps from the start to what ``explore`` has just given, each with the state that it led to."""
        way = [(step, following)]
        while (came := self._came_from[state]) is not None:
            way.append((came[1], state))
            state = came[0]
        return way[::-1]

    def counterexample(self) -> list[Step] | None:
        """The shortest way to a stale file that is called synced; None if there is none."""
        for state, step, following in self.explore():
            if is_stale(following):
                return [step for step, _ in self.way_to(state, step, following)]
        return None


def undisturbed(s: State) -> State:
    """Where *s* leads when nothing else goes wrong: what is under way ends, and one worker does what is due."""
    order = [protocol.LATE_LANDS, protocol.KILL, protocol.LAND, protocol.SETTLE, protocol.ENDS, protocol.REQUEUE]
    while options := {step.verb: (step, state) for step, state in steps(s, frozenset(RULES), writes=0, late=9)}:
        verb = next((verb for verb in order if verb in options), None)
        if verb is None:
            if protocol.CLAIM not in options:
                break
            # From here on there is a worker, and nobody kills it.
            order = [protocol.SEND, protocol.LAND, protocol.SETTLE]
            verb = protocol.CLAIM
        s = options[verb][1]
    return s
