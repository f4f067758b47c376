"""A site under test: its processes, and what its media hosts hold, seen from outside."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

from tests.brokers import Postgres
from tests.processes import Server, free_port
from tests.servers import CHECKOUT, MediaHost

#: Settings that make a test wait for seconds where a site waits for minutes.
QUICK: dict[str, Any] = {
    "LEASE_SECONDS": 2.0,
    "DOUBT_WINDOW": 1.0,
    "RETRY_BASE": 0.2,
    "RETRY_CAP": 1.0,
    "ORPHAN_GRACE": 1.0,
    "ANNOUNCE_PAUSE": 2.0,
    # Not to be reached by a broker that is well, on a busy machine: what is not announced waits for a sweep.
    "ANNOUNCE_TIMEOUT": 5.0,
}


def wait_until(condition: Callable[[], object], seconds: float = 60.0, *, say: Callable[[], object] = str) -> float:
    """Return when *condition* is true, with the seconds that took; fail after *seconds*, with what *say* says.

    They are no promise, but many times what it takes: the machine may be busy.
    """
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, f"not within {seconds:g} s: {say()}"
        time.sleep(0.05)
    return time.monotonic() - start


class Killed(Exception):
    """The process is dead."""


class Site:
    """One site: a database, a folder of media, and targets. ``close`` ends every process that it started."""

    def __init__(
        self,
        folder: Path,
        hosts: Mapping[str, MediaHost | str],
        *,
        database: str = "",
        broker: str = "",
        options: Mapping[str, Mapping[str, Any]] | None = None,
        replicator: Mapping[str, Any] | None = None,
        storage: Mapping[str, Any] | None = None,
        log_level: str = "INFO",
        media_root: Path | None = None,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        #: What puts a command onto the site's machine.
        self.prefix = list(prefix)
        self.node = str((replicator or {}).get("NODE", "test"))
        self.hosts = {alias: host if isinstance(host, str) else host.url for alias, host in hosts.items()}
        self.media_root = media_root or folder / "media"
        self.media_root.mkdir(parents=True, exist_ok=True)
        targets = {
            alias: {
                "BACKEND": "replicator.targets.webdav.WebDAVTarget",
                "OPTIONS": {
                    "url": url,
                    "read_timeout": 2.0,
                    "connect_timeout": 2.0,
                    **(options or {}).get(alias, {}),
                },
            }
            for alias, url in self.hosts.items()
        }
        self.environment = {
            "DJANGO_SETTINGS_MODULE": "tests.promises.site",
            "SITE": json.dumps(
                {"replicator": {**QUICK, **(replicator or {}), "TARGETS": targets}, "storage": dict(storage or {})}
            ),
            "VAR": str(folder / "var"),
            "MEDIA_ROOT": str(self.media_root),
            "SECRET_KEY": "tests only",
            "ALLOWED_HOSTS": "127.0.0.1",
            "DATABASE_URL": database or f"sqlite:///{folder / 'db.sqlite3'}",
            "CELERY_BROKER_URL": broker or f"redis://127.0.0.1:{free_port()}/0",
            "LOG_LEVEL": log_level,
            "PYTHONPATH": str(CHECKOUT),
            **(environment or {}),
        }
        (folder / "var").mkdir(parents=True, exist_ok=True)
        self._parts: list[Part] = []
        #: For a test that ends a worker which others need: it leaves another one here.
        self.workers: list[Part] = []
        self._shells: list[Shell] = []
        #: A process that only looks, and does what tests ask of people and of beat.
        self.operator = self.shell()
        self.operator.call("set_up")

    def shell(self) -> Shell:
        """A process that saves, deletes or delivers as told."""
        shell = Shell(self)
        self._shells.append(shell)
        return shell

    def worker(self, processes: int = 2) -> Part:
        """A Celery worker, ready."""
        name = f"{len(self._parts)}@{self.node}"
        options = ["--without-gossip", "--without-mingle", "-n", name]
        return self._start(Part(self, ["worker", "-c", str(processes), *options], says=" ready."))

    def beat(self) -> Part:
        return self._start(Part(self, ["beat", "-s", str(self.folder / "beat")], says="beat: Starting"))

    def sweep_seldom(self) -> None:
        """What beat does for files that a host did not take at the first try; too seldom to be taken for a wake-up.

        A host on a busy machine may not answer within ``read_timeout``, or end a connection just as it is used.
        """
        self.shell().tell("keep_sweeping", every=5.0)

    def _start(self, part: Part) -> Part:
        self._parts.append(part)
        part.start()
        return part

    def close(self) -> None:
        for part in self._parts:
            part.kill()
            part.close()
        for shell in self._shells:
            shell.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def logs(self, *, everything: bool = False) -> str:
        """What all its processes said: their last words, or everything."""
        said = [part.everything() if everything else part.output() for part in self._parts]
        said += [shell.everything() if everything else shell.output() for shell in self._shells]
        return "\n".join(said)

    def disagreements(self, names: Iterable[str], hosts: Iterable[str] | None = None) -> list[str]:
        """Where what browsers get differs from the local disk. The ledger is not asked."""
        found = []
        for alias in self.hosts if hosts is None else hosts:
            for name in names:
                place = self.media_root / name
                wanted = _sha256(place.read_bytes()) if place.exists() else "absent"
                held = self.held(alias, name)
                if held != wanted:
                    found.append(f"{name} at {alias}: {held[:12]} instead of {wanted[:12]}")
        return found

    def held(self, alias: str, name: str) -> str:
        """The SHA-256 of what a browser gets; "absent" for 404."""
        url = urlsplit(self.hosts[alias])
        connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=20)
        try:
            connection.request("GET", f"/media/{quote(name)}")
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            return f"no answer: {error}"
        finally:
            connection.close()
        return {200: _sha256(body), 404: "absent"}.get(answer.status, f"status {answer.status}")

    def wait_for_agreement(
        self, names: Iterable[str], seconds: float = 60.0, hosts: Iterable[str] | None = None
    ) -> float:
        """Until every host shows what the disk holds; the seconds that took."""
        names = list(names)
        return wait_until(
            lambda: not self.disagreements(names, hosts),
            seconds,
            say=lambda: "\n".join([*self.disagreements(names, hosts), str(self.operator.call("rows")), self.logs()]),
        )

    def drain(self) -> None:
        """What beat and workers do, in the operator's process: whatever is due, everywhere, once."""
        self.operator.call("tidy")
        for alias in self.hosts:
            self.operator.call("deliver", target=alias)

    def drain_until_agreed(self, names: Iterable[str], seconds: float = 60.0) -> None:
        """Deliver until nothing is left to do, then look from outside."""

        def settled() -> bool:
            self.drain()
            return not self.operator.call("backlog")

        wait_until(settled, seconds, say=lambda: self.operator.call("rows"))
        found = self.disagreements(names)
        assert not found, found


