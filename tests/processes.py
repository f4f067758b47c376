"""A server process of a test run: started on loopback, paused, ended by its own id."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import pytest

RUNNING_AS_ROOT = os.geteuid() == 0


#: Below the ports that the kernel gives to outgoing connections, one of which could take it before a server does.
PORTS = range(20_000, 32_000)
#: Ports of one process: more than its tests hold at a time, so that none is given out again while its server is down.
BLOCK = 300
_ports: Iterator[int] | None = None


def free_port() -> int:
    """A port that nobody listened on a moment ago, and that no other process of tests gives to a server."""
    global _ports
    _ports = _ports or itertools.cycle(_block())
    for port in _ports:
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("a cycle has no end")


def _block() -> range:
    """Ports for this process alone: the first stays bound as long as it runs, which tells the others."""
    firsts = list(PORTS[::BLOCK])
    # Of its own: tests may seed the other one. Not the block that was let go last: its connections may linger.
    random.SystemRandom().shuffle(firsts)
    for first in firsts:
        sock = socket.socket()
        try:
            sock.bind(("127.0.0.1", first))
        except OSError:
            sock.close()
        else:
            sock.detach()
            return range(first + 1, first + BLOCK)
    raise RuntimeError(f"no block of {BLOCK} ports from {PORTS.start} to {PORTS.stop} is free")


def need(package: str, *candidates: str) -> str:
    """Path of the first of *candidates* that is installed; else the test is skipped, naming the Debian package.

    With ``REPLICATOR_REQUIRE_SERVERS=1`` it fails instead, so that a build machine cannot skip in silence.
    """
    for candidate in candidates:
        found = shutil.which(candidate, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if found:
            return found
    message = f"{candidates[0]} is not installed: apt install {package}"
    if os.environ.get("REPLICATOR_REQUIRE_SERVERS") == "1":
        pytest.fail(message)
    pytest.skip(message)


def descendants(pid: int) -> list[int]:
    """*pid* and all that it started: some (PostgreSQL's) leave its process group."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it ended meanwhile
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


class Server:
    """One server; also a context manager. ``folder`` is its own temporary place, and goes with it."""

    #: Seconds; many times what it takes, since a machine may be busy with other tests.
    ready_within = 60.0
    #: The user to run as when the tests run as root; None: root.
    unprivileged: str | None = None
    stop_signal = signal.SIGTERM

    def __init__(self) -> None:
        # Short: the path of a unix socket may have about 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="repl-", dir="/tmp"))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._stopped: list[int] = []

    # What a kind of server fills in.

    def prepare(self) -> None:
        """Write its configuration; called once."""

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {}

    def answers(self) -> bool:
        """Whether it is ready."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    # What tests use.

    def start(self) -> Self:
        """Start it, again too; return when it answers."""
        if self.process is not None:
            return self
        if not (self.folder / ".prepared").exists():
            self.prepare()
            (self.folder / ".prepared").touch()
            self.own(self.folder)
        with (self.folder / "output.log").open("ab") as output:
            self.process = self.spawn(self.command(), output)
        deadline = time.monotonic() + self.ready_within
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{type(self).__name__} did not start:\n{self.output()}")
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """End it, and what it started; its files stay."""
        if self.process is None:
            return
        self.resume()
        pids = descendants(self.process.pid)
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            for pid in pids:
                self._signal(pid, signal.SIGKILL)
            self.process.wait(timeout=10)
        self.process = None

    def kill(self) -> None:
        """End it as a power cut does."""
        if self.process is not None:
            for pid in descendants(self.process.pid):
                self._signal(pid, signal.SIGKILL)
            self.process.wait(timeout=10)
            self.process = None
            self._stopped = []

    def pause(self) -> None:
        """It keeps its connections and answers nothing."""
        assert self.process is not None
        # The parent first: it must not notice that its children stopped, nor start others.
        for pid in descendants(self.process.pid):
            self._signal(pid, signal.SIGSTOP)
            self._stopped.append(pid)

    def resume(self) -> None:
        for pid in reversed(self._stopped):
            self._signal(pid, signal.SIGCONT)
        self._stopped = []

    def close(self) -> None:
        """Stop it and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

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

    # Shared means.

    def spawn(self, command: list[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, **self.environment()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **self._user(),  # type: ignore[call-overload]
        )

    def run(self, command: list[str]) -> None:
        """A command that ends, as the server's user."""
        with (self.folder / "output.log").open("ab") as output:
            process = self.spawn(command, output)
            assert process.wait(timeout=60) == 0, self.output()

    def own(self, path: Path) -> None:
        """Give *path* and what is below it to the server's user."""
        user = self._user().get("user")
        if user is not None:
            for each in [path, *path.rglob("*")]:
                shutil.chown(each, user)

    def output(self) -> str:
        """What it printed and logged: for the message of a failed test."""
        logs = [self.folder / "output.log", *sorted((self.folder / "log").glob("*"))]
        return "\n".join(log.read_text(errors="replace")[-4000:] for log in logs if log.is_file())

    def _user(self) -> dict[str, str]:
        if RUNNING_AS_ROOT and self.unprivileged:
            return {"user": self.unprivileged, "group": "nogroup"}
        return {}

    @staticmethod
    def _signal(pid: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
