"""Reading HTTP requests from a socket: the head, then the body as it comes, never all of it at once."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

CHUNK = 512 * 1024
_HEAD_LIMIT = 64 * 1024

#: Valid until the next one is asked for.
Body = Iterator[memoryview]


class Disconnected(Exception):
    """The client has gone, or said nothing for too long."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    keep_alive: bool
    body: Body


def read_request(sock: socket.socket, buffer: bytearray) -> Request | None:
    """The next request; None at the end of the connection. *buffer* keeps what was read beyond it."""
    while (end := buffer.find(b"\r\n\r\n")) < 0:
        if len(buffer) > _HEAD_LIMIT:
            return None
        more = sock.recv(65536)
        if not more:
            return None
        buffer += more
    first, *lines = buffer[:end].decode("latin-1").split("\r\n")
    del buffer[: end + 4]
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    method, path, version, *_ = [*first.split(" "), "", "", ""]
    wish = headers.get("connection", "").lower()
    keep_alive = wish != "close" if version == "HTTP/1.1" else wish == "keep-alive"
    if headers.get("transfer-encoding", "").lower() == "chunked":
        if "100-continue" in headers.get("expect", ""):
            sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = _chunked(sock, buffer)
    else:
        # Without a length nothing is read: an empty file. "Expect" is never answered then.
        length = headers.get("content-length", "0")
        body = _counted(sock, buffer, int(length) if length.isdigit() else 0)
    return Request(method.upper(), path, headers, keep_alive, body)


def _counted(sock: socket.socket, buffer: bytearray, length: int) -> Body:
    if length and buffer:
        part = bytes(buffer[:length])
        del buffer[: len(part)]
        length -= len(part)
        yield memoryview(part)
    room = memoryview(bytearray(min(length, CHUNK)))
    while length:
        count = sock.recv_into(room, min(length, CHUNK))
        if not count:
            raise Disconnected
        length -= count
        yield room[:count]


def _chunked(sock: socket.socket, buffer: bytearray) -> Body:
    while True:
        size = int(_line(sock, buffer).partition(b";")[0], 16)
        yield from _counted(sock, buffer, size)
        if not size:
            while _line(sock, buffer):
                pass
            return
        _line(sock, buffer)


def _line(sock: socket.socket, buffer: bytearray) -> bytes:
    while (end := buffer.find(b"\r\n")) < 0:
        more = sock.recv(65536)
        if not more or len(buffer) > _HEAD_LIMIT:
            raise Disconnected
        buffer += more
    line = bytes(buffer[:end])
    del buffer[: end + 2]
    return line
