"""Checks of the ledger's database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django import VERSION
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.db import connections, router

from replicator.ledger import database
from replicator.models import MediaFile, Replica, Slot, TargetState

_OLDEST_SQLITE = (3, 35)
#: psycopg.IsolationLevel.READ_COMMITTED, which a site on SQLite need not have installed.
_READ_COMMITTED = 2


def problems() -> Iterator[CheckMessage]:
    """E010: a kind that has not what the ledger needs. E014, W020: where a router puts it. W022: local times."""
    alias = database.alias()
    elsewhere = {m.__name__: router.db_for_write(m) for m in (Replica, TargetState, Slot)}
    others = {name: where for name, where in elsewhere.items() if where != alias}
    if others:
        name, where = next(iter(others.items()))
        yield Error(
            f"DATABASE_ROUTERS put MediaFile into {alias!r} and {name} into {where!r}.",
            hint="Return one database for all models whose _meta.app_label is 'replicator'.",
            id="replicator.E014",
        )
        return
    reading = router.db_for_read(MediaFile)
    if reading != alias:
        yield Error(
            f"DATABASE_ROUTERS read the ledger from {reading!r} and write it to {alias!r}: a copy that lags behind "
            "shows what is not true any more.",
            hint="Return the same database for reading and writing models whose _meta.app_label is 'replicator'.",
            id="replicator.E014",
        )
    if not router.allow_migrate_model(alias, MediaFile):
        yield Error(
            f"DATABASE_ROUTERS put the ledger into {alias!r}, and forbid to migrate it there.",
            hint=f"Return True from allow_migrate({alias!r}, 'replicator').",
            id="replicator.E014",
        )
    if alias != "default":
        yield Warning(
            f"The ledger is in the database {alias!r}: a transaction of another database that is rolled back leaves "
            "the files that were saved in it.",
            hint=f"Keep it where the models are that have files; or save inside transaction.atomic({alias!r}).",
            id="replicator.W020",
        )
    if not settings.USE_TZ:
        yield Warning(
            "USE_TZ is False: the ledger's times are local, and when the clocks go back, nothing is due for an hour.",
            hint="Write USE_TZ = True.",
            id="replicator.W022",
        )
    connection: Any = connections[alias]
    if connection.vendor == "sqlite":
        yield from _problems_of_sqlite(alias, connection.settings_dict)
    elif connection.vendor == "postgresql":
        yield from _problems_of_postgresql(alias, connection.settings_dict)
    else:
        yield Error(
            f"DATABASES[{alias!r}] is {connection.display_name}, which the ledger can't use: it needs partial "
            "indexes, and upserts that say what they wrote.",
            hint="Use PostgreSQL, or SQLite on a single machine.",
            id="replicator.E010",
        )


def _problems_of_postgresql(alias: str, entry: dict[str, Any]) -> Iterator[CheckMessage]:
    """E021: saves that fail because workers are at work."""
    level = entry.get("OPTIONS", {}).get("isolation_level")
    # A member of psycopg's IsolationLevel, or its number.
    if level is not None and int(level) != _READ_COMMITTED:
        where = f'DATABASES[{alias!r}]["OPTIONS"]["isolation_level"]'
        yield Error(
            f"{where} is not READ COMMITTED: saves would fail, not serializable, while workers settle the same rows.",
            hint=f"Remove {where}; raise the level in those transactions that need it.",
            id="replicator.E021",
        )


def _problems_of_sqlite(alias: str, entry: dict[str, Any]) -> Iterator[CheckMessage]:
    """E011: an old one. W012: transactions that fail instead of waiting. W013: readers that wait for writers."""
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        yield Error(
            f"SQLite is {sqlite3.sqlite_version}; the ledger needs 3.35 or later (RETURNING).",
            hint="Use a newer SQLite (or Python), or PostgreSQL.",
            id="replicator.E011",
        )
    name, options = str(entry["NAME"]), entry.get("OPTIONS", {})
    if ":memory:" in name or "mode=memory" in name:
        return  # one process, which waits for nobody
    where = f'DATABASES[{alias!r}]["OPTIONS"]'
    # Earlier versions can't be told.
    if VERSION >= (5, 1) and str(options.get("transaction_mode", "")).upper() not in ("IMMEDIATE", "EXCLUSIVE"):
        yield Warning(
            f'{where} has no "transaction_mode": a transaction that reads before it writes fails at once, '
            '"database is locked", while a worker writes.',
            hint=f'Write {where} = {{"transaction_mode": "IMMEDIATE", "timeout": 20, …}}.',
            id="replicator.W012",
        )
    if not _has_wal(name, str(options.get("init_command", ""))):
        cure = f'Write {where} = {{"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;", …}}.'
        if VERSION < (5, 1):
            cure = f'Run once: sqlite3 {name} "PRAGMA journal_mode=WAL"'
        yield Warning(
            f"DATABASES[{alias!r}] is not in WAL mode: the site's readers wait while a worker writes.",
            hint=cure,
            id="replicator.W013",
        )


def _has_wal(name: str, init_command: str) -> bool:
    words = init_command.lower().replace(" ", "").replace("'", "").replace('"', "")
    if "journal_mode" in words:
        return "journal_mode=wal" in words or "journal_mode(wal)" in words
    if not Path(name).is_file():
        return False
    # The file remembers its mode. Opened like this it is neither made nor changed.
    try:
        connection = sqlite3.connect(f"{Path(name).absolute().as_uri()}?mode=ro", uri=True, timeout=1)
    except sqlite3.Error:
        return False
    try:
        return bool(connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal")
    except sqlite3.Error:
        return False
    finally:
        connection.close()
