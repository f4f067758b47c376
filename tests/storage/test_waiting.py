"""``wait`` and ``min_copies``: a save that returns when so many hosts have confirmed the file. Real hosts."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import connection, connections, transaction
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

from replicator import delivery, ledger
from replicator.checks.storages import problems
from replicator.delivery import now
from replicator.ledger import Write, health
from replicator.models import MediaFile, Replica
from replicator.storage import ReplicatedManifestStaticFilesStorage, ReplicatedStorage
from replicator.waiting import NotSynced
from tests.promises.harness import wait_until
from tests.servers import Embedded, MediaHost, Nginx
from tests.storage.conftest import everything
from tests.targets.rawserver import RawServer, read_request

pytestmark = pytest.mark.django_db(transaction=True)

Make = Callable[..., ReplicatedStorage]
#: Seconds after which a request to a host that hangs is given up: longer than what does not wait for it takes.
HANGS = 6.0


def silent(sock: socket.socket) -> None:
    """Takes requests, and never answers."""
    while sock.recv(65536):
        pass


@pytest.fixture
def refusing() -> str:
    """The URL of a host on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def hanging() -> Iterator[str]:
    """The URL of a host that takes requests and never answers."""
    with RawServer(silent) as server:
        yield server.url
    assert now.flush(30)


@pytest.fixture
def make(make_storage: Make) -> Make:
    """A storage with these hosts, in this order."""

    def made(hosts: Mapping[str, MediaHost | str], **options: Any) -> ReplicatedStorage:
        targets = {
            alias: {
                "BACKEND": "replicator.targets.webdav.WebDAVTarget",
                "OPTIONS": {
                    "url": host if isinstance(host, str) else host.url,
                    "read_timeout": HANGS if alias == "hanging" else 20.0,
                },
            }
            for alias, host in hosts.items()
        }
        return make_storage({"TARGETS": targets}, **options)

    return made


@pytest.fixture
def hosts(nginx: Nginx, embedded: Embedded) -> dict[str, MediaHost]:
    return {"media1": nginx, "media2": embedded}


def save(storage: ReplicatedStorage, name: str = "a.txt", data: bytes = b"1") -> str:
    return storage.save(name, ContentFile(data))


def held(hosts: Mapping[str, MediaHost], name: str = "a.txt") -> list[bool]:
    return [f"media/{name}" in host.files() for host in hosts.values()]


def statuses() -> dict[str, str]:
    return dict(Replica.objects.values_list("target", "status"))


def deliver_everything() -> None:
    """What workers do."""
    for alias in set(Replica.objects.values_list("target", flat=True)):
        delivery.deliver(alias)


# How many copies


def test_a_save_returns_when_all_hosts_have_the_file(make: Make, hosts: dict[str, MediaHost]) -> None:
    """Without ``min_copies`` all targets are meant; and no worker is needed for it."""
    storage = make(hosts, wait=10)
    name = save(storage, data=b"x" * 3_000_000)
    assert [host.files()[f"media/{name}"] for host in hosts.values()] == [b"x" * 3_000_000] * 2
    assert set(statuses().values()) == {"synced"}


def test_without_wait_a_save_asks_no_host(make: Make, hosts: dict[str, MediaHost]) -> None:
    """Promise 4: the default stays as it is."""
    save(make(hosts))
    assert held(hosts) == [False, False]
    assert set(statuses().values()) == {"pending"}


def test_workers_are_woken_for_what_is_left_to_them(
    make: Make, hosts: dict[str, MediaHost], announced: list[list[str]]
) -> None:
    """Not for what the save has sent: each of its messages would have a worker ask the database for nothing."""

    def woken() -> list[str]:
        found = [target for targets in announced for target in targets]
        announced.clear()
        return found

    save(make(hosts, wait=10))
    assert woken() == []
    save(make(hosts, wait=10, min_copies=1))
    assert woken() == ["media2"]
    save(make(hosts))
    assert woken() == ["media1", "media2"]


