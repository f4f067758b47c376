"""The embedded media host: a small WebDAV server in pure Python, for machines without nginx.

``python -m project.mediahost --root DIR --port N [--bind 127.0.0.1]``; with ``MEDIAHOST_USER`` and
``MEDIAHOST_PASSWORD`` in the environment, everything asks for them (basic authentication). It behaves as nginx
with ``create_full_put_path on`` does: a PUT is atomic and makes missing folders. It never deletes a folder that
holds something.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import errno
import hmac
import mimetypes
import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterable, Iterator
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

from cheroot import wsgi

from project.multistatus import multistatus

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

CHUNK = 256 * 1024
METHODS = "OPTIONS, GET, HEAD, PUT, DELETE, MKCOL, PROPFIND"


class Problem(Exception):
    """The answer is this status, and nothing else happens."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class MediaHost:
    """The WSGI application. Uploads are written to *uploads*, on the same file system, and renamed."""

    def __init__(self, root: Path, uploads: Path, *, user: str = "", password: str = "") -> None:
        self.root = os.fsencode(root.resolve())
        self.uploads = uploads
        credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.authorization = f"Basic {credentials}" if user else ""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            self._authorize(environ)
            method = str(environ["REQUEST_METHOD"])
            path = self._path(environ)
            handler = getattr(self, f"_{method.lower()}") if method in METHODS.split(", ") else self._unknown
            status, headers, body = handler(environ, path)
        except (Problem, OSError) as error:
            status = error.status if isinstance(error, Problem) else _status_of(error, environ)
            headers, body = [("Content-Length", "0")], []
            if status == 401:
                headers.append(("WWW-Authenticate", 'Basic realm="media", charset="UTF-8"'))
            elif status == 405:
                headers.append(("Allow", METHODS))
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        return body

    def _authorize(self, environ: WSGIEnvironment) -> None:
        given = str(environ.get("HTTP_AUTHORIZATION", ""))
        if self.authorization and not hmac.compare_digest(given.encode(), self.authorization.encode()):
            raise Problem(401)

    def _path(self, environ: WSGIEnvironment) -> bytes:
        """The file that the request names. Bytes, as file systems have them: a name need not be UTF-8."""
        # The server's own decoding in PATH_INFO leaves %2F alone, so that "%252F" and "%2F" look the same.
        raw = str(environ["REQUEST_URI"]).partition("?")[0]
        if "://" in raw:
            raw = "/" + raw.partition("://")[2].partition("/")[2]
        segments = [unquote_to_bytes(segment) for segment in raw.strip("/").split("/")] if raw != "/" else []
        if any(segment in (b"", b".", b"..") or b"/" in segment or b"\0" in segment for segment in segments):
            raise Problem(400)
        return os.path.join(self.root, *segments)  # noqa: PTH118 - Path has no bytes

    def _unknown(self, environ: WSGIEnvironment, path: bytes) -> _Answer:
        raise Problem(405)

    def _options(self, environ: WSGIEnvironment, path: bytes) -> _Answer:
        return 200, [("Allow", METHODS), ("DAV", "1"), ("Content-Length", "0")], []

    def _head(self, environ: WSGIEnvironment, path: bytes) -> _Answer:
        status, headers, _ = self._get(environ, path, read=False)
        return status, headers, []

    def _get(self, environ: WSGIEnvironment, path: bytes, *, read: bool = True) -> _Answer:
        if os.path.isdir(path):  # noqa: PTH112 - Path has no bytes
            location = str(environ["REQUEST_URI"]).partition("?")[0].rstrip("/") + "/"
            if str(environ["REQUEST_URI"]).endswith("/"):
                raise Problem(403)
            return 301, [("Location", location), ("Content-Length", "0")], []
        if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113 - as above
            raise Problem(403)  # to open a pipe would wait for its other end
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open(path, "rb"))  # noqa: PTH123 - as above
            info = os.fstat(file.fileno())
            etag = f'"{info.st_ino:x}-{info.st_mtime_ns:x}-{info.st_size:x}"'
            headers = [
                ("Content-Type", mimetypes.guess_type(os.fsdecode(path))[0] or "application/octet-stream"),
                ("Last-Modified", formatdate(info.st_mtime, usegmt=True)),
                ("ETag", etag),
                ("Accept-Ranges", "bytes"),
            ]
            if environ.get("HTTP_IF_NONE_MATCH") == etag:
                return 304, headers, []
            part = _range(str(environ.get("HTTP_RANGE", "")), info.st_size)
            start, end = part or (0, info.st_size)
            if part and start >= end:
                return 416, [("Content-Range", f"bytes */{info.st_size}"), ("Content-Length", "0")], []
            if part:
                headers.append(("Content-Range", f"bytes {start}-{end - 1}/{info.st_size}"))
            headers.append(("Content-Length", str(end - start)))
            if read:
                # It is closed when it was sent.
                stack.pop_all()
            return (206 if part else 200), headers, _send(file, start, end)

    def _propfind(self, environ: WSGIEnvironment, path: bytes) -> _Answer:
        """Always the same three properties, whatever is asked for."""
        depth = str(environ.get("HTTP_DEPTH", "infinity"))
        if depth not in ("0", "1"):
            raise Problem(403)
        url = quote(path.removeprefix(self.root)) or "/"
        # Without a length it is sent in chunks: one that does not come to its end is seen to.
        return 207, [("Content-Type", "application/xml; charset=utf-8")], multistatus(path, url, inside=depth == "1")

    def _put(self, environ: WSGIEnvironment, path: bytes) -> _Answer:
        if "HTTP_CONTENT_RANGE" in environ:
            raise Problem(501)  # else a part would replace the whole (RFC 9110, section 14.5)
        if path == self.root or str(environ["REQUEST_URI"]).endswith("/") or os.path.isdir(path):  # noqa: PTH112
            raise Problem(409)
        descriptor, temporary = tempfile.mkstemp(dir=self.uploads)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
                _receive(environ, file)
            os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - Path has no bytes
            existed = os.path.exists(path)  # noqa: PTH110 - as above
            os.replace(temporary, path)  # noqa: PTH105 - as above
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return (204, [], []) if existed else (201, [("Content-Length", "0")], [])

    def _delete(self, environ: WSGIEnvironment, path: bytes) -> _Answer:
        if path == self.root:
            raise Problem(403)
        if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114 - Path has no bytes
            os.rmdir(path)  # noqa: PTH106 - as above; fails with 409 unless it is empty
        else:
            os.unlink(path)  # noqa: PTH108 - as above
        return 204, [], []

    def _mkcol(self, environ: WSGIEnvironment, path: bytes) -> _Answer:
        if path == self.root or os.path.exists(path):  # noqa: PTH110 - Path has no bytes
            raise Problem(405)
        try:
            os.mkdir(path)  # noqa: PTH102 - as above
        except FileNotFoundError:
            raise Problem(409) from None
        return 201, [("Content-Length", "0")], []


