"""Delivering now, for a caller that waits: whom it asks, how long it waits, and what it leaves behind."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import OperationalError, connection
from django.utils import timezone

from replicator import delivery, ledger, wake
from replicator.delivery import now, threads
from replicator.delivery.now import deliver_now
from replicator.delivery.wanted import HEDGE, Wanted
from replicator.errors import Refused, Unavailable
from replicator.ledger import health
from replicator.models import MediaFile, Replica, TargetState
from replicator.targets import get_target
from replicator.testing import MemoryTarget

pytestmark = pytest.mark.django_db(transaction=True)

ALIASES = ("media1", "media2", "media3")


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    calls: list[list[str]] = []
    monkeypatch.setattr(wake, "announce", lambda targets: calls.append(list(targets)))
    return calls


@pytest.fixture
def make(settings: Any, tmp_path: Path, announced: list[list[str]]) -> Iterator[Callable[..., list[MemoryTarget]]]:
    """Three targets, with these other settings."""

    def made(options: dict[str, Any] | None = None, **replicator: Any) -> list[MemoryTarget]:
        entry = {"BACKEND": "replicator.testing.MemoryTarget", "OPTIONS": options or {}}
        settings.MEDIA_ROOT = str(tmp_path)
        settings.REPLICATOR = {"TARGETS": dict.fromkeys(ALIASES, entry), **replicator}
        return [_memory(alias) for alias in ALIASES]

    yield made
    assert now.flush(10)


def _memory(alias: str) -> MemoryTarget:
    target = get_target(alias)
    assert isinstance(target, MemoryTarget)
    return target


@pytest.fixture
def targets(make: Callable[..., list[MemoryTarget]]) -> list[MemoryTarget]:
    return make()


def save(name: str = "a.txt", data: bytes = b"1", *, copies: int = 1, seconds: float = 5.0) -> Wanted:
    """A file that nobody has delivered yet, and what is wanted of it."""
    name = default_storage.save(name, ContentFile(data))
    return wanted(name, copies=copies, seconds=seconds)


def wanted(name: str, *, copies: int = 1, seconds: float = 5.0) -> Wanted:
    return Wanted("default", name, MediaFile.objects.get(name=name).version, ALIASES, copies, seconds)


def statuses() -> dict[str, str]:
    return dict(Replica.objects.values_list("target", "status"))


def hang(target: MemoryTarget) -> threading.Event:
    """Have its writes wait for the event."""
    release = threading.Event()

    def wait(operation: str, _: object) -> None:
        assert operation != "put" or release.wait(30)

    target.before = wait
    return release


def test_no_more_targets_are_asked_than_are_needed(targets: list[MemoryTarget], announced: list[list[str]]) -> None:
    """The others are the workers', who are woken for them, and for nothing else."""
    file = save(copies=2)
    announced.clear()
    assert deliver_now([file]) == []
    assert statuses() == {"media1": "synced", "media2": "synced", "media3": "pending"}
    assert targets[2].operations == []
    assert announced == [["media3"]]


def test_a_target_that_failed_last_time_comes_last(targets: list[MemoryTarget]) -> None:
    """It may well fail again, and be waited for."""
    health.note_failures("media1", 1, "as told")
    assert deliver_now([save(copies=2)]) == []
    assert statuses() == {"media1": "pending", "media2": "synced", "media3": "synced"}
    assert TargetState.objects.get(target="media2").last_success_at is not None


def test_a_target_that_is_down_is_not_asked(targets: list[MemoryTarget]) -> None:
    """It costs nothing, also where its copy was wanted: that is known at once."""
    health.mark_down("media1", "as told")
    assert deliver_now([save(copies=2)]) == []
    file = save("b.txt", copies=3, seconds=20)
    begun = time.monotonic()
    assert deliver_now([file]) == [file]
    assert time.monotonic() - begun < 10
    assert targets[0].operations == []


def test_after_a_failure_the_next_target_is_asked(targets: list[MemoryTarget]) -> None:
    """The failure is the target's, and is noted with its health and its replica."""
    targets[0].fail_with = Unavailable("as told", status=503)
    targets[1].fail_with = Refused("as told", status=403)
    assert deliver_now([save()]) == []
    assert statuses() == {"media1": "pending", "media2": "failed", "media3": "synced"}
    assert Replica.objects.get(target="media1").http_status == 503
    assert dict(TargetState.objects.values_list("target", "failures")) == {"media1": 1, "media3": 0}


def test_copies_that_can_not_be_had_are_not_waited_for(targets: list[MemoryTarget]) -> None:
    """What failed is tried again in some seconds; if that is after the wait, the caller may as well know now."""
    targets[0].fail_with = Unavailable("as told")
    file = save(copies=3, seconds=7)
    begun = time.monotonic()
    assert deliver_now([file]) == [file]
    assert time.monotonic() - begun < 5
    assert statuses() == {"media1": "pending", "media2": "synced", "media3": "synced"}
    assert not Replica.objects.exclude(lease=None).exists()


