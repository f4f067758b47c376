"""What a target's listing tells of its files: most need not be asked for then, and what nobody knows shows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from django.utils import timezone

from replicator import local
from replicator.conf import config
from replicator.errors import DeliveryError, Refused, Unavailable
from replicator.ledger import database
from replicator.models import AuditFinding, MediaFile, Replica, TargetRun
from replicator.operating.audit import findings
from replicator.operating.audit.bits import Bits
from replicator.operating.audit.checking import confirmed
from replicator.operating.audit.judging import check_listing
from replicator.operating.audit.options import Options
from replicator.operating.audit.places import by_prefix, elsewhere
from replicator.operating.work import Held, Stopped
from replicator.storage.replicated import ReplicatedStorage
from replicator.targets import get_target
from replicator.targets.base import Entry, safe_name

#: Names that are looked up at once.
_BATCH = 500
#: Seconds after which what was seen is noted.
_NOTE_AFTER = 10.0
#: How often a listing is begun that does not come to its end.
_TRIES = 5
#: What a listing counts, anew each time.
_WORDS = ("listed", "unknown", "removable")


class Listing:
    """The part of an audit that reads what the target says it holds. Nothing is repaired on its word alone."""

    def __init__(self, run: TargetRun, held: Held, options: Options, storages: Sequence[ReplicatedStorage]) -> None:
        self._run, self._held, self._options, self._storages = run, held, options, storages
        self._target = get_target(run.target)
        self._seen = Bits(run.last, run.seen)
        self._counts: Counter[str] = Counter()
        self._new: list[AuditFinding] = []
        #: Storage → its files that were shown, of those that the target is known to hold.
        self._shown: Counter[str] = Counter()
        self._noted_at = time.monotonic()

    def read(self) -> None:
        """Read all of it. Raises ``Stopped`` if it is no listing of this target's files, or can't be had."""
        if not self._target.can_list():
            return
        # Before it counts as a try: a target that is down is waited for.
        self._target.probe()
        if self._run.position >= _TRIES:
            if self._run.trouble:
                why = f"{_TRIES} times: {self._run.trouble}"
                raise Stopped(f"{self._run.target} could not be listed, {why}; nothing was repaired")
            # Whoever read it was killed each time. Each file that was not seen is asked for.
            return
        again = {word: -self._run.counts.get(word, 0) for word in _WORDS}
        self._held.note(again, position=self._run.position + 1)
        try:
            for prefix, storages in by_prefix(self._storages).items():
                self._read(prefix, [storage.alias for storage in storages])
        except Unavailable:
            raise
        except DeliveryError as error:
            self._note()
            raise Stopped(f"{self._run.target} could not be listed: {error}; nothing was repaired") from error
        self._note()
        for storage in self._storages:
            synced = confirmed(self._run, [storage.alias]).filter(file__deleted=False).count()
            check_listing(self._run.target, self._options, storage.alias, self._shown[storage.alias], synced)

    def _read(self, prefix: str, aliases: Sequence[str]) -> None:
        others = elsewhere(prefix)
        # A listing may be given up in the middle: its connection is not to be kept then.
        with ExitStack() as stack:
            entries = self._target.entries(prefix)
            if isinstance(entries, Generator):
                stack.callback(entries.close)
            for batch in _batches(entries):
                here = [entry for entry in batch if not entry.name.startswith(others)] if others else batch
                self._compare(aliases, here)
                self._held.renew()
                if time.monotonic() - self._noted_at >= _NOTE_AFTER:
                    self._note()

    def _compare(self, aliases: Sequence[str], entries: Sequence[Entry]) -> None:
        self._counts["listed"] += len(entries)
        names = [entry.name for entry in entries if _is_sendable(entry.name)]
        files = MediaFile.objects.using(database.alias()).filter(storage__in=aliases, name__in=names)
        rows = list(files.values_list("pk", "storage", "name", "version", "deleted", "size"))
        replicas = Replica.objects.using(database.alias()).filter(
            target=self._run.target, file__in=[row[0] for row in rows]
        )
        held = {
            file: (status, version) for file, status, version in replicas.values_list("file", "status", "version")
        }
        known: dict[str, list[Any]] = {}
        for row in rows:
            known.setdefault(row[2], []).append(row)
        for entry in entries:
            there = [row for row in known.get(entry.name, ()) if not row[4] or row[0] in held]
            if not there:
                self._unknown(aliases[0], entry, was_deleted=entry.name in known)
            for pk, storage, _, version, deleted, size in there:
                if held.get(pk) == (Replica.Status.SYNCED, version):
                    self._shown[storage] += not deleted
                    if deleted or entry.size == size:
                        self._seen.add(pk)

    def _unknown(self, storage: str, entry: Entry, *, was_deleted: bool) -> None:
        ours = local.is_ours(entry.name)
        if ours and self._run.target in config().homes:
            return  # a node's own media root: writes that are under way
        self._counts["unknown"] += 1
        text, cure = _words(entry), ""
        if self._options.delete_unknown:
            if why := self._why_kept(entry, ours=ours, was_deleted=was_deleted):
                text, cure = f"{text}; not removed: {why}", AuditFinding.Cure.FAILED
            else:
                self._counts["removable"] += 1
        self._new.append(findings.finding(self._run, storage, entry.name, AuditFinding.What.UNKNOWN, text, cure))

    def _why_kept(self, entry: Entry, *, ours: bool, was_deleted: bool) -> str:
        if not _is_sendable(entry.name):
            return "its name is none that is ever sent"
        if ours:
            return "its name is one that storages keep for themselves"
        if was_deleted:
            return "the ledger still knows that it was deleted: that is forgotten after a day"
        if entry.modified is None:
            return "the listing does not say how old it is"
        if entry.modified > datetime.now(UTC) - timedelta(days=self._options.older_than):
            return f"it is younger than {self._options.older_than:g} days"
        return ""

    def _note(self) -> None:
        with self._held.noting(seen=bytes(self._seen)) as counts:
            counts.update(self._counts)
            findings.add(self._run, self._new)
        self._counts.clear()
        self._new.clear()
        self._noted_at = time.monotonic()


def _batches(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    while batch := list(islice(entries, _BATCH)):
        yield batch


def _is_sendable(name: str) -> bool:
    try:
        safe_name(name).encode()
    except (Refused, UnicodeEncodeError):
        return False
    return len(name) <= 1024


def _words(entry: Entry) -> str:
    size = "" if entry.size is None else f"{entry.size:,} bytes"
    written = "" if entry.modified is None else f"written {_time(entry.modified)}"
    return ", ".join(filter(None, [size, written]))


def _time(moment: datetime) -> str:
    return f"{timezone.localtime(moment):%Y-%m-%d %H:%M}"
