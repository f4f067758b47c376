"""Recording what should be true: the part of the ledger that runs in the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction
from django.utils import timezone

from replicator.conf import config
from replicator.ledger import database, life
from replicator.ledger.statements import OnConflict, Statements
from replicator.models import MediaFile, Replica


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


class Recorded(Enum):
    """What ``record`` did. True unless it is ``TAKEN``."""

    TAKEN = "somebody else has written the name"
    NOTED = "noted"
    DISTURBED = "noted; and a target that is this node's own media root may yet be sent something older"

    def __bool__(self) -> bool:
        return self is not Recorded.TAKEN


def record(write: Write, targets: Sequence[str], *, only_if_free: bool = False) -> Recorded:
    """Note *write* and one pending replica for each of *targets*, due now. Two statements, one transaction.

    At a target that is this node's own media root (option ``node``) a file that was saved here is synced at once,
    unless something that was sent there may still take effect.

    With *only_if_free*, a name that the ledger holds for a living file is left alone: the answer is then ``TAKEN``.
    That is the one place where two web hosts that choose the same name find out. Never touches a lease: a worker
    that is sending an older version finds its ``sent`` emptied when it settles.

    The row locks (on PostgreSQL) last until the caller's transaction ends; a caller that changes local files after
    this call is alone with the name while it does.
    """
    return _record(write, targets, "replace if deleted" if only_if_free else "replace")


def record_over(write: Write, targets: Sequence[str], version: UUID | None) -> Recorded:
    """As ``record``, if the ledger still has this *version* of the file, deleted or not; None: if it has never seen
    the name. Else nothing is noted, and the answer is ``TAKEN``."""
    return _record(write, targets, "skip" if version is None else "replace if same", over=version)


def _record(write: Write, targets: Sequence[str], on_conflict: OnConflict, *, over: UUID | None = None) -> Recorded:
    now = timezone.now()
    with transaction.atomic(using=database.alias(), savepoint=False):
        ids = _upsert_files([write], now, on_conflict, outdates=targets, over=over)
        home = frozenset() if write.deleted else config().home.intersection(targets)
        disturbed = _upsert_replicas(ids, targets, now, at_home={ids[0]: write.version} if home and ids else {})
    return Recorded.TAKEN if not ids else Recorded.DISTURBED if disturbed else Recorded.NOTED


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
        for target in life.to_record(targets)[0]:
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
        cursor.execute(Statements.of(cursor.db).is_recorded, [storage, name])
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
    writes: Sequence[Write],
    now: datetime,
    on_conflict: OnConflict,
    *,
    node: str | None = None,
    outdates: Sequence[str] | None = None,
    over: UUID | None = None,
) -> list[int]:
    """Insert or update rows of MediaFile; the ids of those written. *node*: where they arrived; here unless given.

    *over*: the version that "replace if same" is about. *outdates*: targets of these files; the disk of another node
    that had the file, and is none of them, is noted to have an older version.
    """
    if not writes:
        return []
    connection = database.connection()
    conf = config()
    time = connection.ops.adapt_datetimefield_value(now)
    if node is None:
        node = conf.node
    params: list[Any] = []
    for w in writes:
        version = w.version if connection.features.has_native_uuid_field else w.version.hex
        params += (w.storage, w.name, version, w.deleted, w.size, w.sha256, w.content_type, w.mogile_class)
        params += (node, "", time, time)
    up_to_date: list[str] = []
    if not conf.shared_media and outdates is not None and on_conflict != "skip":
        up_to_date = ["", node, *sorted({home for target, home in conf.homes.items() if target in outdates})]
        params += up_to_date
    if over is not None:
        params.append(over if connection.features.has_native_uuid_field else over.hex)
    with connection.cursor() as cursor:
        cursor.execute(Statements.of(connection).files(on_conflict, len(writes), len(up_to_date)), params)
        return [row[0] for row in cursor.fetchall()]


def _upsert_replicas(
    file_ids: Sequence[int],
    targets: Sequence[str],
    now: datetime,
    *,
    at_home: Mapping[int, UUID] = MappingProxyType({}),
) -> bool:
    """Insert or update rows of Replica: pending, due now; synced at once for the versions of files *at_home*, at the
    targets that are this node's own media root. Whether something that was sent there keeps one of those pending.

    At a target that drains only what is there already is updated; at one that is retired, nothing.
    """
    targets, draining = life.to_record(targets)
    if at_home:
        # Whatever people want of it: the file is there, and something older may be on its way there.
        home = config().home.intersection(draining)
        targets, draining = [*targets, *home], [target for target in draining if target not in home]
    if draining:
        _update_replicas(file_ids, draining, now)
    if not file_ids or not targets:
        return False
    connection = database.connection()
    conf = config()
    time = connection.ops.adapt_datetimefield_value(now)
    params: list[Any] = []
    for file_id in file_ids:
        for target in sorted(targets):
            version = at_home.get(file_id) if target in conf.home else None
            status = Replica.Status.PENDING if version is None else Replica.Status.SYNCED
            params += (file_id, target, conf.deliverer, status.value, time, time, 0, False, False, "", "")
            if at_home:
                native = connection.features.has_native_uuid_field
                params += (version if version is None or native else version.hex, None if version is None else time)
    with connection.cursor() as cursor:
        statement = Statements.of(connection).replicas(len(file_ids) * len(targets), at_home=bool(at_home))
        cursor.execute(statement, params)
        if not at_home:
            return False
        return any(status != Replica.Status.SYNCED and target in conf.home for target, status in cursor.fetchall())


def _update_replicas(file_ids: Sequence[int], targets: Sequence[str], now: datetime) -> None:
    """Make those of the replicas pending, due now, that there are."""
    rows = Replica.objects.using(database.alias()).filter(file__in=file_ids, target__in=targets)
    rows.update(
        node=config().deliverer,
        status=Replica.Status.PENDING,
        since=now,
        due_at=now,
        attempts=0,
        provisional=False,
        error_kind="",
        error_text="",
        http_status=None,
        sent=None,
    )


def _insert_synced(file_ids: Sequence[int], target: str, now: datetime) -> None:
    """Insert a synced replica at *target* for each of these files, which have none there."""
    if not file_ids:
        return
    connection = database.connection()
    time = connection.ops.adapt_datetimefield_value(now)
    values = (target, Replica.Status.SYNCED.value, time, "", time, time, 0, False, False, "", "")
    with connection.cursor() as cursor:
        cursor.execute(Statements.of(connection).synced(len(file_ids)), [*values, *file_ids])
