"""A site that ``make run`` would start, run for a test, with a browser's view of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import requests

from project.embedded import MOGILEFS_PORTS
from tests.processes import descendants, free_port
from tests.servers import CHECKOUT

PNG = b"\x89PNG\r\n\x1a\n"
#: What a developer's own shell may say about a site is not about the test's.
PREFIXES = (
    *("REPLICATOR_", "MEDIA_", "CELERY_", "DATABASE_", "FLOWER_", "SECRET_", "ALLOWED_", "DJANGO_", "MOGILEFS"),
    *("S3", "SHAPES", "STATIC_TO_", "LINK_", "STAGING_"),
)
SHORT_TIMES = {
    "REPLICATOR_DOUBT_WINDOW": "1",
    "REPLICATOR_RETRY_BASE": "0.5",
    "REPLICATOR_RETRY_CAP": "1",
}


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}


def alive(pids: list[int]) -> dict[int, str]:
    """Those of *pids* that run, with their command lines; what only waits to be collected does not."""
    found = {}
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found[pid] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    return found


def alive_after(pids: list[int], seconds: float) -> dict[int, str]:
    """Those still there, once *seconds* are over or none is."""
    end = time.monotonic() + seconds
    while (left := alive(pids)) and time.monotonic() < end:
        time.sleep(0.1)
    return left


class RunningSite:
    """``python -m project.run`` in a folder of its own. A context manager: at its end, none of it is left."""

    def __init__(self, var: Path, **environment: str) -> None:
        self.var = var
        names = ("PORT", "FLOWER_PORT", "S3_PORT", *(f"MEDIA{n}_PORT" for n in (1, 2, 3)), *MOGILEFS_PORTS)
        self.ports = {name: str(free_port()) for name in names}
        self.environment = {**clean_environment(), **SHORT_TIMES, **self.ports, **environment, "VAR": str(var)}
        self.url = f"http://127.0.0.1:{self.ports['PORT']}/"
        self.flower_url = f"http://127.0.0.1:{self.ports['FLOWER_PORT']}/"
        self.process: subprocess.Popen[bytes] | None = None
        self.pids: list[int] = []
        self._output: Path | None = None

    def start(self) -> Self:
        """Return when it has shown its banner."""
        descriptor, name = tempfile.mkstemp(prefix="repl-run-")
        self._output = Path(name)
        with open(descriptor, "wb") as output:  # noqa: PTH123  # a descriptor
            self.process = subprocess.Popen(
                [sys.executable, "-m", "project.run"],
                cwd=CHECKOUT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        end = time.monotonic() + 180
        while "Ctrl-C ends everything" not in self.output():
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < end, self.output()
            time.sleep(0.1)
        self.pids = descendants(self.process.pid)
        return self

    def output(self) -> str:
        return self._output.read_text() if self._output else ""

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send it a signal, and wait for its end; its exit status."""
        assert self.process is not None
        self.pids = descendants(self.process.pid)
        self.process.send_signal(number)
        return self.process.wait(timeout=120)

    def host_root(self, host: str) -> Path:
        return self.var / "hosts" / host

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.end()
        if self._output:
            self._output.unlink(missing_ok=True)


class Visitor:
    """Somebody at the site's pages, without JavaScript."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def get(self, path: str = "") -> requests.Response:
        return self.session.get(self.url + path.lstrip("/"), timeout=60)

    def post(self, path: str, seen: str = "", **kwargs: object) -> requests.Response:
        """Send the form of the page *seen* (default: *path* itself), token included."""
        token = re.search(r'csrfmiddlewaretoken" value="([^"]+)', self.get(seen or path).text)
        assert token is not None
        data = {"csrfmiddlewaretoken": token[1], **kwargs.pop("data", {})}  # type: ignore[dict-item]
        return self.session.post(self.url + path.lstrip("/"), data=data, timeout=60, **kwargs)  # type: ignore[arg-type]

    def log_in(self) -> requests.Response:
        return self.post("login", data={"username": "demo", "password": "demo"})

    def upload(
        self,
        name: str,
        content: bytes,
        attachment: tuple[str, bytes] | None = None,
        thumb: tuple[str, bytes] | None = None,
    ) -> requests.Response:
        files = {"image": (name, content)}
        if attachment:
            files["attachment"] = attachment
        if thumb:
            files["thumb"] = thumb
        return self.post("", files=files, data={"title": name})

    def statuses(self, picture: int) -> dict[str, dict[str, str]]:
        """File name → host → status, as the page is told."""
        answer = self.get(f"status.json?ids={picture}").json()
        return {f["name"]: {b["target"]: b["status"] for b in f["badges"]} for f in answer["files"]}

    def wait_until_settled(self, picture: int, seconds: float = 90) -> dict[str, dict[str, str]]:
        end = time.monotonic() + seconds
        while not self.get(f"status.json?ids={picture}").json()["settled"]:
            assert time.monotonic() < end, self.statuses(picture)
            time.sleep(0.1)
        return self.statuses(picture)
