"""The SQL of each batch and each look: by hand, because building it anew each time cost more than running it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.models import BooleanField
from django.db.models.expressions import RawSQL
from django.utils import timezone

from replicator.ledger import database
from replicator.ledger.health import NOTE_EVERY
from replicator.models import MediaFile, Replica, TargetState

_FILES, _REPLICAS, _STATES = (model._meta.db_table for model in (MediaFile, Replica, TargetState))

_TAKE = f"""
UPDATE {_REPLICAS} SET
    lease = %(token)s,
    lease_until = %(until)s,
    sent = (SELECT f.version FROM {_FILES} f WHERE f.id = {_REPLICAS}.file_id),
    -- A lease that ended, and is taken over: what its holder sent may still take effect.
    doubt = doubt OR lease IS NOT NULL,
    provisional = provisional AND lease IS NULL,
    attempts = attempts + CASE WHEN lease IS NULL THEN 0 ELSE 1 END,
    attempted_at = %(now)s,
    task = %(task)s
WHERE @AMONG_IDS@ AND status = 'pending' AND due_at <= %(now)s
    AND (lease IS NULL OR lease_until <= %(now)s)
"""

_MINE = "lease = %(token)s"
_CURRENT = f"{_MINE} AND sent IS NOT NULL"
_SURE = f"{_CURRENT} AND (provisional OR NOT doubt)"
_DOUBTFUL = f"{_CURRENT} AND doubt AND NOT provisional"

# All cases look at the row as it was.
_SUCCEED = f"""
UPDATE {_REPLICAS} SET
    status = CASE WHEN {_SURE} THEN 'synced' ELSE 'pending' END,
    version = CASE WHEN {_SURE} THEN sent ELSE version END,
    synced_at = CASE WHEN {_SURE} THEN %(now)s ELSE synced_at END,
    due_at = CASE WHEN {_SURE} THEN due_at WHEN {_DOUBTFUL} THEN %(window_ends)s ELSE %(now)s END,
    -- Not mine any more: I may have overwritten what the new holder sent.
    doubt = CASE WHEN {_SURE} THEN FALSE WHEN {_MINE} THEN doubt ELSE TRUE END,
    provisional = CASE WHEN {_DOUBTFUL} THEN TRUE ELSE FALSE END,
    attempts = CASE WHEN {_MINE} THEN 0 ELSE attempts END,
    error_kind = '', error_text = '', http_status = NULL,
    -- Another holder's lease is kept: two senders could finish in either order.
    lease = CASE WHEN {_MINE} THEN NULL ELSE lease END,
    lease_until = CASE WHEN {_MINE} THEN NULL ELSE lease_until END,
    sent = CASE WHEN {_MINE} THEN NULL ELSE sent END
WHERE @AMONG_IDS@
"""

_LOOK = f"""
SELECT f.name, f.version, {_REPLICAS}.id, {_REPLICAS}.target,
    status = 'synced' AND {_REPLICAS}.version = f.version,
    status = 'pending' AND due_at <= %(now)s AND (lease IS NULL OR lease_until <= %(now)s),
    status = 'pending' AND lease_until > %(now)s,
    status = 'pending' AND lease_until > %(now)s AND attempted_at > %(lately)s,
    status = 'pending' AND due_at <= %(end)s,
    t.state = 'down' OR t.paused OR t.phase IN ('read-only', 'retired'),
    t.failures > 0, t.failures = 0 AND t.last_success_at > %(recently)s
FROM {_FILES} f JOIN {_REPLICAS} ON file_id = f.id LEFT JOIN {_STATES} t ON t.target = {_REPLICAS}.target
WHERE f.storage = %(storage)s AND @AMONG_NAMES@
"""

#: All ids are one parameter, so that the statement is the same for any number of them. On PostgreSQL not
#: ``IN (SELECT unnest(…))``: a table whose statistics are young is then read whole.
_AMONG = {
    "postgresql": "{column} = ANY(%({values})s)",
    "sqlite": "{column} IN (SELECT value FROM json_each(%({values})s))",
}


class Seen(NamedTuple):
    """One replica of a file, as a look at the ledger shows it."""

    name: str
    file_version: UUID
    id: int
    target: str
    synced: bool
    """With the file's version."""
    due: bool
    """To be claimed now."""
    leased: bool
    young: bool
    """Leased, and not for long."""
    in_time: bool
    """Due, or leased, before the end that was asked for."""
    down: bool
    """Or nothing is to be sent there, as people want it."""
    suspect: bool
    """The last that was heard of the target is a failure."""
    noted: bool
    """The target's health needs no other word of a success."""


def take(ids: list[int], *, token: UUID, now: datetime, until: datetime, task: UUID | None) -> None:
    """Put a lease on those of *ids* that are still due, and note the version to send, and who claimed them."""
    with _executed(_TAKE, {"ids": ids, "token": token, "now": now, "until": until, "task": task}):
        pass


def succeed(ids: list[int], *, token: UUID, now: datetime, window_ends: datetime) -> None:
    """Settle the successes *ids*, whose rows the caller has locked."""
    with _executed(_SUCCEED, {"ids": ids, "token": token, "now": now, "window_ends": window_ends}):
        pass


def look(storage: str, names: list[str], *, end: datetime, young: float) -> list[Seen]:
    """All replicas of these files, with what is known of their targets; what is *young* was claimed so many seconds
    ago, at most. One statement."""
    now = timezone.now()
    times = {"now": now, "end": end, "lately": now - timedelta(seconds=young), "recently": now - NOTE_EVERY}
    with _executed(_LOOK, {"storage": storage, "names": names, **times}) as cursor:
        return [
            Seen(name, _uuid(version), pk, target, *map(bool, facts))
            for name, version, pk, target, *facts in cursor.fetchall()
        ]


def among(ids: list[int]) -> RawSQL:
    """For ``filter()``: the replicas of these *ids*."""
    connection = database.connection()
    condition, _ = _prepared("@AMONG_IDS@", connection.vendor)
    return RawSQL(condition, [_adapted(connection, ids)], output_field=BooleanField())  # noqa: S611  # all ours


@contextmanager
def _executed(statement: str, values: dict[str, Any]) -> Iterator[CursorWrapper]:
    connection = database.connection()
    text, names = _prepared(statement, connection.vendor)
    adapted = {name: _adapted(connection, value) for name, value in values.items()}
    with connection.cursor() as cursor:
        cursor.execute(text, [adapted[name] for name in names])
        yield cursor


@cache
def _prepared(statement: str, vendor: str) -> tuple[str, list[str]]:
    """*statement* with positional parameters, which every supported Django passes on to SQLite, and their names."""
    text = statement.replace("@AMONG_IDS@", _AMONG[vendor].format(column=f"{_REPLICAS}.id", values="ids"))
    text = text.replace("@AMONG_NAMES@", _AMONG[vendor].format(column="f.name", values="names"))
    return re.sub(r"%\(\w+\)s", "%s", text), re.findall(r"%\((\w+)\)s", text)


def _uuid(value: UUID | str) -> UUID:
    return value if isinstance(value, UUID) else UUID(value)


def _adapted(connection: BaseDatabaseWrapper, value: Any) -> Any:
    if isinstance(value, UUID) and not connection.features.has_native_uuid_field:
        return value.hex
    if isinstance(value, datetime):
        return connection.ops.adapt_datetimefield_value(value)
    if isinstance(value, list) and connection.vendor == "sqlite":
        return json.dumps(value)
    return value
