"""Threads that send for callers which wait: kept for a while, since to start one takes longer than a small file."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Lock, Thread

Job = Callable[[], object]

#: Seconds that a thread waits for another job.
_KEEP = 10.0


class Threads:
    """As many as there is work for at once. They are daemons: what they do must not keep a process from ending."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        #: Threads that wait for a job which nobody has promised them.
        self._idle = 0
        self._lock = Lock()

    def run(self, job: Job) -> None:
        """Have *job*, which must not raise, done. Raises ``RuntimeError`` if there can be no more threads."""
        with self._lock:
            promised = self._idle > 0
            self._idle -= promised
        if promised:
            self._jobs.put(job)
        else:
            Thread(target=self._work, args=(job,), name="replicator-now", daemon=True).start()

    def _work(self, job: Job) -> None:
        while True:
            job()
            with self._lock:
                self._idle += 1
            try:
                job = self._jobs.get(timeout=_KEEP)
            except Empty:
                with self._lock:
                    if self._idle:
                        self._idle -= 1
                        return
                # Just now one was promised.
                job = self._jobs.get()
