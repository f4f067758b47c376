"""How fast a target is sent to, and read from, by one process."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, local

#: Bytes per second below which servers give up on a transfer, whoever is slow (Apache: 500, ``RequestReadTimeout``).
LEAST = 1024
_waited = local()
#: Seconds that one piece takes at the full rate: shorter costs more, longer is less smooth.
_PIECE_SECONDS = 0.1


class Throttle:
    """A rate that the threads of a process share. Without one (None) it costs nothing.

    What goes over later than it might is not made up for by going faster than the rate.
    """

    def __init__(self, rate: float | None) -> None:
        #: Bytes per second.
        self.rate = rate
        #: Bytes that may go over at once.
        self.piece = max(LEAST, int(rate * _PIECE_SECONDS)) if rate else 0
        self._lock, self._process = Lock(), os.getpid()
        #: When all that was taken has gone over, by the monotonic clock.
        self._free_at = 0.0
        self._here = local()

    def at_most(self, size: int) -> int:
        """How much of *size* bytes may be read at once."""
        return min(size, self.piece) if self.piece and not self._is_off else size

    def take(self, size: int) -> None:
        """Wait until *size* more bytes may go over."""
        if not self.rate or not size or self._is_off:
            return
        if self._process != os.getpid():
            # A thread of the parent may have held the lock at the fork.
            self._lock, self._process = Lock(), os.getpid()
        with self._lock:
            now = time.monotonic()
            begins = max(now, self._free_at)
            self._free_at = begins + size / self.rate
        if begins > now:
            time.sleep(begins - now)
            _waited.seconds = seconds_waited() + time.monotonic() - now

    @contextmanager
    def off(self) -> Iterator[None]:
        """What this thread reads within the block is not sent: it will be read again for that."""
        self._here.off = True
        try:
            yield
        finally:
            self._here.off = False

    @property
    def _is_off(self) -> bool:
        return getattr(self._here, "off", False)


def seconds_waited() -> float:
    """How long this thread has waited for any throttle: no target took that time."""
    return getattr(_waited, "seconds", 0.0)


def share(bandwidth: float | None, concurrency: int, workers: int) -> float | None:
    """One process's share of *bandwidth*, a target's option: bytes per second, None for no limit.

    Raises ``ValueError`` for one that is too small for as many transfers at once.
    """
    if bandwidth is None:
        return None
    least = LEAST * concurrency * workers
    if bandwidth < least:
        raise ValueError(
            f"bandwidth is {bandwidth!r}: servers give up on transfers that slow. Write at least {least}, or lower "
            f"concurrency and workers: each of {concurrency} transfers in {workers} processes gets its part"
        )
    return bandwidth / workers
