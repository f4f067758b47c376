"""A source's stream as a content that places take: its size is known before its first byte."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from replicator.staging.base import Stream
from replicator.targets.base import Content

#: Bytes that are read at once; and up to which a content of unknown size is held in memory.
PIECE, SPOOL = 256 * 1024, 1024 * 1024


@contextmanager
def content_of(stream: Stream) -> Iterator[Content]:
    """*stream*, or if its size is not known all of it, read to a temporary file."""
    if stream.facts.size is not None:
        yield _Passed(stream, stream.facts.size)
        return
    with tempfile.SpooledTemporaryFile(SPOOL) as spool:
        while data := stream.read(PIECE):
            spool.write(data)
        size = spool.tell()
        spool.seek(0)
        yield _Passed(spool, size)


class _Passed:
    """What *read* gives, once."""

    def __init__(self, file: Stream | tempfile.SpooledTemporaryFile[bytes], size: int) -> None:
        self.size = size
        self._file = file
        self._begun = False

    def read(self, size: int = -1, /) -> bytes:
        self._begun = True
        return self._file.read(size)

    def seek(self, offset: int, /) -> int:
        if offset or self._begun:
            raise io.UnsupportedOperation("seek")
        return 0
