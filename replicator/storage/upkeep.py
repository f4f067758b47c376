"""Clearing up on a storage's disk."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from django.db import DatabaseError

from replicator import ledger, local
from replicator.conf import config
from replicator.ledger import nodes
from replicator.local import Digest, Entry
from replicator.storage import spool

if TYPE_CHECKING:
    from replicator.storage.replicated import ReplicatedStorage

log = logging.getLogger(__name__)


def tidy(storage: ReplicatedStorage) -> int:
    """Undo what killed and rolled back writes left, if it is older than ``ORPHAN_GRACE``, and release what may go by
    now; the number of both."""
    count = 0
    for entries in local.leftovers(os.fspath(storage.location), config().orphan_grace):
        if undo(storage, entries):
            count += len(entries)
    return count + spool.tidy(storage)


def undo(storage: ReplicatedStorage, entries: Sequence[Entry]) -> bool:
    """Put back what the ledger names where *entries*, all of one name, wrote; False, and logged, if it fails.

    False, too, while something is on its way to this disk: what *entries* keep may be needed when it has come.
    """
    try:
        with ledger.hold(storage.alias, entries[0].name) as row:
            if row is not None and not nodes.hold_home(row):
                return False
            wanted = None if row is None or row.deleted else Digest(row.size, row.sha256)
            local.restore(entries, wanted, row.version if row else None)
    except (OSError, DatabaseError) as error:  # one that waits, or needs a person, must not keep the others
        facts = {"storage": storage.alias, "file": entries[0].name, "error": str(error)}
        log.error("local clean-up failed", extra=facts)  # noqa: TRY400  # the message says where
        return False
    return True
