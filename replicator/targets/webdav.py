"""WebDAV servers as targets: nginx, lighttpd, Apache and whatever else takes PUT and DELETE."""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
import uuid
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Literal

from django.core.checks import CheckMessage

from replicator.errors import Corrupt, LocalChanged, TargetError
from replicator.targets.base import Content, Entry, Reader, Space, Stat, Target, TargetFile
from replicator.targets.findings import LARGE, Finding
from replicator.targets.http import PIECE
from replicator.targets.httpanswer import Answer
from replicator.targets.httperrors import failure
from replicator.targets.webdavexam import WebDAVTrial
from replicator.targets.webdavlisting import WebDAVListing
from replicator.targets.webdavoptions import WebDAVOptions
from replicator.targets.webdavserver import ABSENT, WebDAVServer, expect

#: Up to this size a file goes out with its verification in one send; above, it is streamed.
SMALL = 64 * 1024
#: Seconds after which a target that told a wrong size is asked again.
STALE_SECONDS = 1.1
_QUOTA = (
    b'<?xml version="1.0" encoding="utf-8"?>'
    b'<propfind xmlns="DAV:"><prop><quota-available-bytes/><quota-used-bytes/></prop></propfind>'
)
_QUOTA_SAID = re.compile(rb"<(?:[\w.-]+:)?quota-(available|used)-bytes[^<>]*>\s*([0-9]{1,18})\s*</")
#: Folders remembered as existing, at most.
MAX_FOLDERS = 10_000
#: Statuses of a PUT whose folder is missing: 409 (RFC 4918, section 9.7.1); 500 from nginx without
#: ``create_full_put_path``; 403 and 404 from servers that map paths before they look at the method.
MAYBE_NO_FOLDER = {403, 404, 409, 500}


