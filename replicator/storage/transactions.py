"""What a storage does when the caller's transaction commits, and how it knows what that transaction has done."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import TypeVar
from uuid import UUID

from django.db import connections, transaction

from replicator import ledger, wake
from replicator.delivery.wanted import Wanted
from replicator.ledger.database import alias
from replicator.local import Entry
from replicator.models import MediaFile
from replicator.storage.copies import Copies, Wait

log = logging.getLogger(__name__)

A = TypeVar("A")


class Announcement:
    """The wake-ups of one transaction, shared by all its writes."""

    def __init__(self) -> None:
        self.targets: set[str] = set()
        #: The versions that were written of each file, (storage, name); perhaps rolled back to a savepoint since.
        self.versions: dict[tuple[str, str], list[UUID]] = {}
        #: Files that a delete was noted for; as above.
        self.deleted: set[tuple[str, str]] = set()
        #: What is waited for after they are sent; None: nothing.
        self.copies: Copies | None = None
        self.sent = False

    def send(self) -> None:
        self.sent = True
        wake.announce(sorted(self.targets))


class LocalChange:
    """One write's local traces, to be cleared away when it has come true.

    *keep*: by ``tidy``, later: until then something older may be put in its place, and they are what is left.
    """

    def __init__(self, storage: str, entry: Entry, *, delete: bool, keep: bool = False) -> None:
        self.storage = storage
        self.entry = entry
        self.delete = delete
        self.keep = keep
        #: This write's version and those of its file that the same transaction wrote after it.
        self.versions = [entry.version]
        connection = connections[alias()]
        #: Whether there may be a savepoint: in the caller's transaction, on a connection that ever made one.
        self.doubtful = len(connection.atomic_blocks) > 1 and connection.savepoint_state > 0

    def finish(self) -> None:
        """Never raises: what goes wrong here is left to ``tidy``."""
        if self.keep:
            return
        try:
            if self._remove() if self.delete else self.has_come_true():
                self.entry.close()
        except Exception as error:  # the write has been committed; nothing may spoil that
            log.warning("local clean-up failed", extra={"storage": self.storage, "error": type(error).__name__})

    def has_come_true(self) -> bool:
        """Whether the ledger has this write, or a later one of its transaction.

        Not after a rollback to a savepoint that was made by hand: ``transaction.savepoint_rollback`` leaves the hooks
        that were registered since. Where there was no savepoint, nothing needs to be asked.
        """
        if not self.doubtful:
            return True
        row = MediaFile.objects.using(alias()).filter(storage=self.storage, name=self.entry.name)
        later = self.versions[self.versions.index(self.entry.version) :]
        return row.filter(version__in=later).exists()

    def _remove(self) -> bool:
        """Remove what was deleted. Whether that was all: a rolled back overwrite of someone else may hide it.

        Only ``tidy``, which sees the traces of both, can know that what is hidden is not to come back.
        """
        with ledger.hold(self.storage, self.entry.name) as row:
            return row is None or row.version != self.entry.version or self.entry.remove_old()


def on_commit(change: LocalChange, targets: Iterable[str], wanted: Wanted | None = None) -> None:
    """Finish *change* and wake workers for *targets* when the transaction commits; now, if there is none.

    With *wanted*, the commit waits for its copies after all that, and raises ``NotSynced`` if they are not to be had.
    Workers are then woken for what is left to them.
    """
    announcement = _announcement()
    if announcement is None:
        announcement = Announcement()
        # Bound methods, not partials: Django's handler of a failing robust hook asks for its __qualname__.
        transaction.on_commit(announcement.send, using=alias(), robust=True)
    if wanted is None:
        announcement.targets.update(targets)
    file = (change.storage, change.entry.name)
    change.versions = announcement.versions.setdefault(file, [])
    change.versions.append(change.entry.version)
    if change.delete:
        announcement.deleted.add(file)
    transaction.on_commit(change.finish, using=alias(), robust=True)
    if announcement.copies is not None:
        _let_it_pass(Wait)
    if wanted is not None:
        announcement.copies = announcement.copies or Copies()
        transaction.on_commit(Wait(announcement.copies, wanted).end, using=alias())


def _let_it_pass(kind: type[Wait]) -> None:
    """Call the last hook before those of *kind*: Django calls none after one that raises."""
    hooks = connections[alias()].run_on_commit
    for place, (_, func, *_) in enumerate(hooks):
        if isinstance(getattr(func, "__self__", None), kind):
            hooks.insert(place, hooks.pop())
            return


def deletes(storage: str, name: str) -> bool:
    """Whether the current transaction has deleted this file (and not been rolled back to before that)."""
    # The announcement is the transaction's first hook of ours, and outlives every later one: no need to go through
    # thousands of them for a name that nobody deleted.
    announcement = _announcement()
    if announcement is None or (storage, name) not in announcement.deleted:
        return False
    last = None
    for change in _waiting(LocalChange):
        if change.storage == storage and change.entry.name == name:
            last = change
    return last is not None and last.delete and last.has_come_true()


def _announcement() -> Announcement | None:
    """That of the current transaction, if it has one that is still to be sent."""
    return next((announcement for announcement in _waiting(Announcement) if not announcement.sent), None)


def _waiting(kind: type[A]) -> Iterator[A]:
    """The objects of *kind* whose methods wait for the commit, in their order.

    Django's own list is what is looked at, since a rollback to a savepoint takes its hooks out of it: no list of
    ours could know.
    """
    for _, func, *_ in connections[alias()].run_on_commit:
        owner = getattr(func, "__self__", None)
        if isinstance(owner, kind):
            yield owner
