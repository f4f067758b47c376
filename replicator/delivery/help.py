"""Delivering in a process that is no worker, while it waits for what it recorded."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from django.db import connections

from replicator.delivery.probing import probe
from replicator.delivery.run import deliver

log = logging.getLogger(__name__)

#: Seconds between two looks at a target: for retries, and in case the workers that were busy with it end.
_LOOK_AGAIN = 1.0
#: Seconds that the end of the block waits for requests under way.
_LINGER = 1.0


@contextmanager
def helping(targets: Iterable[str], storage: str) -> Iterator[None]:
    """Deliver files of *storage* to *targets* while the block runs, beside the workers or in their stead.

    One thread for each target, so that none waits for another. What hangs when the block ends goes on as long as the
    process does; after that its lease ends, as a killed worker's does.
    """
    over = threading.Event()
    threads = [threading.Thread(target=_help, args=(target, storage, over), daemon=True) for target in targets]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        end = time.monotonic() + _LINGER
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))


def _help(target: str, storage: str, over: threading.Event) -> None:
    try:
        while not over.is_set():
            try:
                if deliver(target, storage=storage).skipped == "down":
                    probe(target)
            except Exception as error:  # workers may do better; and who waits says what is missing
                log.warning("helping failed", extra={"target": target, "error": type(error).__name__})
            over.wait(_LOOK_AGAIN)
    finally:
        connections.close_all()
