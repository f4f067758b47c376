"""Saves that wait until enough targets have confirmed the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured
from django.db import Error

from replicator.delivery.now import deliver_now
from replicator.delivery.wanted import Wanted
from replicator.ledger import life
from replicator.local import Entry
from replicator.waiting import Awaited, NotSynced, report

if TYPE_CHECKING:
    from replicator.storage.replicated import ReplicatedStorage

#: How many names a message gives.
_EXAMPLES = 5


def check(storage: ReplicatedStorage) -> None:
    """Raises ``ImproperlyConfigured`` if a file is to have more copies than there are targets."""
    targets = len(storage.targets)
    if storage.min_copies > targets:
        has = f"{targets} targets" if targets > 1 else "one target" if targets else "no target"
        raise ImproperlyConfigured(
            f"STORAGES[{storage.alias!r}] wants min_copies of {storage.min_copies}, and has {has}: "
            "write a smaller number, or give it more targets"
        )


def wanted(storage: ReplicatedStorage, entry: Entry) -> Wanted | None:
    """What the save of *entry* waits for; None if it does not wait."""
    if storage.wait is None:
        return None
    targets = tuple(storage.targets)
    return Wanted(storage.alias, entry.name, entry.version, targets, storage.min_copies, storage.wait)


class Copies:
    """The files of one transaction that are waited for, together, when it commits."""

    def __init__(self) -> None:
        self.files: list[Wanted] = []
        #: Those that lack copies, once it has been waited for.
        self.lacking: list[Wanted] | None = None


class Wait:
    """One save's wait for its copies. The first of a transaction's to be over is so for all of them."""

    def __init__(self, copies: Copies, file: Wanted) -> None:
        self.copies = copies
        self.file = file
        copies.files.append(file)

    def end(self) -> None:
        """Raises ``NotSynced`` if the file lacks copies. To be called when the transaction has been committed."""
        if self.copies.lacking is None:
            self.copies.lacking = deliver_now(self.copies.files)
        if self.file in self.copies.lacking:
            lacking = self.copies.lacking
            raise NotSynced("\n".join(_lines(lacking)), [(file.storage, file.name) for file in lacking])


def _lines(lacking: Sequence[Wanted]) -> Iterator[str]:
    """What is missing where and why, and what becomes of it."""
    for file in lacking[:_EXAMPLES]:
        copies = "a confirmed copy" if file.copies == 1 else f"{file.copies} confirmed copies"
        yield f"{file.name} ({file.storage}) was saved, but {copies} could not be had within {file.seconds:g} s."
    if len(lacking) > _EXAMPLES:
        yield f"… and {len(lacking) - _EXAMPLES:,} more."
    for storage in dict.fromkeys(file.storage for file in lacking):
        files = [file for file in lacking if file.storage == storage]
        awaited = Awaited(files[0].targets, [storage], [file.name for file in files])
        try:
            yield from report(awaited, awaited.left())
            leaving = life.leaving()
        except Error as error:
            yield f"Why can't be said, since the ledger can't be read: {type(error).__name__}"
            continue
        for target in sorted(leaving.intersection(files[0].targets)):
            yield f"{target} gets no new files: it drains, or is retired."
    yield "What was saved is kept, and stays pending: workers deliver it. There is no need to save it again."
