"""A file of a source while it is read: nothing is taken for whole that is not what the source had said."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from replicator.errors import Corrupt
from replicator.staging.base import Facts, Stream

#: Bytes that are asked for at once, at most.
PIECE = 256 * 1024


class CheckedStream(Stream):
    """The bytes that *read* gives, some at a time and none at the end, compared with *facts*. *what*: for messages.

    Where the size is known the end is looked for, and the comparison made, before the last bytes are handed out.
    """

    def __init__(self, facts: Facts, read: Callable[[int], bytes], what: str) -> None:
        self.facts = facts
        self._read = read
        self._what = what
        self._moved = 0
        self._ended = False
        self._error: Exception | None = None
        # One is enough: the strongest.
        self._kind = next((kind for kind in ("sha256", "md5") if kind in facts.checksums), "")
        self._hash = hashlib.new(self._kind, usedforsecurity=False) if self._kind else None

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(PIECE), b""))
        if self._error is not None:
            raise self._error
        if not size or self._ended:
            return b""
        try:
            return self._next(min(size, PIECE))
        except Exception as error:
            # Who reads on must not take what comes then for the end.
            self._error = error
            raise

    def _next(self, size: int) -> bytes:
        data = self._read(size)
        self._moved += len(data)
        if self._hash is not None:
            self._hash.update(data)
        if not data or self._moved == self.facts.size:
            self._end(still=data)
        elif self.facts.size is not None and self._moved > self.facts.size:
            raise self._other_size("more")
        return data

    def _end(self, *, still: bytes) -> None:
        if still and self._read(1):
            raise self._other_size("more")
        if self.facts.size not in (None, self._moved):
            raise self._other_size(str(self._moved))
        if self._hash is not None and self._hash.hexdigest() != self.facts.checksums[self._kind]:
            raise Corrupt(f"{self._what}: other bytes came than the source had said ({self._kind})")
        self._ended = True

    def _other_size(self, came: str) -> Corrupt:
        return Corrupt(f"{self._what}: the source had said {self.facts.size} bytes, and {came} came")
