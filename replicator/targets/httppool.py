"""Kept-alive connections, shared by all threads of a process, and the client that uses them."""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from time import monotonic
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from replicator.targets.base import Content
from replicator.targets.http import Connection
from replicator.targets.httpanswer import Answer, Body, NoAnswer, NotConnected

T = TypeVar("T")

#: Methods that change nothing (RFC 9110, section 9.2.1): only these are ever sent again.
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "PROPFIND"})
#: Seconds. Servers close idle connections after 60 (nginx) or 5 (lighttpd, Apache): a look covers the rest.
MAX_IDLE_SECONDS = 25.0
#: The same, for a request that changes something: a server that closes the connection just as it comes leaves a
#: doubt, and a busy one does so with what it has not read yet. Less than the usual 5.
MAX_IDLE_BEFORE_CHANGE = 4.0
#: From this age on, a look at the socket before it is used is cheaper than finding out by sending.
LOOK_AFTER_SECONDS = 1.0
#: Idle connections kept per origin.
MAX_IDLE = 64


@dataclass(frozen=True, slots=True)
class TLS:
    """How to trust a server, and how to be trusted: paths of PEM files; empty: the system's, and none."""

    ca_bundle: str = ""
    client_cert: str = ""
    client_key: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections go; those of one origin are interchangeable (RFC 9110, section 4.3.1)."""

    scheme: str
    host: str
    port: int
    tls: TLS = TLS()

    @classmethod
    def of(cls, url: str, tls: TLS = TLS()) -> Origin:
        """Raises ``ValueError`` if *url* is not one of http or https with a host."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not a URL that starts with http:// or https:// and a host")
        return cls(parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80), tls)

    @property
    def netloc(self) -> str:
        """As the Host field has it: the port only if it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"http": 80, "https": 443}.get(self.scheme)
        return host if self.port == usual else f"{host}:{self.port}"

    def place(self, path: str) -> str:
        """Host and *path* (percent-encoded): equal for what is one place, also by http and by https."""
        return f"//{self.netloc}{unquote(path)}"

    def connect(self, connect_timeout: float, timeout: float) -> Connection:
        """A new connection. Raises ``NotConnected``."""
        where = f"{self.host}:{self.port}"
        try:
            sock = socket.create_connection((self.host, self.port), timeout=connect_timeout)
        except TimeoutError:
            raise NotConnected(f"{where} could not be connected to in {connect_timeout:g} s") from None
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise NotConnected(f"{where} could not be connected to: {reason}") from None
        try:
            # A head and a body that go out in two segments must not wait for each other.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(*AT_ONCE)
            if self.scheme == "https":
                sock = _context(self.tls).wrap_socket(sock, server_hostname=self.host)
            sock.settimeout(timeout)
        except ssl.SSLCertVerificationError as error:
            sock.close()
            raise NotConnected(f"the certificate of {where} is not trusted: {error.verify_message}") from None
        except OSError as error:
            sock.close()
            raise NotConnected(f"{where}: no TLS: {getattr(error, 'reason', None) or error}") from None
        return Connection(sock, where, timeout, os.getpid())


@cache
def _context(tls: TLS) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca_bundle or None)
    if tls.client_cert:
        context.load_cert_chain(tls.client_cert, tls.client_key or None)
    return context


#: A socket option: closing it, also by a kill, drops what was not acknowledged. Else the kernel goes on sending for
#: minutes: an older version could land when a network is back, after any doubt window.
AT_ONCE = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Pool:
    """The idle connections to one origin, the youngest first: the oldest get old enough to be dropped."""

    def __init__(self) -> None:
        # Appending to and popping from a deque is atomic: no lock.
        self._idle: deque[Connection] = deque(maxlen=MAX_IDLE)

    def take(self, *, look: bool) -> Connection | None:
        """An idle connection that can be used; *look*: make sure, for a request that changes something."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            age = monotonic() - connection.idle_since
            # The parent's connections: two processes must not talk over one.
            usable = connection.pid == os.getpid() and age < (MAX_IDLE_BEFORE_CHANGE if look else MAX_IDLE_SECONDS)
            if usable and (not (look or age > LOOK_AFTER_SECONDS) or connection.is_alive()):
                return connection
            connection.close()

    def give(self, connection: Connection) -> None:
        connection.idle_since = monotonic()
        if len(self._idle) >= MAX_IDLE:
            with contextlib.suppress(IndexError):
                self._idle.popleft().close()
        self._idle.append(connection)

    def clear(self) -> None:
        while True:
            try:
                self._idle.popleft().close()
            except IndexError:
                return


