"""Requests to a WebDAV server that only an examination makes: delivery has no use for them."""

from __future__ import annotations

from replicator.targets.httpanswer import Answer, HTTPError, NoAnswer
from replicator.targets.httperrors import silence
from replicator.targets.webdavserver import WebDAVServer

#: Requests sent at once where many are counted.
_BATCH = 10


class RawWebDAV(WebDAVServer):
    """One server, as it answers."""

    def put_raw(self, path: str, body: bytes, extra: bytes = b"") -> Answer:
        """One PUT, whatever comes of it: no folder is made."""
        client = self._ready()
        self._meet(path)
        fields = b"Content-Length: %d\r\n%b" % (len(body), extra)
        try:
            for _ in range(2):
                answer = client.request(self._head("PUT", path, fields) + body, "PUT")
                if answer.status != 401 or not self._auth.challenged(answer):
                    break
        except HTTPError as error:
            raise silence("PUT", path, error, changes=True) from None
        return answer

    def as_stranger(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """A request without the target's credentials, nor its own header fields, which may be some."""
        client = self._ready()
        length = b"" if body is None else b"Content-Length: %d\r\n" % len(body)
        head = f"{method} {path} HTTP/1.1\r\nHost: {client.origin.netloc}\r\nUser-Agent: replicator\r\n".encode()
        try:
            return client.request(head + length + b"\r\n" + (body or b""), method)
        except HTTPError as error:
            raise silence(method, path, error, changes=body is not None) from None

    def count_kept(self, path: str, most: int) -> int:
        """How many HEADs the server answers over one connection before it ends it; *most* are sent."""
        client = self._ready()
        answered = 0
        try:
            connection = client.origin.connect(client.connect_timeout, client.read_timeout)
        except HTTPError as error:
            raise silence("HEAD", path, error, changes=False) from None
        try:
            while answered < most and connection.keep:
                heads = b"".join(self._head("HEAD", path) for _ in range(_BATCH))
                answered += len(connection.exchange(heads, ("HEAD",) * _BATCH))
        except NoAnswer as error:
            answered += len(error.answers)
        finally:
            connection.close()
        return answered
