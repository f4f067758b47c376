"""The SQL of recording: by hand, since each save pays for it, and ``bulk_create`` can't say all that is said here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Literal

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from replicator.models import MediaFile, Replica

OnConflict = Literal["replace", "replace if deleted", "replace if same", "skip"]


class Statements:
    """Made once for each kind of database.

    Written by hand because ``bulk_create`` can neither keep a living row (ON CONFLICT … WHERE) nor, before
    Django 5.0, say which rows it wrote; and since each save pays for it.
    """

    FILE = (
        *("storage", "name", "version", "deleted", "size", "sha256", "content_type", "mogile_class"),
        *("node", "outdated_at", "created_at", "updated_at"),
    )
    REPLICA = (
        *("file_id", "target", "node", "status", "since", "due_at"),
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
    def _of(cls, vendor: str, alias: str) -> Statements:
        return cls(connections[alias])

    @classmethod
    def of(cls, connection: BaseDatabaseWrapper) -> Statements:
        return cls._of(connection.vendor, connection.alias)

    @cache  # noqa: B019  # the instances are few, and live as long as the process
    def files(self, on_conflict: OnConflict, rows: int, up_to_date: int) -> str:
        """*up_to_date*: the number of nodes whose disks never have an older version; 0: nobody asks.

        "replace if same" takes one parameter more, the last: the version that a row must have.
        """
        q = self._q
        if on_conflict == "skip":
            action = "DO NOTHING"
        else:
            changed = [name for name in self.FILE if name not in ("storage", "name", "created_at", "outdated_at")]
            action = f"DO UPDATE SET {', '.join(f'{q(c)} = EXCLUDED.{q(c)}' for c in changed)}"
            if up_to_date:
                table = q(MediaFile._meta.db_table)
                noted, node = f"{table}.{q('outdated_at')}", f"{table}.{q('node')}"
                current = f"{node} IN ({', '.join(['%s'] * up_to_date)})"
                known = f"{current} OR replace({noted}, ',' || {node} || ',', '') <> {noted}"
                begin = f"CASE WHEN {noted} = '' THEN ',' ELSE {noted} END"
                action += f", {q('outdated_at')} = CASE WHEN {known} THEN {noted} ELSE {begin} || {node} || ',' END"
            if on_conflict == "replace if deleted":
                action += f" WHERE {q(MediaFile._meta.db_table)}.{q('deleted')}"
            elif on_conflict == "replace if same":
                action += f" WHERE {q(MediaFile._meta.db_table)}.{q('version')} = %s"
        insert = self._insert(MediaFile._meta.db_table, self.FILE, rows)
        return f"{insert} ON CONFLICT ({q('storage')}, {q('name')}) {action} RETURNING {q('id')}"

    @cache  # noqa: B019  # as above
    def replicas(self, rows: int, *, at_home: bool) -> str:
        q = self._q
        # doubt stays: what was sent earlier may still take effect, so this write's success is provisional again.
        fresh = [name for name in self.REPLICA if name not in ("file_id", "target", "doubt", "status")]
        columns: tuple[str, ...] = self.REPLICA
        status, end = f"{q('status')} = EXCLUDED.{q('status')}", ""
        if at_home:
            columns += ("version", "synced_at")
            mine, given = q(Replica._meta.db_table), f"EXCLUDED.{q('version')} IS NOT NULL"
            # Whoever holds the lease, or held one, may be about to overwrite what was just saved.
            calm = f"{given} AND {mine}.{q('lease')} IS NULL AND NOT {mine}.{q('doubt')}"
            status = (
                f"{q('status')} = CASE WHEN {given} AND NOT ({calm}) THEN 'pending' ELSE EXCLUDED.{q('status')} END"
            )
            for name in ("version", "synced_at"):
                status += f", {q(name)} = CASE WHEN {calm} THEN EXCLUDED.{q(name)} ELSE {mine}.{q(name)} END"
            end = f" RETURNING {q('target')}, {q('status')}"
        return (
            f"{self._insert(Replica._meta.db_table, columns, rows)} "
            f"ON CONFLICT ({q('file_id')}, {q('target')}) DO UPDATE SET {status}, "
            f"{', '.join(f'{q(c)} = EXCLUDED.{q(c)}' for c in fresh)}, "
            f"{q('sent')} = NULL, {q('http_status')} = NULL{end}"
        )

    @cache  # noqa: B019  # as above
    def synced(self, files: int) -> str:
        q = self._q
        given = ("target", "status", "synced_at", "node", *self.REPLICA[4:])
        return (
            f"INSERT INTO {q(Replica._meta.db_table)} ({', '.join(map(q, ('file_id', 'version', *given)))}) "
            f"SELECT {q('id')}, {q('version')}, {', '.join(['%s'] * len(given))} "
            f"FROM {q(MediaFile._meta.db_table)} WHERE {q('id')} IN ({', '.join(['%s'] * files)})"
        )

    def _insert(self, table: str, columns: Sequence[str], rows: int) -> str:
        values = ", ".join([f"({', '.join(['%s'] * len(columns))})"] * rows)
        return f"INSERT INTO {self._q(table)} ({', '.join(map(self._q, columns))}) VALUES {values}"
