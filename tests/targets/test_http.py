"""The HTTP client: what comes back, what went wrong, and which connections are used again."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from replicator.errors import LocalChanged
from replicator.targets.httpanswer import NoAnswer, NotConnected
from replicator.targets.httperrors import seconds_to_wait
from replicator.targets.httppool import Client, Origin, pool_of
from replicator.testing import BytesContent, ZeroContent
from tests.processes import free_port
from tests.targets.rawserver import RawServer, answers, read_head, read_request

GET = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: t\r\n\r\n"
OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[RawServer, Client]]]:
    """Starts a server with a script; the server, and a client that waits much longer than any of them takes."""
    servers: list[RawServer] = []

    def start(script: Callable[[socket.socket], None] | str, **options: float) -> tuple[RawServer, Client]:
        server = RawServer(answers(script) if isinstance(script, str) else script).__enter__()
        servers.append(server)
        options = {"connect_timeout": 20.0, "read_timeout": 20.0, **options}
        return server, Client(Origin.of(server.url), **options)

    yield start
    for server in servers:
        server.__exit__()


Serve = Callable[..., tuple[RawServer, Client]]
#: Of a client that is to give up soon.
SOON = {"connect_timeout": 1.0, "read_timeout": 0.5}


@pytest.mark.parametrize(
    ("text", "body"),
    [
        (OK, b"ok"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\no\r\n1\r\nk\r\n0\r\nA: b\r\n\r\n", b"ok"),
        ("HTTP/1.1 204 No Content\r\n\r\n", b""),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b""),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK, b"ok"),
        ("HTTP/1.1 200\r\ncontent-length:2  \r\n\r\nok", b"ok"),
    ],
)
def test_every_framing_is_understood(serve: Serve, text: str, body: bytes) -> None:
    """RFC 9112, section 6.3; and the connection stays usable, because its end was found."""
    server, client = serve(answers(text, OK))
    assert client.request(GET, "GET").body == body
    assert client.request(GET, "GET").body == b"ok"
    assert server.connections == 1


def test_a_body_may_end_with_the_connection(serve: Serve) -> None:
    """An answer without a length: read to the end; the connection is not used again."""

    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\nall of it")

    server, client = serve(script)
    for _ in range(2):
        assert client.request(GET, "GET").body == b"all of it"
    assert server.connections == 2


def test_what_nobody_asked_for_answers_nothing(serve: Serve) -> None:
    """A second answer behind the first is not taken for that to the next request: its connection is dropped."""

    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(f"{OK}HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother".encode())
        read_request(sock)

    server, client = serve(script)
    for _ in range(2):
        assert client.request(GET, "GET").body == b"ok"
    assert server.connections == 2


@pytest.mark.parametrize("text", ["²", "soon", "Tue, 14 Nov 99999999999999999999 22:13:20 GMT", ""])
def test_no_time_to_wait_is_made_of_what_is_none(text: str) -> None:
    """Whatever a server writes into Retry-After."""
    assert seconds_to_wait(text) is None


def test_an_answer_may_come_byte_by_byte(serve: Serve) -> None:
    """However the network cuts it."""

    def script(sock: socket.socket) -> None:
        read_request(sock)
        for byte in ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + OK).encode():
            sock.sendall(bytes([byte]))
        read_request(sock)

    server, client = serve(script)
    first, second = client.exchange(GET + GET, ("GET", "GET"))
    assert (first.body, second.body) == (b"abc", b"ok")
    assert server.connections == 1


def test_head_has_a_length_and_no_body(serve: Serve) -> None:
    """Its Content-Length is the file's."""
    _, client = serve(answers("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", OK))
    assert client.request(HEAD, "HEAD").length == 1000
    assert client.request(GET, "GET").body == b"ok"


@pytest.mark.parametrize(
    "text",
    [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        f"HTTP/1.1 200 OK\r\nContent-Length: {'9' * 5000}\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot hex\r\n",
        "HTTP/1.1 200 OK\r\nX: " + "x" * 70_000 + "\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
    ],
)
def test_a_broken_answer_is_no_answer(serve: Serve, text: str) -> None:
    """Nothing is made of it, and its connection is dropped."""
    _, client = serve(text, **SOON)
    with pytest.raises(NoAnswer) as caught:
        client.request(GET, "GET")
    assert caught.value.sent
    assert pool_of(client.origin).take(look=False) is None
    assert "127.0.0.1" in str(caught.value)


