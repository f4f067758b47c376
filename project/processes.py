"""A site's processes one by one: started, paused and killed, each with its own log."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from honcho.process import Popen

from project.embedded import ADDRESS, TOP, Embedded

#: Linux: the signal that a process gets when its parent is gone.
_PR_SET_PDEATHSIG = 1


class Ended(Exception):
    """A process ended by itself, or never began to answer."""


class Processes:
    """Those of *site*; *logs*: the folder of their output. A context manager: at its end, none is left."""

    def __init__(self, site: Embedded, logs: Path) -> None:
        self._site = site
        self._logs = logs
        self._commands = {part.name: part.command for part in site.parts()}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Processes:
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self, name: str) -> None:
        """Start it; a broker or a host has answered when this returns."""
        with (self._logs / f"{name}.log").open("ab") as log:
            self._running[name] = Popen(
                self._commands[name],
                env=self._site.environment(),
                cwd=str(TOP),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
        end = time.monotonic() + 60
        while not self._answers(name):
            self.check()
            if time.monotonic() > end:
                raise Ended(f"{name} does not answer; its log is {name}.log.")
            time.sleep(0.05)

    def kill(self, name: str) -> None:
        """SIGKILL, to it and its children at once."""
        process = self._running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def pause(self, name: str) -> None:
        os.killpg(self._running[name].pid, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        os.killpg(self._running[name].pid, signal.SIGCONT)

    def check(self) -> None:
        """Raises ``Ended`` if one has."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise Ended(f"{name} ended by itself, with status {process.returncode}; its log is {name}.log.")

    def end(self) -> None:
        """End them all, those that others need last."""
        for name in reversed(list(self._running)):
            process = self._running.pop(name)
            for number in (signal.SIGCONT, signal.SIGTERM):
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # whatever it left
            process.wait()

    def _answers(self, name: str) -> bool:
        if name == "broker":
            address: tuple[int, str | tuple[str, int]] = (socket.AF_UNIX, str(self._site.socket))
        elif name == "mogilefs":
            # The last port that it opens, if it has that one.
            ports = self._site.ports
            address = (socket.AF_INET, (ADDRESS, ports.get("MOGILEFS_CONTROL_PORT", ports["MOGILEFS_PORT"])))
        elif name in (*self._site.hosts, "s3", "web"):
            port = "PORT" if name == "web" else f"{name.upper()}_PORT"
            address = (socket.AF_INET, (ADDRESS, self._site.ports[port]))
        else:
            return True  # the others only wait for work
        with socket.socket(address[0]) as sock:
            return sock.connect_ex(address[1]) == 0


def _end_with_parent() -> None:
    # So that nothing is left of a demo that was itself killed.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
