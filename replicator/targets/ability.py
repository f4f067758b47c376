"""What a target said of whether it lists, for as long as that is believed."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

#: Seconds.
BELIEVED = 60.0


class Ability:
    """Asks *ask*, whose exceptions are not kept, when nothing is known that is still believed."""

    def __init__(self, ask: Callable[[], bool]) -> None:
        self._ask = ask
        self._said: tuple[float, bool] | None = None

    def is_there(self) -> bool:
        said = self._said
        if said is None or monotonic() - said[0] > BELIEVED:
            said = self._said = (monotonic(), self._ask())
        return said[1]
