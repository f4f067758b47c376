"""A seekable Python file of bytes that come from elsewhere, once, from start to end."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from abc import abstractmethod
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: Up to this size what comes is in memory; of a larger file it goes to a temporary file.
SPOOL = 1024 * 1024
_BUFFER = 64 * 1024


def buffered(pulled: PulledFile) -> BinaryIO:
    """As code expects a file: lines, and small reads that cost little. Closes it with itself."""
    return io.BufferedReader(pulled, _BUFFER)


class PulledFile(io.RawIOBase):
    """Gets more as it is read. What came is kept, for who seeks back."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._kept = tempfile.SpooledTemporaryFile(SPOOL)  # noqa: SIM115  # closed with this
        #: Bytes that are kept, and may be handed out; those that were; and the position.
        self._have = self._given = self._at = 0
        self._is_whole = False

    @abstractmethod
    def _pull(self) -> None:
        """``_keep`` more bytes, or set ``_is_whole``. Raises ``OSError`` if there are no more to be had."""

    def _keep(self, data: bytes) -> None:
        """The bytes that follow those that are kept."""
        self._kept.seek(self._have)
        self._kept.write(data)
        self._have += len(data)

    def _size(self) -> int:
        """Bytes of all of it."""
        while not self._is_whole:
            self._pull()
        return self._have

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_CUR:
            offset += self._at
        elif whence == os.SEEK_END:
            offset += self._size()
        if offset < 0:
            raise OSError(errno.EINVAL, "a position before the file's beginning", self._name)
        self._at = offset
        return offset

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        while self._have <= self._at and not self._is_whole:
            self._pull()
        self._kept.seek(self._at)
        data = self._kept.read(min(len(view), max(0, self._have - self._at)))
        view[: len(data)] = data
        self._at += len(data)
        self._given = max(self._given, self._at)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._kept.close()
        super().close()