if TYPE_CHECKING:
    _Answer = tuple[int, list[tuple[str, str]], Iterable[bytes]]


STATUSES = {
    errno.ENOENT: 404,
    errno.EACCES: 403,
    errno.EPERM: 403,
    errno.EEXIST: 409,
    errno.EISDIR: 409,
    errno.ENOTEMPTY: 409,
    errno.ENAMETOOLONG: 414,
    errno.EILSEQ: 400,
    errno.ENOSPC: 507,
    errno.EDQUOT: 507,
}


def _status_of(error: OSError, environ: WSGIEnvironment) -> int:
    """The status that says what the file system said."""
    if error.errno == errno.ENOTDIR:
        # Below a file there is nothing, and nothing can be put.
        return 409 if environ["REQUEST_METHOD"] in ("PUT", "MKCOL") else 404
    return STATUSES.get(error.errno or 0, 500)


def _range(header: str, size: int) -> tuple[int, int] | None:
    """First byte, and the one after the last (RFC 9110, section 14.1.2); None: everything."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header)
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1 if last else size)


def _receive(environ: WSGIEnvironment, file: IO[bytes]) -> None:
    """The request's body, whole and on the disk."""
    length = environ.get("CONTENT_LENGTH")
    received = 0
    while chunk := environ["wsgi.input"].read(CHUNK):
        received += len(chunk)
        file.write(chunk)
    if length and received != int(length):
        raise Problem(400)  # the sender went away: the old content stays
    file.flush()
    os.fchmod(file.fileno(), 0o644)
    # The ledger will hold that this host has the file: a power cut must not prove it wrong.
    os.fsync(file.fileno())


def _send(file: IO[bytes], start: int, end: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        while start < end and (chunk := file.read(min(CHUNK, end - start))):
            start += len(chunk)
            yield chunk


def serve(root: Path, uploads: Path, bind: str, port: int, *, user: str = "", password: str = "") -> None:
    """Serve until SIGTERM or SIGINT."""
    root.mkdir(parents=True, exist_ok=True)
    # What a killed server left half-written.
    shutil.rmtree(uploads, ignore_errors=True)
    uploads.mkdir(parents=True)
    if uploads.stat().st_dev != root.stat().st_dev:
        raise SystemExit(f"--uploads {uploads} must be on the file system of --root {root}, or PUT is not atomic")
    server = wsgi.Server(
        (bind, port),
        MediaHost(root, uploads, user=user, password=password),
        numthreads=16,
        timeout=60,
    )
    # Cheroot keeps ten idle connections; one worker process alone may have more.
    server.keep_alive_conn_limit = None  # type: ignore[assignment]  # as cheroot documents it

    # Waited for, not handled: an exception that a handler raises within cheroot's own start leaves it hanging.
    endings = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, endings)
    server.prepare()
    thread = threading.Thread(target=_run, args=(server,))
    thread.start()
    signal.sigwait(endings)
    server.stop()
    thread.join()
    shutil.rmtree(uploads, ignore_errors=True)


def _run(server: wsgi.Server) -> None:
    try:
        server.serve()
    finally:
        # Without it, the process has nothing to do.
        os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    parser = argparse.ArgumentParser(prog="project.mediahost", description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="folder of the files")
    parser.add_argument("--uploads", type=Path, help="folder of uploads under way; default: ROOT.uploads")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bind", default="127.0.0.1", help="address to listen on; default: %(default)s")
    options = parser.parse_args()
    root = options.root.resolve()
    uploads = (options.uploads or root.with_name(f"{root.name}.uploads")).resolve()
    serve(
        root,
        uploads,
        options.bind,
        options.port,
        # Not options: every user of the machine can read a command line.
        user=os.environ.get("MEDIAHOST_USER", ""),
        password=os.environ.get("MEDIAHOST_PASSWORD", ""),
    )


if __name__ == "__main__":
    main()
