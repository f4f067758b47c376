"""Working at one target until nothing is due there: claim, send, settle, repeat."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from uuid import UUID, uuid4

from django.db import DatabaseError

from replicator import ledger, wake
from replicator.conf import config
from replicator.delivery import spool
from replicator.delivery.probing import is_answering
from replicator.delivery.send import send
from replicator.delivery.telling import tell
from replicator.errors import LeaseEnded, Unavailable
from replicator.ledger import Claim, Lease, Outcome, database, health
from replicator.targets import get_target
from replicator.targets.base import Target

log = logging.getLogger(__name__)

#: Seconds that outcomes wait for others, to be settled with them in one statement.
_SETTLE_WITHIN = 0.1
#: Seconds between looks for new work while a long transfer goes on.
_LOOK_AGAIN = 0.5
#: Seconds after which work that nobody claimed shows that whoever is busy has its hands full, or is dead.
_LYING = 2 * _LOOK_AGAIN
#: Seconds that a finished run goes on trying to settle rows which a site's transaction holds.
_LINGER = 5.0


@dataclass(slots=True)
class Summary:
    """What one run did at its target."""

    put: int = 0
    deleted: int = 0
    failed: int = 0
    bytes: int = 0
    #: Why nothing was done: "down", "busy" (enough workers are at it), or "unknown" to this worker's settings.
    skipped: str = ""

    def add(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self.failed += 1
        elif outcome.claim.deleted:
            self.deleted += 1
        else:
            self.put += 1
            self.bytes += outcome.bytes


def deliver(alias: str, *, seconds: float | None = None, storage: str | None = None) -> Summary:
    """Work at one target until nothing is due there, or *seconds* are over (then another worker is woken).

    With *storage*, only that storage's files: for a process that waits for them and is no worker.
    """
    conf = config()
    summary = Summary()
    if alias not in conf.targets:
        # A message from before the settings changed, or one for workers that know them already: the sweep sends more.
        log.warning("woken for a target that the settings do not name", extra={"target": alias})
        summary.skipped = "unknown"
        return summary
    target = get_target(alias)
    end = time.monotonic() + (conf.run_seconds if seconds is None else seconds)
    empty = 0
    while True:
        if health.is_down(alias):
            summary.skipped = "down"
            return summary
        slot = uuid4()
        if not _take_slot(target, slot):
            summary.skipped = "busy"
            return summary
        run = _Run(target, slot, summary, storage)
        try:
            run.work(end)
        finally:
            health.free_slot(slot)
        # Look again after leaving: whoever found every slot taken a moment ago went away, trusting us. What is due
        # but twice could not be claimed is being written just now, and announced by that.
        empty = 0 if run.claimed else empty + 1
        if run.suspended or empty == 2 or not ledger.due_targets([alias]):
            return summary
        if time.monotonic() >= end:
            wake.wake([alias])
            return summary


def _take_slot(target: Target, slot: UUID) -> bool:
    """Become one of the workers busy with *target*: beside another one only if that leaves work lying.

    A worker at a host that hangs has claimed all there is, and waits. A second one could only wait with it, and the
    two of them may be all that there are. Nor is there help to be given where the last request failed.
    """
    seconds = config().lease_seconds
    if health.take_slot(target.alias, 1, slot, seconds):
        return True
    if target.workers == 1 or health.has_failed(target.alias):
        return False
    if not ledger.due_targets([target.alias], for_seconds=_LYING):
        return False
    return health.take_slot(target.alias, target.workers, slot, seconds)


class _Run:
    """One worker process's turn at one target. The threads send; only the thread that calls ``work`` talks to the
    database."""

    def __init__(self, target: Target, slot: UUID, summary: Summary, storage: str | None = None) -> None:
        self.target = target
        self.slot = slot
        self.summary = summary
        self.storage = storage
        self.conf = config()
        self.to_send: SimpleQueue[Claim | None] = SimpleQueue()
        self.sent: SimpleQueue[Outcome] = SimpleQueue()
        self.threads: list[Thread] = []
        #: Claims that no outcome has come back for.
        self.in_hand = 0
        #: Outcomes to settle, and when the first of them came.
        self.done: list[Outcome] = []
        self.done_since = 0.0
        #: Outcomes whose rows a site's transaction held.
        self.unsettled: list[Outcome] = []
        self.leases: dict[Lease, set[int]] = {}
        self.begun_in_time: list[Lease] | None = None
        self.renewed = self.looked = self.called = time.monotonic()
        self.suspended = self.claimed = False

    def work(self, end: float) -> None:
        """Until nothing is due, the target is down or it is *end* by the monotonic clock."""
        try:
            more = True
            while True:
                # At half: the next batch is fetched while the rest of this one is sent.
                if self.in_hand <= self.conf.batch_size // 2 and not self.suspended:
                    now = time.monotonic()
                    if (more or now - self.looked >= _LOOK_AGAIN) and self._may_go_on(in_time=now < end):
                        more = self._claim()
                if not self.in_hand:
                    break
                self._collect()
                self._settle()
                self._renew()
            self._settle_the_rest()
        finally:
            for lease in self.leases:
                lease.ends = 0.0  # what still waits in the queue is dropped, not sent
            for _ in self.threads:
                self.to_send.put(None)
            for thread in self.threads:
                thread.join()

    def _may_go_on(self, *, in_time: bool) -> bool:
        """Whether to take more work: until the time is over, and after that as long as what was begun before goes on.

        A long transfer keeps its slot: the threads beside it must not idle while other files wait.
        """
        if in_time:
            return True
        if self.begun_in_time is None:
            self.begun_in_time = list(self.leases)
        return any(lease in self.leases for lease in self.begun_in_time)

    def _claim(self) -> bool:
        """Take more work. Whether there may be yet more."""
        # First the flag, then the look: what is recorded after the look is announced again.
        wake.clear_flag(self.target.alias)
        batch = ledger.claim(self.target.alias, self.conf.batch_size, storage=self.storage)
        self.looked = time.monotonic()
        if batch.claims:
            self.claimed = True
            self.leases[batch.lease] = {claim.id for claim in batch.claims}
            self.in_hand += len(batch.claims)
            while len(self.threads) < min(self.target.concurrency, self.in_hand):
                thread = Thread(target=self._send_all, name=f"deliver-{self.target.alias}", daemon=True)
                thread.start()
                self.threads.append(thread)
            for claim in batch.claims:
                self.to_send.put(claim)
        full = len(batch.claims) == self.conf.batch_size
        if full and self.target.workers > 1 and self.looked - self.called >= _LYING:
            # A backlog, of which one message may have told. Whoever comes and finds no slot leaves at once.
            self.called = self.looked
            wake.wake([self.target.alias])
        return full

    def _send_all(self) -> None:
        while (claim := self.to_send.get()) is not None:
            self.sent.put(send(self.target, claim))

    def _collect(self) -> None:
        """Wait for an outcome, and take all there are."""
        patience = _SETTLE_WITHIN if self.done or self.unsettled else _LOOK_AGAIN
        try:
            outcome = self.sent.get(timeout=patience)
            while True:
                self._take(outcome)
                if len(self.done) >= self.conf.batch_size:
                    return
                outcome = self.sent.get_nowait()
        except Empty:
            pass

    def _take(self, outcome: Outcome) -> None:
        self.in_hand -= 1
        if not self.done:
            self.done_since = time.monotonic()
        self.done.append(outcome)
        if outcome.sent:
            self.summary.add(outcome)

    def _settle(self) -> None:
        """Record the outcomes, once there are enough of them or they have waited long enough."""
        enough = len(self.done) >= self.conf.batch_size or not self.in_hand
        waited = time.monotonic() - self.done_since >= _SETTLE_WITHIN
        if (self.done or self.unsettled) and (enough or waited):
            fresh, self.done = self.done, []
            self.unsettled = self._settle_now(self.unsettled + fresh)
            self._note_health(fresh)
            self.done_since = time.monotonic()

    def _settle_now(self, outcomes: list[Outcome]) -> list[Outcome]:
        left: list[Outcome] = []
        for lease in {outcome.claim.lease: None for outcome in outcomes}:
            mine = [o for o in outcomes if o.claim.lease is lease]
            sent = [o for o in mine if o.sent]
            try:
                if len(sent) < len(mine):
                    ledger.release(lease, [o.claim.id for o in mine if not o.sent])
                remaining = ledger.settle(lease, sent)
            except DatabaseError as error:
                # The target has the files: try again, for as long as the leases last. If the database did commit,
                # settling once more finds the leases gone, and that is a doubt, not a loss.
                self._note_trouble(error)
                remaining = mine
            left += remaining
            self.leases[lease] -= {o.claim.id for o in mine} - {o.claim.id for o in remaining}
            if not self.leases[lease]:
                del self.leases[lease]
            tell(settled := [o for o in sent if o not in remaining])
            spool.release(settled)
        return left

    def _settle_the_rest(self) -> None:
        """Try a little longer; what can't be settled is left to its lease's end, and delivered again."""
        end = time.monotonic() + _LINGER
        while self.unsettled and time.monotonic() < end:
            time.sleep(_SETTLE_WITHIN)
            self.unsettled = self._settle_now(self.unsettled)

    def _renew(self) -> None:
        if time.monotonic() - self.renewed >= self.conf.lease_seconds / 3:
            self.renewed = time.monotonic()
            try:
                for lease, ids in self.leases.items():
                    ledger.renew(lease, ids)
                health.renew_slot(self.slot, self.conf.lease_seconds)
            except DatabaseError as error:
                # What is being sent goes on until its lease ends; there is time for another try before that.
                self._note_trouble(error)

    def _note_trouble(self, error: DatabaseError) -> None:
        log.warning("ledger unavailable", extra={"target": self.target.alias, "error": type(error).__name__})
        connection = database.connection()
        if not connection.in_atomic_block:
            connection.close()

    def _note_health(self, outcomes: list[Outcome]) -> None:
        failures = [o.error for o in outcomes if isinstance(o.error, Unavailable)]
        if any(o.error is None for o in outcomes):
            health.note_success(self.target.alias)
        elif failures and not self.suspended:
            in_a_row = health.note_failures(self.target.alias, len(failures), str(failures[-1]))
            if in_a_row >= self.conf.down_after:
                self._suspect()

    def _suspect(self) -> None:
        """End this run; and if the target does not even answer its probe, it is down.

        If it does, some files may be refused by a target that is well, or it hangs on all of them: what waits goes
        back, as it came, and is taken up again by the sweep.
        """
        self.suspended = True
        reason = is_answering(self.target.alias)
        if reason:
            health.mark_down(self.target.alias, reason)
        # No attempt is spent on what waits.
        while True:
            try:
                claim = self.to_send.get_nowait()
            except Empty:
                return
            if claim is not None:
                self.sent.put(Outcome(claim, LeaseEnded("too many failures before its turn came"), sent=False))
