"""``manage.py replicator wait``."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from types import TracebackType
from typing import Any, Self

from django.core.management.base import CommandError, OutputWrapper
from tqdm import tqdm

from replicator.management.verbs.base import Verb, age_of, number_of, storages_named, targets_named
from replicator.waiting import Awaited, Left, report, wait


class Bar:
    """How a wait goes, on a terminal. Shows nothing until there is something to wait for."""

    def __init__(self) -> None:
        self._bar: Any = None

    def show(self, left: Left) -> None:
        count = len(left)
        if self._bar is None:
            if not count:
                return
            self._bar = tqdm(total=count, unit=" replicas", disable=not sys.stderr.isatty(), leave=False)
        self._bar.total = max(self._bar.total or 0, count)
        self._bar.n = self._bar.total - count
        self._bar.set_postfix_str(", ".join(f"{t}: {n:,}" for t, n in sorted(left.pending.items())))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()


class Wait(Verb):
    name = "wait"
    help = "wait until targets hold everything that is recorded now"
    epilog = """\
For deploy scripts, and before a host is taken out. What is written after it began is not waited for, so that it ends
on a busy site too. It sends nothing itself: workers do, wherever they run.

  manage.py replicator wait --storage staticfiles --timeout 120   after collectstatic
  manage.py replicator wait --target media2                       as long as it takes
  manage.py replicator wait --timeout 0                           only look

The exit code is 0 when everything is there; 1 when the time is over, and at once when a replica has failed, which
only a person can cure: it says what is missing where and why.
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--storage", metavar="ALIAS", action="append", default=[], help="only this; repeatable")
        parser.add_argument("--target", metavar="ALIAS", action="append", default=[], help="only this; repeatable")
        parser.add_argument("--timeout", metavar="SECONDS", type=float, help="the most to wait; no end unless given")

    def run(self, options: dict[str, Any], out: OutputWrapper, err: OutputWrapper) -> None:
        seconds = options["timeout"]
        # Written so that NaN is refused too.
        if seconds is not None and not seconds >= 0:
            raise CommandError(f"--timeout {seconds:g}: write a number of seconds, or 0 to look once.")
        targets = targets_named(options["target"])
        storages = [storage.alias for storage in storages_named(options["storage"])] if options["storage"] else []
        awaited = Awaited(targets, storages)
        begun = time.monotonic()
        try:
            with Bar() as bar:
                left = wait(awaited, seconds, bar.show)
        except KeyboardInterrupt:
            err.write("Interrupted. What is pending is still being sent.")
            sys.exit(130)
        took = age_of(time.monotonic() - begun)
        if not left:
            out.write(f"Synced at {', '.join(targets) or 'no target'} after {took}.")
            return
        for line in report(awaited, left):
            err.write(line)
        failed = sum(left.failed.values())
        if failed:
            raise CommandError(
                f"{number_of(failed, 'replica')} failed, as said above. When the cause is cured: "
                '"manage.py replicator requeue".'
            )
        raise CommandError(f"Not synced after {took}: {number_of(len(left), 'replica')} missing, as said above.")
