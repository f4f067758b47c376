"""Which part of a file a request wants (RFC 9110, section 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass

# More digits than any file needs, and fewer than int() refuses.
_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)
_ABSOLUTE = re.compile(r"bytes=[0-9]{1,18}-[0-9]{0,18}")


class Unsatisfiable(Exception):
    """The file has no such part: 416."""


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes from *start* to before *stop*."""

    start: int
    stop: int


def part_of(header: str, size: int) -> Part | None:
    """The part of *size* bytes that the field ``Range`` asks for; None: all of it.

    Several parts at once are answered with all of it, as is what is no range: a server may pass over the field.
    """
    match = _RANGE.fullmatch(header)
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        if not int(last):
            raise Unsatisfiable
        # Of nothing, the last bytes are nothing, and no Content-Range can say so.
        return Part(max(0, size - int(last)), size) if size else None
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise Unsatisfiable
    return Part(int(first), min(size, int(last) + 1) if last else size)


def is_absolute(header: str) -> bool:
    """Whether storage nodes read the field as it is meant: Perlbal takes ``-5``, the last five, for the first six."""
    return _ABSOLUTE.fullmatch(header) is not None
