"""What a backfill of a target has to record, in words for people."""

from __future__ import annotations

from django.db.models import QuerySet, Sum

from replicator.ledger import backfilling
from replicator.models import Replica, TargetState
from replicator.operating.places import storages_at
from replicator.operating.runs import NotStarted
from replicator.operating.wish import of, size_of

Phase = TargetState.Phase


class Recording:
    """What a backfill of a target has to record."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.storages = [storage.alias for storage in storages_at(target)]

    def check(self) -> None:
        if not self.storages:
            raise NotStarted(
                f"No storage has the target {self.target}: there is nothing that it should hold. Name it in the "
                'option "targets" of a storage in STORAGES.'
            )

    @property
    def lacking(self) -> int:
        return backfilling.lacking(self.target, self.storages).count()

    @property
    def stale(self) -> QuerySet[Replica]:
        return backfilling.stale(self.target, self.storages)

    @property
    def is_out_of_date(self) -> bool:
        """Whether something that was written is not recorded for it. One look at all that is there."""
        lacks = backfilling.lacking(self.target, self.storages).exists()
        return lacks or self.stale.exists()

    def volume(self) -> str:
        files = backfilling.living(self.storages)
        return f"{of(files.count(), 'file')} ({size_of(files.aggregate(bytes=Sum('size'))['bytes'] or 0)})"

    def effect(self, state: TargetState) -> list[str]:
        lacking = backfilling.lacking(self.target, self.storages)
        facts = lacking.aggregate(bytes=Sum("size"))
        count, stale = lacking.count(), self.stale.count()
        if not count and not stale:
            return [f"Nothing: every file that {self.target} should hold is recorded for it."]
        waits = "sent at once"
        if state.paused or state.phase == Phase.READ_ONLY:
            waits = f"wait, since {self.target} is {'paused' if state.paused else state.phase}"
        found = f"{of(count, 'file')} ({size_of(facts['bytes'] or 0)}) are recorded for {self.target}, and {waits}."
        missed = f"{of(stale, 'file')} that were written or deleted while nobody recorded it for {self.target}, too."
        return [found, missed] if stale else [found]
