"""A worker's turn at one chunk: looking what is here, and copying what is not."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

from replicator.errors import DeliveryError, Refused, Unavailable
from replicator.models import CopyChunk, CopyFile
from replicator.staging import chunks, listing, planning
from replicator.staging.base import Changed, Destination, NotCopied, Source
from replicator.staging.choices import Choices
from replicator.staging.chunks import Lease, LeaseLost, Result, State
from replicator.staging.destinations import destination_of
from replicator.staging.filefields import fields_of
from replicator.staging.judging import Verdict, judge
from replicator.staging.marked import check_marked, source_alias
from replicator.staging.safety import check_apart
from replicator.staging.sources import source_of
from replicator.staging.streams import Item, Streams, Watched

log = logging.getLogger(__name__)

#: A name that somebody else writes again and again is left to them.
_TRIES = 3


def copy(chunk_id: int) -> dict[str, Any]:
    """Copy a chunk's files, as far as the run goes on; what became of them, for people. Idempotent.

    Returns at once if another worker has the chunk, or it is dealt with.
    """
    begun = time.monotonic()
    lease = chunks.claim(chunk_id)
    if lease is None:
        return {"skipped": "another worker has it, or it is dealt with"}
    story: dict[str, Any] = {}
    try:
        # Looked at in each worker: its settings need not be those of who started the run.
        check_marked(lease.run.source)
        if lease.chunk.kind == CopyChunk.Kind.LISTING:
            story["listed"] = listing.list_on(lease, source_of(lease.run.source))
        else:
            Turn(lease).work()
        chunks.hold_up_no_more(lease.run)
    except LeaseLost:
        return {**story, **lease.counts, "skipped": "another worker has taken over, or the run was cancelled"}
    except (DeliveryError, NotCopied, ImproperlyConfigured, OSError, DatabaseError) as error:
        story["trouble"] = str(error)
        log.warning("copy held up", extra={"run": lease.run.pk, "error": str(error)})
        chunks.hold_up(lease.run, str(error), getattr(error, "retry_after", None))
    except Exception as error:  # a storage of somebody's own: people must see why it does not go on
        story["trouble"] = f"{type(error).__name__}: {error}"
        log.exception("copying raised", extra={"run": lease.run.pk})
        chunks.hold_up(lease.run, story["trouble"])
    chunks.give_back(lease)
    planning.go_on(lease.run.pk)
    return {**story, **lease.counts, "seconds": round(time.monotonic() - begun, 1)}


class Turn:
    """The files of one lease."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._choices = Choices.from_json(lease.run.choices)
        self._streams = Streams(lease)
        self._kept: dict[tuple[int, str], tuple[Source, Destination]] = {}

    def work(self) -> None:
        """Deal with all files, or with those begun in time and before the run is paused. Raises as ``Streams.each``:
        what is not dealt with stays open."""
        items = self._items()
        for item in items:
            item.to_copy = self._judge(item) is Verdict.COPY and not self._choices.dry_run
        with self._streams as streams:
            streams.each(self._look, [item for item in items if not item.to_copy])
            to_copy = [item for item in items if item.to_copy]
            chunks.choose(self._lease, [item.file for item in to_copy])
            streams.each(self._copy, to_copy)

    def _items(self) -> list[Item]:
        """The files, with what their destinations have of them, and what the source's listing says."""
        listed = listing.known(self._lease.run, self._lease.files)
        by_destination: dict[Destination, list[Item]] = {}
        refused: list[Result] = []
        for file in self._lease.files:
            try:
                source, destination = self._between(file)
                name = destination.clean(file.name)
            except Refused as error:  # requeued, and not cured; or a deploy has come in between
                refused.append(Result(file, State.FAILED, 0, error.kind, str(error)))
                continue
            # Of other sources than the run's own there is no listing.
            facts = listed.get(file.name) if source.alias == self._lease.run.source else None
            by_destination.setdefault(destination, []).append(Item(file, source, destination, name, facts=facts))
        if refused:
            chunks.settle(self._lease, refused)
        for destination, items in by_destination.items():
            held = self._streams.aside(partial(destination.held, [item.name for item in items]))
            for item in items:
                item.held = held.get(item.name)
        return [item for items in by_destination.values() for item in items]

    def _between(self, file: CopyFile) -> tuple[Source, Destination]:
        """What it is read from, and written to. Raises ``Refused`` if the site has its field no more."""
        found = self._kept.get((file.part_id, file.field))
        if found is None:
            try:
                (field,) = fields_of(file.part.model, [file.field]).fields
            except NotCopied as error:
                raise Refused(str(error)) from None
            source = source_of(source_alias(field.storage, self._lease.run.source))
            found = source, destination_of(field.storage)
            check_apart(source, found[1:])
            self._kept[file.part_id, file.field] = found
        return found

    # In the threads

    def _look(self, item: Item) -> Result | None:
        """What becomes of a file that is not to be copied; None: it is."""
        verdict = self._judge(item)
        if verdict is Verdict.ASK:
            self._streams.asked()
            item.facts = item.source.stat(item.file.name)
            if item.facts is None:
                return Result(item.file, State.MISSING)
            verdict = self._judge(item)
        size = (item.facts and item.facts.size) or 0
        if verdict is Verdict.COPY:
            # A dry run counts what would be.
            item.to_copy = not self._choices.dry_run
            return None if item.to_copy else Result(item.file, State.COPIED, size)
        item.to_copy = False
        is_there = verdict is Verdict.THERE and not self._choices.dry_run
        # Asked only where it may be so: it takes a statement.
        if is_there and item.held and not item.held.version and item.destination.exists_unrecorded(item.name):
            item.destination.adopt(item.name)
        return Result(item.file, State(verdict.value), size if verdict is Verdict.COPIED else 0)

    def _copy(self, item: Item) -> Result | None:
        for _ in range(_TRIES):
            try:
                count = self._transfer(item)
            except Changed:
                # Somebody has just saved it here.
                item.held = item.destination.held([item.name]).get(item.name)
                if (result := self._look(item)) is not None:
                    return result
            else:
                return Result(item.file, State.MISSING if count is None else State.COPIED, count or 0)
        raise Unavailable("it is being written here again and again")

    def _transfer(self, item: Item) -> int | None:
        """Copy the file; its bytes. None: it is missing at the source."""
        name, held = item.file.name, item.held
        with ExitStack() as stack:
            try:
                within = item.destination.copy_within(item.source, name, item.facts, held)
                if within is not None:
                    return within
                stream = stack.enter_context(item.source.open(name))
            except FileNotFoundError:
                return None
            return item.destination.put(item.name, Watched(stream, self._streams.stop), held)

    def _judge(self, item: Item) -> Verdict:
        facts, held = item.facts, item.held
        if self._choices.compare == "checksum" and facts and held and facts.size == held.size:
            known = facts.checksums.keys()
            if known and not known & held.checksums.keys():
                kind = min(known)
                held = replace(held, checksums={kind: item.destination.checksum(item.name, kind)})
        return judge(facts, held, self._choices, chosen=self._is_ours(item))

    def _is_ours(self, item: Item) -> bool:
        """Whether what is held may be what this run has copied."""
        if self._choices.compare != "nothing":
            return item.file.begun
        # What was here before the run is copied again, too.
        written = item.held and item.held.modified
        return item.file.begun and bool(written and written >= self._lease.run.started_at)
