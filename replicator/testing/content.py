"""Contents to send in tests."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path


class BytesContent:
    """These bytes. *size*: what it claims, if that is not the truth."""

    def __init__(self, data: bytes, *, size: int | None = None) -> None:
        self.data = data
        self.size = len(data) if size is None else size
        self.position = 0

    def read(self, size: int = -1, /) -> bytes:
        end = len(self.data) if size < 0 else self.position + size
        data = self.data[self.position : end]
        self.position += len(data)
        return data

    def seek(self, offset: int, /) -> int:
        self.position = offset
        return offset


class FailingContent(BytesContent):
    """Raises *error* once more than *after* bytes are asked for: with ``len(data)``, at its very end."""

    def __init__(self, data: bytes, after: int, error: BaseException) -> None:
        super().__init__(data)
        self.after, self.error = after, error

    def read(self, size: int = -1, /) -> bytes:
        if self.position >= self.after:
            raise self.error
        return super().read(min(size, self.after - self.position) if size >= 0 else self.after)


class ZeroContent:
    """So many zero bytes, made as they are read. ``growth``: bytes that the process grew by meanwhile."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.position = 0
        self.growth = 0
        self._zeros = bytes(1024 * 1024)
        self._before = _resident()

    def read(self, size: int = -1, /) -> bytes:
        left = self.size - self.position
        count = min(left, len(self._zeros), size if size >= 0 else left)
        if self.position % (64 * len(self._zeros)) == 0 or count == left:
            self.growth = max(self.growth, _resident() - self._before)
        self.position += count
        return self._zeros[:count]

    def seek(self, offset: int, /) -> int:
        self.position = offset
        return offset


def _resident() -> int:
    """Bytes of memory that this process holds; where the system does not say so, the most it ever held."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")
