"""Recording what should be true: the part of the ledger that runs in the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Literal
from uuid import UUID, uuid4

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from replicator.conf import config
from replicator.ledger import database
from replicator.models import MediaFile, Replica

OnConflict = Literal["replace", "replace if deleted", "skip"]


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
        ids = _upsert_files([write], now, "replace if deleted" if only_if_free else "replace")
        _upsert_replicas(ids, targets, now)
    return bool(ids)


def record_new(writes: Sequence[Write], targets: Sequence[str]) -> int:
    """Note those of *writes* whose names the ledger has never seen; the number of them. Two statements.

    For adopting: what the ledger knows already, a tombstone too, stays as it is.
    """
    now = timezone.now()
    with transaction.atomic(using=database.alias(), savepoint=False):
        # In the order of the names, so that two of these never wait for each other.
        ids = _upsert_files(sorted(writes, key=lambda w: (w.storage, w.name)), now, "skip")
        _upsert_replicas(ids, targets, now)
    return len(ids)


def record_held(writes: Sequence[Write], target: str) -> int:
    """Note those of *writes* whose names the ledger has never seen as files that *target* has, and nobody else; the
    number of them. Two statements.

    Of such a file neither a hash is known (``sha256`` is empty) nor a node that has it. Raises ``OperationalError``
    if a transaction of the site has just taken one of the names: waiting for it could be a deadlock.
    """
    now = timezone.now()
    with _impatient(milliseconds=500):
        ids = _upsert_files(sorted(writes, key=lambda w: (w.storage, w.name)), now, "skip", node="")
        _insert_synced(ids, target, now)
    return len(ids)


def record_changed(writes: Sequence[Write], targets: Sequence[str]) -> int:
    """Note those of *writes*, all of one storage, that the ledger does not have as they are; the number of replicas
    that are pending for it. A living file of the same bytes stays as it is, but for targets it has no replica at.

    Locks the rows first, so that what it decides is still so when the caller's transaction ends. Deletes are noted
    whatever the ledger has.
    """
    if not writes:
        return 0
    now = timezone.now()
    files = MediaFile.objects.using(database.alias()).filter(storage=writes[0].storage)
    with transaction.atomic(using=database.alias(), savepoint=False):
        # In the order of the names, as record_new.
        rows = files.filter(name__in=[w.name for w in writes]).order_by("name").select_for_update()
        known = {row.name: row for row in rows}
        changed = [w for w in writes if not _is_same(w, known.get(w.name))]
        ids = _upsert_files(sorted(changed, key=lambda w: w.name), now, "replace")
        _upsert_replicas(ids, targets, now)
        noted = len(ids) * len(targets)
        same = {row.pk for row in known.values()}.difference(ids)
        for target in targets:
            there = Replica.objects.using(database.alias()).filter(file__in=same, target=target)
            missing = sorted(same.difference(there.values_list("file_id", flat=True)))
            _upsert_replicas(missing, [target], now)
            noted += len(missing)
    return noted


def _is_same(write: Write, row: MediaFile | None) -> bool:
    return (
        row is not None
        and not (row.deleted or write.deleted)
        and (row.size, row.sha256, row.mogile_class) == (write.size, write.sha256, write.mogile_class)
    )


def is_recorded(storage: str, name: str) -> bool:
    """Whether the ledger holds a living file of this name."""
    with database.connection().cursor() as cursor:
        cursor.execute(_Statements.of(cursor.db).is_recorded, [storage, name])
        return cursor.fetchone() is not None


@contextmanager
def hold(storage: str, name: str) -> Iterator[MediaFile | None]:
    """Be alone with a name: no one records a write of it while the block runs. Gives its row, if there is one.

    For short work on local files. The row of an unknown name exists for the length of the block only. Raises
    ``OperationalError`` if a transaction of the site has the name for longer than this can wait.
    """
    with _impatient(milliseconds=1000):
        now = timezone.now()
        stand_in = Write(storage, name, deleted=True)
        # An INSERT is what makes two sessions meet over a row that does not exist yet, and, being a write,
        # what takes SQLite's only lock at once.
        inserted = _upsert_files([stand_in], now, "skip")
        row = MediaFile.objects.using(database.alias()).select_for_update().get(storage=storage, name=name)
        yield None if inserted else row
        if inserted:
            MediaFile.objects.using(database.alias()).filter(pk=row.pk, version=stand_in.version).delete()


@contextmanager
def _impatient(*, milliseconds: int) -> Iterator[None]:
    """A transaction that waits no longer than this for another's locks; unless it is part of the caller's."""
    alone = not database.connection().in_atomic_block
    with transaction.atomic(using=database.alias()):
        if alone and database.connection().vendor == "postgresql":
            with database.connection().cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = {milliseconds:d}")
        yield


def _upsert_files(
    writes: Sequence[Write], now: datetime, on_conflict: OnConflict, *, node: str | None = None
) -> list[int]:
    """Insert or update rows of MediaFile; the ids of those written. *node*: where they arrived; here unless given."""
    if not writes:
        return []
    connection = database.connection()
    time = connection.ops.adapt_datetimefield_value(now)
    if node is None:
        node = config().node
    params: list[Any] = []
    for w in writes:
        version = w.version if connection.features.has_native_uuid_field else w.version.hex
        params += (w.storage, w.name, version, w.deleted, w.size, w.sha256, w.content_type, w.mogile_class)
        params += (node, time, time)
    with connection.cursor() as cursor:
        cursor.execute(_Statements.of(connection).files(on_conflict, len(writes)), params)
        return [row[0] for row in cursor.fetchall()]


def _upsert_replicas(file_ids: Sequence[int], targets: Sequence[str], now: datetime) -> None:
    if not file_ids or not targets:
        return
    connection = database.connection()
    time = connection.ops.adapt_datetimefield_value(now)
    params: list[Any] = []
    for file_id in file_ids:
        for target in sorted(targets):
            params += (file_id, target, Replica.Status.PENDING.value, time, time, 0, False, False, "", "")
    with connection.cursor() as cursor:
        cursor.execute(_Statements.of(connection).replicas(len(file_ids) * len(targets)), params)


def _insert_synced(file_ids: Sequence[int], target: str, now: datetime) -> None:
    """Insert a synced replica at *target* for each of these files, which have none there."""
    if not file_ids:
        return
    connection = database.connection()
    time = connection.ops.adapt_datetimefield_value(now)
    values = (target, Replica.Status.SYNCED.value, time, time, time, 0, False, False, "", "")
    with connection.cursor() as cursor:
        cursor.execute(_Statements.of(connection).synced(len(file_ids)), [*values, *file_ids])


class _Statements:
    """The SQL of recording, made once for each kind of database.

    Written by hand because ``bulk_create`` can neither keep a living row (ON CONFLICT … WHERE) nor, before
    Django 5.0, say which rows it wrote; and since each save pays for it.
    """

    FILE = (
        *("storage", "name", "version", "deleted", "size", "sha256", "content_type", "mogile_class"),
        *("node", "created_at", "updated_at"),
    )
    REPLICA = (
        *("file_id", "target", "status", "since", "due_at"),
        *("attempts", "doubt", "provisional", "error_kind", "error_text"),
    )

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._q = connection.ops.quote_name
        self.is_recorded = (
            f"SELECT 1 FROM {self._q(MediaFile._meta.db_table)} "
            f"WHERE {self._q('storage')} = %s AND {self._q('name')} = %s AND NOT {self._q('deleted')}"
        )

    @classmethod
    @cache
    def _of(cls, vendor: str, alias: str) -> _Statements:
        return cls(connections[alias])

    @classmethod
    def of(cls, connection: BaseDatabaseWrapper) -> _Statements:
        return cls._of(connection.vendor, connection.alias)

    @cache  # noqa: B019  # the instances are few, and live as long as the process
    def files(self, on_conflict: OnConflict, rows: int) -> str:
        q = self._q
        if on_conflict == "skip":
            action = "DO NOTHING"
        else:
            changed = [name for name in self.FILE if name not in ("storage", "name", "created_at")]
            action = f"DO UPDATE SET {', '.join(f'{q(c)} = EXCLUDED.{q(c)}' for c in changed)}"
            if on_conflict == "replace if deleted":
                action += f" WHERE {q(MediaFile._meta.db_table)}.{q('deleted')}"
        insert = self._insert(MediaFile._meta.db_table, self.FILE, rows)
        return f"{insert} ON CONFLICT ({q('storage')}, {q('name')}) {action} RETURNING {q('id')}"

    @cache  # noqa: B019  # as above
    def replicas(self, rows: int) -> str:
        q = self._q
        # doubt stays: what was sent earlier may still take effect, so this write's success is provisional again.
        fresh = [name for name in self.REPLICA if name not in ("file_id", "target", "doubt")]
        return (
            f"{self._insert(Replica._meta.db_table, self.REPLICA, rows)} "
            f"ON CONFLICT ({q('file_id')}, {q('target')}) DO UPDATE SET "
            f"{', '.join(f'{q(c)} = EXCLUDED.{q(c)}' for c in fresh)}, {q('sent')} = NULL, {q('http_status')} = NULL"
        )

    @cache  # noqa: B019  # as above
    def synced(self, files: int) -> str:
        q = self._q
        given = ("target", "status", "synced_at", *self.REPLICA[3:])
        return (
            f"INSERT INTO {q(Replica._meta.db_table)} ({', '.join(map(q, ('file_id', 'version', *given)))}) "
            f"SELECT {q('id')}, {q('version')}, {', '.join(['%s'] * len(given))} "
            f"FROM {q(MediaFile._meta.db_table)} WHERE {q('id')} IN ({', '.join(['%s'] * files)})"
        )

    def _insert(self, table: str, columns: Sequence[str], rows: int) -> str:
        values = ", ".join([f"({', '.join(['%s'] * len(columns))})"] * rows)
        return f"INSERT INTO {self._q(table)} ({', '.join(map(self._q, columns))}) VALUES {values}"
