"""Delivering files now, for a caller that waits until enough targets have confirmed them."""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, Thread, current_thread

from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections

from replicator import ledger, wake
from replicator.conf import config
from replicator.delivery.held import Held, note_trouble
from replicator.delivery.send import send
from replicator.delivery.threads import Threads
from replicator.delivery.wanted import HEDGE, Wanted, choose, short
from replicator.errors import LeaseEnded, Unavailable
from replicator.ledger import Claim, Outcome, counters, health
from replicator.targets import get_target

log = logging.getLogger(__name__)

#: Seconds between two looks at the ledger: the first, which then grows to the last.
_SOON, _LATER = 0.01, 1.0
#: Seconds that outcomes wait for others, to be settled with them in one statement.
_SETTLE_WITHIN = 0.05
#: Seconds that a process which ends waits for what is still on its way.
_LINGER = 5.0


def deliver_now(files: Sequence[Wanted]) -> list[Wanted]:
    """Return as soon as all of *files* have their copies, or when the longest wait is over; those that lack some.

    Sends only to as many targets as are needed, healthy ones first. Others are left to the workers, who are woken for
    them, and what these send counts. A file that was written again, or never committed, is not waited for. Nor is one
    whose copies can't be had in time: its targets are down, or tried again only later.
    """
    return _Call(files).work()


