"""One HTTP/1.1 connection: requests out, answers in.

Not ``http.client``: it parses header fields as an e-mail's, which costs more than all else that delivering a
small file does. Not a general client either: no redirects, no cookies, no compression, HTTP/1.1 only (RFC 9112).
"""

from __future__ import annotations

import re
import select
import socket
import ssl
from time import monotonic

from replicator.errors import LocalChanged
from replicator.targets.base import Content
from replicator.targets.httpanswer import MAX_HEAD, Answer, Body, Chunked, NoAnswer, Patience

#: Bytes of content read and sent at once, and bytes received at once.
CHUNK, PIECE = 1024 * 1024, 256 * 1024
#: The most that is kept of an answer's body, unless it is streamed.
MAX_BODY = 64 * 1024
#: A Content-Length that is one, and that databases hold.
LENGTH = re.compile(rb"[0-9]{1,18}")
#: Bytes per second, below which such a body is given up; servers send less than a kilobyte.
BODY_RATE = 16 * 1024


class Connection:
    """A connected socket. Used by one thread at a time; closed by whoever meets an exception."""

    __slots__ = ("_buffer", "_heard", "idle_since", "keep", "pid", "sock", "timeout", "where")

    def __init__(self, sock: socket.socket, where: str, timeout: float, pid: int) -> None:
        self.sock = sock
        #: Host and port, for messages.
        self.where = where
        #: Seconds that a send or the first byte of an answer may take.
        self.timeout = timeout
        self.pid = pid
        self.idle_since = 0.0
        #: Whether another request may follow.
        self.keep = True
        self._buffer = b""
        self._heard = False

    def close(self) -> None:
        self.keep = False
        self.sock.close()

    @property
    def said_more(self) -> bool:
        """Whether bytes came that no answer had announced."""
        return bool(self._buffer)

    def set_timeout(self, seconds: float) -> None:
        if seconds != self.timeout:
            self.timeout = seconds
            self.sock.settimeout(seconds)

    def is_alive(self) -> bool:
        """False if the server closed it, or spoke unasked, while it was idle."""
        if self._buffer:
            return False
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        if not poll.poll(0):
            return True
        if not isinstance(self.sock, ssl.SSLSocket):
            return False
        # What came may be a session ticket only, which reading takes in: anything else ends this connection.
        try:
            self.sock.settimeout(0)
            self.sock.recv(1)
        except ssl.SSLWantReadError:
            self.sock.settimeout(self.timeout)
            return True
        except OSError:
            pass
        return False

    def exchange(self, requests: bytes, methods: tuple[str, ...]) -> list[Answer]:
        """Send whole *requests*, one for each of *methods*, and read their answers.

        Fewer answers than requests mean that the server closes the connection after the last one given.
        """
        self._heard = False
        try:
            self.sock.sendall(requests)
        except TimeoutError:
            raise NoAnswer(f"{self.where} took nothing for {self.timeout:g} s") from None
        except OSError:
            # It may have answered before it stopped reading. Reading tells.
            self.keep = False
        answers: list[Answer] = []
        for method in methods:
            try:
                answers.append(self._answer(method))
            except NoAnswer as error:
                error.answers = answers
                raise
            if not self.keep:
                break
        return answers

    def upload(self, head: bytes, content: Content, rate: float) -> Answer:
        """Send *head*, then ``content.size`` bytes; read the answer, which may come before all is sent.

        What ``content.read`` raises leaves the connection unusable and the request incomplete, so that the
        server discards it. The last bytes go out only when the content is at its end.
        """
        self._heard = False
        self.keep = False
        patience = Patience(self.timeout, rate)
        left = content.size
        data = head
        self.sock.settimeout(0)
        poll = select.poll()
        poll.register(self.sock, select.POLLIN | select.POLLOUT)
        while left:
            chunk = content.read(min(CHUNK, left))
            left -= len(chunk)
            if not chunk or left < 0 or (not left and content.read(1)):
                raise LocalChanged(f"the content is not the {content.size} bytes that it was said to be")
            if not self._push(poll, data + chunk if data else chunk, patience, last=not left):
                break
            data = b""
        else:
            if not data or self._push(poll, data, patience, last=True):
                self.keep = True
        self.sock.settimeout(self.timeout)
        return self._answer("PUT", sent=not left)

    def begin(self, request: bytes, method: str, rate: float) -> tuple[Answer, Body]:
        """Send one request; its answer with the body still to be read, before anything else."""
        self._heard = False
        try:
            self.sock.sendall(request)
        except TimeoutError:
            raise NoAnswer(f"{self.where} took nothing for {self.timeout:g} s") from None
        except OSError:
            self.keep = False
        answer = self._head()
        return answer, self._body(method, answer, Patience(self.timeout, rate))

    def _push(self, poll: select.poll, data: bytes, patience: Patience, *, last: bool) -> bool:
        """Send all of *data*. False if an answer, or the end, comes first."""
        view = memoryview(data)
        while view:
            wait, begun = patience.left(), monotonic()
            events = poll.poll(wait * 1000) if wait > 0 else []
            patience.waited += monotonic() - begun
            if not events:
                raise NoAnswer(f"{self.where} took too little of the body in time", sent=last)
            try:
                if events[0][1] & ~select.POLLOUT and self._listen():
                    return False
                count = self.sock.send(view)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                continue
            except OSError:
                return False
            patience.moved += count
            view = view[count:]
        return True

    def _listen(self) -> bool:
        """Whether the server says something that ends the sending. The socket does not block."""
        try:
            data = self.sock.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        self._buffer += data
        self._heard = self._heard or bool(data)
        # 100 Continue, which we did not ask for, ends nothing.
        while self._buffer.startswith(b"HTTP/1.1 1") and (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            self._buffer = self._buffer[end + 4 :]
        return bool(self._buffer) or not data

    def _answer(self, method: str, *, sent: bool = True) -> Answer:
        """The next answer with its body."""
        answer = self._head(sent=sent)
        status = answer.status
        if method == "HEAD" or status == 204 or status == 304 or answer.headers.get(b"content-length") == b"0":
            return answer
        body = self._body(method, answer, Patience(self.timeout, BODY_RATE))
        answer.body = body.read(MAX_BODY)
        if not body.ended:
            self.keep = False
        return answer

    def _head(self, *, sent: bool = True) -> Answer:
        """Status line and header fields of the next answer that is final (RFC 9110, section 15.2)."""
        deadline = 0.0
        while True:
            data = self._buffer
            while (end := data.find(b"\r\n\r\n")) < 0:
                if len(data) > MAX_HEAD:
                    raise NoAnswer(f"{self.where} sent a head of more than {MAX_HEAD} bytes", sent=sent)
                # The clock is looked at only if the head comes in pieces, or after another.
                if data or deadline:
                    deadline = self._in_time(deadline, sent=sent)
                data += self._recv(sent=sent)
            self._buffer = data[end + 4 :]
            answer = self._parse(data[:end], sent=sent)
            if answer.status >= 200:
                return answer
            # 102 Processing can go on forever: one time limit for all that is not final.
            deadline = self._in_time(deadline, sent=sent)

    def _in_time(self, deadline: float, *, sent: bool) -> float:
        """*deadline*, which is still ahead; 0: it starts now."""
        now = monotonic()
        if deadline and now > deadline:
            raise NoAnswer(f"{self.where} did not end its answer in {self.timeout:g} s", sent=sent)
        return deadline or now + self.timeout

    def _parse(self, head: bytes, *, sent: bool) -> Answer:
        lines = head.split(b"\r\n")
        start = lines[0]
        if start[:7] != b"HTTP/1." or start[8:9] != b" " or not start[9:12].isdigit():
            raise NoAnswer(f"{self.where} does not speak HTTP/1.1", sent=sent)
        headers: dict[bytes, bytes] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            name = name.lower()
            value = value.strip()
            if not colon:
                raise NoAnswer(f"{self.where} sent a broken header field", sent=sent)
            # Who sent two lengths is not to be trusted with where the next answer starts (RFC 9112, section 11.2).
            if name == b"content-length" and not (LENGTH.fullmatch(value) and headers.get(name, value) == value):
                raise NoAnswer(f"{self.where} sent a broken Content-Length", sent=sent)
            if name in headers and name != b"content-length":
                value = headers[name] + b", " + value
            headers[name] = value
        if start[7:8] == b"0":
            self.keep = self.keep and headers.get(b"connection", b"").lower() == b"keep-alive"
        elif b"close" in headers.get(b"connection", b"").lower():
            self.keep = False
        return Answer(int(start[9:12]), headers)

    def _body(self, method: str, answer: Answer, patience: Patience) -> Body:
        """How long the body is: RFC 9112, section 6.3."""
        if method == "HEAD" or answer.status in (204, 304):
            return Body(self, 0, patience)
        if b"chunked" in answer.headers.get(b"transfer-encoding", b"").lower():
            return Chunked(self, patience)
        return Body(self, answer.length, patience)

    def _recv(self, *, sent: bool = True) -> bytes:
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            raise NoAnswer(f"{self.where} did not answer in {self.timeout:g} s", sent=sent) from None
        except OSError as error:
            reason = error.strerror or type(error).__name__
            message = f"the connection to {self.where} was lost: {reason}"
            raise NoAnswer(message, sent=sent, stale=not self._heard) from None
        if not data:
            raise NoAnswer(f"{self.where} closed the connection", sent=sent, stale=not self._heard)
        self._heard = True
        return data

    def more(self, patience: Patience) -> bytes:
        """Bytes of a body: what is there, or else what comes next. Empty at the end of the connection."""
        data = self._buffer
        if data:
            self._buffer = b""
        else:
            wait, begun = patience.left(), monotonic()
            try:
                if wait <= 0:
                    raise TimeoutError  # noqa: TRY301 - the same end as the socket's own
                self.sock.settimeout(wait)
                data = self.sock.recv(PIECE)
            except TimeoutError:
                raise NoAnswer(f"{self.where} sent too little of the body in time") from None
            except OSError as error:
                raise NoAnswer(f"the connection to {self.where} was lost: {error.strerror}") from None
            finally:
                patience.waited += monotonic() - begun
                if self.sock.fileno() >= 0:
                    self.sock.settimeout(self.timeout)
        patience.moved += len(data)
        return data

    def put_back(self, data: bytes) -> None:
        """What was read beyond an end."""
        self._buffer = data + self._buffer
