"""Releasing the local files that enough targets have by now, where a storage keeps none."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from django.core.files.storage import InvalidStorageError, storages

from replicator.ledger import Outcome

log = logging.getLogger(__name__)

#: How much longer than releasing took nothing is released after it: a target that answers slowly is asked for each
#: file, and must not keep the others waiting.
_REST = 4
#: Outcomes that wait for it, at most.
_MOST = 2_000


class Releases:
    """What one caller has settled, whose local files may go by now. What is too much is left to ``tidy``."""

    def __init__(self) -> None:
        self._waiting: list[Outcome] = []
        self._rest_until = 0.0

    def add(self, outcomes: Iterable[Outcome]) -> None:
        self._waiting += outcomes
        del self._waiting[_MOST:]

    def work(self, *, at_once: bool) -> None:
        """Release what waits, unless it is time to rest. *at_once*: there will be no other time."""
        begun = time.monotonic()
        if self._waiting and (at_once or begun >= self._rest_until):
            outcomes, self._waiting = self._waiting, []
            release(outcomes)
            end = time.monotonic()
            self._rest_until = end + _REST * (end - begun)


def release(outcomes: Iterable[Outcome]) -> None:
    """To be called once *outcomes* are settled: perhaps a target was the last that a local file waited for.

    Never raises: what is left here is released by ``tidy``.
    """
    names: dict[str, set[str]] = {}
    for outcome in outcomes:
        if outcome.error is None and not outcome.claim.deleted:
            names.setdefault(outcome.claim.storage, set()).add(outcome.claim.name)
    for alias, those in names.items():
        try:
            with suppress(InvalidStorageError):
                # Any storage of the project may be behind an alias by now, also one that knows no such thing.
                storage: Any = storages[alias]
                if not getattr(storage, "keep_local", True):
                    storage.release(those)
        except Exception as error:  # the targets have the files; nothing may spoil that
            log.warning("local files not released", extra={"storage": alias, "error": type(error).__name__})
