"""Several files dealt with at once by one worker process; what becomes of them is noted as they go."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from django.db import Error as DjangoDatabaseError
from django.db import InterfaceError, OperationalError, connections

from replicator.conf import config
from replicator.errors import DeliveryError, Refused, Unavailable
from replicator.models import CopyFile
from replicator.staging import chunks
from replicator.staging.base import Destination, Facts, Held, Source, Stream
from replicator.staging.chunks import Lease, Result, State

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds between two times that results are noted, the lease is kept, and a pause is noticed.
NOTE_EVERY = 1.0
#: So many files in a row that can't be had are not the files' trouble, but the source's.
IN_A_ROW = 5
#: What a disk says when no file of any name can be written.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class Stopped(Exception):
    """The run was paused or cancelled, or its lease is lost: what is half copied is thrown away."""


@dataclass(slots=True, eq=False)
class Item:
    """One file, and what is known of it."""

    file: CopyFile
    source: Source
    destination: Destination
    name: str
    """As the destination writes it."""
    held: Held | None = None
    facts: Facts | None = None
    to_copy: bool = False


class Watched(Stream):
    """*stream*, until *stop* is set."""

    def __init__(self, stream: Stream, stop: threading.Event) -> None:
        self._stream, self._stop = stream, stop
        self.facts = stream.facts

    def read(self, size: int = -1, /) -> bytes:
        if self._stop.is_set():
            raise Stopped
        return self._stream.read(size)


class Streams:
    """A few threads, and their results. Leaving it as a context notes all that is known."""

    def __init__(self, lease: Lease) -> None:
        staging = config().staging
        self._lease = lease
        #: No file is begun after it, by the monotonic clock.
        self._end = time.monotonic() + config().run_seconds
        self._concurrency = staging.concurrency if staging else 1
        self.stop = threading.Event()
        self._lock = threading.Lock()
        self._results: list[Result] = []
        #: How many could not be had since the last one that could.
        self._in_a_row = 0
        self._asked = 0
        self._fatal: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._note()

    def asked(self) -> None:
        """The source was asked about one more file."""
        with self._lock:
            self._asked += 1

    def each(self, deal: Callable[[Item], Result | None], items: Sequence[Item]) -> None:
        """Have *deal* called with each of *items*, several at once, and note what it returns or raises.

        Ends early if the run does not go on, or time is over. Raises ``LeaseLost``; ``Unavailable`` if the source is
        in trouble; ``OSError`` or a database's error if nothing can be written here.
        """
        todo = deque(items)
        self._run([partial(self._work, deal, todo)] * min(self._concurrency, len(items)))
        if self._fatal is not None:
            self._note()
            raise self._fatal

    def aside(self, ask: Callable[[], T]) -> T:
        """What *ask* returns, or raises. It may take long: the lease is kept; the time for files begins after it."""
        answer: Future[T] = Future()

        def run() -> None:
            try:
                answer.set_result(ask())
            except BaseException as error:
                answer.set_exception(error)

        self._run([run])
        self._end = time.monotonic() + config().run_seconds
        return answer.result()

    def _run(self, works: Sequence[Callable[[], None]]) -> None:
        """Each in a thread of its own, until all have ended. Raises as ``_note``."""
        threads = [
            threading.Thread(target=_with_connections, args=(work,), name=f"replicator-copy-{n}", daemon=True)
            for n, work in enumerate(works)
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(NOTE_EVERY)
                    self._note_if_due()
        except BaseException:
            self.stop.set()
            raise
        finally:
            for thread in threads:
                thread.join()

    def _work(self, deal: Callable[[Item], Result | None], todo: deque[Item]) -> None:
        while not self.stop.is_set() and self._fatal is None and time.monotonic() < self._end:
            try:
                item = todo.popleft()
            except IndexError:
                return
            self._deal(deal, item)

    def _deal(self, deal: Callable[[Item], Result | None], item: Item) -> None:
        try:
            result = deal(item)
        except Stopped:
            return
        except Unavailable as error:
            self._add(_failed(item, error, again=True), unavailable=error)
        except DeliveryError as error:
            self._add(_failed(item, error, again=not isinstance(error, Refused)))
        except (OperationalError, InterfaceError) as error:
            self._end_with(error)
        except OSError as error:
            if error.errno in FULL:
                self._end_with(error)
            else:
                self._add(Result(item.file, State.FAILED, 0, "destination", str(error), again=True))
        except DjangoDatabaseError as error:
            self._add(Result(item.file, State.FAILED, 0, "destination", str(error), again=True))
        except Exception as error:
            log.exception("copying raised", extra={"run": item.file.run_id, "file": item.file.name})
            self._add(
                Result(item.file, State.FAILED, 0, "unexpected", f"{type(error).__name__}: {error}", again=True)
            )
        else:
            if result is not None:
                self._add(result)

    def _add(self, result: Result, unavailable: Unavailable | None = None) -> None:
        with self._lock:
            self._results.append(result)
            self._in_a_row = self._in_a_row + 1 if unavailable else 0
            is_enough = self._in_a_row >= IN_A_ROW
        if unavailable and is_enough:
            # Those that are not begun stay as they are: an hour of trouble is not a failure of each file.
            self._end_with(unavailable)

    def _end_with(self, error: Exception) -> None:
        """Have nothing begun any more. What is under way goes on: it may be large, and all but here."""
        with self._lock:
            self._fatal = error

    def _note_if_due(self) -> None:
        if time.monotonic() - self._lease.noted_at >= NOTE_EVERY:
            self._note()

    def _note(self) -> None:
        with self._lock:
            results, self._results = self._results, []
            asked, self._asked = self._asked, 0
        if not chunks.settle(self._lease, results, asked=asked):
            self.stop.set()


def _with_connections(work: Callable[[], None]) -> None:
    try:
        work()
    finally:
        # They belong to their thread, which ends here.
        connections.close_all()


def _failed(item: Item, error: DeliveryError, *, again: bool) -> Result:
    return Result(item.file, State.FAILED, 0, error.kind, str(error), again, error.retry_after)
