"""Contents that an examination sends."""

from __future__ import annotations

import os
from collections.abc import Callable

from replicator.targets.throttle import Throttle


class CutOff(Exception):
    """What a content raises that ends half-way."""


class Sample:
    """*size* bytes that can't be compressed, in small pieces; *half_way* is called once, before the second half."""

    def __init__(self, size: int, throttle: Throttle, half_way: Callable[[], object] | None = None) -> None:
        self.size = size
        self._throttle = throttle
        self._block = os.urandom(64 * 1024)
        self._half_way = half_way
        self._at = 0

    def read(self, size: int = -1, /) -> bytes:
        if self._half_way and 2 * self._at >= self.size:
            half_way, self._half_way = self._half_way, None
            half_way()
        data = self._next(size)
        self._throttle.take(len(data))
        return data

    def seek(self, offset: int, /) -> int:
        self._at = offset
        return offset

    def is_in(self, reader: Callable[[int], bytes]) -> bool:
        """Whether these are the bytes."""
        self.seek(0)
        while data := self._next(-1):
            self._throttle.take(len(data))
            if reader(len(data)) != data:
                return False
        return not reader(1)

    def _next(self, size: int) -> bytes:
        left = min(self.size - self._at, len(self._block) if size < 0 else size)
        start = self._at % len(self._block)
        data = self._block[start : start + left]
        self._at += len(data)
        return data


class Whole:
    """A content of these bytes."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._data, self._at = data, 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._data[self._at : None if size < 0 else self._at + size]
        self._at += len(data)
        return data

    def seek(self, offset: int, /) -> int:
        self._at = offset
        return offset


def cut_off() -> None:
    """What happens half-way."""
    raise CutOff
