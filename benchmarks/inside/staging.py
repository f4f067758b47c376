"""Copying a live site's media, ours and as people write it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter, sleep
from typing import Any
from unittest import mock

from django.core.files.storage import storages
from django.db import connection

from benchmarks.inside import memory
from project.gallery.models import Picture
from replicator import staging, wake
from replicator.models import CopyRun
from replicator.staging import Choices, planning

FIELD = "gallery.Picture.image"


def name_files(names: list[str]) -> None:
    """A row for each of *names*, and no others."""
    Picture.objects.all().delete()
    Picture.objects.bulk_create([Picture(title="picture", image=name) for name in names], batch_size=5000)


def make_rows(count: int) -> None:
    """So many, each with a name of its own."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO gallery_picture (title, image, attachment, thumb, created_at) SELECT 'picture', "
            "'pictures/' || n %% 1000 || '/file-' || n || '.bin', '', '', now() FROM generate_series(1, %s) n",
            [count],
        )
        cursor.execute("ANALYZE gallery_picture")


def copy() -> dict[str, Any]:
    """A run, by the workers: seconds, and what became of the files."""
    start = perf_counter()
    run = staging.start("live", Choices(only=(FIELD,)))
    while CopyRun.objects.get(pk=run.pk).state == CopyRun.State.RUNNING:
        if perf_counter() - start > 600:
            raise RuntimeError(f"copy {run.pk} did not end within 10 minutes")
        sleep(0.02)
    return {"seconds": perf_counter() - start, **_counts(run)}


def copy_alone(**choices: Any) -> dict[str, int]:
    """A run, by this process; what became of the files."""
    with _messages() as messages:
        run = staging.start("live", Choices(only=(FIELD,), **choices))
        while messages:
            staging.copy(messages.pop(0))
    run.refresh_from_db()
    assert run.state == CopyRun.State.DONE, run.trouble
    return _counts(run)


def growth() -> int:
    """Bytes by which this process grows at its peak in a run of its own."""
    memory.forget_peak()
    before = memory.peak()
    copy_alone()
    return memory.peak() - before


def loop(most: int) -> float:
    """Seconds of what management commands do: one file at a time, of *most* rows."""
    live = storages["live"]
    start = perf_counter()
    for picture in Picture.objects.order_by("pk")[:most]:
        name = str(picture.image.name)
        with live.open(name) as file:
            picture.image.storage.save(name, file)
    return perf_counter() - start


def walk(choices: dict[str, Any]) -> dict[str, Any]:
    """A dry run by this process: seconds, rows walked, bytes of memory after each chunk; seconds of each planning."""
    steps: list[tuple[float, int, int]] = []
    plans: list[float] = []
    plan = planning.plan

    def timed(run_id: int) -> None:
        begun = perf_counter()
        plan(run_id)
        plans.append(perf_counter() - begun)

    start = perf_counter()
    with _messages() as messages, mock.patch.object(planning, "plan", timed):
        run = staging.start("live", Choices(only=(FIELD,), dry_run=True, **choices))
        while messages:
            staging.copy(messages.pop(0))
            rows = run.parts.values_list("rows", flat=True).get()
            steps.append((perf_counter() - start, rows, memory.resident()))
    return {"steps": steps, "plans": plans, **_counts(run)}


def first_file(newest_first: bool) -> float:
    """Seconds from the start of a run, by the workers, until a file is here; the run is cancelled then."""
    names = Picture.objects.order_by("-pk" if newest_first else "pk").values_list("image", flat=True)
    first = [storages["default"].path(name) for name in names[:20]]
    start = perf_counter()
    run = staging.start("live", Choices(only=(FIELD,), newest_first=newest_first))
    while not any(map(os.path.exists, first)):
        if perf_counter() - start > 60:
            raise RuntimeError("no file came within a minute")
        sleep(0.005)
    seconds = perf_counter() - start
    staging.cancel(run)
    return seconds


@contextmanager
def _messages() -> Iterator[list[int]]:
    """The chunks that workers would be woken for, each once."""
    waiting: list[int] = []

    def send(task: str, *messages: list[Any]) -> bool:
        waiting.extend(message[0] for message in messages if message[0] not in waiting)
        return True

    with mock.patch.object(wake, "send", send):
        yield waiting


def _counts(run: CopyRun) -> dict[str, int]:
    columns = ("copied", "there", "missing", "failed", "bytes")
    parts = list(run.parts.values(*columns))
    return {column: sum(part[column] for part in parts) for column in columns}
