"""A database session of a test's own, beside the one that the test itself has."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

import django
import pytest
from django.conf import settings
from django.db import connection, connections, transaction

T = TypeVar("T")

ON_POSTGRESQL = "postgresql" in settings.DATABASES["default"]["ENGINE"]

#: For tests of what only a database with row locks can do. SQLite has one writer at a time.
postgresql_only = pytest.mark.skipif(not ON_POSTGRESQL, reason="needs row locks: TEST_DATABASE_URL is not PostgreSQL")

#: For tests of sessions that write at once.
writers_queue_up = pytest.mark.skipif(
    not ON_POSTGRESQL and django.VERSION < (5, 1),
    reason="before Django 5.1, a transaction on SQLite can't be IMMEDIATE: a second writer is sent away",
)


class Session:
    """A thread with a connection of its own, which does what it is given in that order."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._transaction: transaction.Atomic | None = None

    def start(self, work: Callable[..., T], *args: Any, **options: Any) -> Future[T]:
        """Begin *work*, which may have to wait for another session."""
        return self._thread.submit(work, *args, **options)

    def do(self, work: Callable[..., T], *args: Any, **options: Any) -> T:
        """Do *work*; its result."""
        return self.start(work, *args, **options).result(timeout=60)

    def begin(self) -> None:
        """Begin a transaction."""
        self._transaction = transaction.atomic()
        self.do(self._transaction.__enter__)

    def commit(self) -> None:
        self._end(None)

    def roll_back(self) -> None:
        self._end(RuntimeError("rolled back"))

    def _end(self, error: Exception | None) -> None:
        atomic, self._transaction = self._transaction, None
        assert atomic is not None, "there is no transaction to end"
        self.do(atomic.__exit__, type(error) if error else None, error, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._transaction is not None:
            self.roll_back()
        self.do(connections.close_all)
        self._thread.shutdown()


def wait_until_blocked(future: Future[Any]) -> None:
    """Return when some session waits for a lock of another (PostgreSQL), or fail; *future* is what should wait."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert not future.done(), f"it did not wait: {future.exception() or future.result()!r}"
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            row = cursor.fetchone()
        if row and row[0]:
            return
        time.sleep(0.01)
    raise AssertionError("nobody waits for a lock")
