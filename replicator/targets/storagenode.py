"""Storing at and reading from MogileFS storage nodes, at the URLs that a tracker gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

from replicator.errors import Corrupt, Unavailable
from replicator.targets.base import Content, Reader
from replicator.targets.httpanswer import Answer, HTTPError
from replicator.targets.httppool import Client, Origin
from replicator.targets.tracker import Aside


class StorageNodes:
    """The storage nodes that trackers tell of. Used by several threads at once; times are seconds."""

    def __init__(self, *, connect_timeout: float, read_timeout: float, min_rate: float) -> None:
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._min_rate = min_rate
        self._clients: dict[str, Client] = {}
        self._aside = Aside()

    def put(self, url: str, content: Content | bytes, size: int, md5: str) -> None:
        """Store *size* bytes under *url*. *md5*: as base64; the node compares, and keeps nothing that differs.

        A content is read from where it is. Raises ``Corrupt`` if other bytes arrived, ``Unavailable`` for whatever
        else: the tracker may offer a better place.
        """
        client, path = self._client(url), urlsplit(url).path
        fields = f"Content-Length: {size}\r\nContent-MD5: {md5}\r\n"
        head = _head("PUT", path, client, fields)
        try:
            if isinstance(content, bytes):
                answer = client.request(head + content, "PUT")
            else:
                answer = client.upload(head, content)
        except HTTPError as error:
            self._aside.put(client.origin.netloc)
            # Without a create_close that names it, nothing that arrives late is ever seen: there is no doubt.
            raise Unavailable(f"PUT {path}: {error}") from None
        self._aside.clear(client.origin.netloc)
        if answer.status == 400 and b"MD5" in answer.body:
            raise Corrupt(f"PUT {path}: other bytes arrived at {client.origin.netloc} than were sent", status=400)
        if answer.status not in (200, 201, 204):
            raise _failure("PUT", path, client, answer)

    @contextmanager
    def get(
        self, urls: Sequence[str], start: int = 0, stop: int | None = None, *, size: int | None = None
    ) -> Iterator[Reader]:
        """The bytes from *start* to before *stop* of the first of *urls* that answers as it should.

        *size*: of all of it; a copy of another length is passed over. Raises ``Unavailable`` if none does, and in
        the block if what answered breaks off.
        """
        reasons: list[str] = []
        ranged = start > 0 or stop is not None
        # Absolute: Perlbal takes "-5", the last five bytes, for the first six.
        fields = f"Range: bytes={start}-{'' if stop is None else stop - 1}\r\n" if ranged else ""
        for url in urls:
            client, path = self._client(url), urlsplit(url).path
            with ExitStack() as stack:
                try:
                    request = _head("GET", path, client, fields)
                    answer, body = stack.enter_context(client.stream(request))
                except HTTPError as error:
                    self._aside.put(client.origin.netloc)
                    reasons.append(f"GET {path}: {error}")
                    continue
                if answer.status != (206 if ranged else 200) or (ranged and not _begins_at(start, answer)):
                    reasons.append(str(_failure("GET", path, client, answer)))
                    continue
                if size is not None and _total(answer) not in (size, None):
                    reasons.append(f"{path} at {client.origin.netloc} has not {size} bytes")
                    continue
                self._aside.clear(client.origin.netloc)
                try:
                    yield body
                except HTTPError as error:
                    self._aside.put(client.origin.netloc)
                    raise Unavailable(f"GET {path}: {error}") from None
                return
        raise Unavailable(f"no copy can be read: {'; '.join(reasons) or 'the tracker knows of none'}")

    def choose(self, urls: Sequence[str], size: int) -> str:
        """The first of *urls* where a copy of *size* bytes is. Raises ``Unavailable`` if none is one."""
        reasons: list[str] = []
        for url in urls:
            client, path = self._client(url), urlsplit(url).path
            try:
                answer = client.request(_head("HEAD", path, client, ""), "HEAD")
            except HTTPError as error:
                self._aside.put(client.origin.netloc)
                reasons.append(f"HEAD {path}: {error}")
                continue
            self._aside.clear(client.origin.netloc)
            if answer.status != 200:
                reasons.append(str(_failure("HEAD", path, client, answer)))
            elif answer.length not in (size, None):
                reasons.append(f"{path} at {client.origin.netloc} has not {size} bytes")
            else:
                return url
        raise Unavailable(f"no copy can be read: {'; '.join(reasons) or 'the tracker knows of none'}")

    def best_first(self, urls: Sequence[str]) -> list[str]:
        """*urls* in their order, but those of nodes that did not answer of late at the end."""
        hosts = self._aside.last(dict.fromkeys(urlsplit(url).netloc for url in urls))
        return sorted(urls, key=lambda url: hosts.index(urlsplit(url).netloc))

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _client(self, url: str) -> Client:
        netloc = urlsplit(url).netloc
        client = self._clients.get(netloc)
        if client is None:
            try:
                origin = Origin.of(url)
            except ValueError:
                raise Unavailable("a tracker gave a path that is no URL") from None
            client = Client(
                origin,
                connect_timeout=self._connect_timeout,
                read_timeout=self._read_timeout,
                min_rate=self._min_rate,
            )
            self._clients[netloc] = client
        return client


def _head(method: str, path: str, client: Client, fields: str) -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {client.origin.netloc}\r\n{fields}\r\n".encode()


def _begins_at(start: int, answer: Answer) -> bool:
    return answer.header("content-range").startswith(f"bytes {start}-")


def _total(answer: Answer) -> int | None:
    """The length of the whole file, if the answer says it."""
    if answer.status != 206:
        return answer.length
    total = answer.header("content-range").rpartition("/")[2]
    return int(total) if total.isdigit() else None


def _failure(method: str, path: str, client: Client, answer: Answer) -> Unavailable:
    """Whatever a node answers, time cures it, or another node: it is the tracker that chose the place."""
    return Unavailable(f"{answer.status} to {method} {path} at {client.origin.netloc}", status=answer.status)