class Shell:
    """A process of the site, to be told what to do: see ``tests/promises/shell.py``."""

    def __init__(self, site: Site) -> None:
        self._log = site.folder / f"shell-{time.monotonic_ns()}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*site.prefix, sys.executable, "-m", "tests.promises.shell"],
                env={**os.environ, **site.environment},
                cwd=CHECKOUT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    def call(self, command: str, **arguments: Any) -> Any:
        """Do it, and wait for the result."""
        self.tell(command, **arguments)
        return self.answer()

    def tell(self, command: str, **arguments: Any) -> None:
        """Have it begin; ``answer`` waits for the result."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"call": command, "with": arguments}).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(timeout=10)
            raise Killed(self.output())
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{answer['error']}\n{self.output()}")
        return answer["result"]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=10)

    def everything(self) -> str:
        return self._log.read_text(errors="replace")

    def output(self) -> str:
        return self.everything()[-6000:]

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class Part(Server):
    """A Celery process of the site. ``kill`` ends it and its children as a power cut does."""

    ready_within = 90.0

    def __init__(self, site: Site, arguments: list[str], *, says: str) -> None:
        super().__init__()
        self.site, self.arguments, self.says = site, arguments, says

    def command(self) -> list[str]:
        level = ["-l", self.site.environment["LOG_LEVEL"]]
        return [*self.site.prefix, sys.executable, "-m", "celery", "-A", "project.celery", *self.arguments, *level]

    def environment(self) -> dict[str, str]:
        return self.site.environment

    def answers(self) -> bool:
        return self.says in self.everything()

    def start(self) -> Self:
        (self.folder / "output.log").unlink(missing_ok=True)
        return super().start()

    def everything(self) -> str:
        """All that it printed since it was started."""
        log = self.folder / "output.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def output(self) -> str:
        return self.everything()[-8000:]


def new_database(postgres: Postgres, *, by_socket: bool = False) -> str:
    """The URL of an empty database of its own; of its socket, which needs no network."""
    import psycopg  # only where PostgreSQL is used

    name = f"site_{time.monotonic_ns()}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    if by_socket:
        return f"postgresql://postgres@/{name}?host={postgres.folder}&port={postgres.port}"
    return postgres.url.rpartition("/")[0] + f"/{name}"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
