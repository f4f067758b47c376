"""What an examination of a target finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Bytes of the large file of an examination: more than the 1 MiB that nginx takes unless told otherwise.
LARGE = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried, in words for people. Holds no credential."""

    what: str
    """What was tried, in a word or two."""
    ok: Literal["fine", "should", "must", "note"]
    """``must``: files will not arrive, or not as they are, until it is changed; ``should``: it costs something."""
    text: str
    """What happened."""
    advice: str = ""
    """What to change, if anything."""
