"""Recording replicas for a target in bulk: those that it lacks, and those that are to be sent again."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from replicator.conf import config
from replicator.ledger import database
from replicator.models import MediaFile, Replica

_FILES, _REPLICAS = (model._meta.db_table for model in (MediaFile, Replica))

# The node: whose workers have the file, where each node has a disk of its own.
_INSERT = f"""
INSERT INTO {_REPLICAS} (file_id, target, node, status, since, due_at, attempts, doubt, provisional,
    error_kind, error_text)
SELECT f.id, %s, CASE WHEN %s = '' THEN '' ELSE f.node END, 'pending', %s, %s, 0, %s, %s, '', ''
FROM {_FILES} f
WHERE f.id > %s AND f.id <= %s AND f.storage IN (@STORAGES@) AND NOT f.deleted
    AND NOT EXISTS (SELECT 1 FROM {_REPLICAS} r WHERE r.file_id = f.id AND r.target = %s)
ON CONFLICT (file_id, target) DO NOTHING
"""


def living(storages: Sequence[str]) -> QuerySet[MediaFile]:
    """The files of these storages that are not deleted."""
    return MediaFile.objects.using(database.alias()).filter(storage__in=storages, deleted=False)


def lacking(target: str, storages: Sequence[str]) -> QuerySet[MediaFile]:
    """Living files of these storages that have no replica at *target*."""
    there = Replica.objects.using(database.alias()).filter(file=OuterRef("pk"), target=target)
    return living(storages).filter(~Exists(there))


def record_lacking(target: str, storages: Sequence[str], after: int, upto: int) -> int:
    """Record a pending replica at *target*, due now, for each of the ``lacking`` files with an id above *after*, up
    to *upto*; the number of them. One statement; idempotent.

    Part of the caller's transaction. Raises ``OperationalError`` if a transaction of the site holds one of the files
    for longer than this can wait.
    """
    connection = database.connection()
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    statement = _INSERT.replace("@STORAGES@", ", ".join(["%s"] * len(storages)))
    values = (target, config().deliverer, now, now, False, False, after, upto, *storages, target)
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return int(cursor.rowcount)


def distrust(ids: Sequence[int], *, version: UUID | None = None) -> int:
    """Have these replicas sent again, whatever was confirmed; the number of them. One statement.

    To the protocol it is a write: pending, due now, ``sent`` emptied, doubt kept, no lease touched; and what was
    confirmed is forgotten, so that the bytes go again, and not only a class. With *version*, only what was confirmed
    as that. Passes over what a transaction of the site is just writing: that is sent anyway.
    """
    now = timezone.now()
    rows = Replica.objects.using(database.alias())
    chosen = rows.filter(pk__in=ids)
    if version is not None:
        chosen = chosen.filter(version=version)
    return rows.filter(pk__in=database.skip_locked(chosen).values("pk")).update(
        status=Replica.Status.PENDING,
        version=None,
        since=now,
        due_at=now,
        attempts=0,
        provisional=False,
        sent=None,
        error_kind="",
        error_text="",
        http_status=None,
    )
