"""Backfill: a target that is new gets a replica recorded for every file that it should hold."""

from __future__ import annotations

from typing import ClassVar

from replicator import wake
from replicator.ledger import backfilling
from replicator.models import TargetRun
from replicator.operating.places import storages_at
from replicator.operating.work import Stopped, Work

#: Files that one step looks at.
_BATCH = 5_000


class Backfill(Work):
    """Walks the files by id. What is recorded meanwhile is recorded for the target by who saves it."""

    kind: ClassVar[str] = TargetRun.Kind.BACKFILL

    def begin(self) -> int:
        storages = self._storages()
        files = backfilling.living(storages)
        self.run.last = files.order_by("-pk").values_list("pk", flat=True).first() or 0
        self.held.note(last=self.run.last)
        return files.count()

    def step(self) -> bool:
        storages = self._storages()
        ids = backfilling.living(storages).filter(pk__gt=self.run.position, pk__lte=self.run.last).order_by("pk")
        some = list(ids.values_list("pk", flat=True)[:_BATCH])
        if not some:
            return False
        with self.held.noting(position=some[-1], done=len(some)) as counts:
            if self.run.dry_run:
                counts["recorded"] = backfilling.lacking(self.run.target, storages).filter(pk__in=some).count()
            else:
                counts["recorded"] = backfilling.record_lacking(self.run.target, storages, some[0] - 1, some[-1])
        if not self.run.dry_run and self.run.counts.get("recorded"):
            wake.announce([self.run.target])
        return True

    def _storages(self) -> list[str]:
        storages = storages_at(self.run.target)
        if not storages:
            raise Stopped(f"no storage has the target {self.run.target!r}: there is nothing that it should hold.")
        return [storage.alias for storage in storages]
