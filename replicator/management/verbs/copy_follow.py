"""Following a copy until it ends: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from django.core.management.base import CommandError, OutputWrapper
from django.utils import timezone
from tqdm import tqdm

from replicator.ledger import database
from replicator.management.verbs.base import number_of
from replicator.management.verbs.copy_report import (
    again_of,
    command_for,
    line_of,
    rows_of,
    state_of,
    trouble_of,
    troubles_of_models,
)
from replicator.models import CopyChunk, CopyRun
from replicator.staging.progress import ModelProgress, Progress, progress_of

#: Seconds between two looks.
_EVERY = 0.5
#: Seconds between two lines where there is no terminal: the first, which then grow to the last.
_SOON, _LATER = 5.0, 60.0
#: Seconds after which workers that take nothing are asked after: more than the sweep's rhythm.
_IDLE = 15.0
#: Lines of a terminal that bars leave to others.
_MARGIN = 4


def follow(run: CopyRun, err: OutputWrapper) -> Progress:
    """Show on *err* how *run* goes, until it has ended; where it is then."""
    news = News()
    with Bars() if sys.stderr.isatty() else Lines(err) as view:
        while True:
            found = CopyRun.objects.using(database.alias()).filter(pk=run.pk).first()
            if found is None:
                raise CommandError(f"Copy {run.pk} is not there any more: somebody has deleted it.")
            progress = progress_of(found)
            view.show(progress)
            for line in news.of(progress):
                with view.aside():
                    err.write(line, str)
            if progress.is_over:
                return progress
            time.sleep(_EVERY)


class News:
    """What is said once, when it comes to pass."""

    def __init__(self) -> None:
        self._state = ""
        self._due_at: datetime | None = None
        self._models: set[str] = set()
        self._mark: object = None
        self._moved_at = time.monotonic()
        self._asked = False

    def of(self, run: Progress) -> Iterator[str]:
        """The lines that *run* is worth, now."""
        if run.state != self._state:
            if run.state == CopyRun.State.PAUSED:
                yield f"Paused. It goes on with: {command_for(run.id, '--resume')}"
            elif self._state == CopyRun.State.PAUSED and not run.is_over:
                yield "Goes on."
            self._state = run.state
        if (trouble := trouble_of(run)) and run.due_at != self._due_at:
            self._due_at = run.due_at
            yield trouble
        for line in troubles_of_models(run):
            if line not in self._models:
                self._models.add(line)
                yield line
        if self._is_idle(run) and not self._asked:
            self._asked = True
            yield "No worker takes chunks: is one running? celery -A … worker; and for retries, celery -A … beat"

    def _is_idle(self, run: Progress) -> bool:
        """Whether there has been something to do for a while that no worker took."""
        now = timezone.now()
        mark = (run.state, run.files, run.rows, run.due_at, run.next_at)
        waits = run.next_at is not None and run.next_at > now and run.share == 1.0
        if mark != self._mark or run.state != CopyRun.State.RUNNING or run.due_at > now or waits or _is_held(run.id):
            self._mark, self._moved_at = mark, time.monotonic()
        return time.monotonic() - self._moved_at >= _IDLE


def _is_held(run_id: int) -> bool:
    """Whether a worker is at it."""
    chunks = CopyChunk.objects.using(database.alias()).filter(run=run_id)
    return chunks.filter(lease_until__gt=timezone.now()).exists()


class Lines:
    """A line now and then, less and less often."""

    def __init__(self, err: OutputWrapper) -> None:
        self._err = err
        self._pause = _SOON
        self._due = time.monotonic() + _SOON

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, run: Progress) -> None:
        if time.monotonic() >= self._due and not run.is_over:
            self._pause = min(self._pause * 1.5, _LATER)
            self._due = time.monotonic() + self._pause
            self._err.write(" ".join([f"{state_of(run)}: {line_of(run)}.", again_of(run)]).strip(), str)

    def aside(self) -> AbstractContextManager[None]:
        """To write other lines in."""
        return nullcontext()


def _size_of_terminal() -> os.terminal_size:
    """Of the one that bars are shown on: what is for scripts may go elsewhere."""
    with suppress(OSError):
        return os.get_terminal_size(sys.stderr.fileno())
    return shutil.get_terminal_size()


class Bars:
    """A line for all of it, and a bar for each model below, as many as the terminal has room for."""

    def __init__(self) -> None:
        self._top: Any = None
        #: Its model, and the bar.
        self._bars: dict[str, Any] = {}

    @property
    def labels(self) -> list[str]:
        """The models that have one."""
        return list(self._bars)

    def __enter__(self) -> Self:
        self._top = tqdm(bar_format="{desc}", leave=False, dynamic_ncols=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for bar in reversed([self._top, *self._bars.values()]):
            bar.close()

    def show(self, run: Progress) -> None:
        columns, lines = _size_of_terminal()
        begun = [model for model in run.models if model.rows]
        room = max(1, lines - _MARGIN)
        # Those that are done make room for those that are not, the first before the last.
        done = [model.model for model in begun if model.share == 1.0]
        undone = [model.model for model in begun if model.share != 1.0]
        labels = {*[*undone, *reversed(done)][:room]}
        width = max((len(model.model) for model in run.models), default=0)
        for model in begun:
            if model.model in labels:
                self._show_model(model, labels, width)
        text = f"{state_of(run)}: {line_of(run)}. {again_of(run)}"
        self._top.set_description_str(text[: columns - 1])

    def _show_model(self, model: ModelProgress, kept: set[str], width: int) -> None:
        counts = [number_of(model.files, "file")]
        counts += [f"{model.counts[state]:,} {state}" for state in ("missing", "failed") if model.counts[state]]
        shape = f"{model.model:<{width}} {{percentage:3.0f}}%|{{bar:24}}| {rows_of(model)} rows, {', '.join(counts)}"
        bar = self._bars.pop(model.model, None)
        if bar is None and (free := next((label for label in self._bars if label not in kept), None)):
            bar = self._bars.pop(free)
        bar = bar or tqdm(total=1, bar_format=shape, leave=False, dynamic_ncols=True)
        self._bars[model.model] = bar
        bar.bar_format, bar.n = shape, model.share or 0
        bar.refresh()

    def aside(self) -> AbstractContextManager[None]:
        """To write other lines in."""
        aside: AbstractContextManager[None] = tqdm.external_write_mode(file=sys.stderr)
        return aside