def test_what_is_tried_again_in_time_is_waited_for(make: Callable[..., list[MemoryTarget]]) -> None:
    """A short retry delay is part of the wait."""
    first, *_ = make(RETRY_BASE=0.2, RETRY_CAP=0.2)
    failures = [Unavailable("as told"), Unavailable("as told")]

    def fail(operation: str, _: object) -> None:
        if operation == "put" and failures:
            raise failures.pop()

    first.before = fail
    assert deliver_now([save(copies=3)]) == []
    assert set(statuses().values()) == {"synced"}


def test_a_request_that_hangs_is_hedged_and_settled_when_it_ends(targets: list[MemoryTarget]) -> None:
    """Promise 7 and 1: the caller waits a second longer; a transfer that ends well counts, whoever waits for it."""
    release = hang(targets[0])
    begun = time.monotonic()
    try:
        assert deliver_now([save()]) == []
        assert HEDGE <= time.monotonic() - begun < HEDGE + 3
        assert statuses() == {"media1": "pending", "media2": "synced", "media3": "pending"}
        assert Replica.objects.exclude(lease=None).values_list("target", flat=True).get() == "media1"
    finally:
        release.set()
    assert now.flush(10)
    assert statuses() == {"media1": "synced", "media2": "synced", "media3": "pending"}
    assert not Replica.objects.exclude(lease=None, doubt=False).exists()


def test_the_next_caller_does_not_wait_for_what_hangs(make: Callable[..., list[MemoryTarget]]) -> None:
    """Promise 7: one second for the host that hangs, not one for each save; nor more threads than it may have."""
    first, second, _ = make({"concurrency": 2})
    releases = [hang(first)]
    try:
        deliver_now([save("a.txt")])
        begun = time.monotonic()
        deliver_now([save("b.txt")])
        assert time.monotonic() - begun < HEDGE * 0.95
        assert first.operations == [("put", "media/a.txt")]
        # Where its copy is needed it is asked, and no one is worse off than with its last free thread.
        for name in ("c.txt", "d.txt", "e.txt"):
            file = save(name, copies=3, seconds=1.5)
            assert deliver_now([file]) == [file]
        assert first.operations == [("put", "media/a.txt"), ("put", "media/c.txt")]
        assert ("put", "media/e.txt") in second.operations
    finally:
        for release in releases:
            release.set()
    assert now.flush(10)
    assert now._hanging.total() == 0


def test_no_wait_is_longer_than_it_may_be(targets: list[MemoryTarget]) -> None:
    """However many hang."""
    releases = [hang(target) for target in targets]
    try:
        file = save(seconds=1.5)
        begun = time.monotonic()
        assert deliver_now([file]) == [file]
        assert 1.5 <= time.monotonic() - begun < 10
    finally:
        for release in releases:
            release.set()
    assert now.flush(10)
    assert set(statuses().values()) == {"synced", "pending"}


def in_thread(work: Callable[[], object]) -> threading.Thread:
    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_copy_that_a_worker_is_sending_counts_when_it_is_there(targets: list[MemoryTarget]) -> None:
    """The ledger says who is at it; a caller takes what comes first, and nobody sends twice."""
    release, going = threading.Event(), threading.Event()

    def slow(operation: str, _: object) -> None:
        if operation == "put":
            going.set()
            assert release.wait(30)

    targets[0].before = slow
    file = save(copies=3)
    worker = in_thread(lambda: delivery.deliver("media1"))
    assert going.wait(10)
    threading.Timer(0.3, release.set).start()
    try:
        assert deliver_now([file]) == []
    finally:
        release.set()
        worker.join()
    assert targets[0].operations == [("put", "media/a.txt")]
    assert set(statuses().values()) == {"synced"}


def test_a_provisional_success_is_no_copy(targets: list[MemoryTarget]) -> None:
    """A target in doubt gets the file, but an earlier request may still undo that: another one is asked."""
    name = save().name
    Replica.objects.filter(target="media1").update(doubt=True)
    assert deliver_now([wanted(name)]) == []
    assert statuses() == {"media1": "pending", "media2": "synced", "media3": "pending"}
    assert Replica.objects.get(target="media1").provisional
    file = wanted(name, copies=3)
    assert deliver_now([file]) == [file]


def test_what_was_written_again_is_not_waited_for(targets: list[MemoryTarget]) -> None:
    """That version comes nowhere any more; who wrote the other one waits for that."""
    file = save()
    with default_storage.open(file.name, "wb") as again:
        again.write(b"2")
    assert deliver_now([file]) == []
    assert targets[0].operations == []


@pytest.mark.parametrize("copies", [1, 3])
def test_a_long_transfer_keeps_its_lease(make: Callable[..., list[MemoryTarget]], copies: int) -> None:
    """Promise 1: while its caller waits for it, and when he has gone: nobody else takes it over."""
    first, *_ = make(LEASE_SECONDS=3)
    release = hang(first)
    file = save(copies=copies, seconds=2.2)
    lacking = deliver_now([file])
    assert lacking == ([] if copies == 1 else [file])
    time.sleep(3.5)
    assert delivery.deliver("media1").put == 0
    release.set()
    assert now.flush(10)
    assert Replica.objects.values_list("status", "doubt").get(target="media1") == ("synced", False)
    assert first.operations == [("put", "media/a.txt")]


