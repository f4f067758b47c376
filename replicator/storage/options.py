"""What a replicated storage's options may be."""

from __future__ import annotations

from replicator.errors import Refused
from replicator.targets.base import safe_name

#: What ``url()`` can give: the origin's URL, or one of the targets that hold the file.
SOURCES = ("origin", "replicas")


def folder(prefix: str) -> str:
    """*prefix* without slashes around it. Raises ``ValueError`` for what is no folder inside the storage."""
    if not isinstance(prefix, str):
        raise TypeError(f'prefix is {prefix!r}: write a folder, as in "assets"')
    inside = prefix.strip("/")
    try:
        return safe_name(inside) if inside else ""
    except Refused:
        raise ValueError(f'prefix is {prefix!r}: write a folder, as in "assets"') from None


def check_copies(*, keep_local: bool, min_copies: int | None, wait: float | None) -> None:
    """Raises ``TypeError`` or ``ValueError`` for what makes no sense."""
    if not isinstance(keep_local, bool):
        raise TypeError(f"keep_local is {keep_local!r}: write True or False")
    if min_copies is not None and (isinstance(min_copies, bool) or not isinstance(min_copies, int) or min_copies < 1):
        raise ValueError(f"min_copies is {min_copies!r}: write how many targets must have a file, 1 or more")
    # Written so that NaN is refused too.
    if wait is not None and (isinstance(wait, bool) or not isinstance(wait, int | float) or not 0 < wait <= 3600):
        raise ValueError(f"wait is {wait!r}: write the seconds that a save may take, or leave it out")
    if min_copies is not None and wait is None and keep_local:
        raise ValueError('min_copies says nothing alone: write "wait" too, or "keep_local": False')


def check_source(serve_from: str) -> None:
    """Raises ``ValueError`` for what ``url()`` can't give."""
    if serve_from not in SOURCES:
        raise ValueError(f'serve_from is {serve_from!r}: write "origin" or "replicas"')
