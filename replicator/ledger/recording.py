"""Recording what should be true: the part of the ledger that runs in the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import Model
from django.utils import timezone

from replicator.conf import config
from replicator.ledger import database
from replicator.models import MediaFile, Replica

_FILE_COLUMNS = (
    "storage",
    "name",
    "version",
    "deleted",
    "size",
    "sha256",
    "content_type",
    "mogile_class",
    "node",
    "created_at",
    "updated_at",
)
_REPLICA_COLUMNS = (
    "file",
    "target",
    "status",
    "since",
    "due_at",
    "attempts",
    "doubt",
    "provisional",
    "error_kind",
    "error_text",
)


@dataclass(frozen=True, slots=True)
class Write:
    """What a save or a delete wants to be true of one file."""

    storage: str
    name: str
    size: int = 0
    sha256: str = ""
    content_type: str = ""
    mogile_class: str = ""
    deleted: bool = False
    version: UUID = field(default_factory=uuid4)


def record(write: Write, targets: Sequence[str], *, only_if_free: bool = False) -> bool:
    """Note *write* and one pending replica for each of *targets*, due now. Two statements, one transaction.

    With *only_if_free*, a name that the ledger holds for a living file is left alone: the answer is then False.
    That is the one place where two web hosts that choose the same name find out. Never touches a lease: a worker
    that is sending an older version finds its ``sent`` emptied when it settles.

    The row locks (on PostgreSQL) last until the caller's transaction ends; a caller that changes local files after
    this call is alone with the name while it does.
    """
    now = timezone.now()
    with transaction.atomic(using=database.alias(), savepoint=False):
        ids = _upsert_files([write], now, on_conflict="replace if deleted" if only_if_free else "replace")
        _upsert_replicas(ids, targets, now)
    return bool(ids)


def record_new(writes: Sequence[Write], targets: Sequence[str]) -> int:
    """Note those of *writes* whose names the ledger has never seen; the number of them. Two statements.

    For adopting: what the ledger knows already, a tombstone too, stays as it is.
    """
    now = timezone.now()
    with transaction.atomic(using=database.alias(), savepoint=False):
        # In the order of the names, as every other writer of several rows: no two wait for each other.
        ids = _upsert_files(sorted(writes, key=lambda w: (w.storage, w.name)), now, on_conflict="skip")
        _upsert_replicas(ids, targets, now)
    return len(ids)


def is_recorded(storage: str, name: str) -> bool:
    """Whether the ledger holds a living file of this name."""
    return MediaFile.objects.using(database.alias()).filter(storage=storage, name=name, deleted=False).exists()


@contextmanager
def hold(storage: str, name: str) -> Iterator[MediaFile | None]:
    """Be alone with a name: no one records a write of it while the block runs. Gives its row, if there is one.

    For short work on local files. The row of an unknown name exists for the length of the block only.
    """
    with transaction.atomic(using=database.alias()):
        now = timezone.now()
        stand_in = Write(storage, name, deleted=True)
        # An INSERT is what makes two sessions meet over a row that does not exist yet, and, being a write,
        # what takes SQLite's only lock at once.
        inserted = _upsert_files([stand_in], now, on_conflict="skip")
        row = MediaFile.objects.using(database.alias()).select_for_update().get(storage=storage, name=name)
        yield None if inserted else row
        if inserted:
            MediaFile.objects.using(database.alias()).filter(pk=row.pk, version=stand_in.version).delete()


def _upsert_files(writes: Sequence[Write], now: datetime, *, on_conflict: str) -> list[int]:
    """Insert or update rows of MediaFile; the ids of those written."""
    if not writes:
        return []
    node = config().node
    rows = [
        (
            w.storage,
            w.name,
            w.version,
            w.deleted,
            w.size,
            w.sha256,
            w.content_type,
            w.mogile_class,
            node,
            now,
            now,
        )
        for w in writes
    ]
    table = _quoted(MediaFile._meta.db_table)
    if on_conflict == "skip":
        action = "DO NOTHING"
    else:
        kept = {"storage", "name", "created_at"}
        assignments = ", ".join(
            f"{_quoted(c)} = EXCLUDED.{_quoted(c)}" for c in _columns(MediaFile, _FILE_COLUMNS) if c not in kept
        )
        action = f"DO UPDATE SET {assignments}"
        if on_conflict == "replace if deleted":
            action += f" WHERE {table}.{_quoted('deleted')}"
    sql, params = _insert(MediaFile, _FILE_COLUMNS, rows)
    conflict = f"{_quoted('storage')}, {_quoted('name')}"
    with database.connection().cursor() as cursor:
        cursor.execute(f"{sql} ON CONFLICT ({conflict}) {action} RETURNING {_quoted('id')}", params)
        return [row[0] for row in cursor.fetchall()]


def _upsert_replicas(file_ids: Sequence[int], targets: Sequence[str], now: datetime) -> None:
    if not file_ids or not targets:
        return
    rows = [
        (file_id, target, Replica.Status.PENDING, now, now, 0, False, False, "", "")
        for file_id in file_ids
        for target in sorted(targets)
    ]
    sql, params = _insert(Replica, _REPLICA_COLUMNS, rows)
    q = _quoted
    # doubt stays: what was sent earlier may still take effect, so this write's success is provisional again.
    fresh = ("status", "since", "due_at", "attempts", "provisional", "error_kind", "error_text")
    assignments = ", ".join(f"{q(c)} = EXCLUDED.{q(c)}" for c in fresh)
    with database.connection().cursor() as cursor:
        cursor.execute(
            f"{sql} ON CONFLICT ({q('file_id')}, {q('target')}) DO UPDATE SET {assignments}, "
            f"{q('sent')} = NULL, {q('http_status')} = NULL",
            params,
        )


def _insert(model: type[Model], fields: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[str, list[Any]]:
    """``INSERT INTO … VALUES …`` for *rows*, and its parameters as the database takes them.

    Written by hand because ``bulk_create`` can neither keep a living row (ON CONFLICT … WHERE) nor, before
    Django 5.0, say which rows it wrote.
    """
    connection = database.connection()
    metas = [model._meta.get_field(name) for name in fields]
    params = [
        meta.get_db_prep_save(value, connection=connection)  # type: ignore[union-attr]  # all are concrete
        for row in rows
        for meta, value in zip(metas, row, strict=True)
    ]
    columns = ", ".join(map(_quoted, _columns(model, fields)))
    values = ", ".join([f"({', '.join(['%s'] * len(fields))})"] * len(rows))
    return f"INSERT INTO {_quoted(model._meta.db_table)} ({columns}) VALUES {values}", params  # noqa: S608  # names only


def _columns(model: type[Model], fields: Sequence[str]) -> list[str]:
    return [model._meta.get_field(name).column for name in fields]  # type: ignore[union-attr]  # all are concrete


def _quoted(name: str) -> str:
    return database.connection().ops.quote_name(name)
