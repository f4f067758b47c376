"""What goes wrong on purpose: asked for by a test while everything runs, taken by the request it befalls."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Fault:
    """See ``tests.mogilefs.cluster.MogileFS`` for the kinds."""

    kind: str
    command: str = ""
    """The tracker's command or the HTTP method; empty: any."""
    times: int | None = 1
    """How many requests it befalls; None: all."""
    seconds: float = 0.0
    value: Any = None


class Faults:
    """Those that still wait for their request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Fault] = {}

    def add(self, fault: Fault) -> int:
        with self._lock:
            number = next(self._numbers)
            self._waiting = {**self._waiting, number: fault}
            return number

    def clear(self) -> None:
        with self._lock:
            self._waiting = {}

    def waiting(self) -> list[Fault]:
        return list(self._waiting.values())

    def take(self, kind: str, command: str = "") -> Fault | None:
        """The oldest fault of *kind* for *command*; it counts as used."""
        if not self._waiting:
            return None
        with self._lock:
            for number, fault in self._waiting.items():
                if fault.kind == kind and fault.command in ("", command):
                    if fault.times is not None:
                        fault.times -= 1
                        if fault.times <= 0:
                            self._waiting = {key: each for key, each in self._waiting.items() if key != number}
                    return fault
        return None


class Gate:
    """What threads pass while it is open, and wait at while it is shut."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()
        self._reopens: float | None = None
        self.shut_since = 0.0

    @property
    def is_open(self) -> bool:
        if not self._open.is_set() and self._reopens is not None and time.monotonic() >= self._reopens:
            self.open()
        return self._open.is_set()

    def shut(self, seconds: float | None = None) -> None:
        """For so long, or until ``open()``."""
        self.shut_since = time.monotonic()
        self._reopens = None if seconds is None else self.shut_since + seconds
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def wait(self, patience: float | None = None) -> bool:
        """Whether it was, or came to be, open within *patience* seconds."""
        if self._open.is_set():
            return True
        end = None if patience is None else time.monotonic() + patience
        while not self.is_open:
            now = time.monotonic()
            if end is not None and now >= end:
                return False
            limits = [each - now for each in (end, self._reopens) if each is not None]
            self._open.wait(max(0.0, min(limits)) if limits else None)
        return True
