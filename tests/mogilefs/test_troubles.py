"""The test MogileFS fails as told, then works again."""

from __future__ import annotations

import base64
import hashlib
import http.client
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.mogilefs.client import Client, ask, eventually, fields, get, put, uploaded
from tests.mogilefs.cluster import MogileFS


@pytest.fixture(scope="module")
def installation() -> Iterator[MogileFS]:
    with MogileFS(trackers=2, monitor=0.05, hung_noticed=0.1, watchdog=0.4, retry=0.1) as mogilefs:
        yield mogilefs


@pytest.fixture
def mogilefs(installation: MogileFS) -> MogileFS:
    installation.start()
    installation.wipe()
    return installation


PATHS = "get_paths domain=testdomain&key=k"
OPEN = "create_open domain=testdomain&key=k&multi_dest=1"


def path_of(mogilefs: MogileFS) -> str:
    return fields(ask(mogilefs, f"{PATHS}&noverify=1"))["path1"]


# Answers.


def test_faults_befall_so_many_requests(mogilefs: MogileFS) -> None:
    """And only those of their command."""
    mogilefs.no_devices(times=2)
    assert ask(mogilefs, "noop") == "OK "
    for _ in range(2):
        assert ask(mogilefs, OPEN).startswith("ERR no_devices ")
    assert mogilefs.waiting_faults() == []
    assert ask(mogilefs, OPEN).startswith("OK ")


def test_offers_are_the_devices_of_one_host(mogilefs: MogileFS) -> None:
    """As in 117 of 200 calls to the real one."""
    mogilefs.offer(2, 1)
    opened = fields(ask(mogilefs, OPEN))
    assert (opened["devid_1"], opened["devid_2"], opened["dev_count"]) == ("2", "1", "2")
    assert urlsplit(opened["path_1"]).netloc == urlsplit(opened["path_2"]).netloc


def test_paths_are_missing_or_dead(mogilefs: MogileFS) -> None:
    """``OK paths=0``, and a first path where nobody listens."""
    mogilefs.put_behind_back("k", b"x")
    mogilefs.no_paths()
    assert ask(mogilefs, PATHS) == "OK paths=0"
    mogilefs.dead_path()
    found = fields(ask(mogilefs, PATHS))
    with pytest.raises(ConnectionRefusedError):
        get(found["path1"])
    assert get(found["path2"]) == (200, b"x")


def test_a_size_that_does_not_match_uses_the_fid_up(mogilefs: MogileFS) -> None:
    """A second ``create_close`` cannot cure it, and what was uploaded goes."""
    close = uploaded(mogilefs)
    mogilefs.size_mismatch()
    assert ask(mogilefs, close).startswith("ERR size_mismatch Expected:+5%3B+actual:+6")
    assert ask(mogilefs, close).startswith("ERR no_temp_file ")
    assert mogilefs.files() == {}
    mogilefs.wait_until_quiet()
    assert mogilefs.on_disk() == []


def test_an_answer_is_slow(mogilefs: MogileFS) -> None:
    """What was asked for is done before."""
    close = uploaded(mogilefs)
    mogilefs.slow(0.4, "create_close")
    with Client(mogilefs) as client:
        client.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.ask(close)
    assert mogilefs.files() == {"k": b"hello"}


# Answers that are lost.


def test_an_answer_is_lost_before_or_after_or_long_before_the_work(mogilefs: MogileFS) -> None:
    """All look alike to the client: the connection ends."""
    close = uploaded(mogilefs)
    mogilefs.refuse("create_close")
    assert (ask(mogilefs, close), mogilefs.files()) == ("", {})
    mogilefs.do_later(1.5, "create_close")
    assert (ask(mogilefs, close), mogilefs.files()) == ("", {})
    eventually(lambda: mogilefs.files() == {"k": b"hello"})
    close = uploaded(mogilefs, content=b"again")
    mogilefs.lose_answer("create_close")
    assert (ask(mogilefs, close), mogilefs.files()) == ("", {"k": b"again"})


@pytest.mark.parametrize(("took_effect", "later"), [(False, 0.0), (True, 0.0), (True, 1.5)])
def test_a_second_worker_finds_the_fid_used_up(mogilefs: MogileFS, took_effect: bool, later: float) -> None:
    """The first stored the file, or will, or not: ``no_temp_file`` in any case."""
    close = uploaded(mogilefs)
    mogilefs.rerun_create_close(took_effect=took_effect, later=later)
    assert ask(mogilefs, close).startswith("ERR no_temp_file ")
    stored = {"k": b"hello"}
    if later:
        assert mogilefs.files() == {}
        eventually(lambda: mogilefs.files() == stored)
    else:
        eventually(lambda: mogilefs.files() == (stored if took_effect else {}))


# Trackers and nodes.


def test_a_hung_tracker_does_later_what_it_was_asked_to(mogilefs: MogileFS) -> None:
    """It accepts, says nothing, and catches up when it is back; the other one answers meanwhile."""
    close = uploaded(mogilefs)
    mogilefs.hang_tracker(0)
    with pytest.raises(TimeoutError):
        ask(mogilefs, close, patience=0.2)
    assert ask(mogilefs, "noop", tracker=1) == "OK "
    assert mogilefs.files() == {}
    mogilefs.start_tracker(0)
    eventually(lambda: mogilefs.files() == {"k": b"hello"})


