"""Asking trackers: fail-over, patience, and bytes that stay what they are."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from replicator.targets.tracker import Aside, NoTracker, TrackerError, Trackers, numbered
from tests.targets.rawserver import RawServer, Script


def _lines(sock: socket.socket) -> Iterator[bytes]:
    data = b""
    while True:
        while b"\r\n" in data:
            line, _, data = data.partition(b"\r\n")
            yield line
        more = sock.recv(65536)
        if not more:
            return
        data += more


class Answering:
    """A tracker's script: *answer* to each line; what it was asked is in ``asked``."""

    def __init__(self, answer: bytes | Callable[[bytes], bytes] = b"OK \r\n") -> None:
        self.answer = answer
        self.asked: list[bytes] = []

    def __call__(self, sock: socket.socket) -> None:
        for line in _lines(sock):
            self.asked.append(line)
            sock.sendall(self.answer if isinstance(self.answer, bytes) else self.answer(line))


def _hung(sock: socket.socket) -> None:
    for _ in _lines(sock):
        pass


def _restarting(sock: socket.socket) -> None:
    """Takes the request, and is gone."""
    next(_lines(sock))


@pytest.fixture
def serve() -> Iterator[Callable[[Script], str]]:
    """Start a tracker with this script; its address."""
    with ExitStack() as stack:
        yield lambda script: f"127.0.0.1:{stack.enter_context(RawServer(script)).port}"


@pytest.fixture
def dead() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"127.0.0.1:{sock.getsockname()[1]}"


def _trackers(*addresses: str, read_timeout: float = 20.0) -> Trackers:
    return Trackers(addresses, connect_timeout=20.0, read_timeout=read_timeout)


Serve = Callable[[Script], str]


# Fail-over.


def test_a_dead_tracker_is_passed_over(serve: Serve, dead: str) -> None:
    """The first of the list refuses connections: the next one answers."""
    trackers = _trackers(dead, serve(Answering(b"OK fid=7\r\n")))
    assert trackers.ask("file_info", {"key": "a"}) == {"fid": "7"}


def test_a_hung_tracker_costs_one_wait(serve: Serve) -> None:
    """Promise 7, among trackers: it accepts and says nothing; after one time-out it is asked last."""
    good = Answering()
    trackers = _trackers(serve(_hung), serve(good), read_timeout=1.0)
    begun = time.monotonic()
    for _ in range(20):
        trackers.ask("noop", {})
    assert 0.9 < time.monotonic() - begun < 10, "one wait, not twenty"
    assert len(good.asked) == 20


def test_a_restarting_tracker_is_passed_over(serve: Serve) -> None:
    """It takes the request and closes the connection: what can be asked twice is asked of the next."""
    trackers = _trackers(serve(_restarting), serve(Answering(b"OK fid=7\r\n")))
    assert trackers.ask("file_info", {"key": "a"}) == {"fid": "7"}


def test_the_end_of_a_kept_connection_is_no_failure(serve: Serve) -> None:
    """After a restart the send succeeds and the read says EOF: with one tracker, it is connected to again."""

    def once(sock: socket.socket) -> None:
        next(_lines(sock))
        sock.sendall(b"OK \r\n")
        # Close only when the next request has come: looking at the socket tells nothing.
        sock.recv(100)

    trackers = _trackers(serve(once))
    for _ in range(4):
        trackers.ask("noop", {})


def test_a_tracker_that_comes_back_is_used_again() -> None:
    """One of the threads tries it, the others wait for what that one finds out."""
    aside = Aside(seconds=1.0)
    aside.put("a")
    assert aside.last(["a", "b"]) == ["b", "a"]
    time.sleep(1.05)
    assert aside.last(["a", "b"]) == ["a", "b"]
    assert aside.last(["a", "b"]) == ["b", "a"]
    aside.clear("a")
    assert aside.last(["a", "b"]) == ["a", "b"]


def test_all_that_are_aside_are_asked_all_the_same(serve: Serve, dead: str) -> None:
    """Being aside is an order, not a verdict: a single tracker that was away for a moment is asked again."""
    good = Answering()
    address = serve(good)
    trackers = _trackers(address)
    trackers._aside.put(address)
    trackers.ask("noop", {})
    assert good.asked == [b"noop "]


def test_no_tracker_is_an_error_that_names_each(serve: Serve, dead: str) -> None:
    """Whoever reads it knows where to look."""
    with pytest.raises(NoTracker) as caught:
        _trackers(dead, serve(_hung), read_timeout=0.3).ask("noop", {})
    assert dead in str(caught.value)
    assert "did not answer in time" in str(caught.value)
    assert not caught.value.sent


# What changes something.


@pytest.mark.parametrize("script", [_hung, _restarting])
def test_a_change_that_may_have_been_taken_is_not_asked_of_another(serve: Serve, script: Script) -> None:
    """Promise 2: the first could still take effect, after all that follows."""
    other = Answering()
    trackers = _trackers(serve(script), serve(other), read_timeout=1.0)
    with pytest.raises(NoTracker) as caught:
        trackers.ask("create_close", {"fid": 1}, changes=True)
    assert caught.value.sent
    assert other.asked == []


def test_a_change_goes_on_to_the_next_while_nothing_was_sent(serve: Serve, dead: str) -> None:
    """A refused connection has no effect."""
    other = Answering()
    _trackers(dead, serve(other)).ask("delete", {"key": "a"}, changes=True)
    assert other.asked == [b"delete key=a"]


