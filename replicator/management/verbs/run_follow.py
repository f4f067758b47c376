"""Following a long piece of work until it ends: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Any

from django.core.management.base import CommandError, OutputWrapper
from django.utils import timezone
from tqdm import tqdm

from replicator.ledger import database
from replicator.management.verbs.run_report import COMMAND, end_of, line_of, trouble_of
from replicator.models import TargetRun
from replicator.operating.progress import RunProgress, progress_of

#: Seconds between two looks.
_EVERY = 0.5
#: Seconds between two lines where there is no terminal: the first, which then grow to the last.
_SOON, _LATER = 5.0, 60.0
#: Seconds after which workers that take nothing are asked after: more than the sweep's rhythm.
_IDLE = 15.0


def follow(run: TargetRun, err: OutputWrapper) -> RunProgress:
    """Show on *err* how *run* goes, until it has ended; where it is then."""
    view = _Bar() if sys.stderr.isatty() else _Lines(err)
    said = {""}
    begun = time.monotonic()
    try:
        while True:
            found = TargetRun.objects.using(database.alias()).defer("seen").filter(pk=run.pk).first()
            if found is None:
                raise CommandError(f"Run {run.pk} is not there any more: somebody has deleted it.")
            progress = progress_of(found)
            if progress.is_over:
                return progress
            view.show(progress)
            what, line = _news(found, progress, time.monotonic() - begun)
            if what not in said:
                said.add(what)
                view.write(line, err)
            time.sleep(_EVERY)
    finally:
        view.close()


def follow_to_end(run: TargetRun, out: OutputWrapper, err: OutputWrapper) -> None:
    """As ``follow``; what became of it on *out*. Raises ``CommandError`` if it was stopped."""
    try:
        progress = follow(run, err)
    except KeyboardInterrupt:
        err.write(f"It goes on. Watch: {COMMAND} --follow {run.pk}", str)
        sys.exit(130)
    if progress.state == TargetRun.State.STOPPED:
        raise CommandError(f"{end_of(progress)} {progress.reason}")
    out.write(end_of(progress))


def _news(run: TargetRun, progress: RunProgress, seconds: float) -> tuple[str, str]:
    """What comes to pass that is said once, and how it is said."""
    if run.state == TargetRun.State.PAUSED:
        return "paused", f"Paused. It goes on with: {COMMAND} --resume {run.pk}"
    if progress.trouble:
        return progress.trouble, trouble_of(progress)
    idle = run.due_at < timezone.now() and (run.lease_until is None or run.lease_until < timezone.now())
    if idle and seconds >= _IDLE:
        return "idle", "No worker takes it: is one running? celery -A … worker; and for retries, celery -A … beat"
    return "", ""


class _Bar:
    def __init__(self) -> None:
        self._bar: Any = tqdm(total=1.0, bar_format="{percentage:3.0f}%|{bar:30}| {desc}", leave=False)

    def show(self, run: RunProgress) -> None:
        self._bar.n = run.share or 0
        self._bar.set_description_str(line_of(run))

    def write(self, line: str, err: OutputWrapper) -> None:
        with tqdm.external_write_mode(file=sys.stderr):
            err.write(line, str)

    def close(self) -> None:
        with suppress(Exception):
            self._bar.close()


class _Lines:
    def __init__(self, err: OutputWrapper) -> None:
        self._err = err
        self._pause = _SOON
        self._due = time.monotonic() + _SOON

    def show(self, run: RunProgress) -> None:
        if time.monotonic() >= self._due:
            self._pause = min(self._pause * 1.5, _LATER)
            self._due = time.monotonic() + self._pause
            self._err.write(f"{line_of(run)}.", str)

    def write(self, line: str, err: OutputWrapper) -> None:
        err.write(line, str)

    def close(self) -> None:
        pass
