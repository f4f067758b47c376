"""Whether a process can do its work: the database, the broker and the disk, each within a bounded time."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock, Thread

from django.db import Error
from django.db.migrations.executor import MigrationExecutor

from replicator import wake
from replicator.ledger import database
from replicator.storage import replicated_storages

log = logging.getLogger(__name__)

OK = "ok"
#: Seconds that all checks together may take, and those for which what one said is repeated: anybody may ask.
_PATIENCE, _BELIEVED = 3.0, 1.0


class _Check:
    """One check, done by at most one thread at a time: what hangs must not gather threads, nor keep who asks."""

    def __init__(self, ask: Callable[[], str]) -> None:
        self._ask = ask
        self._lock = Lock()
        self._thread: Thread | None = None
        self._said, self._said_at = "", float("-inf")

    def begin(self) -> None:
        with self._lock:
            is_at_it = self._thread is not None and self._thread.is_alive()
            if not is_at_it and time.monotonic() - self._said_at > _BELIEVED:
                self._thread = Thread(target=self._work, name="replicator-readiness", daemon=True)
                self._thread.start()

    def word(self, seconds: float) -> str:
        """What it says within *seconds*."""
        thread = self._thread
        if thread is not None:
            thread.join(max(0.0, seconds))
            if thread.is_alive():
                return "no answer"
        return self._said

    def _work(self) -> None:
        try:
            said = self._ask()
        except Exception as error:  # whatever it is, it is not ready; only the log says more
            log.warning("not ready", extra={"check": self._ask.__name__.strip("_"), "error": type(error).__name__})
            said = "failed"
        self._said, self._said_at = said, time.monotonic()


def readiness() -> dict[str, str]:
    """Check → "ok", or in a word or two what is wrong: fit for the public. Takes three seconds at most."""
    end = time.monotonic() + _PATIENCE
    for check in _CHECKS.values():
        check.begin()
    return {name: check.word(end - time.monotonic()) for name, check in _CHECKS.items()}


#: Databases that were seen with all migrations: that stays so for the code that runs here.
_migrated: set[str] = set()


def _database() -> str:
    connection = database.connection()
    try:
        if connection.alias not in _migrated:
            executor = MigrationExecutor(connection)
            if executor.migration_plan(executor.loader.graph.leaf_nodes()):
                return "not migrated"
            _migrated.add(connection.alias)
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error as error:
        log.warning("not ready", extra={"check": "database", "error": type(error).__name__})
        return "no answer"
    finally:
        connection.close()
    return OK


def _broker() -> str:
    return OK if wake.is_broker_there() else "no answer"


def _media() -> str:
    """Whether each storage's disk takes a file. It has no name where the file system can do that."""
    for folder in {Path(storage.location) for storage in replicated_storages()}:
        while not folder.exists():
            folder = folder.parent
        try:
            with tempfile.TemporaryFile(dir=folder, prefix=".replicator-ready-") as file:
                file.write(b"ready?")
        except OSError as error:
            log.warning("not ready", extra={"check": "media", "folder": str(folder), "error": error.strerror})
            return "not writable"
    return OK


_CHECKS = {"database": _Check(_database), "broker": _Check(_broker), "media": _Check(_media)}
