"""Another site's media over HTTP, which a test makes slow, or breaks, while they are copied."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import unquote

_MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"


class LiveSite:
    """A context manager. *files*: name → bytes; may be added to."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.seconds = 0.0
        """That each answer takes."""
        self.in_trouble = False
        """503 for everything."""
        self.asked = 0
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site.asked += 1
                time.sleep(site.seconds)
                data = site.files.get(unquote(self.path.removeprefix("/media/")))
                status = 503 if site.in_trouble else 404 if data is None else 200
                body = data if status == 200 and data is not None else b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Last-Modified", _MODIFIED)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A worker that hangs up is no error of the test."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/media/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
