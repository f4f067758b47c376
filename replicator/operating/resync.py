"""Resync: a target that has lost what it held, or part of it, gets everything again."""

from __future__ import annotations

from typing import ClassVar

from replicator.ledger import backfilling, retiring
from replicator.models import TargetRun
from replicator.operating.backfill import Backfill, batch_size
from replicator.operating.work import Later

#: Seconds after which what a transaction of the site had is looked at again.
_AGAIN = 2.0
#: The first part: nothing that was confirmed is believed any more.
_DISTRUSTING = "distrusting"


class Resync(Backfill):
    """Has what is recorded for the target sent again, and then records what is not."""

    kind: ClassVar[str] = TargetRun.Kind.RESYNC

    def begin(self) -> int:
        count = super().begin() + retiring.replicas_at(self.run.target).count()
        self.held.note(step=_DISTRUSTING)
        return count

    def step(self) -> bool:
        return self._distrust() if self.run.step == _DISTRUSTING else super().step()

    def _distrust(self) -> bool:
        # Those of deleted files too: a host that comes back from retirement has missed some deletes.
        some = retiring.next_replicas(self.run.target, self.run.position, batch_size())
        if not some:
            self._finish_distrusting()
            return True
        ids, files = list(some), list(some.values())
        with self.held.noting(position=files[-1], done=len(ids)) as counts:
            counts["sent again"] = len(ids) if self.run.dry_run else backfilling.distrust(ids)
        self.sent_now()
        return True

    def _finish_distrusting(self) -> None:
        """What was passed over was just being written: by a site, and is pending so; or settled by a worker."""
        left = backfilling.trusted(self.run.target, self.run.started_at)
        ids = [] if self.run.dry_run else list(left.values_list("pk", flat=True)[: batch_size()])
        if not ids:
            self.held.note(step="", position=0)
            return
        with self.held.noting() as counts:
            number = backfilling.distrust(ids)
            counts["sent again"] = number
        if not number:
            raise Later("transactions of the site have what is left", seconds=_AGAIN)
