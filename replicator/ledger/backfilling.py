"""Recording replicas for a target in bulk: those that it lacks, and those that are to be sent again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, F, OuterRef, QuerySet, Subquery
from django.utils import timezone

from replicator.conf import config
from replicator.ledger import database
from replicator.models import MediaFile, Replica

_FILES, _REPLICAS = (model._meta.db_table for model in (MediaFile, Replica))

# Only files that the transaction has locked, as whoever records a write of one has: so this never waits for another's
# INSERT of the same replica. Two that wait for each other would be a deadlock, and the site's could be the one that
# the database ends. The node: whose workers have the file, where each node has a disk of its own.
_INSERT = f"""
INSERT INTO {_REPLICAS} (file_id, target, node, status, since, due_at, attempts, doubt, provisional,
    error_kind, error_text)
SELECT f.id, %s, CASE WHEN %s = '' THEN '' ELSE f.node END, 'pending', %s, %s, 0, %s, %s, '', ''
FROM {_FILES} f
WHERE f.id IN (@IDS@) AND NOT f.deleted
    AND NOT EXISTS (SELECT 1 FROM {_REPLICAS} r WHERE r.file_id = f.id AND r.target = %s)
ON CONFLICT (file_id, target) DO NOTHING
"""


def living(storages: Sequence[str]) -> QuerySet[MediaFile]:
    """The files of these storages that are not deleted."""
    return MediaFile.objects.using(database.alias()).filter(storage__in=storages, deleted=False)


def lacking(target: str, storages: Sequence[str]) -> QuerySet[MediaFile]:
    """Living files of these storages that have no replica at *target*, and that it can be given: not those of which
    no hash is known (see ``record_held``)."""
    there = Replica.objects.using(database.alias()).filter(file=OuterRef("pk"), target=target)
    return living(storages).filter(~Exists(there)).exclude(sha256="")


def record_lacking(target: str, storages: Sequence[str], after: int, upto: int) -> int:
    """Record a pending replica at *target*, due now, for each of the ``lacking`` files with an id above *after*, up
    to *upto*; the number of them. Idempotent.

    Part of the caller's transaction. Never waits: passes over files that a transaction of the site has just now,
    which records them itself, unless its process still has old settings. So who calls this looks again later.
    """
    connection = database.connection()
    files = lacking(target, storages).filter(pk__gt=after, pk__lte=upto)
    if connection.features.has_select_for_no_key_update:
        files = files.select_for_update(skip_locked=True, of=("self",), no_key=True)
    ids = list(files.values_list("pk", flat=True))
    if not ids:
        return 0
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    statement = _INSERT.replace("@IDS@", ", ".join(["%s"] * len(ids)))
    with connection.cursor() as cursor:
        cursor.execute(statement, (target, config().deliverer, now, now, False, False, *ids, target))
        return int(cursor.rowcount)


def record_all_lacking(target: str, storages: Sequence[str], *, batch: int = 5_000) -> int:
    """Record what *target* lacks, in short transactions; the number. Cheap where little is lacking: one look at the
    ids. What a transaction of the site has just now is left to the next call."""
    total, after = 0, 0
    ids = lacking(target, storages).order_by("pk").values_list("pk", flat=True)
    while some := list(ids.filter(pk__gt=after)[:batch]):
        with transaction.atomic(using=database.alias()):
            total += record_lacking(target, storages, after, some[-1])
        after = some[-1]
    return total


def stale(target: str, storages: Sequence[str]) -> QuerySet[Replica]:
    """Those replicas at *target* of files of these storages, deleted ones too, that are not of their files' versions,
    and yet wait for nothing. One look at all that is there.

    Nobody made them pending when their files were written: who did that believed *target* to be retired, or did not
    have it in his settings.
    """
    rows = Replica.objects.using(database.alias()).at(target).filter(file__storage__in=storages)
    return rows.filter(status=Replica.Status.SYNCED).exclude(version=F("file__version"))


def distrust_stale(target: str, storages: Sequence[str], *, batch: int = 5_000) -> int:
    """Have those that are ``stale`` sent again; the number."""
    ids = list(stale(target, storages).values_list("pk", flat=True))
    total = 0
    for start in range(0, len(ids), batch):
        with transaction.atomic(using=database.alias()):
            total += distrust(ids[start : start + batch])
    return total


def trusted(target: str, since: datetime) -> QuerySet[Replica]:
    """Replicas at *target* of writes before *since* of which something is confirmed."""
    return Replica.objects.using(database.alias()).at(target).filter(version__isnull=False, since__lt=since)


def distrust(ids: Sequence[int], *, version: UUID | None = None) -> int:
    """Have these replicas sent again, whatever was confirmed; the number of them. One statement, part of the caller's
    transaction.

    To the protocol it is a write: pending, due now, ``sent`` emptied, doubt kept, no lease touched; and what was
    confirmed is forgotten, so that the bytes go again, and not only a class. With *version*, only what was confirmed
    as that. Passes over what a transaction of the site is just writing: that is sent anyway.
    """
    now = timezone.now()
    rows = Replica.objects.using(database.alias())
    chosen = rows.filter(pk__in=ids)
    if version is not None:
        chosen = chosen.filter(version=version)
    # Whose workers have the file may have changed since the row was written, if that write was not recorded for it.
    arrived = MediaFile.objects.using(database.alias()).filter(pk=OuterRef("file")).values("node")[:1]
    return rows.filter(pk__in=database.skip_locked(chosen).values("pk")).update(
        node=Subquery(arrived) if config().deliverer else "",
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
