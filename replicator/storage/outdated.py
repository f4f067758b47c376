"""What other nodes have overwritten or deleted since, where each node has a disk of its own: removed here."""

from __future__ import annotations

import errno
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.core.files.storage import InvalidStorageError, storages
from django.db import DatabaseError

from replicator import ledger, local
from replicator.conf import config
from replicator.ledger import nodes
from replicator.local import Digest
from replicator.models import MediaFile
from replicator.storage.replicated import ReplicatedStorage
from replicator.storage.static import ReplicatedStaticFilesStorage

log = logging.getLogger(__name__)

#: Files that one call looks at; the rest waits for the next.
_MOST = 10_000


def remove_outdated() -> int:
    """Remove from this node's disk the versions that are none any more; their number."""
    node = config().deliverer
    if not node:
        return 0
    count = 0
    for file in nodes.outdated(node, _MOST):
        try:
            with ledger.hold(file.storage, file.name) as row:
                if row is not None and nodes.hold_home(row):
                    count += _remove(row, node)
                    nodes.note_up_to_date(row, node)
        except (OSError, DatabaseError) as error:  # one that waits must not keep the others
            log.warning("outdated file not removed", extra={"storage": file.storage, "error": type(error).__name__})
    return count


def _remove(row: MediaFile, node: str) -> bool:
    with suppress(InvalidStorageError):
        storage: Any = storages[row.storage]
        # Each node collects the static files of its own release. And what this node wrote last may be all that there
        # is of it, whatever it looks like.
        replicates = isinstance(storage, ReplicatedStorage) and not isinstance(storage, ReplicatedStaticFilesStorage)
        if replicates and (row.deleted or row.node != node):
            place = Path(storage.path(row.name))
            with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                with place.open("rb") as file:
                    if not row.deleted and local.is_content(file, Digest(row.size, row.sha256)):
                        return False
                # A save shows its file before it is alone with the name, if that is free; the journal knows of it.
                # None can come in between, since something is there.
                if row.name in local.traces(os.fspath(storage.location)):
                    raise BlockingIOError(errno.EAGAIN, "a write of it is under way", row.name)
                place.unlink()
                return True
    return False
