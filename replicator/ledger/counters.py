"""Numbers that only grow, of each target: added up in each process, and now and then in the database.

Any process can then answer for all of them, on whatever machine. What a killed process had not written yet is lost.
"""

from __future__ import annotations

import logging
import os
import time
from bisect import bisect_left
from collections.abc import Iterable
from threading import Lock

from django.core.signals import setting_changed
from django.db import Error
from django.utils import timezone

from replicator.conf import config
from replicator.ledger import database
from replicator.ledger.leases import Outcome
from replicator.models import TargetCounter

log = logging.getLogger(__name__)

#: What is counted of each target beside the buckets: files that it has confirmed, those that it has deleted, attempts
#: that failed, the bytes of what it has confirmed, how many of all these successes came within the lag objective, and
#: the seconds that they took. A file that is sent twice, since the first success was in doubt, counts twice.
PUT, DELETED, FAILED, BYTES, WITHIN, SECONDS = "put", "deleted", "failed", "bytes", "within", "seconds"
#: Upper ends of the buckets of the successes' seconds. ``le=…`` is the number in that bucket alone.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, float("inf"))
_BUCKET_KEYS = tuple(f"le={'+Inf' if end == float('inf') else f'{end:g}'}" for end in BUCKETS)
#: When the last sweep ran, in seconds since 1970; of no target.
SWEPT_AT = "swept_at"

#: Seconds between two writes of a process that goes on counting.
_EVERY = 2.0

_TABLE = TargetCounter._meta.db_table
_KEPT: dict[tuple[str, str], float] = {}
_lock = Lock()
_written = time.monotonic()


def bucket_key(end: float) -> str:
    """Under which key the bucket that ends at *end* is counted."""
    return _BUCKET_KEYS[BUCKETS.index(end)]


def count(outcomes: Iterable[Outcome]) -> None:
    """Count those of *outcomes* for which something was sent. In this process only, until it is flushed."""
    now, objective = timezone.now(), config().lag_objective
    with _lock:
        for outcome in outcomes:
            if not outcome.sent:
                continue
            claim = outcome.claim
            if outcome.error is not None:
                _keep(claim.target, FAILED, 1)
                continue
            _keep(claim.target, DELETED if claim.deleted else PUT, 1)
            _keep(claim.target, _BUCKET_KEYS[bisect_left(BUCKETS, outcome.seconds)], 1)
            _keep(claim.target, SECONDS, outcome.seconds)
            if outcome.bytes:
                _keep(claim.target, BYTES, outcome.bytes)
            if (now - claim.since).total_seconds() <= objective:
                _keep(claim.target, WITHIN, 1)


def flush(*, at_once: bool = True) -> None:
    """Write what this process has counted; if not *at_once*, at most every two seconds. One statement. Never raises:
    what could not be written is kept for the next time."""
    global _written
    if not _KEPT or (not at_once and time.monotonic() - _written < _EVERY):
        return
    connection = database.connection()
    if connection.in_atomic_block:
        # All workers add to these rows: no transaction of a site may hold them.
        return
    with _lock:
        counted = dict(_KEPT)
        _KEPT.clear()
    _written = time.monotonic()
    try:
        # In one order, so that no two processes wait for each other's rows.
        _write(sorted((target, key, value) for (target, key), value in counted.items()), add=True)
    except Error as error:
        with _lock:
            for (target, key), value in counted.items():
                _keep(target, key, value)
        log.warning("counts not written yet", extra={"error": type(error).__name__})
        connection.close()


def note_swept() -> None:
    """The sweep has run just now."""
    _write([("", SWEPT_AT, time.time())], add=False)


def swept_at() -> float | None:
    """When the last sweep ran, in seconds since 1970; None: never."""
    rows = TargetCounter.objects.using(database.alias()).filter(target="", key=SWEPT_AT)
    found: float | None = rows.values_list("value", flat=True).first()
    return found


def read() -> dict[str, dict[str, float]]:
    """Target → key → what all processes have written. What was never counted is not there."""
    found: dict[str, dict[str, float]] = {}
    rows = TargetCounter.objects.using(database.alias())
    for target, key, value in rows.values_list("target", "key", "value"):
        found.setdefault(target, {})[key] = value
    return found


def _keep(target: str, key: str, value: float) -> None:
    _KEPT[target, key] = _KEPT.get((target, key), 0) + value


def _write(rows: list[tuple[str, str, float]], *, add: bool) -> None:
    connection = database.connection()
    table, target, key, value = map(connection.ops.quote_name, (_TABLE, "target", "key", "value"))
    given = f"{table}.{value} + EXCLUDED.{value}" if add else f"EXCLUDED.{value}"
    values = f"VALUES {', '.join(['(%s, %s, %s)'] * len(rows))}"
    if connection.vendor == "postgresql" and not connection.in_atomic_block:
        # The commit does not wait for the disk, and nor does whoever waits for these rows: all that a power cut can
        # take are the last numbers. Only for this statement, which is a transaction of its own.
        quick = "SELECT set_config('synchronous_commit', 'off', true)"
        values = f"SELECT v.t, v.k, v.n FROM ({quick}) quick, ({values}) v (t, k, n) ORDER BY 1, 2"
    statement = (
        f"INSERT INTO {table} ({target}, {key}, {value}) {values} "
        f"ON CONFLICT ({target}, {key}) DO UPDATE SET {value} = {given}"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [each for row in rows for each in row])


def _start_again() -> None:
    """What its parent had counted, the parent writes."""
    global _lock
    _lock = Lock()
    _KEPT.clear()


def _settings_changed(*, setting: str, **_: object) -> None:
    """What one test counted is not another one's."""
    if setting == "REPLICATOR":
        _KEPT.clear()


os.register_at_fork(after_in_child=_start_again)
setting_changed.connect(_settings_changed, dispatch_uid="replicator.ledger.counters")