def test_one_copy_will_do_while_others_hang_or_are_down(
    make: Make, nginx: Nginx, hanging: str, refusing: str
) -> None:
    """Promise 7: one that is down costs nothing, one that hangs a second."""
    storage = make({"down": refusing, "hanging": hanging, "good": nginx}, wait=10, min_copies=1)
    begun = time.monotonic()
    name = save(storage)
    assert time.monotonic() - begun < HANGS - 1
    assert f"media/{name}" in nginx.files()
    assert statuses() == {"down": "pending", "hanging": "pending", "good": "synced"}
    assert Replica.objects.get(target="down").error_kind == "unavailable"


def test_two_copies_can_be_had_from_three_hosts_one_of_which_hangs(
    make: Make, hosts: dict[str, MediaHost], hanging: str
) -> None:
    """And its request, given up by the host's own time-out, is settled: a doubt, no lease that waits for its end."""
    storage = make({"hanging": hanging, **hosts}, wait=10, min_copies=2)
    save(storage)
    assert held(hosts) == [True, True]
    assert now.flush(30)
    assert Replica.objects.values_list("lease", "doubt", "error_kind").get(target="hanging") == (
        None,
        True,
        "unavailable",
    )


def test_three_copies_can_not_be_had_if_one_host_is_down(
    make: Make, hosts: dict[str, MediaHost], refusing: str
) -> None:
    """The error says what is missing where and why, and that nothing is lost; then the file is as any other."""
    # The first retry comes after 7.5 seconds, or later.
    storage = make({**hosts, "down": refusing}, wait=5, min_copies=3)
    begun = time.monotonic()
    with pytest.raises(NotSynced) as caught:
        save(storage)
    assert time.monotonic() - begun < 4.5, "the next try comes after the wait: that is known at once"
    said = str(caught.value)
    assert "a.txt (default) was saved, but 3 confirmed copies could not be had within 5 s." in said
    assert "down: 1 pending; it failed last time" in said
    assert "Connection refused" in said
    assert "stays pending: workers deliver it" in said
    assert caught.value.files == [("default", "a.txt")]
    assert storage.exists("a.txt")
    assert held(hosts) == [True, True]
    assert statuses() == {"media1": "synced", "media2": "synced", "down": "pending"}
    health.mark_down("down", "as told")
    begun = time.monotonic()
    with pytest.raises(NotSynced, match="it is down: as told"):
        save(storage, "b.txt")
    assert time.monotonic() - begun < 4.5


def test_a_host_that_hangs_is_waited_for_no_longer_than_that(
    make: Make, hosts: dict[str, MediaHost], hanging: str
) -> None:
    """If its copy is wanted."""
    storage = make({**hosts, "hanging": hanging}, wait=1.5)
    begun = time.monotonic()
    with pytest.raises(NotSynced, match=r"hanging: 1 pending\n.*a worker is at it"):
        save(storage)
    assert 1.5 <= time.monotonic() - begun < HANGS - 1


def test_to_say_what_is_missing_the_backlog_is_not_read(make: Make, nginx: Nginx, refusing: str) -> None:
    """Promise 8: after a day without a host it is long, and each save that fails would read it."""
    storage = make({"media1": nginx, "down": refusing}, wait=1)
    health.mark_down("down", "as told")
    ledger.record_new([Write("default", f"{number}.txt", 1, "0" * 64) for number in range(300)], ["down"])
    with CaptureQueriesContext(connection) as queries, pytest.raises(NotSynced):
        save(storage)
    reads = [query["sql"] for query in queries if "status" in query["sql"] and query["sql"].startswith("SELECT")]
    assert reads
    assert [sql for sql in reads if "a.txt" not in sql and "LIMIT" not in sql] == []


