"""One run of collectstatic: many writes and deletes that come true together."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from django.core.files import File
from django.db import transaction

from replicator import ledger, local, wake
from replicator.ledger.database import alias as database_alias
from replicator.local import Digest, Entry
from replicator.models import MediaFile
from replicator.storage.transactions import LocalChange, on_commit
from replicator.storage.upkeep import undo
from replicator.waiting import Left

if TYPE_CHECKING:
    from replicator.storage.static import ReplicatedStaticFilesStorage

#: Names in one transaction, which no writer of the site should wait for long.
_BATCH = 500
#: Parameters of one statement, ten for each replica; SQLite takes 32,766.
_PARAMETERS = 30_000


class Run:
    """What collectstatic has done so far, and what of it is still to be recorded.

    Django's command deletes what it is about to write again, changed or not, with ``--clear`` minutes before; the
    hashed files that pages name just now are among them. So a write shows here at once, as Django's do, but is
    recorded only at the end, and only if the ledger has other bytes; and a delete waits for the end, where most of
    them have been taken back. Whatever ends a run before that, a kill too, is a rollback: the journal has its writes.
    """

    def __init__(self, storage: ReplicatedStaticFilesStorage) -> None:
        self.storage = storage
        self.deleted: set[str] = set()
        #: Names that targets must have when the run ends well.
        self.names: set[str] = set()
        #: Called with these and with who is told of a wait, when all of them are recorded; what it writes comes last.
        self.last: Callable[[Collection[str], Callable[[Left], object]], object] | None = None
        #: Of what was written and is not recorded yet.
        self._digests: dict[str, Digest] = {}
        self._entries: dict[str, list[Entry]] = defaultdict(list)
        #: What an earlier run was killed over: half of it may have reached the disk.
        journal = local.leftovers(self._root, older_than=-3600.0)
        self._unsettled = {entries[0].name for entries in journal}
        self._unrecorded: set[str] = set()

    def hides(self, name: str) -> bool:
        """Whether *name* is to be written as if it were not there."""
        return name in self.deleted or name in self._unsettled

    def delete(self, name: str) -> None:
        self.deleted.add(name)
        self.names.discard(name)
        self._unrecorded.discard(name)

    def put(self, name: str, content: File[Any]) -> None:
        """Show *content* under *name*, here."""
        entry = Entry(self._root, name, uuid4())
        entry.open()
        try:
            # Synced when it is recorded: together that is faster.
            self._digests[name] = entry.stage(content, self.storage.file_permissions_mode, sync=False)
            self.storage._ensure_location_group_id(entry.new)  # type: ignore[attr-defined]  # the stubs lack it
        except BaseException:
            entry.close()
            raise
        entry.put_in_place()
        self._entries[name].append(entry)
        self._keep(name)

    def include(self, names: Iterable[str]) -> None:
        """Have these files, which are here whoever wrote them, be at every target."""
        for name in names:
            self._keep(self.storage._cleaned(name))

    def _keep(self, name: str) -> None:
        self.names.add(name)
        self._unrecorded.add(name)
        self.deleted.discard(name)
        self._unsettled.discard(name)

    def record(self) -> None:
        """Record what the ledger has otherwise, and wake workers for it."""
        for names in self._batches(self._unrecorded):
            self._record(names)
        self._unrecorded = set()

    def _record(self, names: Sequence[str]) -> None:
        writes: list[ledger.Write] = []
        for name in names:
            entries = self._entries.get(name)
            digest = self._digests.pop(name, None) or _digest(self.storage.path(name))
            if digest is not None:
                version = entries[-1].version if entries else uuid4()
                writes.append(self.storage.as_write(name, digest, version))
            if entries:
                entries[-1].sync()
        with transaction.atomic(using=database_alias(), savepoint=False):
            if ledger.record_changed(writes, self.storage.targets):
                transaction.on_commit(self._announce, using=database_alias(), robust=True)
            for name in names:
                for entry in self._entries.pop(name, ()):
                    on_commit(LocalChange(self.storage.alias, entry, delete=False), ())

    def _announce(self) -> None:
        wake.announce(self.storage.targets)

    def remove(self) -> None:
        """Delete what was deleted and not written again: here, and what the ledger has of it at every target."""
        for names in self._batches(self.deleted):
            self._remove(names)

    def _remove(self, names: Sequence[str]) -> None:
        storage = self.storage
        with transaction.atomic(using=database_alias(), savepoint=False):
            rows = MediaFile.objects.using(database_alias()).filter(storage=storage.alias, deleted=False)
            known = rows.filter(name__in=names).values_list("name", flat=True)
            deletes = [Entry(self._root, name, uuid4()) for name in known]
            for entry in deletes:
                entry.open()
            writes = [ledger.Write(storage.alias, e.name, deleted=True, version=e.version) for e in deletes]
            ledger.record_changed(writes, storage.targets)
            for entry in deletes:
                entry.keep_old()
                on_commit(LocalChange(storage.alias, entry, delete=True), storage.targets)

            def forget() -> None:
                for name in names:
                    self._forget(name)

            transaction.on_commit(forget, using=database_alias(), robust=True)

    def _forget(self, name: str) -> None:
        """Remove what is no file of the ledger's, such as the stages of post-processing; and the run's own traces."""
        with ledger.hold(self.storage.alias, name) as row:
            if row is None or row.deleted:
                with suppress(FileNotFoundError):
                    Path(self.storage.path(name)).unlink()
        for entry in self._entries.pop(name, ()):
            entry.close()

    def _batches(self, names: Collection[str]) -> Iterator[list[str]]:
        left = iter(sorted(names))
        size = min(_BATCH, _PARAMETERS // (10 * max(1, len(self.storage.targets))))
        while batch := list(islice(left, size)):
            yield batch

    def undo(self) -> None:
        """Put back here what was written and is not recorded; all or what can be: ``tidy`` does the rest."""
        for entries in self._entries.values():
            # Without its database each of them would wait for it, and fail.
            if not undo(self.storage, entries):
                return

    @property
    def _root(self) -> str:
        return os.fspath(self.storage.location)


def _digest(path: str) -> Digest | None:
    """What is in *path*; None if nothing is."""
    try:
        with Path(path).open("rb") as file:
            return Digest(os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest())
    except FileNotFoundError:
        return None