def test_a_change_finds_the_end_of_a_kept_connection_before_it_is_sent(serve: Serve) -> None:
    """A restarted tracker costs no doubt."""
    asked: list[bytes] = []

    def once(sock: socket.socket) -> None:
        asked.append(next(_lines(sock)))
        sock.sendall(b"OK \r\n")

    with RawServer(once) as server:
        trackers = _trackers(f"127.0.0.1:{server.port}")
        for connections, key in enumerate("abc", 1):
            trackers.ask("delete", {"key": key}, changes=True)
            server.wait_until_closed(connections)
    assert asked == [b"delete key=a", b"delete key=b", b"delete key=c"]


# Patience.


def test_an_answer_that_drips_is_given_up(serve: Serve) -> None:
    """The time limit is for the whole line, not for each byte."""

    def drip(sock: socket.socket) -> None:
        for _ in _lines(sock):
            for byte in b"OK fid=7" + b"7" * 32:
                sock.sendall(bytes([byte]))
                time.sleep(0.25)

    begun = time.monotonic()
    with pytest.raises(NoTracker):
        _trackers(serve(drip), read_timeout=0.5).ask("noop", {})
    assert time.monotonic() - begun < 7


def test_all_trackers_together_take_no_longer_than_was_said(serve: Serve) -> None:
    """A probe has seconds, however many trackers hang."""
    trackers = _trackers(*(serve(_hung) for _ in range(4)), read_timeout=5)
    begun = time.monotonic()
    with pytest.raises(NoTracker):
        trackers.ask("noop", {}, within=0.4)
    assert time.monotonic() - begun < 4


def test_a_hung_tracker_leaves_time_for_the_next(serve: Serve) -> None:
    """A probe must not call all of them down because the first hangs."""
    trackers = _trackers(serve(_hung), serve(Answering()), read_timeout=30)
    begun = time.monotonic()
    assert trackers.ask("noop", {}, within=6) == {}
    assert time.monotonic() - begun < 6


# Lines.


@pytest.mark.parametrize(
    "key",
    ["with space", "a+b", "a&b=c", "100%", "é中😀", "line\nbreak\r", "nul\0x", "'\"<>;--", "a\\b:c,d", "0", "\udce9"],
)
def test_keys_are_the_same_on_both_ways(serve: Serve, key: str) -> None:
    """Byte for byte, those too that are no UTF-8: an unescaped ``=`` would silently cut the value."""
    echo = Answering(lambda line: b"OK " + line.partition(b" ")[2] + b"\r\n")
    assert _trackers(serve(echo)).ask("file_info", {"key": key, "devices": 1}) == {"key": key, "devices": "1"}
    assert echo.asked[0].count(b"&") == 1
    assert echo.asked[0].count(b"=") == 2


def test_an_error_is_its_code(serve: Serve) -> None:
    """The text may be an older error's, or the code again with the caller's id."""
    for text, code in ((b"unknown_key unknown_key abc+1", "unknown_key"), (b"failure Operation+failed", "failure")):
        with pytest.raises(TrackerError) as caught:
            _trackers(serve(Answering(b"ERR " + text + b"\r\n"))).ask("file_info", {"key": "a"})
        assert caught.value.code == code


@pytest.mark.parametrize(
    "parts", [(b"OK \r\n",), (b"", b"OK \r\n"), (b"O", b"K \r\n")], ids=["at once", "later", "torn"]
)
def test_a_second_answer_is_never_taken_for_the_next_one(serve: Serve, parts: tuple[bytes, ...]) -> None:
    """A failing rename is answered twice: what is left on the connection ends it."""
    answered = threading.Event()

    def twice(sock: socket.socket) -> None:
        for line in _lines(sock):
            if not line.startswith(b"rename"):
                sock.sendall(b"OK fid=7\r\n")
                continue
            sock.sendall(b"ERR key_exists no\r\n" + parts[0])
            time.sleep(0.05 if parts[0] == b"" else 0.2)
            with suppress(OSError):  # torn, it was not waited for
                sock.sendall(parts[-1])
            answered.set()

    trackers = _trackers(serve(twice))
    with pytest.raises(TrackerError):
        trackers.ask("rename", {})
    assert answered.wait(10)
    assert trackers.ask("file_info", {"key": "a"}) == {"fid": "7"}


def test_something_else_that_listens_there_is_an_error(serve: Serve) -> None:
    """A wrong port is found out, not waited for."""
    with pytest.raises(NoTracker, match="does not speak as a tracker does"):
        _trackers(serve(Answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"))).ask("noop", {})


def test_numbered_fields_come_in_their_order() -> None:
    """Trackers send them in any."""
    answer = {"path_2": "b", "dev_count": "3", "path_10": "x", "path_3": "c", "path_1": "a"}
    assert numbered(answer, "path_", "dev_count") == ["a", "b", "c"]
    assert numbered({"paths": "0"}, "path", "paths") == []
    assert numbered({}, "path", "paths") == []


# Connections.


def test_each_thread_has_a_connection_of_its_own_and_keeps_it(serve: Serve) -> None:
    """Answers never meet; connections are not made anew."""
    echo = Answering(lambda line: b"OK " + line.partition(b" ")[2] + b"\r\n")
    with RawServer(echo) as server:
        trackers = _trackers(f"127.0.0.1:{server.port}", read_timeout=5)
        wrong: list[str] = []

        def ask(thread: int) -> None:
            for number in range(50):
                if trackers.ask("noop", {"key": f"{thread}.{number}"}) != {"key": f"{thread}.{number}"}:
                    wrong.append(f"{thread}.{number}")

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert server.connections <= 8
        trackers.close()


@pytest.mark.parametrize(
    "address", ["", ":7001", "10.0.0.5:", "10.0.0.5:x", "10.0.0.5:70000", "http://a:7001", "u:p@a"]
)
def test_a_wrong_address_says_what_to_write(address: str) -> None:
    """Before anything is connected to."""
    with pytest.raises(ValueError, match=r"write host and port, as in"):
        _trackers(address)