def test_a_host_that_refuses_the_file_fails_it(make: Make, nginx: Nginx) -> None:
    """Nothing that is left to workers; only a person can cure it, and the message says what it is."""

    def forbid(sock: socket.socket) -> None:
        while True:
            read_request(sock)
            sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    with RawServer(forbid) as server:
        storage = make({"media1": nginx, "strict": server.url}, wait=10)
        with pytest.raises(NotSynced, match=r"strict: 1 failed(.|\n)*HTTP 403"):
            save(storage)


def test_what_a_worker_has_in_hand_counts(make: Make, hosts: dict[str, MediaHost], nginx: Nginx) -> None:
    """With workers at the same files, each of them reaches each host once."""
    storage = make(hosts, wait=20)
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            for alias in hosts:
                delivery.deliver(alias)
        connections.close_all()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        names = [save(storage, f"{number}.txt") for number in range(20)]
    finally:
        over.set()
        worker.join()
    assert all(held(hosts, name) == [True, True] for name in names)
    # A claim of what another has in hand would be a second attempt, or leave a doubt.
    assert set(Replica.objects.values_list("status", "doubt")) == {("synced", False)}


# Transactions


def test_nothing_is_sent_before_the_commit(make: Make, hosts: dict[str, MediaHost]) -> None:
    """Promise 3; then the commit waits."""
    storage = make(hosts, wait=10)
    with transaction.atomic():
        names = [save(storage, f"{number}.txt") for number in range(5)]
        assert not any(True in held(hosts, name) for name in names)
    assert all(held(hosts, name) == [True, True] for name in names)


def test_the_error_comes_from_the_end_of_the_transaction(make: Make, nginx: Nginx, refusing: str) -> None:
    """What was committed stays so: that is the caller's to know."""
    storage = make({"media1": nginx, "down": refusing}, wait=5)
    block = transaction.atomic()
    block.__enter__()
    save(storage)
    MediaFile.objects.create(
        storage="other", name="a row of the site", version="0" * 32, created_at="2026-01-01T00:00Z",
        updated_at="2026-01-01T00:00Z",
    )  # fmt: skip
    with pytest.raises(NotSynced):
        block.__exit__(None, None, None)
    assert MediaFile.objects.count() == 2
    assert list(nginx.files()) == ["media/a.txt"]


def test_one_wait_is_enough_for_all_files_of_a_transaction(make: Make, hanging: str, nginx: Nginx) -> None:
    """Not one after the other: a request that saved many would hang for minutes. The error names them all."""
    storage = make({"media1": nginx, "hanging": hanging}, wait=3)
    begun = time.monotonic()

    def save_many() -> None:
        with transaction.atomic():
            for number in range(7):
                save(storage, f"{number}.txt")

    with pytest.raises(NotSynced) as caught:
        save_many()
    assert time.monotonic() - begun < 15
    assert caught.value.files == [("default", f"{number}.txt") for number in range(7)]
    assert "… and 2 more." in str(caught.value)
    wait_until(lambda: len(nginx.files()) == 7)


def test_a_rolled_back_save_is_not_waited_for(make: Make, hosts: dict[str, MediaHost]) -> None:
    """Promise 3."""
    storage = make(hosts, wait=10)
    with transaction.atomic():
        save(storage)
        transaction.set_rollback(True)
    assert held(hosts) == [False, False]
    assert now.flush(5)


def test_nor_is_one_that_was_rolled_back_to_a_savepoint(make: Make, nginx: Nginx, refusing: str) -> None:
    """Promise 3: whether Django takes the hooks with it, or leaves them, as with a savepoint made by hand."""
    good = make({"media1": nginx, "down": refusing}, wait=10, min_copies=1)
    with transaction.atomic():
        save(good, "kept.txt")
        with transaction.atomic():
            save(good, "by the block.txt")
            transaction.set_rollback(True)
        savepoint = transaction.savepoint()
        save(good, "by hand.txt")
        transaction.savepoint_rollback(savepoint)
    assert list(nginx.files()) == ["media/kept.txt"]


