"""A storage node: keeps the files of its devices on disk and answers HTTP as the recorded one does."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from pathlib import Path

from tests.mogilefs.faults import Fault, Faults, Gate
from tests.mogilefs.requests import Body, Disconnected, Request, read_request
from tests.mogilefs.sockets import Listener, set_patience

MISSING = -1
_REASONS = {
    200: "OK",
    204: "No Content",
    206: "Partial Content",
    304: "Not Modified",
    400: "Bad request",
    404: "Not Found",
    416: "Request range not satisfiable",
    500: "Internal Server Error",
    503: "Service Unavailable",
    507: "Insufficient Storage",
}
_NAME = re.compile(r"((?:/[\w.-]+)*)/[\w.-]+")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")


class HeldUp(Exception):
    """A node kept the caller waiting for longer than it has patience."""


class Node:
    """One host. ``port`` 0: any."""

    def __init__(
        self,
        number: int,
        folder: Path,
        devids: list[int],
        port: int,
        idle_seconds: float = 36.0,
        address: str = "127.0.0.1",
    ) -> None:
        self.number = number
        self.folder = folder
        self.devids = devids
        self.idle_seconds = idle_seconds
        self.faults = Faults()
        self.gate = Gate()
        self._listener = Listener(port, self._serve, f"node{number}", address)
        for devid in devids:
            (folder / f"dev{devid}").mkdir(parents=True, exist_ok=True)

    @property
    def port(self) -> int:
        return self._listener.port

    @property
    def up(self) -> bool:
        return self._listener.running

    def start(self) -> None:
        self._listener.start()

    def stop(self) -> None:
        """Refuse connections from now on; what hangs is let go."""
        self._listener.stop()
        self.gate.open()

    # What a tracker asks it. It asks as any client would, without the way over the network.

    def path(self, uri: str) -> Path:
        return self.folder / uri.lstrip("/")

    def size(self, uri: str, patience: float) -> int | None:
        """Bytes; MISSING; None: not reachable. HeldUp: no answer within *patience* seconds."""
        if not self.up:
            return None
        if not self.gate.wait(patience):
            raise HeldUp
        fault = self.faults.take("answer", "HEAD")
        if fault is not None:
            return MISSING if fault.value == 404 else None
        try:
            return self.path(uri).stat().st_size
        except OSError:
            return MISSING

    def digest(self, uri: str, hashtype: str) -> str | None:
        """Hex; None: not to be had."""
        if not (self.up and self.gate.is_open):
            return None
        try:
            with self.path(uri).open("rb") as file:
                return hashlib.file_digest(file, hashtype.replace("-", "").lower()).hexdigest()
        except OSError:
            return None

    # HTTP.

    def _serve(self, sock: socket.socket) -> None:
        set_patience(sock, self.idle_seconds)
        buffer = bytearray()
        with contextlib.suppress(Disconnected):
            while (request := read_request(sock, buffer)) is not None:
                self.gate.wait()
                if not self._answer(sock, request):
                    return

    def _answer(self, sock: socket.socket, request: Request) -> bool:
        """Whether the connection goes on."""
        fault = self.faults.take("answer", request.method)
        if fault is not None:
            time.sleep(fault.seconds)
            if isinstance(fault.value, int):
                _skip(request.body)
                _respond(sock, request, fault.value)
                return request.keep_alive
            if fault.value == "eof before":
                return False
        if request.method in ("GET", "HEAD"):
            return self._get(sock, request, fault)
        if request.method not in ("PUT", "DELETE"):
            _skip(request.body)
            answer = (400, b"")
        elif request.method == "DELETE":
            answer = self._delete(request)
        else:
            answer = self._put(request)
        if fault is not None and fault.value == "eof after":
            return False
        _respond(sock, request, *answer)
        return request.keep_alive

    def _put(self, request: Request) -> tuple[int, bytes]:
        named = _NAME.fullmatch(request.path)
        if ".." in request.path or named is None:
            problem = 400, b"Invalid filename"
        elif not named[1]:
            problem = 400, b"Does not meet minimum directory requirement"
        elif not self.path(named[1].split("/")[1]).is_dir():
            problem = 404, b"Base directory does not exist"
        else:
            path = self.path(request.path)
            expected = request.headers.get("content-md5")
            return self._write(path, request.body) if expected is None else self._write_md5(path, request, expected)
        _skip(request.body)
        return problem

    def _write(self, path: Path, body: Body) -> tuple[int, bytes]:
        # Straight into place: what a client that goes away has sent stays there.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        try:
            descriptor = os.open(path, flags, 0o644)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, flags, 0o644)
        try:
            for chunk in body:
                _write_all(descriptor, chunk)
                self.gate.wait()
        finally:
            os.close(descriptor)
        return 200, b""

    def _write_md5(self, path: Path, request: Request, expected: str) -> tuple[int, bytes]:
        path.parent.mkdir(parents=True, exist_ok=True)
        md5 = hashlib.md5(usedforsecurity=False)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".tmp")
        temporary = Path(name)
        try:
            for chunk in request.body:
                md5.update(chunk)
                _write_all(descriptor, chunk)
                self.gate.wait()
        finally:
            os.close(descriptor)
        actual = base64.b64encode(md5.digest()).rstrip(b"=")
        wanted = expected.rstrip("=").encode("latin-1")
        if actual != wanted:
            temporary.unlink()
            return 400, b"Content-MD5 mismatch, expected: %s actual: %s" % (wanted, actual)
        temporary.replace(path)
        return 201, b""

    def _delete(self, request: Request) -> tuple[int, bytes]:
        _skip(request.body)
        if ".." in request.path:
            return 400, b"Invalid filename"
        try:
            self.path(request.path).unlink()
        except OSError:
            return 404, b""
        return 204, b""

    def _get(self, sock: socket.socket, request: Request, fault: Fault | None) -> bool:
        _skip(request.body)
        path = self.path(request.path)
        if re.fullmatch(r"/dev\d+/usage", request.path) and path.parent.is_dir():
            path.write_bytes(usage(path.parent))
        if ".." in request.path or not path.is_file():
            _respond(sock, request, 404)
            return request.keep_alive
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            start, length, headers, code = _part(request, status.st_size, status.st_mtime)
            head = _head(code, headers, request.keep_alive)
            if request.method == "HEAD" or not length:
                sock.sendall(head)
            elif length <= 65536:
                sock.sendall(head + os.pread(file.fileno(), self._cut(length, fault), start))
            else:
                sock.sendall(head)
                sock.sendfile(file, start, self._cut(length, fault))
        return request.keep_alive and self._cut(length, fault) == length

    @staticmethod
    def _cut(length: int, fault: Fault | None) -> int:
        """How much of the body is sent."""
        cut = fault.value.get("cut") if fault is not None and isinstance(fault.value, dict) else None
        return length if cut is None else min(length, int(cut))


def usage(device: Path) -> bytes:
    """What nodes say of a device's disk; sizes in KiB."""
    disk = shutil.disk_usage(device)
    facts = {
        "available": disk.free // 1024,
        "device": "/dev/disk",
        "disk": device,
        "time": int(time.time()),
        "total": disk.total // 1024,
        "use": f"{100 * disk.used // disk.total}%",
        "used": disk.used // 1024,
    }
    return "".join(f"{name}: {value}\n" for name, value in facts.items()).encode()


