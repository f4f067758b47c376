"""A client that knows nothing, for looking at what the test MogileFS does."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable
from urllib.parse import parse_qsl, quote, urlsplit

from tests.mogilefs.cluster import MogileFS


class Client:
    """One connection to a tracker."""

    def __init__(self, mogilefs: MogileFS, tracker: int = 0, patience: float = 30.0) -> None:
        self.sock = socket.create_connection(("127.0.0.1", mogilefs.tracker_ports[tracker]), timeout=patience)
        self.stream = self.sock.makefile("rb")

    def ask(self, request: str) -> str:
        """The answer; empty: the connection ended."""
        self.sock.sendall(f"{request}\r\n".encode())
        return self.stream.readline().decode().removesuffix("\r\n")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        self.sock.close()


def ask(mogilefs: MogileFS, request: str, tracker: int = 0, patience: float = 30.0) -> str:
    with Client(mogilefs, tracker, patience) as client:
        return client.ask(request)


def fields(answer: str) -> dict[str, str]:
    assert answer.startswith("OK "), answer
    return dict(parse_qsl(answer[3:], keep_blank_values=True))


def put(url: str, content: bytes, **headers: str) -> int:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.netloc, timeout=30)
    try:
        connection.request("PUT", where.path, content, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def get(url: str, patience: float = 30.0) -> tuple[int, bytes]:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.netloc, timeout=patience)
    try:
        connection.request("GET", where.path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def uploaded(mogilefs: MogileFS, key: str = "k", content: bytes = b"hello", kind: str = "thumb") -> str:
    """The request that closes what was uploaded."""
    opened = fields(ask(mogilefs, f"create_open domain=testdomain&key={key}&class={kind}&multi_dest=1"))
    assert put(opened["path_1"], content) == 200
    place = f"fid={opened['fid']}&devid={opened['devid_1']}&path={quote(opened['path_1'])}"
    return f"create_close domain=testdomain&key={key}&{place}&size={len(content)}"


def eventually(holds: Callable[[], bool], within: float = 60.0) -> None:
    """Wait until it does."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
