"""Being alone with many names at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from uuid import UUID

from django.db import transaction
from django.db.models import F

from replicator.ledger import database
from replicator.models import MediaFile


@contextmanager
def hold_unchanged(storage: str, versions: Mapping[str, UUID]) -> Iterator[list[str]]:
    """Be alone with those of these names whose rows still have these versions: nobody records a write of them while
    the block runs. Gives the names.

    For short work on local files, as ``hold``. Passes over what a transaction of the site has just now.
    """
    with transaction.atomic(using=database.alias()):
        files = MediaFile.objects.using(database.alias()).filter(storage=storage, name__in=versions)
        if database.connection().vendor == "sqlite":
            # Nothing changes: being a write is what takes SQLite's only lock.
            files.update(deleted=F("deleted"))
        rows = list(database.skip_locked(files).values_list("name", "version"))
        yield [name for name, version in rows if version == versions[name]]
