"""What goes wrong at a target, write by write; and what was ever visible there."""

from __future__ import annotations

from collections.abc import Callable

from replicator.errors import Corrupt, Refused, Unavailable
from replicator.targets.base import TargetFile
from replicator.testing import MemoryTarget

FAULTS = (
    "unavailable",  # answered, or never sent: no effect
    "refused",
    "defect",
    "held",  # no answer, and takes effect late, or never
    "answer lost",  # no answer, but an effect
    "stopped",  # the worker is stopped between asking its clock and sending
    "corrupt",  # an effect, and an error
    "defect after",
)
_AFTER: dict[str, Callable[[], Exception]] = {
    "corrupt": lambda: Corrupt("what arrived is not what was sent"),
    "defect after": lambda: ValueError("a defect"),
}
_BEFORE: dict[str, Callable[[], Exception]] = {
    "unavailable": lambda: Unavailable("no connection"),
    "refused": lambda: Refused("not allowed", status=403),
    "defect": lambda: ValueError("a defect"),
}


class Files(dict[str, bytes]):
    """What a target holds; ``seen`` is every content that was ever visible there."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[bytes] = set()

    def __setitem__(self, path: str, data: bytes) -> None:
        self.seen.add(data)
        super().__setitem__(path, data)


class Faults:
    """Makes *target*'s next writes go wrong; *stop_sender* is called with its alias for "stopped"."""

    def __init__(self, target: MemoryTarget, stop_sender: Callable[[str], None]) -> None:
        self._target, self._stop_sender = target, stop_sender
        self._files = target.files = Files()
        target.before, target.after = self._before, self._after
        #: What becomes of the next writes, in their order.
        self.queue: list[str] = []

    @property
    def seen(self) -> set[bytes]:
        return self._files.seen

    def clear(self) -> None:
        """From now on nothing goes wrong; what is held stays so."""
        self.queue.clear()
        self._target.fail_with, self._target.hold, self._target.lose_answer = None, 0, 0

    def _before(self, operation: str, _: TargetFile) -> None:
        if operation not in ("put", "delete") or not self.queue or self.queue[0] in _AFTER:
            return
        fault = self.queue.pop(0)
        if fault in _BEFORE:
            raise _BEFORE[fault]()
        if fault == "held":
            self._target.hold += 1
        elif fault == "answer lost":
            self._target.lose_answer += 1
        else:
            self._stop_sender(self._target.alias)

    def _after(self, _operation: str, _: TargetFile) -> None:
        if self.queue and self.queue[0] in _AFTER:
            raise _AFTER[self.queue.pop(0)]()
