"""What a storage does when the caller's transaction commits, and how it knows what that transaction has done."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import TypeVar

from django.db import connections, transaction

from replicator import ledger, wake
from replicator.ledger.database import alias
from replicator.local import Entry

log = logging.getLogger(__name__)

A = TypeVar("A")


class Announcement:
    """The wake-ups of one transaction, shared by all its writes."""

    def __init__(self) -> None:
        self.targets: set[str] = set()
        #: Files, as (storage, name), that a delete was noted for: perhaps rolled back to a savepoint since.
        self.deleted: set[tuple[str, str]] = set()

    def send(self) -> None:
        wake.announce(sorted(self.targets))


class LocalChange:
    """One write's local traces, to be cleared away when it has come true."""

    def __init__(self, storage: str, entry: Entry, *, delete: bool) -> None:
        self.storage = storage
        self.entry = entry
        self.delete = delete

    def finish(self) -> None:
        """Never raises: what goes wrong here is left to ``tidy``."""
        try:
            if self.delete:
                self._remove()
            self.entry.close()
        except Exception as error:  # the write has been committed; nothing may spoil that
            log.warning("local clean-up failed", extra={"storage": self.storage, "error": type(error).__name__})

    def _remove(self) -> None:
        with ledger.hold(self.storage, self.entry.name) as row:
            if row is not None and row.version == self.entry.version:
                self.entry.remove_old()


def on_commit(change: LocalChange, targets: Iterable[str]) -> None:
    """Finish *change* and wake workers for *targets* when the transaction commits; now, if there is none."""
    announcement = next(_waiting(Announcement), None)
    if announcement is None:
        announcement = Announcement()
        # Bound methods, not partials: Django's handler of a failing robust hook asks for its __qualname__.
        transaction.on_commit(announcement.send, using=alias(), robust=True)
    announcement.targets.update(targets)
    if change.delete:
        announcement.deleted.add((change.storage, change.entry.name))
    transaction.on_commit(change.finish, using=alias(), robust=True)


def deletes(storage: str, name: str) -> bool:
    """Whether the current transaction has deleted this file (and not been rolled back to before that)."""
    # The announcement is the transaction's first hook of ours, and outlives every later one: no need to go through
    # thousands of them for a name that nobody deleted.
    announcement = next(_waiting(Announcement), None)
    if announcement is None or (storage, name) not in announcement.deleted:
        return False
    last = None
    for change in _waiting(LocalChange):
        if change.storage == storage and change.entry.name == name:
            last = change
    return last is not None and last.delete


def _waiting(kind: type[A]) -> Iterator[A]:
    """The objects of *kind* whose methods wait for the commit, in their order.

    Django's own list is what is looked at, since a rollback to a savepoint takes its hooks out of it: no list of
    ours could know.
    """
    for _, func, *_ in connections[alias()].run_on_commit:
        owner = getattr(func, "__self__", None)
        if isinstance(owner, kind):
            yield owner
