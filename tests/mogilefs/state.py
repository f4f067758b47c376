"""What a tracker's database knows: SQLite in the installation's folder, so that it survives restarts."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS domain (dmid INTEGER PRIMARY KEY AUTOINCREMENT, name BLOB NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS class (
    dmid INTEGER NOT NULL, classid INTEGER NOT NULL, name BLOB NOT NULL, mindevcount INTEGER NOT NULL DEFAULT 2,
    replpolicy TEXT NOT NULL DEFAULT 'MultipleHosts()', hashtype TEXT NOT NULL DEFAULT 'NONE',
    PRIMARY KEY (dmid, classid), UNIQUE (dmid, name));
CREATE TABLE IF NOT EXISTS host (
    hostid INTEGER PRIMARY KEY AUTOINCREMENT, hostname BLOB NOT NULL UNIQUE, status TEXT NOT NULL,
    hostip TEXT NOT NULL, http_port TEXT NOT NULL, http_get_port TEXT NOT NULL DEFAULT '',
    altip TEXT NOT NULL DEFAULT '', altmask TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS device (
    devid INTEGER PRIMARY KEY, hostid INTEGER NOT NULL, status TEXT NOT NULL, weight INTEGER NOT NULL DEFAULT 100);
CREATE TABLE IF NOT EXISTS tempfile (
    fid INTEGER PRIMARY KEY AUTOINCREMENT, createtime REAL NOT NULL, dmid INTEGER NOT NULL, dkey BLOB NOT NULL,
    classid INTEGER NOT NULL, devids TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS file (
    fid INTEGER PRIMARY KEY, dmid INTEGER NOT NULL, dkey BLOB NOT NULL, length INTEGER NOT NULL,
    classid INTEGER NOT NULL, UNIQUE (dmid, dkey));
CREATE TABLE IF NOT EXISTS file_on (fid INTEGER NOT NULL, devid INTEGER NOT NULL, PRIMARY KEY (fid, devid))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checksum (fid INTEGER PRIMARY KEY, hashtype TEXT NOT NULL, hex TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS to_replicate (fid INTEGER PRIMARY KEY, due REAL NOT NULL);
CREATE TABLE IF NOT EXISTS to_delete (fid INTEGER PRIMARY KEY, due REAL NOT NULL);
CREATE TABLE IF NOT EXISTS setting (name BLOB PRIMARY KEY, value BLOB NOT NULL);
INSERT OR IGNORE INTO setting VALUES (CAST('schema_version' AS BLOB), CAST('17' AS BLOB));
"""


@dataclass(frozen=True, slots=True)
class FileRow:
    fid: int
    dmid: int
    key: bytes
    length: int
    classid: int
    devids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TempRow:
    fid: int
    dmid: int
    key: bytes
    classid: int
    devids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ClassRow:
    dmid: int
    classid: int
    name: bytes
    mindevcount: int
    replpolicy: str
    hashtype: str
    """``MD5``, ``SHA-1`` or ``NONE``."""