def test_hooks_after_the_save_run_if_it_has_its_copies(
    make: Make, hosts: dict[str, MediaHost], refusing: str
) -> None:
    """Django calls them in their order, and none after one that raises: so they can rely on the copies."""
    called: list[list[bool]] = []

    def run(storage: ReplicatedStorage, prefix: str) -> None:
        with transaction.atomic():
            transaction.on_commit(lambda: called.append(held(hosts, f"{prefix}/a.txt")))
            save(storage, f"{prefix}/a.txt")
            transaction.on_commit(lambda: called.append(held(hosts, f"{prefix}/a.txt")))
            save(storage, f"{prefix}/b.txt")

    run(make(hosts, wait=10), "well")
    assert called == [[False, False], [True, True]]
    called.clear()
    with pytest.raises(NotSynced):
        run(make({**hosts, "down": refusing}, wait=5), "badly")
    assert called == [[False, False]]


def test_a_file_that_has_its_copies_is_not_to_blame_for_another(
    make: Make, settings: Any, tmp_path: Path, nginx: Nginx, refusing: str
) -> None:
    """Hooks after it run, though the transaction is waited for as one; those after the other do not."""
    make({"media1": nginx, "down": refusing}, wait=2, targets=["media1"])
    options = {"alias": "other", "location": str(tmp_path / "other"), "base_url": "/other/", "wait": 3}
    settings.STORAGES = {
        **settings.STORAGES,
        "other": {"BACKEND": "replicator.storage.ReplicatedStorage", "OPTIONS": {**options, "targets": ["down"]}},
    }
    called: list[str] = []

    def change() -> None:
        with transaction.atomic():
            storages["default"].save("a.txt", ContentFile(b"1"))
            transaction.on_commit(lambda: called.append("after the good one"))
            storages["other"].save("b.txt", ContentFile(b"1"))
            transaction.on_commit(lambda: called.append("after the bad one"))

    with pytest.raises(NotSynced) as caught:
        change()
    assert caught.value.files == [("other", "b.txt")]
    assert called == ["after the good one"]


def test_our_own_hooks_have_run_before_one_raises(make: Make, nginx: Nginx, refusing: str, media_root: Path) -> None:
    """A delete later in the transaction removes its file, and no write leaves its traces for the clean-up."""
    storage = make({"media1": nginx})
    save(storage, "gone.txt")
    storage = make({"media1": nginx, "down": refusing}, wait=5)

    def change() -> None:
        with transaction.atomic():
            save(storage, "a.txt")
            storage.delete("gone.txt")
            save(storage, "b.txt")

    with pytest.raises(NotSynced):
        change()
    assert everything(media_root) == {"a.txt": b"1", "b.txt": b"1"}
    deliver_everything()
    assert set(nginx.files()) == {"media/a.txt", "media/b.txt"}


def test_a_file_that_is_written_twice_is_waited_for_once(make: Make, hosts: dict[str, MediaHost]) -> None:
    """Promise 2: the first version comes nowhere; the second is there when the commit returns."""
    storage = make(hosts, wait=10, allow_overwrite=True)
    with transaction.atomic():
        save(storage, data=b"1")
        save(storage, data=b"2")
        save(storage, "deleted.txt")
        storage.delete("deleted.txt")
    assert [host.files()["media/a.txt"] for host in hosts.values()] == [b"2", b"2"]
    assert held(hosts, "deleted.txt") == [False, False]


def test_deletes_wait_for_nobody(make: Make, hosts: dict[str, MediaHost], announced: list[list[str]]) -> None:
    """A copy too many is no loss: workers remove it, as ever."""
    storage = make(hosts, wait=10)
    save(storage)
    announced.clear()
    storage.delete("a.txt")
    assert held(hosts) == [True, True]
    assert announced == [["media1", "media2"]]


