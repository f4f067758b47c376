"""The requests that are made of a WebDAV server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import quote

from replicator.errors import Refused
from replicator.targets.base import Content, Reader, TargetFile, always, safe_name
from replicator.targets.httpanswer import Answer, HTTPError, NoAnswer
from replicator.targets.httperrors import failure, silence
from replicator.targets.httppool import Client
from replicator.targets.multistatus import ASKED, ASKED_FIELDS
from replicator.targets.webdavoptions import WebDAVOptions

ABSENT = {404, 410}
#: How PROPFIND says that something is a folder (RFC 4918, section 15.9).
COLLECTION = re.compile(rb"<(?:[\w.-]+:)?collection\s*/?>")


class WebDAVServer:
    """One server, by the path of its URL. Every request raises ``Unavailable`` if no answer comes."""

    def __init__(self, options: WebDAVOptions) -> None:
        self._options = options
        self._client, self._prober = options.client(), options.client(at_most=3.0)
        self._auth = options.authentication()
        #: The path of its URL, percent-encoded, without a slash at its end.
        self.path = options.path()
        self._fields = options.fields()
        # Quoted prefixes of storages; there are as many as storages.
        self._prefixes: dict[str, str] = {}

    def path_of(self, file: TargetFile) -> str:
        """The path of a file's URL, percent-encoded. Raises ``Refused`` for one that must not be sent."""
        name = safe_name(file.name)
        try:
            return self.folder_of(file.prefix) + quote(name)
        except UnicodeEncodeError:
            raise Refused(f"{name!r} is not a name that can be sent: it is not Unicode") from None

    def folder_of(self, prefix: str) -> str:
        """The path of a storage's folder, percent-encoded, with a slash at its end."""
        folder = self._prefixes.get(prefix)
        if folder is None:
            inner = prefix.strip("/")
            folder = self.path + (quote(f"/{safe_name(inner)}/") if inner else "/")
            self._prefixes[prefix] = folder
        return folder

    def send(
        self,
        method: str,
        path: str,
        *,
        changes: bool = True,
        extra: bytes = b"",
        body: bytes = b"",
        quick: bool = False,
        may_send: Callable[[], None] = always,
    ) -> Answer:
        """The answer to one request with a short *body*, which *extra* header lines describe, or none.

        *changes*: whether it could take effect later, if no answer came. *quick*: wait 3 seconds at most.
        *may_send*: called before it goes out, each time.
        """
        client = self._prober if quick and self._prober else self._ready()
        try:
            may_send()
            answer = client.request(self._head(method, path, extra) + body, method)
            if answer.status == 401 and self._auth.challenged(answer):
                may_send()
                answer = client.request(self._head(method, path, extra) + body, method)
        except HTTPError as error:
            raise silence(method, path, error, changes=changes) from None
        return answer

    def put_whole(self, path: str, file: TargetFile, body: bytes) -> list[Answer]:
        """PUT, and HEAD in the same send: a round trip less.

        One answer or two: a server that closes the connection after the first answers no more. The order is
        kept: only requests that change nothing may be answered in parallel (RFC 9112, section 9.3.2).
        """
        client = self._ready()
        self._meet(path)
        try:
            for _ in range(2):
                put = self._head("PUT", path, _content_fields(file.content_type, len(body)))
                file.may_send()
                answers = client.exchange(put + body + self._head("HEAD", path), ("PUT", "HEAD"))
                if answers[0].status != 401 or not self._auth.challenged(answers[0]):
                    break
        except HTTPError as error:
            if isinstance(error, NoAnswer) and error.answers:
                return error.answers
            raise silence("PUT", path, error, changes=True) from None
        return answers

    def put_stream(self, path: str, file: TargetFile, content: Content) -> Answer:
        """PUT of a content that is read as it is sent, from its start."""
        client = self._ready()
        self._meet(path)
        try:
            for _ in range(2):
                content.seek(0)
                head = self._head("PUT", path, _content_fields(file.content_type, content.size))
                file.may_send()
                answer = client.upload(head, content)
                if answer.status != 401 or not self._auth.challenged(answer):
                    break
        except HTTPError as error:
            raise silence("PUT", path, error, changes=True) from None
        return answer

    @contextmanager
    def get(self, path: str) -> Iterator[Reader]:
        """The body of what is there. Raises ``FileNotFoundError`` if nothing is."""
        client = self._ready()
        self._meet(path)
        try:
            with client.stream(self._head("GET", path)) as (answer, body):
                if answer.status in ABSENT:
                    raise FileNotFoundError(path)
                expect("GET", path, answer, {200})
                yield body
        except HTTPError as error:
            raise silence("GET", path, error, changes=False) from None

    @contextmanager
    def list_folder(self, folder: str) -> Iterator[tuple[Answer, Reader]]:
        """The answer to the question for a folder and what is directly in it, with its body to be read."""
        client = self._ready()
        try:
            for is_last in (False, True):
                head = self._head("PROPFIND", folder, b"Depth: 1\r\n" + ASKED_FIELDS)
                with client.stream(head + ASKED) as (answer, body):
                    # A challenge may have grown old between two folders.
                    if answer.status != 401 or is_last or not self._auth.challenged(answer):
                        yield answer, body
                        return
        except HTTPError as error:
            raise silence("PROPFIND", folder, error, changes=False) from None

    def make_folders(self, path: str, file: TargetFile) -> bool:
        """Make the folders that miss between the server's URL and *path*. True if one was made.

        What is refused here shows in the answer to the PUT that follows.
        """
        missing: list[str] = []
        folder = path.rpartition("/")[0]
        made = False
        while len(folder) > len(self.path):
            # nginx answers 409 to a MKCOL without the slash.
            status = self.send("MKCOL", f"{folder}/", changes=False, may_send=file.may_send).status
            if status != 409:
                made = status in (200, 201)
                break
            missing.append(folder)
            folder = folder.rpartition("/")[0]
        # Another thread may have made it by now: 405 (RFC 4918, section 9.3.1), or 403 from Apache if that was while
        # it tried.
        while missing:
            status = self.send("MKCOL", f"{missing.pop()}/", changes=False, may_send=file.may_send).status
            made = made or status in (200, 201)
        return made

    def move(self, source: str, path: str, file: TargetFile) -> None:
        """Give a file another name, replacing what has that name: also a folder, with all that is in it."""
        origin = self._ready().origin
        # Apache takes only an absolute URL.
        extra = f"Destination: {origin.scheme}://{origin.netloc}{path}\r\nOverwrite: T\r\n"
        answer = self.send("MOVE", source, extra=extra.encode(), may_send=file.may_send)
        expect("MOVE", source, answer, {200, 201, 204})

    def has_file(self, path: str) -> bool:
        """False if nothing is there, True if a file is; ``Refused`` if a folder is.

        HEAD alone does not tell: Apache without mod_dir answers 404 for a folder, with ``DirectorySlash Off``
        perhaps 200. PROPFIND alone does not either: nginx knows it only with a module.
        """
        client = self._ready()
        self._meet(path)
        try:
            for _ in range(2):
                requests = self._head("HEAD", path) + self._head("PROPFIND", path, b"Depth: 0\r\n")
                answers = client.exchange(requests, ("HEAD", "PROPFIND"))
                if answers[0].status != 401 or not self._auth.challenged(answers[0]):
                    break
        except HTTPError as error:
            raise silence("HEAD", path, error, changes=False) from None
        head = answers[0]
        if len(answers) > 1:
            properties = answers[1]
        else:
            properties = self.send("PROPFIND", path, changes=False, extra=b"Depth: 0\r\n")
        redirected = 300 <= head.status < 400 and head.header("location").partition("?")[0].endswith("/")
        if redirected or (properties.status == 207 and COLLECTION.search(properties.body)):
            raise Refused(f"{path} is a folder at the target", status=head.status)
        if properties.status == 207:
            return True
        if head.status not in ABSENT:
            expect("HEAD", path, head, {200})
        return head.status not in ABSENT

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _ready(self) -> Client:
        if self._client is None:
            raise Refused(f"{self._options.alias}: {self._options.problems()[0][0]}")
        return self._client

    def _meet(self, path: str) -> None:
        """Get the server's challenge, where authentication needs one, before a body is sent in vain."""
        if self._auth.needs_challenge:
            self.send("HEAD", path, changes=False)

    def _head(self, method: str, path: str, extra: bytes = b"") -> bytes:
        """A request up to its body."""
        auth = self._auth.line(method, path)
        return b"%b %b%b%b%b\r\n" % (method.encode(), path.encode(), self._fields, auth, extra)


def expect(method: str, path: str, answer: Answer, ok: set[int]) -> None:
    """Anything else is an error."""
    if answer.status not in ok:
        raise failure(method, path, answer)


def _content_fields(content_type: str, size: int) -> bytes:
    # A type from a form could hold anything.
    if not (content_type and content_type.isascii() and content_type.isprintable()):
        content_type = "application/octet-stream"
    return f"Content-Type: {content_type}\r\nContent-Length: {size}\r\n".encode()
