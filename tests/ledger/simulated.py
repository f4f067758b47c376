"""One replica in the real ledger, one target and two workers, which do the steps of the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from django.utils import timezone

from replicator import ledger
from replicator.conf import config
from replicator.errors import DeliveryError, Refused, Unavailable
from replicator.ledger import Claim, Outcome, Write
from replicator.models import MediaFile, Replica
from tests.model import protocol
from tests.model.protocol import CLAIMED, IDLE, SENT, State, Step

LONG_AGO = timedelta(days=30)


@contextmanager
def at_home(target: str) -> Iterator[None]:
    """*target* is the media root of this node, meanwhile."""
    settings = vars(config())
    settings["home"] = frozenset({target})
    try:
        yield
    finally:
        del settings["home"]


class Version(NamedTuple):
    """What one delivery brings about: the model's version. The ledger's is that of the bytes."""

    bytes: UUID
    mogile_class: str


@dataclass(eq=False)
class Request:
    """What a worker sent; *short*: only the class."""

    version: Version
    short: bool
    landed: bool = False

    def over(self, held: Version | None) -> Version:
        """What a target holds after it."""
        return held._replace(mogile_class=self.version.mogile_class) if held and self.short else self.version


@dataclass
class Worker:
    claim: Claim | None = None
    request: Request | None = None

    @property
    def at(self) -> str:
        return IDLE if self.claim is None else CLAIMED if self.request is None else SENT


class World:
    """A replica, and what the target really holds.

    Steps that are impossible here are passed over: their number is ``skipped``. Time moves when a step needs it, and
    never past a doubt window while a request that it waits for is under way.
    """

    def __init__(self, name: str) -> None:
        #: Of the file, and of a target of its own.
        self.name = self.target = name
        self.versions: list[Version] = []
        self.held: Version | None = None
        self.workers = [Worker(), Worker()]
        self.late: list[Request] = []
        self.awaited: set[Request] = set()
        self.skipped = 0
        self._write()

    @property
    def row(self) -> Replica:
        return Replica.objects.get(file__name=self.name, target=self.target)

    @property
    def is_stale(self) -> bool:
        """What must never be: nothing under way, the ledger says synced, and the target holds something else."""
        quiet = not self.late and all(w.at == IDLE for w in self.workers)
        return quiet and self.row.status == Replica.Status.SYNCED and self.held != self.versions[-1]

    def do(self, step: Step) -> None:
        before = self.row
        if not self._do(step.verb, step.number):
            self.skipped += 1
        if self.row.provisional and not before.provisional:
            self.awaited = self._under_way()

    def _under_way(self) -> set[Request]:
        sent = [w.request for w in self.workers if w.request is not None and not w.request.landed]
        return {*self.late, *sent}

    def _do(self, verb: str, number: int) -> bool:
        """Whether it was possible."""
        if verb == protocol.WRITE:
            self._write()
        elif verb == protocol.AT_HOME:
            with at_home(self.target):
                self._write()
            self.held = self.versions[-1]
        elif verb == protocol.RECLASS:
            self._reclass()
        elif verb == protocol.ENDS:
            return self._end_lease()
        elif verb == protocol.REQUEUE:
            return bool(ledger.requeue(Replica.objects.filter(pk=self.row.pk)))
        elif verb == protocol.HASTEN:
            ledger.hasten(self.target)
        elif verb in (protocol.LATE_LANDS, protocol.LATE_LOST):
            if number >= len(self.late):
                return False
            request = self.late.pop(number)
            if verb == protocol.LATE_LANDS:
                self.held = request.over(self.held)
        elif verb == protocol.CLAIM:
            return self._claim(number)
        else:
            return self._work(verb, self.workers[number], number)
        return True

    def _work(self, verb: str, worker: Worker, number: int) -> bool:
        claim, request = worker.claim, worker.request
        if claim is None:
            return False
        if verb == protocol.RENEW:
            ledger.renew(claim.lease, [claim.id])
        elif verb == protocol.KILL:
            self._leave(number, still_under_way=True)
        elif request is None:
            if verb in (protocol.SEND, protocol.SEND_STOPPED):
                if verb == protocol.SEND and not claim.live():
                    return False
                worker.request = Request(Version(claim.version, claim.mogile_class), claim.confirmed)
            elif verb == protocol.RELEASE:
                ledger.release(claim.lease, [claim.id])
                self._leave(number)
            else:
                return False
        elif verb == protocol.LAND and not request.landed:
            request.landed, self.held = True, request.over(self.held)
        elif verb == protocol.SETTLE and request.landed:
            self._settle(number, None)
        elif verb == protocol.FAIL:
            self._settle(number, Unavailable("no connection"))
        elif verb == protocol.REFUSED:
            self._settle(number, Refused("not allowed"))
        elif verb == protocol.SILENT:
            self._settle(number, Unavailable("no answer", doubt=True))
        elif verb == protocol.GIVE_UP:
            worker.claim = replace(claim, since=claim.since - LONG_AGO)
            self._settle(number, Unavailable("no answer", doubt=True))
        else:
            return False
        return True

    def _write(self) -> None:
        write = Write("default", self.name, 1, "0" * 64, mogile_class=f"class{len(self.versions)}")
        ledger.record(write, [self.target])
        self.versions.append(Version(write.version, write.mogile_class))

    def _reclass(self) -> None:
        version = self.versions[-1]._replace(mogile_class=f"class{len(self.versions)}")
        file = MediaFile.objects.filter(name=self.name)
        assert ledger.reclass(file, version.mogile_class, [self.target]) == 1
        self.versions.append(version)

    def _end_lease(self) -> bool:
        row = self.row
        if row.lease is None:
            return False
        Replica.objects.filter(pk=row.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
        for worker in self.workers:
            if worker.claim is not None and worker.claim.lease.token == row.lease:
                worker.claim.lease.ends = 0.0
        return True

    def _claim(self, number: int) -> bool:
        row = self.row
        # Time passes, unless it is a doubt window's: that one outlasts what it waits for.
        if not (row.provisional and row.attempts == 0 and self.awaited & self._under_way()):
            Replica.objects.filter(pk=row.pk, due_at__gt=timezone.now()).update(due_at=timezone.now())
        if self.workers[number].at != IDLE:
            return False
        claims = ledger.claim(self.target, 10).claims
        if not claims:
            return False
        (self.workers[number].claim,) = claims
        return True

    def _settle(self, number: int, error: DeliveryError | None) -> None:
        claim = self.workers[number].claim
        assert claim is not None
        assert ledger.settle(claim.lease, [Outcome(claim, error)]) == []
        self._leave(number, still_under_way=error is not None and error.doubt)

    def _leave(self, number: int, *, still_under_way: bool = False) -> None:
        request = self.workers[number].request
        if still_under_way and request is not None and not request.landed:
            self.late.append(request)
        self.workers[number] = Worker()

    # What the model says of the same things.

    def seen(self) -> dict[str, object]:
        """The row and the world, as far as ``expected`` tells them."""
        row = self.row
        return {
            "status": row.status,
            "lease": row.lease is not None,
            "ended": row.lease_until is not None and row.lease_until <= timezone.now(),
            "sent": row.sent is not None,
            "doubt": row.doubt,
            "provisional": row.provisional,
            "tried": row.attempts > 0,
            "held": 0
            if self.held is None
            else [v.mogile_class for v in self.versions].index(self.held.mogile_class) + 1,
            "held_bytes": 0 if self.held is None else self._number(self.held.bytes),
            "confirmed": 0 if row.version is None else self._number(row.version),
            "workers": [
                (
                    w.at,
                    w.claim is not None and w.claim.confirmed,
                    w.claim is not None and row.lease == w.claim.lease.token,
                    w.claim is not None and w.claim.live(),
                )
                for w in self.workers
            ],
            "late": [self.versions.index(r.version) + 1 for r in self.late],
        }

    def _number(self, content: UUID) -> int:
        """Of the first version with these bytes."""
        return [v.bytes for v in self.versions].index(content) + 1

    @staticmethod
    def expected(state: State) -> dict[str, object]:
        """What ``seen`` must be in this state of the model."""
        row = ("status", "lease", "ended", "sent", "doubt", "provisional", "tried", "confirmed", "held", "held_bytes")
        return {
            **{name: getattr(state, name) for name in row},
            "workers": [(w.at, w.short, w.mine, w.mine and not state.ended) for w in state.workers],
            "late": [r.version for r in state.late],
        }

    def settle_down(self) -> None:
        """Everything under way ends, the unluckiest way; then one undisturbed worker does what is due."""
        while self.late:
            self.do(Step(protocol.LATE_LANDS))
        for number, worker in enumerate(self.workers):
            if worker.at == SENT:
                self.do(Step(protocol.LAND, number))
            self.do(Step(protocol.KILL, number))
        self.do(Step(protocol.ENDS))
        self.do(Step(protocol.REQUEUE))
        for _ in range(3):
            for verb in (protocol.CLAIM, protocol.SEND, protocol.LAND, protocol.SETTLE):
                self.do(Step(verb))
