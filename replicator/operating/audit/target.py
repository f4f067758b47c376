"""An audit of one target: its parts, one after another."""

from __future__ import annotations

from collections.abc import Callable

from replicator import wake
from replicator.errors import Unavailable
from replicator.ledger import backfilling, life
from replicator.ledger.database import alias
from replicator.models import MediaFile, TargetRun, TargetState
from replicator.operating.audit.checking import Checking, confirmed
from replicator.operating.audit.listing import Listing
from replicator.operating.audit.options import Options
from replicator.operating.audit.removing import Removing
from replicator.operating.backfill import CATCHING_UP, batch_size, catch_up
from replicator.operating.places import storages_at
from replicator.operating.work import Held, Stopped
from replicator.storage.replicated import ReplicatedStorage

Phase = TargetState.Phase


class TargetAudit:
    """What ``Work`` is, for a target."""

    def __init__(self, run: TargetRun, held: Held) -> None:
        self._run, self._held = run, held
        self._options = Options.of(run.options)
        self._checking: Checking | None = None

    def begin(self) -> int:
        storages = [storage.alias for storage in self._storages()]
        last = MediaFile.objects.using(alias()).order_by("-pk").values_list("pk", flat=True).first()
        self._held.note(last=last or 0, step=next(iter(self._parts)))
        total = confirmed(self._run, storages).filter(file__deleted=False).count()
        return round(total * self._options.sample / 100)

    def step(self) -> bool:
        """Do some of the part that it is at. Whether there is more."""
        self._check_open()
        parts = self._parts
        if parts[self._run.step]():
            return True
        later = list(parts)[list(parts).index(self._run.step) + 1 :]
        if later:
            self._held.note(step=later[0], position=0)
        return bool(later)

    @property
    def _parts(self) -> dict[str, Callable[[], bool]]:
        """Name → what does some of it, and says whether there is more."""
        if self._options.is_sample:
            return {"checking": self._check}
        parts = {
            "ledger": self._record,
            CATCHING_UP: self._catch_up,
            "listing": self._list,
            "checking": self._check,
        }
        return {**parts, "unknown": self._remove} if self._options.delete_unknown else parts

    def _check_open(self) -> None:
        """Nothing is asked of a target that is down or paused: then this waits."""
        target = self._run.target
        state = life.states().unreadable().filter(pk=target).first()
        if state is not None and state.phase == Phase.RETIRED:
            raise Stopped(f"{target} is retired: there is nothing that it should hold.")
        if state is not None:
            raise Unavailable(f"it is {'paused' if state.paused else state.state}")

    def _storages(self) -> list[ReplicatedStorage]:
        wanted = self._options.storages
        storages = [s for s in storages_at(self._run.target) if not wanted or s.alias in wanted]
        if not storages:
            raise Stopped(f"no storage has the target {self._run.target!r}: there is nothing that it should hold.")
        return storages

    def _record(self) -> bool:
        """Files that have no row for this target get one. Not at one that joins: whether it is filled, and when, is
        for people to say, by a backfill."""
        run = self._run
        phase = life.phase_of(run.target)
        if phase == Phase.DRAINING:
            return False
        storages = [storage.alias for storage in self._storages()]
        ids = backfilling.living(storages).filter(pk__gt=run.position, pk__lte=run.last).order_by("pk")
        some = list(ids.values_list("pk", flat=True)[: batch_size()])
        if not some:
            return False
        recorded = 0
        with self._held.noting(position=some[-1]) as counts:
            if not self._repairs or phase == Phase.JOINING:
                counts["lacking"] = backfilling.lacking(run.target, storages).filter(pk__in=some).count()
            else:
                recorded = backfilling.record_lacking(run.target, storages, some[0] - 1, some[-1])
                counts["recorded"] = recorded
        if recorded:
            wake.announce([run.target])
        return True

    def _catch_up(self) -> bool:
        """What was written while nobody recorded it for this target is sent."""
        storages = [storage.alias for storage in self._storages()]
        if not catch_up(self._run, self._held, storages, dry_run=not self._repairs):
            return False
        if self._repairs:
            wake.announce([self._run.target])
        return True

    @property
    def _repairs(self) -> bool:
        return self._options.repair and not self._run.dry_run

    def _list(self) -> bool:
        Listing(self._run, self._held, self._options, self._storages()).read()
        return False

    def _check(self) -> bool:
        if self._checking is None:
            self._checking = Checking(self._run, self._held, self._options, self._storages())
        return self._checking.step()

    def _remove(self) -> bool:
        return Removing(self._run, self._held, self._options, self._storages()).step()
