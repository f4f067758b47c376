"""Writes to S3 that take effect only if nobody else's has: what is asked for, and what is answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from replicator.errors import Refused, Unavailable

#: "Precondition Failed", and what a store says that knows no such condition with this request.
FAILED, UNKNOWN = 412, {400, 501}


class Conditions:
    """What one store is asked to look at, until it turns out that it does not know how. Used by several threads.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    """

    def __init__(self) -> None:
        self._known = True

    @contextmanager
    def of(self, *, if_free: bool, key: str) -> Iterator[Mapping[str, Any]]:
        """The parameters of a write to *key*, which is sent in the block. Raises ``FileExistsError`` if the key is
        there by then; ``Unavailable`` if the store does not know the condition: it is not asked again."""
        asked = if_free and self._known
        try:
            yield {"IfNoneMatch": "*"} if asked else {}
        except Refused as error:
            if asked and error.status == FAILED:
                raise FileExistsError(key) from None
            if asked and error.status in UNKNOWN:
                self._known = False
                raise Unavailable(f"{error}; next time without If-None-Match") from None
            raise
