"""The delivery protocol of one replica, as ``replicator.ledger`` does it, checked over every interleaving.

    python -m tests.model                        all rules kept: no violation
    python -m tests.model --without <rule>       the steps to a stale file that the ledger calls synced
    python -m tests.model --writes 4 --late 3    a larger space

What can happen, in any order and any number: writes, of new bytes (also at the target itself, where that is the disk
of the node that writes) or of another class for the same bytes (so many together); two workers that claim, send,
settle, give back or are killed at any instant (a new one takes a killed one's place); leases that end at any instant;
requests that are answered, refused, or get no answer and then take effect later, or never (so many of those at once);
people who requeue what failed, and a target that comes back up and hastens what waits.

Promised: whenever the row says "synced" and nothing is under way, the target holds the desired version, its bytes and
its class; and from wherever this leads, one undisturbed worker gets there.

A version here is what one delivery brings about: bytes and class. The ledger's own is that of the bytes alone.

Assumed: a request takes effect, if ever, before a doubt window that began after it was sent ends; and a worker that
was stopped just between asking its clock and sending is unlucky only once: it lives to settle what it was answered.
Renewing a lease is a lease that does not end yet, so it adds no state.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

#: What each rule says. Remove one, and the model prints what goes wrong; so each of them is needed.
RULES = {
    "sent": "a write empties `sent`, so that a success of an older version does not count",
    "mine": "a success counts only under the lease that the row still has",
    "untouched": "a write never touches a lease",
    "takeover": "a claim that takes over an ended lease makes the replica doubtful",
    "silence": "an attempt without an answer makes it doubtful",
    "lost": "a worker that finds its lease lost when it settles makes it doubtful",
    "clock": "a worker starts no request once its own lease has ended",
    "twice": "the success of a doubtful replica is provisional: it counts only if it is confirmed",
    "window": "a provisional success is confirmed no sooner than after the doubt window",
    "hasten": "a target that is up again does not cut a doubt window short",
    "again": "a write makes a provisional success doubtful again",
    "memory": "a write, a failure and a requeue leave the doubt as it is",
    "home": "a write at the target itself is synced only if nobody has a lease, and there is no doubt",
    "bytes": "the class goes without the bytes only to a target that has confirmed them, and is in no doubt",
}  # fmt: skip

IDLE, CLAIMED, SENT = "idle", "claimed", "sent"
PENDING, SYNCED, FAILED = "pending", "synced", "failed"


class Worker(NamedTuple):
    at: str = IDLE
    version: int = 0
    bytes: int = 0  # those of this version
    short: bool = False  # it sends the class alone
    mine: bool = False  # the row's lease has its token
    landed: bool = False
    awaited: bool = False  # its request was under way when the current doubt window began
    stopped: bool = False  # it sent after its lease had ended, since it was stopped after asking its clock


class Late(NamedTuple):
    """A request whose sender is gone, or has stopped waiting."""

    version: int
    bytes: int
    short: bool
    awaited: bool = False


class State(NamedTuple):
    # The world
    desired: int = 1  # the file's version
    bytes: int = 1  # the first version that had these bytes
    held: int = 0  # the version that the target got last
    held_bytes: int = 0  # the bytes that it has
    workers: tuple[Worker, Worker] = (Worker(), Worker())
    late: tuple[Late, ...] = ()
    # The replica's row
    status: str = PENDING
    lease: bool = False
    ended: bool = False  # the lease's time is over
    sent: bool = False  # `sent` holds a version: the one that the lease's holder claimed
    doubt: bool = False
    provisional: bool = False
    tried: bool = False  # attempts > 0
    confirmed: int = 0  # the bytes that the target is known to have had


class Step(NamedTuple):
    """One thing that happens; to the worker or late request of this number."""

    verb: str
    number: int = 0
    version: int = 0

    def __str__(self) -> str:
        return self.verb.format(w=f"worker {self.number}", v=f"version {self.version}")


WRITE = "a write: {v}"
AT_HOME = "a write at the target itself: {v}"
RECLASS = "another class for the same bytes: {v}"
ENDS = "the lease ends"
REQUEUE = "somebody requeues it"
HASTEN = "the target is up again: what waits is due now"
LATE_LANDS = "the late {v} lands"
LATE_LOST = "the late {v} is lost"
CLAIM = "{w} claims {v}"
RENEW = "{w} renews its lease"
SEND = "{w} sends {v}"
SEND_STOPPED = "{w}, which was stopped after asking its clock, sends {v}"
RELEASE = "{w} gives its claim back"
LAND = "{v} of {w} lands"
SETTLE = "{w} settles its success"
FAIL = "{w} is answered with a failure"
REFUSED = "{w} is answered with a failure for good"
SILENT = "{w} gets no answer"
GIVE_UP = "{w} gets no answer, and gives up for good"
KILL = "{w} is killed"


def steps(s: State, kept: frozenset[str], writes: int, late: int) -> Iterator[tuple[Step, State]]:
    """All that can happen next, while there are at most *writes* versions and *late* late requests."""
    if s.desired < writes:
        yield Step(WRITE, version=s.desired + 1), _written(s, kept)._replace(bytes=s.desired + 1)
        yield Step(AT_HOME, version=s.desired + 1), _written_at_home(s, kept)
        yield Step(RECLASS, version=s.desired + 1), _written(s, kept)
    if s.lease and not s.ended:
        yield Step(ENDS), s._replace(ended=True)
    if s.status == FAILED:
        requeued = s._replace(status=PENDING, tried=False)
        yield Step(REQUEUE), requeued if "memory" in kept else _no_longer_doubtful(requeued)
    if s.status == PENDING and not s.lease:
        spared = "hasten" in kept and s.provisional and not s.tried
        yield Step(HASTEN), s if spared else _not_waiting(s)
    for k, request in enumerate(s.late):
        rest = s._replace(late=s.late[:k] + s.late[k + 1 :])
        yield Step(LATE_LANDS, k, request.version), _landed(rest, request)
        yield Step(LATE_LOST, k, request.version), rest
    for i, w in enumerate(s.workers):
        if w.at == IDLE:
            yield from _claims(s, i, kept)
            continue
        yield Step(RENEW, i), s
        if w.at == CLAIMED:
            stopped = s.ended or not w.mine
            verb = SEND_STOPPED if stopped and "clock" in kept else SEND
            yield Step(verb, i, w.version), _with(s, i, w._replace(at=SENT, stopped=verb == SEND_STOPPED))
            freed = s._replace(lease=False, ended=False, sent=False) if w.mine else s
            yield Step(RELEASE, i), _with(freed, i, Worker())
            yield Step(KILL, i), _with(s, i, Worker())
        else:
            yield from _endings(s, i, kept, room=len(s.late) < late)


def _endings(s: State, i: int, kept: frozenset[str], *, room: bool) -> Iterator[tuple[Step, State]]:
    w = s.workers[i]
    free = _with(s, i, Worker())
    if w.landed:
        yield Step(SETTLE, i), _succeeded(s, free, i, kept)
    else:
        yield Step(LAND, i, w.version), _landed(_with(s, i, w._replace(landed=True, awaited=False)), w)
    # A failure may be the answer to a request that took effect (a 500 behind a proxy, a check of what arrived).
    yield Step(FAIL, i), _failed(free, w, kept, answered=True, for_good=False)
    yield Step(REFUSED, i), _failed(free, w, kept, answered=True, for_good=True)
    if (w.landed or room) and not w.stopped:
        if not w.landed:
            free = free._replace(late=(*s.late, Late(w.version, w.bytes, w.short, w.awaited)))
        yield Step(SILENT, i), _failed(free, w, kept, answered=False, for_good=False)
        yield Step(GIVE_UP, i), _failed(free, w, kept, answered=False, for_good=True)
        yield Step(KILL, i), free


def _claims(s: State, i: int, kept: frozenset[str]) -> Iterator[tuple[Step, State]]:
    """``replicator.ledger.claim``. Time passes freely, except that a doubt window outlasts what it waits for."""
    if s.status != PENDING or (s.lease and not s.ended) or (_awaits(s) and "window" in kept):
        return
    row = s._replace(lease=True, ended=False, sent=True)
    if s.lease:
        row = row._replace(tried=True, workers=_strangers(s))
        if "takeover" in kept:
            row = row._replace(doubt=True, provisional=False)
    short = row.confirmed == row.bytes and not (row.doubt and "bytes" in kept)
    yield Step(CLAIM, i, s.desired), _with(row, i, Worker(CLAIMED, s.desired, s.bytes, short, mine=True))


def _written(s: State, kept: frozenset[str]) -> State:
    """``replicator.ledger.record``, and ``reclass``"""
    row = _not_waiting(s)._replace(desired=s.desired + 1, status=PENDING, tried=False)
    if "again" in kept:
        row = row._replace(provisional=False)
    if "sent" in kept:
        row = row._replace(sent=False)
    if "memory" not in kept:
        row = _no_longer_doubtful(row)
    if "untouched" not in kept:
        row = row._replace(lease=False, ended=False, workers=_strangers(s))
    return row


def _written_at_home(s: State, kept: frozenset[str]) -> State:
    """``replicator.ledger.record`` of a node whose media root is the target"""
    new = s.desired + 1
    row = _written(s, kept)._replace(bytes=new, held=new, held_bytes=new)
    calm = not s.lease and not s.doubt
    return row._replace(status=SYNCED, confirmed=new) if calm or "home" not in kept else row


def _succeeded(s: State, free: State, i: int, kept: frozenset[str]) -> State:
    """``replicator.ledger.settle`` without an error"""
    if not s.workers[i].mine and "mine" in kept:
        return _lost(free, kept)
    row = free._replace(lease=False, ended=False, sent=False, tried=False, workers=_strangers(free))
    if not s.sent:  # a write came in between
        return _not_waiting(row)._replace(status=PENDING, provisional=False)
    if s.doubt and not s.provisional and "twice" in kept:
        return _window_begins(row)._replace(provisional=True)
    confirmed = s.workers[i].bytes
    return _not_waiting(row)._replace(status=SYNCED, doubt=False, provisional=False, confirmed=confirmed)


def _failed(free: State, w: Worker, kept: frozenset[str], *, answered: bool, for_good: bool) -> State:
    """``replicator.ledger.settle`` with an error"""
    if not w.mine:
        return _lost(free, kept)
    row = free._replace(lease=False, ended=False, sent=False)
    if not answered and "silence" in kept:
        row = row._replace(doubt=True, provisional=False)
    if answered and "memory" not in kept:
        row = _no_longer_doubtful(row)
    if free.sent:
        row = _not_waiting(row)._replace(status=FAILED if for_good else PENDING, tried=True)
    return row


def _lost(free: State, kept: frozenset[str]) -> State:
    if "lost" not in kept:
        return free
    return _not_waiting(free)._replace(status=PENDING, doubt=True, provisional=False)


def _landed(s: State, request: Worker | Late) -> State:
    """What a request does to the target."""
    return s._replace(held=request.version, held_bytes=s.held_bytes if request.short else request.bytes)


def _window_begins(s: State) -> State:
    """A doubt window waits for what is under way now."""
    first, second = (w._replace(awaited=w.at == SENT and not w.landed) for w in s.workers)
    return s._replace(late=tuple(r._replace(awaited=True) for r in s.late), workers=(first, second))


def _awaits(s: State) -> bool:
    return any(each.awaited for each in (*s.workers, *s.late))


def _not_waiting(s: State) -> State:
    """Due, or due again, whatever is under way."""
    if not _awaits(s):
        return s
    first, second = (w._replace(awaited=False) for w in s.workers)
    return s._replace(late=tuple(r._replace(awaited=False) for r in s.late), workers=(first, second))


def _no_longer_doubtful(s: State) -> State:
    return s._replace(doubt=False, provisional=False)


def _strangers(s: State) -> tuple[Worker, Worker]:
    """The workers, once the row's lease is none of theirs."""
    first, second = (w._replace(mine=False) for w in s.workers)
    return first, second


def _with(s: State, i: int, worker: Worker) -> State:
    first, second = s.workers
    return s._replace(workers=(worker, second) if i == 0 else (first, worker))


def same(s: State) -> State:
    """The one for all states that differ from *s* only in which worker, or late request, is which."""
    first, second = s.workers
    if first <= second and len(s.late) < 2:
        return s
    return s._replace(workers=(min(first, second), max(first, second)), late=tuple(sorted(s.late)))


def is_quiet(s: State) -> bool:
    """Nothing is under way."""
    return not s.late and all(w.at == IDLE for w in s.workers)


def is_stale(s: State) -> bool:
    """What must never be: the ledger says synced, and the target holds something else."""
    return is_quiet(s) and s.status == SYNCED and (s.held, s.held_bytes) != (s.desired, s.bytes)
