"""A server that does exactly what a test says, byte by byte."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

Script = Callable[[socket.socket], None]


class RawServer:
    """Runs *script* with each connection, in a thread of its own. ``requests``: what ``read_request`` read."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections = 0
        #: Of these, those whose script is through.
        self.closed = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                self._open.append(sock)
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            with suppress(OSError, EOFError), sock:
                self.script(sock)
        finally:
            self.closed += 1

    def wait_until_closed(self, connections: int) -> None:
        """Until the server has closed so many."""
        end = time.monotonic() + 60
        while self.closed < connections:
            assert time.monotonic() < end
            time.sleep(0.01)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone does not wake who waits in accept.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._open:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)


def read_head(sock: socket.socket) -> bytes:
    """One request's head, and not a byte more."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            raise EOFError
        data += byte
    return data


def read_request(sock: socket.socket) -> tuple[str, str, bytes]:
    """Method, path and body of one request."""
    head = read_head(sock)
    method, path, _ = head.decode().split(" ", 2)
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    body = b""
    while len(body) < length:
        data = sock.recv(min(65536, length - len(body)))
        if not data:
            raise EOFError
        body += data
    return method, path, body


def answers(*texts: str) -> Script:
    """One connection after another gets these answers, one for each request; then it waits."""

    def script(sock: socket.socket) -> None:
        for text in texts:
            read_request(sock)
            sock.sendall(text.encode())
        read_request(sock)
        threading.Event().wait(30)

    return script