def test_silence_is_told_from_refusal(serve: Serve) -> None:
    """Nothing sent, or sent and not answered: only the second may still take effect."""
    refused = Client(Origin("http", "127.0.0.1", free_port()), connect_timeout=1)
    with pytest.raises(NotConnected):
        refused.request(GET, "GET")
    _, silent = serve(lambda sock: time.sleep(30), **SOON)
    begun = time.monotonic()
    with pytest.raises(NoAnswer) as caught:
        silent.request(GET, "GET")
    assert caught.value.sent
    assert not caught.value.stale
    assert 0.4 < time.monotonic() - begun < 10


def test_an_answer_that_drips_is_given_up(serve: Serve) -> None:
    """Each byte in time is not enough: the whole head has a limit."""

    def script(sock: socket.socket) -> None:
        read_request(sock)
        for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100:
            sock.sendall(bytes([byte]))
            time.sleep(0.1)

    _, client = serve(script, **SOON)
    begun = time.monotonic()
    with pytest.raises(NoAnswer):
        client.request(GET, "GET")
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("pause", [0.0, 0.1, 0.3])
def test_an_answer_that_is_never_final_is_given_up(serve: Serve, pause: float) -> None:
    """102 Processing again and again, each in time: no server holds a worker forever."""

    def script(sock: socket.socket) -> None:
        read_request(sock)
        while True:
            sock.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
            time.sleep(pause)

    _, client = serve(script, **SOON)
    begun = time.monotonic()
    with pytest.raises(NoAnswer) as caught:
        client.request(b"PUT / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "PUT")
    assert caught.value.sent
    assert time.monotonic() - begun < 10


def test_a_body_that_drips_is_given_up(serve: Serve) -> None:
    """Below the minimum rate, a download ends in bounded time."""

    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            sock.sendall(b"x")
            time.sleep(0.05)

    _, client = serve(script, **SOON)
    begun = time.monotonic()
    with pytest.raises(NoAnswer), client.stream(GET) as (_, body):
        body.read()
    assert time.monotonic() - begun < 15


def test_a_server_that_hardly_reads_is_given_up(serve: Serve) -> None:
    """One byte a second is below any minimum rate: an upload ends in bounded time, and cannot take effect."""

    def script(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        while sock.recv(1):
            time.sleep(1)

    _, client = serve(script, **SOON)
    begun = time.monotonic()
    with pytest.raises(NoAnswer) as caught:
        client.upload(b"PUT / HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n", ZeroContent(100_000_000))
    assert time.monotonic() - begun < 15
    assert not caught.value.sent


def test_a_steady_upload_below_the_minimum_rate_is_given_up(serve: Serve) -> None:
    """Progress alone is not enough, either."""

    def script(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        while sock.recv(20_000):
            time.sleep(0.02)

    _, client = serve(script, min_rate=200e6, **SOON)
    begun = time.monotonic()
    with pytest.raises(NoAnswer):
        client.upload(b"PUT / HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n", ZeroContent(1_000_000_000))
    assert time.monotonic() - begun < 15


def test_an_answer_during_an_upload_is_heard(serve: Serve) -> None:
    """413 at the head: the reason, instead of a broken pipe; the rest is not sent, the connection not reused."""

    def script(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.05)
        sock.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        sock.recv(1)
        # To close now would take the answer away from a client that has not read it yet.
        time.sleep(5)

    server, client = serve(script)
    content = ZeroContent(100_000_000)
    head = b"PUT / HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n"
    assert client.upload(head, content).status == 413
    assert content.position < content.size
    assert client.upload(head, ZeroContent(100_000_000)).status == 413
    assert server.connections == 2


def test_a_connection_lost_within_an_upload_leaves_no_doubt(serve: Serve) -> None:
    """Not all bytes were sent: the server discards them."""

    def script(sock: socket.socket) -> None:
        read_head(sock)
        sock.recv(100_000)

    server, client = serve(script)
    with pytest.raises(NoAnswer) as caught:
        client.upload(b"PUT / HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n", ZeroContent(100_000_000))
    assert not caught.value.sent
    assert server.connections == 1


def test_the_last_bytes_wait_for_the_end_of_the_content(serve: Serve) -> None:
    """A content that turns out longer was changed meanwhile: what the server has is incomplete."""
    got: list[bytes] = []

    def script(sock: socket.socket) -> None:
        read_head(sock)
        while data := sock.recv(65536):
            got.append(data)

    server, client = serve(script)
    with pytest.raises(LocalChanged):
        client.upload(b"PUT / HTTP/1.1\r\n\r\n", BytesContent(bytes(3_000_001), size=3_000_000))
    server.wait_until_closed(1)
    assert 0 < sum(map(len, got)) < 3_000_000


def test_a_stale_connection_is_retried_once(serve: Serve) -> None:
    """Closed by the server while idle: what changes nothing is sent again on a new one."""

    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(OK.encode())

    server, client = serve(script)
    for _ in range(3):
        assert client.request(GET, "GET").body == b"ok"
        with client.stream(GET) as (_, body):
            assert body.read() == b"ok"
    assert server.connections == 6


def _upload(client: Client) -> object:
    return client.upload(b"PUT / HTTP/1.1\r\nContent-Length: 4\r\n\r\n", BytesContent(b"data"))


def _sending(method: str) -> Callable[[Client], object]:
    return lambda client: client.request(f"{method} / HTTP/1.1\r\nHost: t\r\n\r\n".encode(), method)


@pytest.mark.parametrize("send", [_upload, *map(_sending, ("PUT", "DELETE", "MOVE", "MKCOL"))])
def test_a_change_is_never_sent_twice(serve: Serve, send: Callable[[Client], object]) -> None:
    """Promise 2: read whole and not answered, it may take effect later, after whatever follows."""
    got: list[str] = []

    def script(sock: socket.socket) -> None:
        got.append(read_request(sock)[0])
        sock.sendall(OK.encode())
        got.append(read_request(sock)[0])

    server, client = serve(script)
    client.request(GET, "GET")
    with pytest.raises(NoAnswer) as caught:
        send(client)
    assert caught.value.sent
    assert len(got) == 2
    assert server.connections == 1


@pytest.mark.parametrize("send", [_upload, *map(_sending, ("PUT", "DELETE", "MOVE", "MKCOL"))])
def test_a_connection_closed_while_idle_costs_a_change_nothing(
    serve: Serve, send: Callable[[Client], object]
) -> None:
    """The socket is looked at before: a moment after the close, too."""

    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(OK.encode())

    server, client = serve(script)
    for connections in (1, 2, 3):
        send(client)
        server.wait_until_closed(connections)
        assert server.connections == connections


def test_a_fresh_connection_is_not_retried(serve: Serve) -> None:
    """Nothing says that it was not the request that made the server close it."""

    def script(sock: socket.socket) -> None:
        read_request(sock)

    server, client = serve(script)
    with pytest.raises(NoAnswer) as caught:
        client.request(GET, "GET")
    assert caught.value.sent
    assert server.connections == 1


def test_silence_on_a_reused_connection_is_not_retried(serve: Serve) -> None:
    """It may be at work: two requests could then take effect in either order."""
    server, client = serve(OK, read_timeout=3.0)
    client.request(GET, "GET")
    with pytest.raises(NoAnswer):
        client.request(GET, "GET")
    assert server.connections == 1


def test_a_close_is_respected(serve: Serve) -> None:
    """What a server closes is not kept; a request sent along has no answer."""

    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nok")

    server, client = serve(script)
    for _ in range(2):
        assert [answer.status for answer in client.exchange(GET + HEAD, ("GET", "HEAD"))] == [200]
    assert server.connections == 2


def test_a_fork_shares_no_connection(serve: Serve) -> None:
    """Two processes never talk over one connection."""
    server, client = serve(answers(*[OK] * 5))
    client.request(GET, "GET")
    child = os.fork()
    if not child:
        status = 1
        try:
            status = 0 if client.request(GET, "GET").body == b"ok" else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert client.request(GET, "GET").body == b"ok"
    assert server.connections == 2


def test_an_old_connection_is_not_used(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was idle for long is about to be closed."""
    server, client = serve(answers(OK, OK))
    client.request(GET, "GET")
    monkeypatch.setattr("replicator.targets.httppool.MAX_IDLE_SECONDS", 0.0)
    client.request(GET, "GET")
    assert server.connections == 2


def test_a_change_does_not_meet_the_end_of_an_idle_connection(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may close it just then, and leave a doubt. What changes nothing uses it: it can be sent again."""
    server, client = serve(answers(OK, OK, OK))
    monkeypatch.setattr("replicator.targets.httppool.MAX_IDLE_BEFORE_CHANGE", 0.0)
    for _ in range(2):
        client.request(GET, "GET")
    assert server.connections == 1
    _upload(client)
    assert server.connections == 2


def test_a_stream_left_early_drops_its_connection(serve: Serve) -> None:
    """What was not read would be taken for the next answer."""
    text = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789"
    server, client = serve(answers(text, OK))
    with client.stream(GET) as (_, body):
        assert body.read(3) == b"012"
    with client.stream(GET) as (_, body):
        assert body.read(3) + body.read() + body.read() == b"0123456789"
    assert client.request(GET, "GET").body == b"ok"
    assert server.connections == 2