class WebDAVTarget(Target):
    """A server that takes PUT, DELETE and MKCOL.

    A file's URL is *url*, the path of its storage's ``base_url``, and its name.

    *auth* with *username* and *password*, or *token*; *ca_bundle*, *client_cert*, *client_key*: paths of PEM
    files. *verify*: ``"size"`` asks for the size after each PUT, ``"content"`` reads the file back. *atomic_put*:
    False for a server that shows a PUT under way (WsgiDAV): then a temporary name is moved to the final one.
    *connect_timeout*, *read_timeout* (how long it may be silent): seconds. *min_rate*: bytes per second below
    which a transfer is given up. *headers*: sent with each request.
    *public_url*: the server, as browsers know it; a file's URL there is this, the path, and the name.
    *node*: the one whose own media root this server serves, where each node has a disk of its own.
    """

    def __init__(
        self,
        alias: str,
        *,
        url: str,
        username: str = "",
        password: str = "",
        auth: Literal["basic", "digest"] = "basic",
        token: str = "",
        ca_bundle: str = "",
        client_cert: str = "",
        client_key: str = "",
        verify: Literal["size", "content"] = "size",
        atomic_put: bool = True,
        connect_timeout: float = 5.0,
        read_timeout: float = 30.0,
        min_rate: float = 64 * 1024,
        headers: Mapping[str, str] | None = None,
        public_url: str = "",
        node: str = "",
        concurrency: int | None = None,
        workers: int = 2,
        bandwidth: float | None = None,
    ) -> None:
        super().__init__(
            alias, concurrency=concurrency, workers=workers, bandwidth=bandwidth, public_url=public_url, node=node
        )
        self._options = WebDAVOptions(
            alias=alias,
            url=url,
            username=username,
            password=password,
            auth=auth,
            token=token,
            ca_bundle=ca_bundle,
            client_cert=client_cert,
            client_key=client_key,
            verify=verify,
            atomic_put=atomic_put,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            min_rate=min_rate,
            headers={} if headers is None else headers,
        )
        self._server = WebDAVServer(self._options)
        self._listing = WebDAVListing(self._server)
        self._folders: set[str] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.alias}>"

    def put(self, file: TargetFile, content: Content) -> None:
        path = self._server.path_of(file)
        if self._options.atomic_put:
            self._put(path, file, content)
            return
        folder = path.rpartition("/")[0]
        temporary = f"{folder}/.{uuid.uuid4().hex}.part"
        try:
            self._put(temporary, file, content)
            # MOVE replaces a folder as it does a file, with all that is in it.
            self._server.has_file(path)
            self._server.move(temporary, path, file)
            self._verify_size(path, self._look(path), content.size)
        except BaseException:
            with contextlib.suppress(TargetError):
                self._server.send("DELETE", temporary, changes=False)
            raise

    def delete(self, file: TargetFile) -> None:
        """Make it not exist. Already absent is success.

        DELETE of a folder is recursive on most servers (webdav-servers.md): so the target is asked first what it
        has there, and nothing is sent unless it is a file.
        """
        path = self._server.path_of(file)
        if self._server.has_file(path):
            answer = self._server.send("DELETE", path, may_send=file.may_send)
            expect("DELETE", path, answer, {200, 204, *ABSENT})

    def stat(self, file: TargetFile) -> Stat | None:
        path = self._server.path_of(file)
        found = self._look(path)
        return None if found.status in ABSENT else Stat(self._size(path, found))

    def can_list(self) -> bool:
        return self._listing.is_there()

    def entries(self, prefix: str = "/") -> Iterator[Entry]:
        """As the server lists them: nginx leaves out what begins with a dot, lighttpd tells the size of a link."""
        return self._listing.entries(prefix)

    def open(self, file: TargetFile) -> AbstractContextManager[Reader]:
        return self._server.get(self._server.path_of(file))

    def addresses(self, file: TargetFile) -> set[str]:
        client = self._options.client()
        return {client.origin.place(self._server.path_of(file))} if client else set()

    def space(self) -> Space | None:
        """What the server says by RFC 4331: few do."""
        fields = b"Depth: 0\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n" % len(_QUOTA)
        answer = self._server.send(
            "PROPFIND", f"{self._server.path}/", changes=False, extra=fields, body=_QUOTA, quick=True
        )
        said = dict(_QUOTA_SAID.findall(answer.body)) if answer.status == 207 else {}
        if not said.keys() >= {b"available", b"used"}:
            return None
        free = int(said[b"available"])
        return Space(free, free + int(said[b"used"]))

    def probe(self) -> None:
        """Return if it answers, within 3 seconds, and lets us in."""
        path = f"{self._server.path}/"
        answer = self._server.send("OPTIONS", path, changes=False, quick=True)
        # Not every server knows OPTIONS; that it says so shows that it is up.
        if answer.status in (401, 403) or (answer.status >= 500 and answer.status != 501):
            raise failure("OPTIONS", path, answer)

    def examine(self, prefix: str = "/", *, size: int = LARGE) -> Generator[Finding, None, None]:
        make_file = partial(TargetFile, "", prefix=prefix)
        return WebDAVTrial(self, make_file, size, self._options).findings()

    def check(self) -> list[CheckMessage]:
        return self._options.check()

    def close(self) -> None:
        self._server.close()

    def _put(self, path: str, file: TargetFile, content: Content) -> None:
        """PUT to *path*, making folders where they miss, and verify what arrived."""
        sha256 = file.sha256
        body = None
        if content.size <= SMALL:
            body = _whole(content)
            if self._options.verify == "content":
                sha256 = sha256 or hashlib.sha256(body).hexdigest()
        elif self._options.verify == "content" and not sha256:
            content = _Hashing(content)
        folder = path.rpartition("/")[0]
        if body is None and folder not in self._folders:
            # To learn that the folder misses from the answer to a gigabyte costs a gigabyte.
            self._server.make_folders(path, file)
        answers = self._send(path, file, content, body)
        if answers[0].status in MAYBE_NO_FOLDER:
            self._folders.discard(folder)
            made = self._server.make_folders(path, file)
            # 409 says that a folder missed, and another thread may have made it meanwhile.
            if made or body is not None or answers[0].status == 409:
                answers = self._send(path, file, content, body)
        expect("PUT", path, answers[0], {200, 201, 204})
        if len(self._folders) >= MAX_FOLDERS:
            self._folders.clear()
        self._folders.add(folder)
        self._verify_size(path, answers[1] if len(answers) > 1 else self._look(path), content.size)
        if self._options.verify == "content":
            self._verify_content(path, content.sha256() if isinstance(content, _Hashing) else sha256)

    def _send(self, path: str, file: TargetFile, content: Content, body: bytes | None) -> list[Answer]:
        """The answer to PUT, and if it went out with that, to HEAD."""
        if body is not None:
            return self._server.put_whole(path, file, body)
        return [self._server.put_stream(path, file, content)]

    def _look(self, path: str) -> Answer:
        return self._server.send("HEAD", path, changes=False)

    def _verify_size(self, path: str, found: Answer, size: int) -> None:
        if found.status in ABSENT:
            raise Corrupt(f"{path}: the target took it, and does not have it", status=found.status)
        held = self._size(path, found)
        if held != size:
            # lighttpd 1.4 tells the old size of a file that was made empty, for up to a second.
            time.sleep(STALE_SECONDS)
            held = self._size(path, self._look(path))
        if held != size:
            raise Corrupt(f"{path}: {size} bytes were sent, and the target has {held}")

    def _verify_content(self, path: str, sha256: str) -> None:
        digest = hashlib.sha256()
        try:
            with self._server.get(path) as reader:
                while data := reader.read(self.throttle.at_most(PIECE)):
                    self.throttle.take(len(data))
                    digest.update(data)
        except FileNotFoundError:
            raise Corrupt(f"{path}: the target took it, and does not have it") from None
        if digest.hexdigest() != sha256:
            raise Corrupt(f"{path}: the target has other bytes than were sent")

    def _size(self, path: str, found: Answer) -> int:
        """Bytes of a file, from the answer to HEAD."""
        expect("HEAD", path, found, {200})
        if found.length is not None:
            return found.length
        # Apache leaves the length out if it is 0, others for other reasons: count.
        try:
            with self._server.get(path) as reader:
                return sum(len(data) for data in iter(lambda: reader.read(PIECE), b""))
        except FileNotFoundError:
            raise Corrupt(f"{path}: it went away while it was looked at") from None


class _Hashing:
    """A content that is hashed on its way."""

    def __init__(self, content: Content) -> None:
        self.size = content.size
        self._content = content
        self._digest = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._content.read(size)
        self._digest.update(data)
        return data

    def seek(self, offset: int, /) -> int:
        self._digest = hashlib.sha256()
        return self._content.seek(offset)

    def sha256(self) -> str:
        return self._digest.hexdigest()


def _whole(content: Content) -> bytes:
    """All of a small content."""
    size = content.size
    data = content.read(size)
    while len(data) < size and (more := content.read(size - len(data))):
        data += more
    if len(data) != size or content.read(1):
        raise LocalChanged(f"the content is not the {size} bytes that it was said to be")
    return data