def test_a_file_written_through_open_is_waited_for(make: Make, hosts: dict[str, MediaHost]) -> None:
    """Closing it is the save."""
    storage = make(hosts, wait=10)
    with storage.open("a.txt", "wb") as file:
        file.write(b"written")
    assert [host.files()["media/a.txt"] for host in hosts.values()] == [b"written"] * 2


@pytest.mark.django_db
def test_a_test_can_run_the_hooks(make: Make, hosts: dict[str, MediaHost]) -> None:
    """Django's ``captureOnCommitCallbacks``: then the wait is part of the test."""
    storage = make(hosts, wait=10)
    with TestCase.captureOnCommitCallbacks(execute=True):
        save(storage)
    assert held(hosts) == [True, True]
    assert set(statuses().values()) == {"synced"}


@pytest.mark.django_db
def test_in_a_test_case_nothing_is_waited_for(make: Make, hosts: dict[str, MediaHost]) -> None:
    """Django's TestCase never commits."""
    save(make(hosts, wait=30))
    assert held(hosts) == [False, False]


def test_where_no_local_copy_is_kept_it_goes_with_the_wait(make: Make, hosts: dict[str, MediaHost]) -> None:
    """The save returns with the file on the hosts, and nowhere else."""
    storage = make(hosts, wait=10, keep_local=False)
    name = save(storage, data=b"kept elsewhere")
    assert not Path(storage.path(name)).exists()
    assert held(hosts) == [True, True]
    with storage.open(name) as file:
        assert file.read() == b"kept elsewhere"


# Many at once


def test_requests_that_save_at_once_wait_for_their_own_files(make: Make, hosts: dict[str, MediaHost]) -> None:
    """Each thread of a web server has its own connection, and its own wait."""
    storage = make(hosts, wait=20)
    errors: list[str] = []

    def request(number: int) -> None:
        try:
            for turn in range(3):
                name = save(storage, f"{number}/{turn}.txt", str(number).encode())
                if held(hosts, name) != [True, True]:
                    errors.append(name)
        except Exception as error:  # it goes back to the test
            errors.append(repr(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=request, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set(Replica.objects.values_list("status", "doubt", "lease")) == {("synced", False, None)}


def test_an_async_view_can_wait_in_a_thread(make: Make, hosts: dict[str, MediaHost], hanging: str) -> None:
    """``sync_to_async`` is all it takes: the event loop goes on meanwhile."""
    storage = make({**hosts, "hanging": hanging}, wait=3)
    ticks = 0

    def work() -> None:
        try:
            save(storage)
        finally:
            connections.close_all()

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.02)
            ticks += 1

    async def view() -> None:
        ticking = asyncio.create_task(tick())
        try:
            await sync_to_async(work)()
        finally:
            ticking.cancel()

    with pytest.raises(NotSynced):
        asyncio.run(view())
    assert ticks > 20
    assert held(hosts) == [True, True]


# Options


def test_more_copies_than_targets_are_refused(make: Make, hosts: dict[str, MediaHost], media_root: Path) -> None:
    """By ``manage.py check``, and by the save, which leaves nothing behind."""
    storage = make(hosts, wait=5, min_copies=3)
    (found,) = problems()
    assert found.id == "replicator.E005"
    wrong = "STORAGES['default'] wants min_copies of 3, and has 2 targets: write a smaller number"
    assert found.msg.startswith(wrong)
    with pytest.raises(ImproperlyConfigured) as caught:
        save(storage)
    assert str(caught.value).startswith(wrong)
    assert everything(media_root) == {}
    assert not MediaFile.objects.exists()


def test_static_files_have_a_wait_of_their_own() -> None:
    """``collectstatic`` waits once, for all of them."""
    with pytest.raises(ImproperlyConfigured, match="manifest_wait"):
        ReplicatedManifestStaticFilesStorage(wait=5)
