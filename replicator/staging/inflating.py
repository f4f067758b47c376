"""What gzip has compressed, as it was, while it is read."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from replicator.errors import Corrupt

#: Bytes that are read at once.
PIECE = 64 * 1024
_GZIP = zlib.MAX_WBITS | 16


def inflated(read: Callable[[int], bytes], what: str) -> Callable[[int], bytes]:
    """A ``read`` of what was compressed, given one of the compressed bytes. *what*: for messages.

    Raises ``Corrupt`` for what is not whole, or no gzip.
    """
    inflater = zlib.decompressobj(_GZIP)

    def more(size: int) -> bytes:
        while not inflater.eof:
            compressed = inflater.unconsumed_tail or read(PIECE)
            try:
                data = inflater.decompress(compressed, size)
            except zlib.error:
                raise Corrupt(f"{what}: it is said to be gzip, and is not") from None
            if data:
                return data
            if not compressed:
                raise Corrupt(f"{what}: its gzip ends before its end")
        # To its end: what is below may still find that the connection broke.
        while read(PIECE):
            pass
        return b""

    return more