@lru_cache(maxsize=64)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def _part(request: Request, size: int, mtime: float) -> tuple[int, int, list[str], int]:
    """Where the answer's body begins in the file, its length, the headers, the status."""
    now = f"Date: {_date(int(time.time()))}"
    modified = f"Last-Modified: {_date(int(mtime))}"
    usual = [now, "Server: Perlbal", modified, "Accept-Ranges: bytes"]
    since = request.headers.get("if-modified-since")
    if since:
        with contextlib.suppress(ValueError):
            if int(mtime) <= parsedate_to_datetime(since).timestamp():
                return 0, 0, usual, 304
    wanted = _RANGE.match(request.headers.get("range", ""))
    if wanted is None or wanted[0] == "bytes=-":
        return 0, size, [*usual, "Content-Type: text/plain", f"Content-Length: {size}"], 200
    # "-5" means the last five bytes, but the real one reads it as "0-5".
    start = int(wanted[1] or 0)
    end = min(int(wanted[2]) if wanted[2] else size - 1, size - 1)
    if start >= size or start > end:
        return 0, 0, [f"Content-Range: bytes */{size}", "Content-Length: 0", *usual], 416
    length = end - start + 1
    part = ["Content-Type: text/plain", f"Content-Range: bytes {start}-{end}/{size}", f"Content-Length: {length}"]
    return start, length, [*usual, *part], 206


def _respond(sock: socket.socket, request: Request, status: int, text: bytes = b"") -> None:
    if status == 204:
        sock.sendall(_head(204, ["Server: Perlbal"], request.keep_alive))
        return
    title = f"{status} - {_REASONS[status]}" if status in _REASONS else str(status)
    body = b"<h1>%s</h1>\n%s" % (title.encode(), text)
    head = _head(
        status, ["Content-Type: text/html", f"Content-Length: {len(body)}", "Server: Perlbal"], request.keep_alive
    )
    sock.sendall(head if request.method == "HEAD" else head + body)


def _head(status: int, headers: list[str], keep_alive: bool) -> bytes:
    # Always 1.0, and kept alive all the same.
    going_on = ["Connection: keep-alive", "Keep-Alive: timeout=30, max=100"] if keep_alive else ["Connection: close"]
    lines = [f"HTTP/1.0 {status} {_REASONS.get(status, '')}", *headers, *going_on, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def _write_all(descriptor: int, chunk: memoryview) -> None:
    while chunk:
        chunk = chunk[os.write(descriptor, chunk) :]


def _skip(body: Iterator[memoryview]) -> None:
    for _ in body:
        pass
