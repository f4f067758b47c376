"""Asking MogileFS trackers: one line out, one line in."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic
from urllib.parse import quote_plus, unquote_to_bytes

from replicator.targets.http import Connection
from replicator.targets.httpanswer import NoAnswer, NotConnected
from replicator.targets.httppool import Origin, pool_of

#: The longest line that is taken; 1,000 keys of 255 bytes, all escaped, are less than a megabyte.
MAX_LINE = 16 * 1024 * 1024
#: Seconds for which who did not answer is asked only after the others.
ASIDE_SECONDS = 30.0
PORT = 7001


class TrackerError(Exception):
    """A tracker said ERR. Only the *code* is to be trusted: the text may be an older error's."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class NoTracker(Exception):
    """No tracker answered. ``sent``: one may have taken the request, so that it can still take effect."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class Aside:
    """Who did not answer of late, shared by all threads: asked after the others. Its time over, one thread tries."""

    def __init__(self, seconds: float = ASIDE_SECONDS) -> None:
        self._seconds = seconds
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()

    def put(self, name: str) -> None:
        self._until[name] = monotonic() + self._seconds

    def clear(self, name: str) -> None:
        self._until.pop(name, None)

    def holds(self, name: str) -> bool:
        """Whether *name* said nothing of late."""
        return self._until.get(name, 0.0) > monotonic()

    def last(self, names: Iterable[str]) -> list[str]:
        """*names* in their order, but those that are aside at the end. One whose time is over is tried again, by
        whoever comes first: it is aside for the others until that one has its answer."""
        now = monotonic()
        with self._lock:
            good: list[str] = []
            bad: list[str] = []
            for name in names:
                until = self._until.get(name)
                if until is not None and until <= now:
                    self._until[name] = now + self._seconds
                    good.append(name)
                else:
                    (good if until is None else bad).append(name)
        return good + bad


class Trackers:
    """The trackers of one MogileFS: they share a database, so that each can answer everything.

    They are asked in the order given; one that does not answer is put aside for a while. Used by several threads
    at once, each request over a kept connection of its own. *connect_timeout*, *read_timeout* (until the whole line
    is there): seconds.
    """

    def __init__(self, addresses: Sequence[str], *, connect_timeout: float, read_timeout: float) -> None:
        self.connect_timeout = connect_timeout
        self.read_timeout = read_timeout
        self._origins = {address: _origin(address) for address in addresses}
        self._aside = Aside()

    @property
    def netlocs(self) -> set[str]:
        """Host and port of each."""
        return {origin.netloc for origin in self._origins.values()}

    @property
    def are_silent(self) -> bool:
        """Whether none of them answered of late: whoever has another way should take it."""
        return all(self._aside.holds(address) for address in self._origins)

    def ask(
        self, command: str, fields: Mapping[str, str | int], *, changes: bool = False, within: float | None = None
    ) -> dict[str, str]:
        """The fields of the answer. Raises ``TrackerError`` for ERR, ``NoTracker`` if none answers.

        *changes*: it could take effect later, so it goes to no second tracker once one may have taken it. *within*:
        seconds for all of it.
        """
        line = f"{command} {'&'.join(f'{name}={_escaped(value)}' for name, value in fields.items())}\r\n".encode()
        deadline = None if within is None else monotonic() + within
        reasons: list[str] = []
        waiting = self._aside.last(self._origins)
        kept = True
        while waiting:
            address = waiting.pop(0)
            # Those that come after are to have their share of the time.
            share = float("inf") if deadline is None else (deadline - monotonic()) / (len(waiting) + 1)
            if share <= 0:
                break
            try:
                answer = self._ask(address, line, share, kept=kept)
            except NotConnected as error:
                reasons.append(str(error))
            except NoAnswer as error:
                if changes:
                    self._aside.put(address)
                    raise NoTracker(f"{command}: {error}", sent=True) from None
                reasons.append(str(error))
                if error.stale and kept:
                    # It may have been restarted, and this the end of what was connected before: once more, last.
                    kept = False
                    waiting.append(address)
                    continue
            else:
                self._aside.clear(address)
                return _parsed(answer)
            self._aside.put(address)
        raise NoTracker(f"{command}: no tracker answers ({'; '.join(dict.fromkeys(reasons))})", sent=False)

    def close(self) -> None:
        """Drop the idle connections."""
        for origin in self._origins.values():
            pool_of(origin).clear()

    def _ask(self, address: str, line: bytes, seconds: float, *, kept: bool) -> bytes:
        pool = pool_of(self._origins[address])
        connection = pool.take(look=True) if kept else None
        if connection is None:
            patience = min(self.connect_timeout, seconds)
            connection = self._origins[address].connect(patience, self.read_timeout)
        try:
            answer = _exchange(connection, line, monotonic() + min(self.read_timeout, seconds))
        except BaseException:
            connection.close()
            raise
        if connection.keep:
            pool.give(connection)
        else:
            connection.close()
        return answer


def numbered(answer: dict[str, str], name: str, count: str) -> list[str]:
    """``name1``, ``name2``, …: as many as the field *count* says, in the order of their numbers."""
    number = answer.get(count, "0")
    wanted = (f"{name}{index}" for index in range(1, int(number) + 1)) if number.isdigit() else ()
    return [answer[field] for field in wanted if field in answer]


def _exchange(connection: Connection, line: bytes, deadline: float) -> bytes:
    """Send a line; the line that comes back, without its end."""
    sock, where = connection.sock, connection.where
    data = b""
    try:
        sock.settimeout(max(0.001, deadline - monotonic()))
        try:
            sock.sendall(line)
        except TimeoutError:
            raise
        except OSError:
            connection.keep = False  # it may have answered before it closed: reading tells
        while b"\n" not in data:
            if len(data) > MAX_LINE:
                raise NoAnswer(f"{where} sent a line of more than {MAX_LINE} bytes")
            left = deadline - monotonic()
            if left <= 0:
                raise TimeoutError  # noqa: TRY301 - the same end as the socket's own
            sock.settimeout(left)
            more = sock.recv(65536)
            if not more:
                raise NoAnswer(f"{where} closed the connection", stale=not data)
            data += more
    except TimeoutError:
        raise NoAnswer(f"{where} did not answer in time") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise NoAnswer(f"the connection to {where} was lost: {reason}", stale=not data) from None
    answer, _, rest = data.partition(b"\n")
    if rest:
        # A tracker can answer a failing rename twice: who goes on reading here takes the next answer for this one.
        connection.keep = False
    sock.settimeout(connection.timeout)
    if not answer.startswith((b"OK ", b"ERR ", b"OK\r")):
        raise NoAnswer(f"{where} does not speak as a tracker does")
    return answer.rstrip(b"\r")


def _parsed(answer: bytes) -> dict[str, str]:
    kind, _, rest = answer.partition(b" ")
    if kind == b"ERR":
        raise TrackerError(rest.partition(b" ")[0].decode("latin-1"))
    pairs = (pair.partition(b"=") for pair in rest.split(b"&") if pair)
    return {name.decode("latin-1"): _unescaped(value) for name, _, value in pairs}


def _escaped(value: str | int) -> str:
    """Form-encoded; the bytes of a key that is no UTF-8 stand for themselves, both ways."""
    return quote_plus(str(value).encode("utf-8", "surrogateescape"))


def _unescaped(value: bytes) -> str:
    return unquote_to_bytes(value.replace(b"+", b" ")).decode("utf-8", "surrogateescape")


def _origin(address: str) -> Origin:
    """Raises ``ValueError`` with what to write instead."""
    host, colon, port = address.rpartition(":")
    if not colon or (address.startswith("[") and address.endswith("]")):
        host, port = address, str(PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or "/" in address or "@" in address or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f'trackers has {address!r}: write host and port, as in "10.0.0.5:{PORT}"')
    return Origin("mogilefs", host, int(port))