class _Call:
    """One caller's wait. The threads send; only the caller's talks to the database, and when it has gone, another."""

    def __init__(self, files: Sequence[Wanted]) -> None:
        self.files = files
        self.open = list(files)
        #: What can't have its copies in time.
        self.given_up: list[Wanted] = []
        self.end = time.monotonic() + max(file.seconds for file in files)
        self.held = Held()
        self.sent: SimpleQueue[Outcome] = SimpleQueue()
        #: Claims that no outcome has come back for, and when they were sent.
        self.in_hand: dict[Claim, float] = {}
        #: Those of them that take suspiciously long.
        self.hanging: set[Claim] = set()
        #: Targets whose next success is no news.
        self.noted: set[str] = set()
        #: Outcomes whose rows a site's transaction held.
        self.unsettled: list[Outcome] = []

    def work(self) -> list[Wanted]:
        pause, renew = _SOON, config().lease_seconds / 6
        try:
            with _bad_moments():
                self._claim(self._choose())
            self._announce()
            while True:
                left = self.end - time.monotonic()
                if not self.open or left <= 0:
                    self.held.release(at_once=True)
                    counters.flush()
                    return self.given_up + self.open
                came = self._collect(min(pause, left, *self._until_hedges()))
                pause = _SOON if came else min(pause * 1.5, _LATER, renew)
                with _bad_moments():
                    self._claim(self._choose())
        finally:
            self._leave()

    def _announce(self) -> None:
        """Wake workers for the targets that were not sent all of it: the others would find nothing to do."""
        left = Counter(target for wanted in self.files for target in wanted.targets)
        left.subtract(claim.target for claim in self.in_hand)
        wake.announce(target for target, files in left.items() if files > 0)

    # Sending

    def _choose(self) -> list[int]:
        """Ids of the replicas to send now. What has its copies, or can't get them in time, is not open any more."""
        lacking = short(self.open, self.end - time.monotonic())
        room = self._room({target for wanted, _ in lacking for target in wanted.targets})
        hanging = [target for target in room if _hanging[target]]
        chosen = {wanted: choose(wanted, rows, room, hanging) for wanted, rows in lacking}
        self.noted |= {row.target for _, rows in lacking for row in rows if row.noted}
        self.given_up += [wanted for wanted, ids in chosen.items() if ids is None]
        self.open = [wanted for wanted, ids in chosen.items() if ids is not None]
        return [id for ids in chosen.values() for id in ids or ()]

    def _room(self, targets: Iterable[str]) -> Counter[str]:
        """How many more files may be sent to each of *targets*: a host that hangs must not take all threads."""
        room: Counter[str] = Counter()
        for target in targets:
            with suppress(ImproperlyConfigured):  # a check says so; nothing is sent there
                room[target] = get_target(target).concurrency - _hanging[target]
        room.subtract(claim.target for claim in self.in_hand.keys() - self.hanging)
        return room

    def _claim(self, ids: list[int]) -> None:
        if not ids:
            return
        batch = ledger.claim_replicas(ids)
        self.held.add(batch)
        to_send = list(batch.claims)
        try:
            while to_send:
                self.in_hand[to_send[0]] = time.monotonic()
                _threads.run(partial(self._send, to_send[0]))
                del to_send[0]
        except RuntimeError as error:  # no more threads
            log.warning("nothing can be sent", extra={"error": str(error)})
        finally:
            for claim in to_send:
                self.in_hand[claim] = time.monotonic()
                self.sent.put(Outcome(claim, LeaseEnded("there was no thread to send it"), sent=False))

    def _send(self, claim: Claim) -> None:
        self.sent.put(send(get_target(claim.target), claim))

    def _collect(self, seconds: float) -> bool:
        """Wait so long for outcomes, and settle them; whether any came."""
        outcomes: list[Outcome] = []
        with suppress(Empty):
            outcomes.append(self.sent.get(timeout=seconds))
            # What was sent together is settled together.
            while len(outcomes) < len(self.in_hand) - len(self.hanging):
                outcomes.append(self.sent.get(timeout=_SETTLE_WITHIN))
        for outcome in outcomes:
            del self.in_hand[outcome.claim]
            if outcome.claim in self.hanging:
                self.hanging.remove(outcome.claim)
                _count(outcome.claim.target, -1)
        long_ago = time.monotonic() - HEDGE
        for claim in [claim for claim, since in self.in_hand.items() if since <= long_ago]:
            if claim not in self.hanging:
                self.hanging.add(claim)
                _count(claim.target, 1)
        with _bad_moments():
            if outcomes or self.unsettled:
                self.unsettled = self.held.settle(self.unsettled + outcomes)
                counters.count(outcomes)
                self._note_health(outcomes)
            self.held.release()
            self.held.renew()
        return any(outcome.sent for outcome in outcomes)

    def _note_health(self, outcomes: list[Outcome]) -> None:
        for target in {outcome.claim.target for outcome in outcomes}:
            errors = [outcome.error for outcome in outcomes if outcome.claim.target == target]
            failures = [error for error in errors if isinstance(error, Unavailable)]
            if None in errors:
                if target not in self.noted:
                    health.note_success(target)
            elif failures:
                self.noted.discard(target)
                # Whether it is down is found out by workers and the probe: nobody waits here for its answer.
                health.note_failures(target, len(failures), str(failures[-1]))

    def _until_hedges(self) -> Iterator[float]:
        """Seconds until each of the requests under way will have taken suspiciously long."""
        now = time.monotonic()
        return (max(0.0, since + HEDGE - now) for claim, since in self.in_hand.items() if claim not in self.hanging)

    # Leaving

    def _leave(self) -> None:
        """Have what is still in hand settled by a thread of its own."""
        if not self.in_hand and not self.unsettled:
            return
        thread = Thread(target=self._settle_the_rest, name="replicator-now", daemon=True)
        _leaving.append(thread)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter is ending: their leases end
            _leaving.remove(thread)
            for claim in self.hanging:
                _count(claim.target, -1)
            log.warning("nobody to settle what is on its way", extra={"files": len(self.in_hand)})

    def _settle_the_rest(self) -> None:
        try:
            renew = config().lease_seconds / 6
            pause = min(HEDGE, renew)
            # A database that stays away, and leases that end: then others take over.
            while (self.in_hand or self.unsettled) and self.held.lasts():
                self._collect(pause)
                counters.flush(at_once=False)
                # A host that hangs does so for long: no connection is kept for that.
                connections.close_all()
                pause = min(HEDGE, renew) if self.unsettled else renew
            self.held.release(at_once=True)
            counters.flush()
        finally:
            for claim in self.hanging:
                _count(claim.target, -1)
            connections.close_all()
            with suppress(ValueError):
                _leaving.remove(current_thread())


@contextmanager
def _bad_moments() -> Iterator[None]:
    """A database that fails is asked again later, as long as there is time."""
    try:
        yield
    except Error as error:
        note_trouble(error)


# What this process's callers share

_threads = Threads()
#: Those that settle what callers did not wait for.
_leaving: list[Thread] = []
#: Requests that have not been answered for long, by target.
_hanging: Counter[str] = Counter()
_counting = Lock()


def _count(target: str, change: int) -> None:
    with _counting:
        _hanging[target] += change


def flush(seconds: float = _LINGER) -> bool:
    """Wait until all that callers left behind is settled. Whether it is, after *seconds* at most.

    A process that ends does this by itself.
    """
    end = time.monotonic() + seconds
    for thread in list(_leaving):
        thread.join(max(0.0, end - time.monotonic()))
    return not _leaving


atexit.register(flush)


def _start_again() -> None:
    """A child process has none of its parent's threads."""
    global _counting, _threads
    _counting, _threads = Lock(), Threads()
    _hanging.clear()
    _leaving.clear()


os.register_at_fork(after_in_child=_start_again)
