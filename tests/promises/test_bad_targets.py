"""Promise 7: one bad target harms no other; and its rows say what is wrong with it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import RUNNING_AS_ROOT
from tests.promises.harness import Site, wait_until
from tests.servers import Embedded, Lighttpd, Nginx, Redis
from tests.targets.rawserver import RawServer, read_head, read_request


def answering(put: str, *, head: str = "404 Not Found", length: int = 0) -> Callable[[socket.socket], None]:
    """A server that answers *put* to each PUT, and *head* with this Content-Length to each HEAD."""

    def script(sock: socket.socket) -> None:
        while True:
            method, _, _ = read_request(sock)
            status = {"PUT": put, "HEAD": head, "OPTIONS": "200 OK"}.get(method, "405 Method Not Allowed")
            size = length if method == "HEAD" else 0
            sock.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n\r\n".encode())

    return script


def silent(sock: socket.socket) -> None:
    """Takes requests, and never answers."""
    while sock.recv(65536):
        pass


def closing(sock: socket.socket) -> None:
    """Reads a request, and goes away."""
    read_head(sock)


BAD = {
    # alias: (script, status of the row, kind of error, HTTP status, what the message says)
    "500": (answering("500 Internal Server Error"), "pending", "unavailable", 500, "500 to PUT"),
    "503": (answering("503 Service Unavailable"), "pending", "unavailable", 503, "503 to PUT"),
    "507": (answering("507 Insufficient Storage"), "pending", "unavailable", 507, "its disk is full"),
    "403": (answering("403 Forbidden"), "failed", "refused", 403, "access rules"),
    "401": (answering("401 Unauthorized"), "failed", "refused", 401, "username and password"),
    "405": (answering("405 Method Not Allowed"), "failed", "refused", 405, "enable WebDAV"),
    "413": (answering("413 Content Too Large"), "failed", "refused", 413, "client_max_body_size"),
    "301": (answering("301 Moved Permanently"), "failed", "refused", 301, "redirects"),
    "truncating": (answering("201 Created", head="200 OK", length=2), "pending", "corrupt", None, "2"),
    "forgetting": (answering("201 Created"), "pending", "corrupt", 404, "does not have it"),
    "silent": (silent, "pending", "unavailable", None, "did not answer"),
    "closing": (closing, "pending", "unavailable", None, "connection"),
    "no http": (lambda sock: sock.sendall(b"220 ready\r\n\r\n"), "pending", "unavailable", None, "HTTP"),
    "refusing": (None, "pending", "unavailable", None, "refused"),
}


@pytest.fixture(scope="module")
def bad_site(tmp_path_factory: pytest.TempPathFactory, _nginx: Nginx) -> Iterator[Site]:
    """A good host and a crowd of bad ones, which have all had their turn."""
    _nginx.wipe()
    with contextlib.ExitStack() as stack:
        hosts: dict[str, Any] = {"good": _nginx}
        for alias, (script, *_) in BAD.items():
            if script is None:
                with socket.create_server(("127.0.0.1", 0)) as free:
                    hosts[alias] = f"http://127.0.0.1:{free.getsockname()[1]}"
            else:
                hosts[alias] = stack.enter_context(RawServer(script)).url
        settings = {"RETRY_BASE": 60.0, "RETRY_CAP": 60.0}
        # The others have one attempt, which must not end for a machine that is busy.
        options = {alias: {"read_timeout": 20.0} for alias in hosts} | {"silent": {"read_timeout": 0.5}}
        site = stack.enter_context(Site(tmp_path_factory.mktemp("site"), hosts, replicator=settings, options=options))
        site.operator.call("save", name="a.txt", data="hello")
        for alias in hosts:
            site.operator.call("deliver", target=alias)
        yield site


@pytest.mark.parametrize("alias", BAD)
def test_a_row_says_what_its_target_did_and_what_to_do(bad_site: Site, alias: str) -> None:
    """Promise 1: every target comes to hold the file, or its row says why not."""
    _, status, kind, http_status, text = BAD[alias]
    [row] = [row for row in bad_site.operator.call("rows", name="a.txt") if row["target"] == alias]
    assert (row["status"], row["error_kind"], row["http_status"]) == (status, kind, http_status), row
    assert text in row["error_text"]
    assert row["attempts"] == 1
    assert not row["leased"]


def test_no_bad_target_keeps_the_file_from_a_good_one(bad_site: Site) -> None:
    """Promise 7."""
    assert bad_site.disagreements(["a.txt"], ["good"]) == []


def test_a_failed_row_is_delivered_when_someone_asks_for_it(tmp_path: Path, nginx: Nginx) -> None:
    """What only a person can cure waits for that person; then it goes on as if nothing had been."""
    with RawServer(answering("403 Forbidden")) as server, Site(tmp_path / "1", {"media1": server.url}) as site:
        site.operator.call("save", name="a.txt", data="1")
        site.operator.call("deliver", target="media1")
        site.operator.call("make_due")
        assert site.operator.call("sweep") == []
        assert site.operator.call("requeue") == 1
        assert site.operator.call("deliver", target="media1")["failed"] == 1
        # A new write is a new chance.
        site.operator.call("overwrite", name="a.txt", data="2")
        assert site.operator.call("rows")[0]["status"] == "pending"


@pytest.mark.skipif(not RUNNING_AS_ROOT, reason="mounting a small file system takes root")
def test_a_host_whose_disk_is_full_gets_the_file_when_there_is_room(tmp_path: Path) -> None:
    """Promises 1 and 5: 507, nothing partial, tried again."""
    host = Embedded()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", host.folder], check=False).returncode:
        host.close()
        pytest.skip("mounting is not allowed here")
    try:
        with host, Site(tmp_path, {"media1": host}) as site:
            filler = host.write("filler", b"x" * 1_500_000)
            site.operator.call("save", name="a.bin", data="old")
            site.drain_until_agreed(["a.bin"])
            site.operator.call("overwrite", name="a.bin", size=1_000_000)
            assert site.operator.call("deliver", target="media1")["failed"] == 1
            [row] = site.operator.call("rows")
            assert (row["error_kind"], row["http_status"]) == ("unavailable", 507)
            assert host.files() == {"media/a.bin": b"old", "filler": b"x" * 1_500_000}
            filler.unlink()
            site.drain_until_agreed(["a.bin"])
    finally:
        subprocess.run(["umount", host.folder], check=True)
        os.rmdir(host.folder)  # noqa: PTH106


@pytest.mark.parametrize("processes", [2, 4])
def test_a_hanging_host_does_not_keep_the_others_waiting(
    tmp_path: Path, nginx: Nginx, lighttpd: Lighttpd, embedded: Embedded, redis: Redis, processes: int
) -> None:
    """Promise 7: while one host hangs on every request, the lag of the others stays that of an idle system."""
    redis.flush()
    hosts = {"hanging": nginx, "media2": lighttpd, "media3": embedded}
    options = {"hanging": {"read_timeout": 8.0}}
    with Site(tmp_path, hosts, broker=redis.url, options=options) as site:
        site.worker(processes)
        site.operator.call("save", name="first.txt", data="1")
        site.wait_for_agreement(["first.txt"])
        nginx.pause()
        names, lags, saves = [], [], []
        for number in range(20):
            names.append(f"{number}.txt")
            start = time.monotonic()
            site.operator.call("save", name=names[-1], data=str(number))
            saves.append(time.monotonic() - start)
            lags.append(site.wait_for_agreement(names[-1:], hosts=["media2", "media3"]))
            time.sleep(0.1)
        # Who waited for the hanging host would have waited for its time-out.
        assert max(saves) < 4.0, saves
        assert sorted(lags)[len(lags) // 2] < 2.0, lags
        assert max(lags) < 6.0, lags
        nginx.resume()
        site.beat()
        site.wait_for_agreement(names)


def test_hosts_that_answer_probes_and_hang_on_files_leave_the_workers_to_the_others(
    tmp_path: Path, nginx: Nginx, redis: Redis
) -> None:
    """Promise 7: as many such hosts as there are worker processes; their breakers open, and close by themselves."""
    redis.flush()
    is_well = threading.Event()

    def script(sock: socket.socket) -> None:
        while True:
            method, _, _ = read_request(sock)
            if method == "PUT" and not is_well.is_set():
                is_well.wait(30)
                return
            status = "404 Not Found" if method == "HEAD" and not is_well.is_set() else "200 OK"
            length = 1 if method == "HEAD" else 0
            sock.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n".encode())

    options = {alias: {"read_timeout": 3.0} for alias in ("one", "two")}
    with (
        RawServer(script) as one,
        RawServer(script) as two,
        Site(
            tmp_path,
            {"one": one.url, "two": two.url, "well": nginx},
            broker=redis.url,
            options=options,
            replicator={"DOWN_AFTER": 2, "RETRY_BASE": 2.0, "RETRY_CAP": 4.0},
        ) as site,
    ):
        site.worker(2)
        site.beat()
        for number in range(4):
            site.operator.call("save", name=f"first {number}.txt", data="1")
        wait_until(
            lambda: [site.operator.call("states").get(alias) for alias in ("one", "two")] == ["down", "down"],
            60,
            say=lambda: site.operator.call("states"),
        )
        lags = []
        for number in range(20):
            site.operator.call("save", name=f"{number}.txt", data="1")
            lags.append(site.wait_for_agreement([f"{number}.txt"], hosts=["well"]))
            time.sleep(0.1)
        # A worker that hung at one of them would have done so for three seconds.
        assert sorted(lags)[len(lags) // 2] < 1.5, lags
        is_well.set()
        wait_until(lambda: not site.operator.call("backlog"), 60, say=lambda: site.operator.call("states"))
        assert set(site.operator.call("states").values()) == {"up"}


def test_a_target_that_is_down_costs_nothing_until_it_is_up(
    tmp_path: Path, nginx: Nginx, lighttpd: Lighttpd, redis: Redis
) -> None:
    """The health of the design: no attempt is spent, no save wakes it, and its first answer drains it at once."""
    import redis as client

    redis.flush()
    # So long that only its success at the probe makes its backlog due.
    settings = {"RETRY_BASE": 600.0, "RETRY_CAP": 600.0}
    options = {"good": {"read_timeout": 20.0}}
    hosts = {"bad": nginx, "good": lighttpd}
    with Site(tmp_path, hosts, broker=redis.url, replicator=settings, options=options) as site:
        nginx.kill()
        for number in range(6):
            site.operator.call("save", name=f"{number}.txt", data="1")
        site.operator.call("deliver", target="bad")
        assert site.operator.call("states").get("bad") == "down"
        spent = site.operator.call("attempts", target="bad")
        redis.flush()
        saver = site.shell()
        names = [f"more {n}.txt" for n in range(20)]
        for name in names:
            saver.call("save", name=name, data="1")
        assert saver.call("flush")
        with client.Redis(unix_socket_path=str(redis.socket)) as connection:
            messages = connection.lrange("celery", 0, -1)
        assert len(messages) == 1, "only the good target is woken"
        site.operator.call("make_due")
        assert site.operator.call("sweep") == ["good"]
        assert site.operator.call("deliver", target="bad")["skipped"] == "down"
        assert site.operator.call("probe") == {"bad": False}
        assert site.operator.call("attempts", target="bad") == spent
        nginx.start()
        site.worker(2)
        assert site.operator.call("probe") == {"bad": True}
        assert site.operator.call("states")["bad"] == "up"
        site.wait_for_agreement([*names, *[f"{n}.txt" for n in range(6)]], 30)
        wait_until(lambda: not site.operator.call("backlog"))


def test_a_second_worker_joins_only_where_the_first_leaves_work_lying(tmp_path: Path, nginx: Nginx) -> None:
    """Promise 7 again: at a host that hangs a second one could only wait too; a backlog is worth two."""
    settings = {"BATCH_SIZE": 10, "LEASE_SECONDS": 60.0}
    # What was sent to it must not have failed when the second comes: there is no help to be given then.
    options = {"media1": {"read_timeout": 60.0}}
    with Site(tmp_path, {"media1": nginx}, replicator=settings, options=options) as site:
        first, second = site.shell(), site.shell()
        site.operator.call("save", name="one.txt", data="1")
        nginx.pause()
        first.tell("deliver", target="media1")
        wait_until(lambda: site.operator.call("rows")[0]["leased"])
        assert second.call("deliver", target="media1")["skipped"] == "busy"
        for number in range(60):
            site.operator.call("save", name=f"{number}.txt", data="1")
        time.sleep(1.1)

        def leased() -> int:
            return sum(row["leased"] for row in site.operator.call("rows"))

        # Who has more than half a batch in hand takes no more.
        wait_until(lambda: leased() > 5)
        before = leased()
        second.tell("deliver", target="media1")
        wait_until(lambda: leased() > before)
        nginx.resume()
        puts = [first.answer()["put"], second.answer()["put"]]
        assert min(puts) > 0, puts
        site.drain_until_agreed(["one.txt", *[f"{n}.txt" for n in range(60)]])