class State:
    """The database. One connection for all threads: a change of several statements holds ``change()``."""

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self._lock = threading.RLock()
        path = (folder / "tracker.sqlite3").resolve()
        mode = "ro" if read_only else "rwc"
        self._db = sqlite3.connect(
            f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
        )
        if read_only:
            return
        self._db.execute("PRAGMA journal_mode = WAL")
        # A killed process loses nothing so, and a power cut is nothing that tests make.
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """All of it or nothing."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def rows(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        with self._lock:
            return self._db.execute(statement, values).fetchall()

    def run(self, statement: str, *values: object) -> int:
        """How many rows it changed."""
        with self._lock:
            return self._db.execute(statement, values).rowcount

    # Domains and classes.

    def dmid(self, domain: bytes | None) -> int | None:
        found = self.rows("SELECT dmid FROM domain WHERE name = ?", domain)
        return int(str(found[0][0])) if found else None

    def domains(self) -> dict[int, bytes]:
        with self._lock:
            return dict(self._db.execute("SELECT dmid, name FROM domain ORDER BY dmid"))

    def classes(self, dmid: int) -> list[ClassRow]:
        """The classes of a domain; ``default``, which has the id 0, is there whether anyone made it or not."""
        with self._lock:
            found = self._db.execute(
                "SELECT dmid, classid, name, mindevcount, replpolicy, hashtype FROM class WHERE dmid = ? "
                "ORDER BY classid",
                (dmid,),
            )
            rows = [ClassRow(*row) for row in found]
        if not any(row.classid == 0 for row in rows):
            rows.insert(0, ClassRow(dmid, 0, b"default", 2, "MultipleHosts()", "NONE"))
        return rows

    def class_named(self, dmid: int, name: bytes) -> ClassRow | None:
        return next((row for row in self.classes(dmid) if row.name == name), None)

    def class_of(self, dmid: int, classid: int) -> ClassRow:
        rows = self.classes(dmid)
        return next((row for row in rows if row.classid == classid), rows[0])

    # Files that are being stored.

    def open_fid(
        self, fid: int | None, dmid: int, key: bytes, classid: int, devids: list[int], now: float | None = None
    ) -> int | None:
        """The fid that was reserved; None if *fid* is taken."""
        with self.change():
            if fid is not None and self.file(fid) is not None:
                return None
            try:
                return self._db.execute(
                    "INSERT INTO tempfile (fid, createtime, dmid, dkey, classid, devids) VALUES (?, ?, ?, ?, ?, ?)",
                    (fid, now or time.time(), dmid, key, classid, ",".join(map(str, devids))),
                ).lastrowid
            except sqlite3.IntegrityError:
                return None

    def temp(self, fid: int) -> TempRow | None:
        with self._lock:
            row = self._db.execute(
                "SELECT fid, dmid, dkey, classid, devids FROM tempfile WHERE fid = ?", (fid,)
            ).fetchone()
        if row is None:
            return None
        fid, dmid, key, classid, devids = row
        return TempRow(fid, dmid, key, classid, tuple(map(int, devids.split(","))))

    def take_temp(self, fid: int) -> TempRow | None:
        """The row, which is gone now."""
        with self.change():
            row = self.temp(fid)
            if row is not None:
                self.run("DELETE FROM tempfile WHERE fid = ?", fid)
            return row

    def old_temps(self, before: float) -> list[TempRow]:
        with self._lock:
            fids = self._db.execute("SELECT fid FROM tempfile WHERE createtime < ? LIMIT 50", (before,)).fetchall()
            return [row for (fid,) in fids if (row := self.temp(fid)) is not None]

    # Files.

    def file(self, fid: int) -> FileRow | None:
        return self._file("fid = ?", fid)

    def file_named(self, dmid: int, key: bytes) -> FileRow | None:
        return self._file("dmid = ? AND dkey = ?", dmid, key)

    def _file(self, where: str, *values: object) -> FileRow | None:
        with self._lock:
            row = self._db.execute(
                f"SELECT fid, dmid, dkey, length, classid FROM file WHERE {where}", values
            ).fetchone()
            if row is None:
                return None
            fid, dmid, key, length, classid = row
            return FileRow(fid, dmid, key, length, classid, tuple(self.devids(fid)))

    def files(self, dmid: int) -> list[FileRow]:
        with self._lock:
            fids = self._db.execute("SELECT fid FROM file WHERE dmid = ? ORDER BY dkey", (dmid,)).fetchall()
            return [row for (fid,) in fids if (row := self.file(fid)) is not None]

    def keys(self, dmid: int, prefix: bytes, after: bytes, limit: int, *, case: bool) -> list[bytes]:
        """At most *limit* keys (negative: all) beyond *after*, in byte order; *case*: whether ASCII case counts."""
        start = prefix if case else prefix.lower()
        found: list[bytes] = []
        with self._lock:
            for (key,) in self._db.execute(
                "SELECT dkey FROM file WHERE dmid = ? AND dkey > ? ORDER BY dkey", (dmid, after)
            ):
                if len(found) == limit:
                    break
                if (key if case else key[: len(start)].lower()).startswith(start):
                    found.append(key)
        return found

    def devids(self, fid: int) -> list[int]:
        with self._lock:
            found = self._db.execute("SELECT devid FROM file_on WHERE fid = ? ORDER BY devid", (fid,))
            return [devid for (devid,) in found]

    def put_on(self, fid: int, *devids: int) -> None:
        with self._lock:
            rows = [(fid, devid) for devid in devids]
            self._db.executemany("INSERT OR IGNORE INTO file_on VALUES (?, ?)", rows)

    def forget_on(self, fid: int, devid: int) -> None:
        self.run("DELETE FROM file_on WHERE fid = ? AND devid = ?", fid, devid)

    def store(self, temp: TempRow, key: bytes, length: int, devid: int, *, delete: float, replicate: float) -> None:
        """The file is *key* from now on; what was there goes in *delete* seconds."""
        now = time.time()
        with self.change():
            old = self.file_named(temp.dmid, key)
            if old is not None:
                self.delete(old.fid, now + delete)
            self.put_on(temp.fid, devid)
            self.run(
                "INSERT INTO file (fid, dmid, dkey, length, classid) VALUES (?, ?, ?, ?, ?)",
                *(temp.fid, temp.dmid, key, length, temp.classid),
            )
            self.replicate(temp.fid, now + replicate)

    def delete(self, fid: int, due: float) -> None:
        """Gone from the names at once; the copies go when *due*."""
        with self.change():
            for table in ("file", "tempfile", "checksum", "to_replicate"):
                self.run(f"DELETE FROM {table} WHERE fid = ?", fid)
            self.run("INSERT OR REPLACE INTO to_delete VALUES (?, ?)", fid, due)

    def replicate(self, fid: int, due: float) -> None:
        self.run("INSERT OR REPLACE INTO to_replicate VALUES (?, ?)", fid, due)

    def due(self, table: str, now: float) -> list[int]:
        """The fids that are due in ``to_replicate`` or ``to_delete``."""
        with self._lock:
            found = self._db.execute(f"SELECT fid FROM {table} WHERE due <= ? ORDER BY due LIMIT 1000", (now,))
            return [fid for (fid,) in found]

    def checksum(self, fid: int) -> tuple[str, str] | None:
        """Its kind and its hex digest."""
        with self._lock:
            found = self._db.execute("SELECT hashtype, hex FROM checksum WHERE fid = ?", (fid,)).fetchone()
            return tuple(found) if found else None

    def save_checksum(self, fid: int, hashtype: str, hexdigest: str) -> None:
        self.run("INSERT OR REPLACE INTO checksum VALUES (?, ?, ?)", fid, hashtype, hexdigest)

    # Settings.

    def settings(self) -> dict[bytes, bytes]:
        with self._lock:
            return dict(self._db.execute("SELECT name, value FROM setting ORDER BY name"))

    def wipe(self) -> None:
        """No files; fids go on counting."""
        with self.change():
            for table in ("file", "tempfile", "file_on", "checksum", "to_replicate", "to_delete"):
                self.run(f"DELETE FROM {table}")