_pools: dict[Origin, Pool] = {}


def pool_of(origin: Origin) -> Pool:
    """The process's pool of connections to *origin*."""
    return _pools.setdefault(origin, Pool())


@atexit.register
def close_all() -> None:
    """Drop the idle connections of this process."""
    for pool in list(_pools.values()):
        pool.clear()


class Client:
    """Requests to one origin. Used by several threads at once.

    Before a request that changes something goes out over a kept connection, the socket is looked at: one that the
    server closed while it was idle is replaced. Such a request is never sent twice, since the first could still
    take effect after all that follows. One that changes nothing may be, once, over a new connection.
    No method raises anything but ``NotConnected``, ``NoAnswer`` and what the content raises.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        connect_timeout: float = 5.0,
        read_timeout: float = 30.0,
        min_rate: float = 64 * 1024,
    ) -> None:
        self.origin = origin
        self.connect_timeout = connect_timeout
        #: Seconds that a server may be silent, or take nothing.
        self.read_timeout = read_timeout
        #: Bytes per second, below which a transfer is given up.
        self.min_rate = min_rate
        self._pool = pool_of(origin)

    def exchange(self, requests: bytes, methods: tuple[str, ...]) -> list[Answer]:
        """Send one or more whole requests at once; their answers (see ``Connection.exchange``)."""
        connection, answers = self._use(
            lambda connection: connection.exchange(requests, methods), changes=not SAFE.issuperset(methods)
        )
        self._release(connection)
        return answers

    def request(self, request: bytes, method: str) -> Answer:
        """One request without a streamed body; its answer."""
        return self.exchange(request, (method,))[0]

    def upload(self, head: bytes, content: Content) -> Answer:
        """Send *head* and stream the content; the answer."""
        connection, answer = self._use(
            lambda connection: connection.upload(head, content, self.min_rate), changes=True
        )
        self._release(connection)
        return answer

    @contextlib.contextmanager
    def stream(self, request: bytes) -> Iterator[tuple[Answer, Body]]:
        """One GET; its answer, with the body to be read within the block."""
        connection, (answer, body) = self._use(
            lambda connection: connection.begin(request, "GET", self.min_rate), changes=False
        )
        try:
            yield answer, body
        except BaseException:
            connection.close()
            raise
        if not body.ended:
            connection.keep = False
        self._release(connection)

    def close(self) -> None:
        """Drop the idle connections to this origin."""
        self._pool.clear()

    def _use(self, use: Callable[[Connection], T], *, changes: bool) -> tuple[Connection, T]:
        """What *use* makes of a connection, and that connection."""
        connection = self._pool.take(look=changes)
        if connection is not None:
            try:
                connection.set_timeout(self.read_timeout)
                return connection, use(connection)
            except NoAnswer as error:
                connection.close()
                if changes or not error.stale:
                    raise
            except BaseException:
                connection.close()
                raise
        connection = self.origin.connect(self.connect_timeout, self.read_timeout)
        try:
            return connection, use(connection)
        except BaseException:
            connection.close()
            raise

    def _release(self, connection: Connection) -> None:
        # What is left over would be taken for the start of the next answer.
        if connection.keep and not connection.said_more:
            self._pool.give(connection)
        else:
            connection.close()
