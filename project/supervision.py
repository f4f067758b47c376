"""Honcho's manager, for a site that must end in order, and leave nothing behind however it is ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from threading import Event, Thread
from typing import Any

from honcho import manager
from honcho.process import Process

# Celery finishes what it has begun. What takes longer is killed, which the ledger survives.
manager.KILL_WAIT = 15


class Leashed(Process):  # type: ignore[misc]  # honcho has no types
    """A process that ends when its supervisor is gone, however that went."""

    def run(self, events: Any = None, ignore_signals: bool = False) -> None:
        Thread(target=self._follow, args=(os.getppid(),), daemon=True).start()
        super().run(events, ignore_signals)

    def _follow(self, supervisor: int) -> None:
        while os.getppid() == supervisor:
            time.sleep(0.5)
        for number, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 1)):
            with suppress(OSError):
                os.kill(self._child.pid, number) if number == signal.SIGTERM else os.killpg(self._child.pid, number)
            time.sleep(patience)
        os._exit(1)


class Supervisor(manager.Manager):  # type: ignore[misc]  # honcho has no types
    """Ends everything when one process ends, as honcho does, except that

    - those in *may_stop* may end and leave the others running;
    - those in *base* (the broker, the hosts) end after the others, which would only complain;
    - a process is told to end, not its whole group: Celery's main process ends its children in its own time.
    """

    def __init__(self, base: Iterable[str], may_stop: Iterable[str]) -> None:
        super().__init__()
        self._process_ctor = Leashed
        self._base = set(base)
        self._may_stop = set(may_stop)
        self._asked_to_end = Event()
        self.ended_by = ""

    @property
    def is_ending(self) -> bool:
        return self._asked_to_end.is_set()

    def pid_of(self, name: str) -> int:
        return int(self._processes[name]["pid"])

    def end(self) -> None:
        """As Ctrl-C does, from any thread."""
        os.kill(os.getpid(), signal.SIGTERM)

    def terminate(self) -> None:
        if self._asked_to_end.is_set():
            return
        self._asked_to_end.set()
        self._terminating = True
        if self.returncode not in (130, 143):
            self.ended_by = next((name for name in self._stopped() if name not in self._may_stop), "")
        Thread(target=self._terminate_in_order, daemon=True).start()

    def _terminate_in_order(self) -> None:
        told: set[str] = set()
        while left := [name for name in self._processes if name not in self._stopped()]:
            first = [name for name in left if name not in self._base] or left
            for name in first:
                pid = self._processes[name].get("pid")  # none: it is just starting
                if pid and name not in told:
                    told.add(name)
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)
            time.sleep(0.05)

    def _stopped(self) -> list[str]:
        return [name for name, process in self._processes.items() if process.get("returncode") is not None]

    def _any_stopped(self) -> bool:
        # Asked by honcho, to end everything: or, when that has begun, to know how long it may take.
        return self.is_ending or any(name not in self._may_stop for name in self._stopped())

    def _system_print(self, data: str) -> None:
        # That processes start and get signals is no news; that one ended by itself is.
        if " stopped " in data and not self.is_ending:
            super()._system_print(data)
