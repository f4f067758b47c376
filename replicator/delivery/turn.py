"""One worker process's turn at one target: claim, send, settle, repeat."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from queue import Empty, SimpleQueue
from threading import Thread
from uuid import UUID

from django.db import Error

from replicator import ledger, wake
from replicator.conf import config
from replicator.delivery.held import Held, note_trouble
from replicator.delivery.neglected import is_wanted
from replicator.delivery.probing import is_answering
from replicator.delivery.send import send
from replicator.delivery.summary import Summary
from replicator.errors import DeliveryError, LeaseEnded, LocalChanged, LocalMissing, Refused, Unavailable
from replicator.ledger import Claim, Lease, Outcome, counters, health, life, nodes
from replicator.targets.base import Target

log = logging.getLogger(__name__)

#: Seconds between looks for new work while a long transfer goes on.
LOOK_AGAIN = 0.5
#: Seconds after which a backlog calls for another worker.
_CALL_AFTER = 2 * LOOK_AGAIN
#: Seconds that outcomes wait for others, to be settled with them in one statement.
_SETTLE_WITHIN = 0.1
#: Bytes per second that are not called slow, whatever the size of a file.
_SLOW_RATE = 64 * 1024
#: Seconds that a finished run goes on trying to settle rows which a site's transaction holds; and that one which
#: gives way waits for what is on its way.
_LINGER = 5.0
#: Seconds between two looks whether it is wanted elsewhere.
_ASK_AGAIN = 2.0


def _as_seen_here(outcome: Outcome) -> DeliveryError | None:
    """The error of a file that no other target has either. What is here under its name may be an older version."""
    node = outcome.claim.node
    if isinstance(outcome.error, LocalChanged) and config().deliverer not in ("", node) and node:
        return LocalMissing(f"only the node {node} had it, which is gone, and no target has it yet")
    return outcome.error


def _is_old(outcome: Outcome) -> bool:
    """Whether it is an answer that this very file got before, or the like: it says nothing new of the target. Some
    such files must not, each time they are tried again, make it seem out of order."""
    return (
        outcome.claim.attempts > 0
        and outcome.error is not None
        and getattr(outcome.error, "status", None) is not None
    )


class Turn:
    """One worker process's turn at one target. The threads send; only the thread that calls ``work`` talks to the
    database."""

    def __init__(
        self, target: Target, slot: UUID, summary: Summary, storage: str | None = None, *, trial: bool = False
    ) -> None:
        self.target = target
        self.slot = slot
        self.summary = summary
        self.storage = storage
        #: One file, and no more; and nothing is believed of the target's health but what that shows.
        self.trial = trial
        self.conf = config()
        self.to_send: SimpleQueue[Claim | None] = SimpleQueue()
        self.sent: SimpleQueue[Outcome] = SimpleQueue()
        self.threads: list[Thread] = []
        #: Claims that no outcome has come back for.
        self.in_hand = 0
        #: Outcomes to settle, and when the first of them came.
        self.done: list[Outcome] = []
        self.done_since = 0.0
        #: Outcomes of files that are not here, which may be read from another target.
        self.missing: list[Outcome] = []
        #: Outcomes whose rows a site's transaction held.
        self.unsettled: list[Outcome] = []
        self.held = Held()
        self.begun_in_time: list[Lease] | None = None
        self.looked = self.called = time.monotonic()
        self.suspended = self.claimed = False
        #: Since 1970, as others note what they did.
        self.begun = time.time()
        #: When it first asks whether it is wanted elsewhere, by the monotonic clock.
        self.patient_until = float("inf")
        #: It has left its target's backlog to others, for their sake; and when.
        self.gave_way = False
        self.gave_way_at = 0.0
        #: The target took a file, or said that it never will.
        self.answered = False
        #: A file could not be read, so that nothing shows how the target is.
        self.unread = False
        #: Successes in a row that took suspiciously long.
        self.slow = 0

    def work(self, end: float) -> None:
        """Until nothing is due, the target is down or it is *end* by the monotonic clock."""
        try:
            more = True
            while True:
                if not self.trial and self.target.alias in life.closed():
                    # Somebody has paused it, has other plans with it, or found it down.
                    self._give_back()
                # At half: the next batch is fetched while the rest of this one is sent.
                if self.in_hand <= self.conf.batch_size // 2 and not self.suspended:
                    now = time.monotonic()
                    if (more or now - self.looked >= LOOK_AGAIN) and self._may_go_on(in_time=now < end):
                        more = self._claim()
                if not self.in_hand:
                    break
                self._collect()
                self._settle()
                self.held.release()
                self._renew()
                counters.flush(at_once=False)
            self._settle_the_rest()
            self.held.release(at_once=True)
            counters.flush()
        finally:
            self.held.drop()  # what still waits in the queue
            for _ in self.threads:
                self.to_send.put(None)
            for thread in self.threads:
                thread.join()

    def _may_go_on(self, *, in_time: bool) -> bool:
        """Whether to take more work: until the time is over, and after that as long as what was begun before goes on.

        A long transfer keeps its slot: the threads beside it must not idle while other files wait.
        """
        if self.trial:
            return not self.claimed
        if in_time and not self._has_given_way():
            return True
        if self.gave_way and time.monotonic() - self.gave_way_at < _LINGER:
            # Only what takes longer than that holds it here: then other files need not wait beside it.
            return False
        if self.begun_in_time is None:
            self.begun_in_time = list(self.held.leases)
        return any(lease in self.held.leases for lease in self.begun_in_time)

    def _has_given_way(self) -> bool:
        """Whether this process is wanted elsewhere, and on its way."""
        now = time.monotonic()
        if not self.gave_way and now >= self.patient_until:
            self.patient_until = now + _ASK_AGAIN
            try:
                self.gave_way = is_wanted(self.target.alias, self.begun)
            except Error as error:
                note_trouble(error)
            if self.gave_way:
                self.gave_way_at = now
                self._return("the worker is needed elsewhere")
        return self.gave_way

    def _claim(self) -> bool:
        """Take more work. Whether there may be yet more."""
        # First the flag, then the look: what is recorded after the look is announced again.
        wake.clear_flag(self.target.alias)
        alias = self.target.alias
        self.looked = time.monotonic()
        try:
            batch = (
                ledger.claim_one(alias, storage=self.storage)
                if self.trial
                else ledger.claim(alias, self.conf.batch_size, storage=self.storage)
            )
        except Error as error:
            if not self.in_hand:
                raise
            # What is on its way can be settled all the same, once the database is back.
            note_trouble(error)
            return False
        self.looked = time.monotonic()
        if batch.claims:
            self.claimed = True
            self.held.add(batch)
            self.in_hand += len(batch.claims)
            while len(self.threads) < min(self.target.concurrency, self.in_hand):
                thread = Thread(target=self._send_all, name=f"deliver-{self.target.alias}", daemon=True)
                thread.start()
                self.threads.append(thread)
            for claim in batch.claims:
                self.to_send.put(claim)
        full = len(batch.claims) == self.conf.batch_size
        if full and self.target.workers > 1 and self.looked - self.called >= _CALL_AFTER:
            # A backlog, of which one message may have told. Whoever comes and finds no slot leaves at once.
            self.called = self.looked
            wake.call(alias, self.conf.deliverer)
        return full

    def _send_all(self) -> None:
        while (claim := self.to_send.get()) is not None:
            self.sent.put(send(self.target, claim))

    def _collect(self) -> None:
        """Wait for an outcome, and take all there are."""
        patience = _SETTLE_WITHIN if self.done or self.unsettled else LOOK_AGAIN
        try:
            outcome = self.sent.get(timeout=patience)
            while True:
                self._take(outcome)
                if len(self.done) >= self.conf.batch_size:
                    return
                outcome = self.sent.get_nowait()
        except Empty:
            pass
        finally:
            self._send_from_elsewhere()

    def _send_from_elsewhere(self) -> None:
        """Send again, read from a target that has it, what is not here; a target's copy needs no local file."""
        missing, self.missing = self.missing, []
        if not missing:
            return
        try:
            sources = ledger.sources([outcome.claim for outcome in missing])
        except Error as error:
            note_trouble(error)
            sources = {}
        for outcome in missing:
            if found := sources.get(outcome.claim.id):
                self.to_send.put(replace(outcome.claim, sources=found))
            else:
                self._note(replace(outcome, error=_as_seen_here(outcome)))

    def _take(self, outcome: Outcome) -> None:
        if isinstance(outcome.error, LocalChanged) and not outcome.claim.sources and not self.suspended:
            self.missing.append(outcome)
        else:
            self._note(outcome)

    def _note(self, outcome: Outcome) -> None:
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
            self.unsettled = self.held.settle(self.unsettled + fresh)
            counters.count(fresh)
            try:
                self._note_health(fresh)
            except Error as error:
                note_trouble(error)
            self.done_since = time.monotonic()

    def _settle_the_rest(self) -> None:
        """Try a little longer; what can't be settled is left to its lease's end, and delivered again."""
        end = time.monotonic() + _LINGER
        while self.unsettled and time.monotonic() < end:
            time.sleep(_SETTLE_WITHIN)
            self.unsettled = self.held.settle(self.unsettled)

    def _renew(self) -> None:
        if self.held.renew():
            try:
                health.renew_slot(self.slot, self.conf.lease_seconds)
                if self.conf.deliverer:
                    nodes.note_seen(self.conf.deliverer)
            except Error as error:
                note_trouble(error)

    def _note_health(self, outcomes: list[Outcome]) -> None:
        failures = [o.error for o in outcomes if isinstance(o.error, Unavailable) and (self.trial or not _is_old(o))]
        for outcome in outcomes:
            self.answered |= outcome.error is None or isinstance(outcome.error, Refused)
            self.unread |= isinstance(outcome.error, LocalChanged)
            if outcome.error is None:
                self.slow = self.slow + 1 if self._is_slow(outcome) else 0
        if self.suspended:
            return
        if self.slow >= (1 if self.trial else self.conf.down_after):
            took = max(outcome.seconds for outcome in outcomes if outcome.error is None)
            self._suspect(f"it is slow: one file after the other took too long, the last ones up to {took:.0f} s")
        elif any(o.error is None for o in outcomes):
            health.note_success(self.target.alias)
        elif failures:
            in_a_row = health.note_failures(self.target.alias, len(failures), str(failures[-1]))
            if self.trial or in_a_row >= self.conf.down_after:
                self._suspect(f"it answers its probe, and yet files fail, one after the other: {failures[-1]}")

    def _is_slow(self, outcome: Outcome) -> bool:
        """Whether it took longer than it may, beyond what its size does. Not what was read from another target: who
        knows which of the two took its time."""
        limit = self.conf.slow_after
        return limit > 0 and not outcome.claim.sources and outcome.seconds > limit + outcome.bytes / _SLOW_RATE

    def _suspect(self, reason: str) -> None:
        """End this run: the target is down if it does not answer its probe; else its breaker opens, for *reason*.

        What waits goes back, as it came, and is taken up again once a trial of one file shows that it is well.
        """
        if trouble := is_answering(self.target.alias):
            health.mark_down(self.target.alias, trouble)
        else:
            health.trip(self.target.alias, reason)
        life.forget()
        self._give_back()

    def _give_back(self) -> None:
        """End this run: no attempt is spent on what waits."""
        self.suspended = True
        self._return("the run ended before its turn came")

    def _return(self, why: str) -> None:
        """Give back what waits, as it came."""
        while True:
            try:
                claim = self.to_send.get_nowait()
            except Empty:
                return
            if claim is not None:
                self.sent.put(Outcome(claim, LeaseEnded(why), sent=False))
