"""Asking many things at once, of several places, for a limited time."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from threading import Event, Thread

from replicator.errors import Unavailable

log = logging.getLogger(__name__)

#: What it is about, and how to ask. Runs in a thread of its own: no database.
Question = tuple[str, Callable[[], object]]

#: The place that is this machine's own disk: slow at times, and never silent.
HERE = ""
#: A place is silent if it gave no answer for so many seconds; then it is not asked again for so many more.
SILENT_AFTER, PAUSE = 1.0, 30.0
#: Place → until when it is not asked, by the monotonic clock.
_silent: dict[str, float] = {}


def answers(
    questions: Mapping[str, Sequence[Question]], widths: Mapping[str, int], seconds: float
) -> Iterator[tuple[str, str, object]]:
    """Place, what it is about, and the answer, as they come, within *seconds*; None: there was none.

    *widths*: how many may be asked of a place at once. One that gives no answer keeps the others from nothing, and
    is not asked again for a while.
    """
    start = time.monotonic()
    end = start + seconds
    came: SimpleQueue[tuple[str, str, object]] = SimpleQueue()
    over = Event()
    awaited: Counter[str] = Counter()
    heard: dict[str, float] = {}
    for place, its in questions.items():
        if _is_silent(place):
            continue
        awaited[place] = len(its)
        left = deque(its)
        for _ in range(min(widths[place], len(its))):
            # Daemons: a worker that is told to end need not wait for a host that hangs.
            Thread(target=_ask, args=(place, left, came, over), name=f"ask-{place}", daemon=True).start()
    try:
        while awaited.total():
            try:
                place, about, answer = came.get(timeout=max(0.0, end - time.monotonic()))
            except Empty:
                # One that answers, and has many questions, is not silent.
                for place in +awaited:
                    if time.monotonic() - heard.get(place, start) >= SILENT_AFTER:
                        _pause(place)
                return
            awaited[place] -= 1
            heard[place] = time.monotonic()
            yield place, about, answer
    finally:
        over.set()


def _ask(place: str, left: deque[Question], came: SimpleQueue[tuple[str, str, object]], over: Event) -> None:
    while not over.is_set():
        try:
            about, question = left.popleft()
        except IndexError:
            return
        answer: object = None
        try:
            if not _is_silent(place):
                answer = question()
        except Unavailable as error:
            _pause(place)
            log.warning("target gives no answer", extra={"target": place, "error": str(error)})
        except Exception as error:  # whatever it is, the others want their answers
            log.warning("target can't be asked", extra={"target": place, "error": type(error).__name__})
        came.put((place, about, answer))


def _is_silent(place: str) -> bool:
    return _silent.get(place, 0.0) > time.monotonic()


def _pause(place: str) -> None:
    if place != HERE:
        _silent[place] = time.monotonic() + PAUSE
