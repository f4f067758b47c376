"""Django on a real WSGI server, and what stands in front of it: nginx, Perlbal, and a stand-in for Perlbal."""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import shutil
import socketserver
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from cheroot import wsgi
from django.core.wsgi import get_wsgi_application

from tests.documented import documented
from tests.processes import RUNNING_AS_ROOT, Server, need
from tests.servers import CONF


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def header(self, name: str) -> str:
        """What it says once; empty: it does not."""
        values = self.headers.get_all(name, [])
        assert len(values) <= 1, values
        return values[0] if values else ""


def fetch(port: int, path: str, method: str = "GET", /, **headers: str) -> Answer:
    """Raises ``http.client.HTTPException`` or ``OSError`` if the answer is not whole."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request(method, f"/{path}", headers={name.replace("_", "-"): v for name, v in headers.items()})
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())


class Django:
    """The site in threads of this process: on cheroot, and on Python's own WSGI server. ``sent``: bytes of bodies."""

    def __init__(self) -> None:
        self.sent = 0
        self._application = get_wsgi_application()
        self._cheroot = wsgi.Server(("127.0.0.1", 0), self._count, numthreads=8, shutdown_timeout=5)
        # What becomes of connections that break is what the tests are about.
        self._cheroot.error_log = lambda *args, **kwargs: None  # type: ignore[method-assign]
        self._cheroot.prepare()
        self.port: int = self._cheroot.bind_addr[1]
        self._simple = make_server("127.0.0.1", 0, self._count, _SimpleServer, _SimpleHandler)
        self.simple_port: int = self._simple.server_port
        self._threads = [
            threading.Thread(target=self._cheroot.serve),
            threading.Thread(target=self._simple.serve_forever, args=(0.05,)),
        ]
        for thread in self._threads:
            thread.start()

    def _count(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        return _Counted(self, self._application(environ, start_response))

    def stop(self) -> None:
        self._cheroot.stop()
        self._simple.shutdown()
        self._simple.server_close()
        for thread in self._threads:
            thread.join()


class _SimpleServer(socketserver.ThreadingMixIn, WSGIServer):
    block_on_close = True


class _SimpleHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass

    def get_stderr(self) -> Any:
        return io.StringIO()


class _Counted:
    def __init__(self, django: Django, answer: Any) -> None:
        self._django, self._answer = django, answer

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._answer:
            self._django.sent += len(piece)
            yield piece

    def close(self) -> None:
        self._answer.close()


class Front(Server):
    """What browsers talk to."""

    def __init__(self, django: Django) -> None:
        super().__init__()
        self.django = django


class Nginx(Front):
    """As docs/serving.md says."""

    def prepare(self) -> None:
        for name in ("tmp", "log"):
            (self.folder / name).mkdir()
        text = (CONF / "front.conf").read_text()
        values = {
            "DOCS": documented("serving.md", "nginx").replace("127.0.0.1:8000", f"127.0.0.1:{self.django.port}"),
            "ROOT": str(self.folder),
            "PORT": str(self.port),
            "USER": "user root;" if RUNNING_AS_ROOT else "",
        }
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        (self.folder / "front.conf").write_text(text)

    def command(self) -> list[str]:
        nginx = need("nginx", "nginx")
        return [nginx, "-p", str(self.folder), "-e", str(self.folder / "log/start.log"), "-c", "front.conf"]


class Perlbal(Front):
    """As docs/serving.md says; the stand-in below is for where it is not installed."""

    def prepare(self) -> None:
        # Not cheroot: it closes connections without saying so before, and Perlbal 1.80 then keeps back one answer in
        # some thousand.
        text = documented("serving.md", "text").replace("127.0.0.1:8000", f"127.0.0.1:{self.django.simple_port}")
        text = text.replace("0.0.0.0:80\n", f"127.0.0.1:{self.port}\n")
        (self.folder / "perlbal.conf").write_text(text.replace("ENABLE", "  SET reproxy_cache_maxsize = 100\nENABLE"))

    def command(self) -> list[str]:
        perlbal = shutil.which("perlbal")
        if perlbal is None:
            pytest.skip("perlbal is not installed: apt install perlbal")
        return [perlbal, f"--config={self.folder / 'perlbal.conf'}"]


class PerlbalStandIn:
    """Follows X-REPROXY-URL as Perlbal does: in order, over HTTP/1.0, with the client's Range and nothing else."""

    def __init__(self, django: Django) -> None:
        class Handler(_PerlbalHandler):
            port = django.simple_port

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _PerlbalHandler(BaseHTTPRequestHandler):
    port: int

    def do_GET(self) -> None:
        headers = {**dict(self.headers.items()), "Connection": "close", "X-Proxy-Capabilities": "reproxy-file"}
        first = _exchange("127.0.0.1", self.port, self.command, self.path, headers)
        urls = first.header("X-REPROXY-URL").split()
        if not urls:
            self._send(first, first)
            return
        for url in urls:
            match = re.fullmatch(r"http://(.+?)(?::(\d+))?(/.*)?", url)
            if match is None:
                continue
            wanted = {"Connection": "keep-alive"}
            if "Range" in self.headers:
                wanted["Range"] = self.headers["Range"]
            try:
                answer = _exchange(match[1], int(match[2] or 80), self.command, match[3] or "/", wanted)
            except OSError:
                continue
            size = first.header("X-REPROXY-EXPECTED-SIZE")
            if not (200 <= answer.status < 300 or answer.status == 416):
                continue
            if int(size or 0) and size != answer.header("Content-Length"):
                continue
            self._send(first, answer)
            return
        self.send_error(503)

    do_HEAD = do_POST = do_GET  # noqa: N815  # the names that its base class calls

    def _send(self, first: Answer, answer: Answer) -> None:
        """The body and its length are those of *answer*, all else is said by *first*."""
        self.send_response_only(answer.status if answer.status in (206, 416) else first.status)
        for name, value in first.headers.items():
            if name.lower() != "content-length" and not name.lower().startswith("x-reproxy"):
                self.send_header(name, value)
        for name in ("Content-Length", "Content-Range"):
            if answer.header(name) and (name != "Content-Range" or not first.header(name)):
                self.send_header(name, answer.header(name))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _exchange(host: str, port: int, method: str, path: str, headers: dict[str, str]) -> Answer:
    connection = http.client.HTTPConnection(host, port, timeout=10)
    connection._http_vsn, connection._http_vsn_str = 10, "HTTP/1.0"  # type: ignore[attr-defined]
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())


@contextlib.contextmanager
def in_front(kind: str, django: Django) -> Iterator[int]:
    """The port to talk to."""
    match kind:
        case "cheroot":
            yield django.port
        case "wsgiref":
            yield django.simple_port
        case "perlbal stand-in":
            with contextlib.closing(PerlbalStandIn(django)) as standin:
                yield standin.port
        case _:
            with {"nginx": Nginx, "perlbal": Perlbal}[kind](django) as front:
                yield front.port
