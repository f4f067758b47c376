"""Streams of a source that tests make themselves."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from replicator.staging.base import Facts, Stream


class Bytes(Stream):
    """*data*, some at a time. *then*: called when half of it was read, and may raise."""

    def __init__(
        self, data: bytes, then: Callable[[], object] | None = None, *, says_size: bool = True, **facts: Any
    ) -> None:
        self.facts = Facts(len(data) if says_size else None, **facts)
        self._raw = io.BytesIO(data)
        self._half = len(data) // 2
        self._then = then

    def read(self, size: int = -1, /) -> bytes:
        if self._then is not None and self._raw.tell() >= self._half:
            then, self._then = self._then, None
            then()
        rest = self._half - self._raw.tell()
        return self._raw.read(min(size, rest) if self._then is not None and size > 0 else size)


class Broken(Exception):
    """What a stream raises in mid-file."""


def fail() -> None:
    raise Broken
