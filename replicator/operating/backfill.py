"""Backfill: a target that is new gets a replica recorded for every file that it should hold."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from replicator import wake
from replicator.ledger import backfilling, database, retiring
from replicator.models import TargetRun
from replicator.operating.places import storages_at
from replicator.operating.work import Held, Later, Stopped, Work

#: Files that one step looks at. A site's write of one of them waits for the step's transaction: on SQLite, where each
#: write does, it is shorter, and there is a pause after it.
_BATCH, _BATCH_SQLITE, _PAUSE_SQLITE = 5_000, 1_000, 0.02
#: Seconds after which what a transaction of the site had is looked at again.
_AGAIN = 2.0
#: Seconds after which it is noted how far a look at replicas is that found nothing.
_NOTE_AFTER = 2.0
#: The second part: what is lacking still. The last: what was written while nobody recorded it for the target.
_LOOKING_AGAIN, CATCHING_UP = "looking again", "catching up"


class Backfill(Work):
    """Walks the files by id. What is recorded meanwhile is recorded for the target by who saves it; unless that is a
    process with old settings: hence the second look, and what an older version is there of."""

    kind: ClassVar[str] = TargetRun.Kind.BACKFILL

    def begin(self) -> int:
        self.held.note(last=self._newest())
        return backfilling.living(self._storages()).count()

    def step(self) -> bool:
        if self.run.step == CATCHING_UP:
            return self._catch_up()
        return self._look_again() if self.run.step == _LOOKING_AGAIN else self._record()

    def _record(self) -> bool:
        storages = self._storages()
        files = backfilling.living(storages).filter(pk__gt=self.run.position, pk__lte=self.run.last)
        some = list(files.order_by("pk").values_list("pk", flat=True)[: batch_size()])
        if not some:
            if self.run.dry_run:
                self.held.note(step=CATCHING_UP, position=0)
                return True
            # Up to here only: a process with old settings may go on to save faster than this would come to its end.
            self.held.note(step=_LOOKING_AGAIN, position=0, last=self._newest())
            return True
        with self.held.noting(position=some[-1], done=len(some)) as counts:
            if self.run.dry_run:
                counts["recorded"] = backfilling.lacking(self.run.target, storages).filter(pk__in=some).count()
            else:
                counts["recorded"] = backfilling.record_lacking(self.run.target, storages, some[0] - 1, some[-1])
        self.sent_now()
        return True

    def _look_again(self) -> bool:
        storages = self._storages()
        lacking = backfilling.lacking(self.run.target, storages).filter(pk__lte=self.run.last).order_by("pk")
        ids = lacking.values_list("pk", flat=True)
        some = list(ids.filter(pk__gt=self.run.position)[: batch_size()])
        if not some:
            if not lacking.exists():
                self.held.note(step=CATCHING_UP, position=0)
                return True
            self.held.note(position=0)
            raise Later("transactions of the site have what is left", seconds=_AGAIN)
        with self.held.noting(position=some[-1]) as counts:
            counts["recorded"] = backfilling.record_lacking(self.run.target, storages, some[0] - 1, some[-1])
        self.sent_now()
        return True

    def _catch_up(self) -> bool:
        if not catch_up(self.run, self.held, self._storages(), dry_run=self.run.dry_run):
            return False
        self.sent_now()
        return True

    def sent_now(self) -> None:
        """After each step: workers send what is recorded while the rest is."""
        if self.run.counts and not self.run.dry_run:
            wake.announce([self.run.target])
        breathe()

    def _newest(self) -> int:
        files = backfilling.living(self._storages())
        return files.order_by("-pk").values_list("pk", flat=True).first() or 0

    def _storages(self) -> list[str]:
        storages = storages_at(self.run.target)
        if not storages:
            raise Stopped(f"no storage has the target {self.run.target!r}: there is nothing that it should hold.")
        return [storage.alias for storage in storages]


def catch_up(run: TargetRun, held: Held, storages: Sequence[str], *, dry_run: bool) -> bool:
    """Have some of what is ``stale`` at the run's target sent again. Whether there may be more."""
    begun, after = time.monotonic(), run.position
    # A part of the replicas at a time: one look at all of a large ledger could take longer than the run is held.
    while some := retiring.next_replicas(run.target, after, batch_size()):
        after = max(some.values())
        stale = list(backfilling.stale(run.target, storages).filter(pk__in=some).values_list("pk", flat=True))
        if stale or time.monotonic() - begun >= _NOTE_AFTER:
            with held.noting(position=after) as counts:
                counts["outdated"] = len(stale) if dry_run else backfilling.distrust(stale)
            return True
    return False


def batch_size() -> int:
    return _BATCH_SQLITE if _is_sqlite() else _BATCH


def breathe() -> None:
    """Let others write, where there is one writer at a time."""
    if _is_sqlite():
        time.sleep(_PAUSE_SQLITE)


def _is_sqlite() -> bool:
    return database.connection().vendor == "sqlite"
