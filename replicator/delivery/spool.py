"""Releasing the local files that enough targets have by now, where a storage keeps none."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from django.core.files.storage import InvalidStorageError, storages

from replicator.ledger import Outcome

log = logging.getLogger(__name__)


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
