"""Resync: a target that has lost what it held, or part of it, gets everything again."""

from __future__ import annotations

from typing import ClassVar

from replicator.ledger import backfilling, retiring
from replicator.models import TargetRun
from replicator.operating.backfill import Backfill, batch_size
from replicator.operating.retiring import without_source_among
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
        files = list(some.values())
        ids, kept = self._to_send(list(some))
        with self.held.noting(position=files[-1], done=len(files)) as counts:
            counts["sent again"] = len(ids) if self.run.dry_run else backfilling.distrust(ids)
            counts["kept"] = kept
        self.sent_now()
        return True

    def _to_send(self, ids: list[int]) -> tuple[list[int], int]:
        """Those of *ids* whose files something else has; and the number of the others.

        There is nothing to send of those. Forgetting that the target had them would be to give them up, if it has
        them still: an audit shows.
        """
        only_here = without_source_among(self.run.target, ids)
        return [pk for pk in ids if pk not in only_here], len(only_here)

    def _finish_distrusting(self) -> None:
        """What was passed over was just being written: by a site, and is pending so; or settled by a worker."""
        left = [] if self.run.dry_run else self._still_trusted()
        if not left:
            self.held.note(step="", position=0)
            return
        with self.held.noting() as counts:
            number = backfilling.distrust(left)
            counts["sent again"] = number
        if not number:
            raise Later("transactions of the site have what is left", seconds=_AGAIN)

    def _still_trusted(self) -> list[int]:
        """Some of them; empty if there are none."""
        trusted = backfilling.trusted(self.run.target, self.run.started_at).order_by("pk")
        after = 0
        while some := list(trusted.filter(pk__gt=after).values_list("pk", flat=True)[: batch_size()]):
            left, _ = self._to_send(some)
            if left:
                return left
            after = some[-1]
        return []