def test_a_database_that_fails_for_a_moment_is_asked_again(
    targets: list[MemoryTarget], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 1: no outcome is lost with it."""
    for name in ("look", "claim_replicas", "settle"):
        real, failures = getattr(ledger, name), [OperationalError("server closed the connection unexpectedly")]

        def once(*args: Any, real: Any = real, failures: Any = failures, **named: Any) -> Any:
            if failures:
                raise failures.pop()
            return real(*args, **named)

        monkeypatch.setattr(ledger, name, once)
    assert deliver_now([save(copies=3)]) == []
    assert [len(target.operations) for target in targets] == [1, 1, 1]


def test_many_files_are_sent_a_few_at_a_time(make: Callable[..., list[MemoryTarget]]) -> None:
    """Promise 8: as many threads as the targets may have, however many files a transaction saved."""
    made = make({"concurrency": 2})
    lock, busy, most = threading.Lock(), [0], [0]

    def enter(operation: str, _: object) -> None:
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        time.sleep(0.01)

    def leave(operation: str, _: object) -> None:
        with lock:
            busy[0] -= 1

    for target in made:
        target.before, target.after = enter, leave
    files = [save(f"{number}.txt", copies=3) for number in range(15)]
    assert deliver_now(files) == []
    assert set(Replica.objects.values_list("status", flat=True)) == {"synced"}
    assert 2 <= most[0] <= 6


def test_callers_in_many_threads_do_not_mix_up(targets: list[MemoryTarget]) -> None:
    """Each waits for its own, and returns when that is there."""
    files = [save(f"{number}.txt", copies=3) for number in range(12)]
    results: list[Sequence[Wanted]] = []
    callers = [in_thread(lambda file=file: results.append(deliver_now([file]))) for file in files]  # type: ignore[misc]
    for caller in callers:
        caller.join()
    assert results == [[]] * 12
    assert set(Replica.objects.values_list("status", flat=True)) == {"synced"}
    assert [len(target.operations) for target in targets] == [12, 12, 12]


def test_where_no_thread_can_be_started_nothing_is_claimed_for_long(
    targets: list[MemoryTarget], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers get it: a lease is given back, not left to its end."""

    def refuse(job: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(now._threads, "run", refuse)
    file = save(seconds=0.3)
    assert deliver_now([file]) == [file]
    assert now.flush(5)
    assert delivery.deliver("media1").put == 1


def test_where_nobody_can_settle_the_rest_the_target_is_asked_again(
    make: Callable[..., list[MemoryTarget]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What hung is not counted for ever: after a few of these the target would get no file of this process."""
    first, *_ = make()
    release = hang(first)
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.daemon and thread._target.__name__ == "_settle_the_rest":  # type: ignore[attr-defined]
            raise RuntimeError("can't start new thread")
        start(thread)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            deliver_now([save()])
        assert now._hanging.total() == 0
    finally:
        release.set()


def test_threads_are_kept_for_the_next_and_end_when_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """To start one takes longer than to send a small file."""
    monkeypatch.setattr(threads, "_KEEP", 2.0)
    pool, done = threads.Threads(), SimpleQueue[threading.Thread]()
    found = set()
    for _ in range(3):
        pool.run(lambda: done.put(threading.current_thread()))
        found.add(done.get(timeout=30))
        time.sleep(0.05)
    (thread,) = found
    thread.join(30)
    assert not thread.is_alive()
    assert pool._idle == 0


def test_a_forked_child_does_not_count_on_its_parents_threads() -> None:
    """A web server may save in the parent, and fork its workers after."""
    done = threading.Event()
    now._threads.run(done.set)
    assert done.wait(30)
    time.sleep(0.05)
    now._count("media1", 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of threads
            child = os.fork()
        if not child:
            ran = threading.Event()
            now._threads.run(ran.set)
            os._exit(0 if ran.wait(30) and not now._hanging["media1"] else 1)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        now._count("media1", -1)


def test_a_look_tells_what_is_due_and_what_is_under_way(targets: list[MemoryTarget]) -> None:
    """On every database the same."""
    file = save()
    moment = timezone.now()
    ledger.claim("media2", 1)
    health.mark_down("media3", "as told")
    rows = {row.target: row for row in ledger.look("default", [file.name, "other"], end=moment, young=60.0)}
    assert {row.file_version for row in rows.values()} == {file.version}
    facts = ("synced", "due", "leased", "young", "in_time", "down", "suspect", "noted")
    assert {alias: [fact for fact in facts if getattr(row, fact)] for alias, row in rows.items()} == {
        "media1": ["due", "in_time"],
        "media2": ["leased", "young", "in_time"],
        "media3": ["due", "in_time", "down"],
    }
    assert ledger.look("elsewhere", [file.name], end=moment, young=60.0) == []
