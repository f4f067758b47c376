"""Where the ledger lives, and what its database can do."""

from __future__ import annotations

from typing import TypeVar

from django.db import connections, models, router
from django.db.backends.base.base import BaseDatabaseWrapper

from replicator.models import MediaFile

M = TypeVar("M", bound=models.Model)


def alias() -> str:
    """The alias, in ``DATABASES``, of the ledger's database."""
    return router.db_for_write(MediaFile)


def connection() -> BaseDatabaseWrapper:
    return connections[alias()]


def skip_locked(rows: models.QuerySet[M]) -> models.QuerySet[M]:
    """Lock *rows*, passing over those that someone else has locked.

    A worker never waits for a row that a site's transaction holds: two that wait for each other's rows would be a
    deadlock, and the site's could be the one that the database ends. Where the database has one writer at a time
    (SQLite) there is nothing to skip.
    """
    if connections[rows.db].features.has_select_for_update_skip_locked:
        return rows.select_for_update(skip_locked=True, of=("self",))
    return rows