def test_a_tracker_hangs_for_so_long(mogilefs: MogileFS) -> None:
    """Without anyone to end it."""
    began = time.monotonic()
    mogilefs.hang_tracker(0, seconds=0.3)
    assert ask(mogilefs, "noop") == "OK "
    assert time.monotonic() - began > 0.2


def test_a_restarted_tracker_has_the_same_port_and_ends_connections(mogilefs: MogileFS) -> None:
    """What the client sees of it: EOF, then it can connect."""
    with Client(mogilefs) as client:
        assert client.ask("noop") == "OK "
        mogilefs.stop_tracker()
        assert client.ask("noop") == ""
        with pytest.raises(ConnectionRefusedError):
            ask(mogilefs, "noop")
        mogilefs.start_tracker()
        assert ask(mogilefs, "noop") == "OK "


def test_a_hung_node_holds_up_its_clients_and_the_tracker_until_its_watchdog(mogilefs: MogileFS) -> None:
    """``create_close`` is run again then, and finds its fid used up; ``noverify`` asks no node."""
    mogilefs.put_behind_back("k", b"x")
    mogilefs.offer(1)
    close = uploaded(mogilefs, key="other")
    stored = mogilefs.stored("k")
    assert stored is not None
    mogilefs.hang_node(1)
    mogilefs.hang_node((stored.devids[0] + 1) // 2)
    with pytest.raises(TimeoutError):
        get(path_of(mogilefs), patience=0.2)
    began = time.monotonic()
    assert ask(mogilefs, close).startswith("ERR no_temp_file ")
    assert time.monotonic() - began > 0.3
    mogilefs.heal()
    assert get(path_of(mogilefs)) == (200, b"x")


def test_a_hung_node_finishes_what_it_was_sent(mogilefs: MogileFS) -> None:
    """The client has gone by then."""
    mogilefs.offer(1)
    opened = fields(ask(mogilefs, OPEN))
    mogilefs.hang_node(1)
    where = urlsplit(opened["path_1"])
    with socket.create_connection((where.hostname, where.port), timeout=30) as sock:
        sock.sendall(f"PUT {where.path} HTTP/1.1\r\nContent-Length: 4\r\n\r\nlate".encode())
    assert mogilefs.on_disk() == []
    mogilefs.start_node(1)
    eventually(lambda: [path.read_bytes() for path in mogilefs.on_disk()] == [b"late"])


def test_a_stopped_node_is_offered_until_that_is_noticed(mogilefs: MogileFS) -> None:
    """A dead destination among the offers, and none afterwards."""
    mogilefs.stop_node(1, noticed=False)
    with pytest.raises(ConnectionRefusedError):
        put(f"http://127.0.0.1:{mogilefs.node_ports[0]}/dev1/0/000/000/x.fid", b"x")
    assert any("devid_1=1&" in ask(mogilefs, OPEN) + "&" for _ in range(200))
    mogilefs.stop_node(1)
    for _ in range(20):
        opened = fields(ask(mogilefs, OPEN))
        assert not {"1", "2"} & {value for name, value in opened.items() if name.startswith("devid")}
    mogilefs.start_node(1)
    assert put(f"http://127.0.0.1:{mogilefs.node_ports[0]}/dev1/0/000/000/x.fid", b"x") == 200


def test_a_node_answers_as_told(mogilefs: MogileFS) -> None:
    """Statuses, ended connections, a body that ends too early: each once, then all is well."""
    url = f"http://127.0.0.1:{mogilefs.node_ports[0]}/dev1/0/000/000/x.fid"
    mogilefs.node_answers(1, 507)
    assert put(url, b"x" * 100000) == 507
    mogilefs.node_refuses(1)
    with pytest.raises(ConnectionError):
        put(url, b"refused")
    assert mogilefs.on_disk() == []
    mogilefs.node_loses_answer(1)
    with pytest.raises(http.client.RemoteDisconnected):
        put(url, b"kept")
    assert [path.read_bytes() for path in mogilefs.on_disk()] == [b"kept"]
    mogilefs.node_answers(1, 404, "GET")
    assert get(url)[0] == 404
    mogilefs.node_cuts(1, after=2)
    with pytest.raises(http.client.IncompleteRead) as cut:
        get(url)
    assert cut.value.partial == b"ke"
    mogilefs.node_slow(1, 0.4, "GET")
    with pytest.raises(TimeoutError):
        get(url, patience=0.1)
    assert get(url) == (200, b"kept")


def test_a_refused_put_leaves_nothing(mogilefs: MogileFS) -> None:
    """A Content-MD5 of other bytes."""
    url = f"http://127.0.0.1:{mogilefs.node_ports[0]}/dev1/0/000/000/x.fid"
    other = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    assert put(url, b"bytes", **{"Content-MD5": other}) == 400
    assert mogilefs.on_disk() == []
