"""Which ids are in a set, in one bit each: 125 kB for a million."""

from __future__ import annotations


class Bits:
    """Ids from 0 to *last*; others are never in it."""

    def __init__(self, last: int, packed: bytes | memoryview | None = None) -> None:
        size = last // 8 + 1
        self._bits = bytearray(packed or b"")[:size]
        self._bits.extend(bytes(size - len(self._bits)))

    def __contains__(self, number: int) -> bool:
        byte = number >> 3
        return byte < len(self._bits) and bool(self._bits[byte] & 1 << (number & 7))

    def add(self, number: int) -> None:
        byte = number >> 3
        if byte < len(self._bits):
            self._bits[byte] |= 1 << (number & 7)

    def __len__(self) -> int:
        return sum(byte.bit_count() for byte in self._bits)

    def __bytes__(self) -> bytes:
        return bytes(self._bits)
