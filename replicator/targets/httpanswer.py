"""An HTTP/1.1 answer: its parts, its body as it comes in, and what can go wrong with it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from replicator.targets.http import Connection

#: The largest head of an answer; servers send about 300 bytes.
MAX_HEAD = 64 * 1024
#: RFC 9112, section 7.1.
CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")


class HTTPError(Exception):
    """No whole answer. Messages hold no more than host and port."""


class NotConnected(HTTPError):
    """No connection could be made: nothing was sent."""


class NoAnswer(HTTPError):
    """Something was sent, and no whole answer came.

    ``sent``: the request may have arrived whole, so that it can still take effect later.
    ``stale``: the server closed the connection before a single byte of an answer.
    ``answers``: the answers to requests before this one, where several were sent at once.
    """

    def __init__(self, message: str, *, sent: bool = True, stale: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        self.stale = stale
        self.answers: list[Answer] = []


@dataclass(slots=True)
class Answer:
    """Status, header fields by lower-case name, and the first ``MAX_BODY`` bytes of the body."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes = b""

    @property
    def length(self) -> int | None:
        """Content-Length, if it was sent; after HEAD, that of the file."""
        value = self.headers.get(b"content-length")
        return int(value) if value is not None else None

    def header(self, name: str) -> str:
        return self.headers.get(name.lower().encode(), b"").decode("latin-1")


@dataclass(slots=True)
class Patience:
    """How long a transfer may be waited for: *grace* seconds, and one more for each *rate* bytes that went over.

    Only waiting counts: who reads from here may take his time, and is none of the server's fault.
    """

    grace: float
    rate: float
    waited: float = 0.0
    moved: int = 0

    def left(self) -> float:
        """Seconds until it is given up."""
        return min(self.grace, self.grace + self.moved / self.rate - self.waited)


class Body:
    """A body of known length, or (None) one that ends with the connection. Truncated: ``NoAnswer``."""

    def __init__(self, connection: Connection, length: int | None, patience: Patience) -> None:
        self.connection = connection
        self.patience = patience
        self.left = length
        self.ended = length == 0
        if length is None:
            connection.keep = False

    def read(self, size: int = -1, /) -> bytes:
        """At most *size* bytes, fewer only at the end; all of them if it is negative."""
        parts: list[bytes] = []
        while size and not self.ended:
            data = self._next()
            if 0 <= size < len(data):
                self._unread(data[size:])
                data = data[:size]
            if size > 0:
                size -= len(data)
            parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _unread(self, data: bytes) -> None:
        self.connection.put_back(data)
        if self.left is not None:
            self.left += len(data)
        self.ended = False

    def _next(self) -> bytes:
        """Some bytes of the body."""
        data = self.connection.more(self.patience)
        if self.left is None:
            self.ended = not data
            return data
        if not data:
            raise NoAnswer(f"{self.connection.where} closed the connection within a body")
        if len(data) > self.left:
            self.connection.put_back(data[self.left :])
            data = data[: self.left]
        self.left -= len(data)
        self.ended = not self.left
        return data


class Chunked(Body):
    """A body in chunks (RFC 9112, section 7.1)."""

    def __init__(self, connection: Connection, patience: Patience) -> None:
        super().__init__(connection, 0, patience)
        self.ended = False
        self._first = True
        self._kept = b""

    def _unread(self, data: bytes) -> None:
        self._kept = data + self._kept

    def _next(self) -> bytes:
        if self._kept:
            data, self._kept = self._kept, b""
            return data
        if not self.left:
            if not self._first:
                self._line()
            self._first = False
            size = self._line().partition(b";")[0].strip()
            # Not all that Python takes for a number: -1, 1_0.
            if not CHUNK_SIZE.fullmatch(size):
                raise NoAnswer(f"{self.connection.where} sent a broken chunk")
            self.left = int(size, 16)
            if not self.left:
                while self._line():  # trailer fields
                    pass
                self.ended = True
                return b""
        data = super()._next()
        self.ended = False
        return data

    def _line(self) -> bytes:
        data = b""
        while (end := data.find(b"\r\n")) < 0:
            if len(data) > MAX_HEAD:
                raise NoAnswer(f"{self.connection.where} sent a broken chunk")
            more = self.connection.more(self.patience)
            if not more:
                raise NoAnswer(f"{self.connection.where} closed the connection within a body")
            data += more
        self.connection.put_back(data[end + 2 :])
        return data[:end]
