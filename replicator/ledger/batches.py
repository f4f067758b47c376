"""The SQL that workers run for each batch: by hand, because building it anew each time cost more than running it."""

from __future__ import annotations

import json
import re
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField
from django.db.models.expressions import RawSQL

from replicator.ledger import database
from replicator.models import MediaFile, Replica

_FILES, _REPLICAS = MediaFile._meta.db_table, Replica._meta.db_table

_TAKE = f"""
UPDATE {_REPLICAS} SET
    lease = %(token)s,
    lease_until = %(until)s,
    sent = (SELECT f.version FROM {_FILES} f WHERE f.id = {_REPLICAS}.file_id),
    -- A lease that ended, and is taken over: what its holder sent may still take effect.
    doubt = doubt OR lease IS NOT NULL,
    provisional = provisional AND lease IS NULL,
    attempts = attempts + CASE WHEN lease IS NULL THEN 0 ELSE 1 END,
    attempted_at = %(now)s
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

#: All ids are one parameter, so that the statement is the same for any number of them. On PostgreSQL not
#: ``IN (SELECT unnest(…))``: a table whose statistics are young is then read whole.
_AMONG_IDS = {
    "postgresql": f"{_REPLICAS}.id = ANY(%(ids)s)",
    "sqlite": f"{_REPLICAS}.id IN (SELECT value FROM json_each(%(ids)s))",
}


def take(ids: list[int], *, token: UUID, now: datetime, until: datetime) -> None:
    """Put a lease on those of *ids* that are still due, and note the version to send."""
    _execute(_TAKE, {"ids": ids, "token": token, "now": now, "until": until})


def succeed(ids: list[int], *, token: UUID, now: datetime, window_ends: datetime) -> None:
    """Settle the successes *ids*, whose rows the caller has locked."""
    _execute(_SUCCEED, {"ids": ids, "token": token, "now": now, "window_ends": window_ends})


def among(ids: list[int]) -> RawSQL:
    """For ``filter()``: the replicas of these *ids*."""
    connection = database.connection()
    condition, _ = _prepared("@AMONG_IDS@", connection.vendor)
    return RawSQL(condition, [_adapted(connection, ids)], output_field=BooleanField())  # noqa: S611  # all ours


def _execute(statement: str, values: dict[str, Any]) -> None:
    connection = database.connection()
    text, names = _prepared(statement, connection.vendor)
    adapted = {name: _adapted(connection, value) for name, value in values.items()}
    with connection.cursor() as cursor:
        cursor.execute(text, [adapted[name] for name in names])


@cache
def _prepared(statement: str, vendor: str) -> tuple[str, list[str]]:
    """*statement* with positional parameters, which every supported Django passes on to SQLite, and their names."""
    text = statement.replace("@AMONG_IDS@", _AMONG_IDS[vendor])
    return re.sub(r"%\(\w+\)s", "%s", text), re.findall(r"%\((\w+)\)s", text)


def _adapted(connection: BaseDatabaseWrapper, value: Any) -> Any:
    if isinstance(value, UUID) and not connection.features.has_native_uuid_field:
        return value.hex
    if isinstance(value, datetime):
        return connection.ops.adapt_datetimefield_value(value)
    if isinstance(value, list) and connection.vendor == "sqlite":
        return json.dumps(value)
    return value
