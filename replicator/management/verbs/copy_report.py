"""Copies of the live site's media in lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.management.base import OutputWrapper
from django.utils import timezone

from replicator.ledger import database
from replicator.management.verbs.base import age_of, number_of, size_of, write_table
from replicator.models import CopyFailure, CopyFile, CopyRun
from replicator.staging.progress import ModelProgress, Progress

COMMAND = "manage.py replicator copy-media"

#: What became of files, as a column is headed.
_COUNTS = {
    "copied": "copied",
    "there": "there already",
    "newer": "newer here",
    "excluded": "not chosen",
    "missing": "missing",
    "failed": "failed",
}
#: Of these, those that a list of copies has.
_LISTED = ("copied", "missing", "failed")


def command_for(run_id: int, *options: str) -> str:
    """What to write to look at a copy, or to act on it."""
    return " ".join([COMMAND, "--run", str(run_id), *options])


def write_runs(runs: Sequence[Progress], out: OutputWrapper) -> None:
    """A line for each."""
    rows = []
    for run in runs:
        counts = [f"{run.counts[state]:,}" for state in ("copied", "missing", "failed")]
        begun = f"{timezone.localtime(run.started_at):%Y-%m-%d %H:%M}"
        rows.append(
            [
                str(run.id),
                state_of(run),
                done_of(run),
                run.source,
                begun,
                f"{run.files:,}",
                *counts,
                size_of(run.bytes),
            ]
        )
    head = ["copy", "state", "done", "from", "started", "files", *_LISTED, "size"]
    write_table(head, rows, out, right={0, 2, 5, 6, 7, 8, 9})


def write_copies(runs: Sequence[Progress], out: OutputWrapper) -> None:
    """A line for each of those under way."""
    if runs:
        out.write("")
    for run in runs:
        parts = [state_of(run), done_of(run), number_of(run.files, "file")]
        if run.counts["failed"]:
            parts.append(f"{run.counts['failed']:,} failed")
        out.write(f"copy {run.id} from {run.source}: {', '.join(filter(None, parts))}: {command_for(run.id)}")


def write_run(run: Progress, out: OutputWrapper) -> None:
    """All that is to be known of one, but its failures."""
    by = f" by {run.started_by}" if run.started_by else ""
    out.write(f"Copy {run.id} from {run.source}: {state_of(run)}. Started{by} {_ago(run)}.")
    out.write(" ".join(run.words))
    out.write("")
    _write_models(run, out)
    out.write("")
    out.write(f"{line_of(run)}.")
    for line in (*troubles_of_models(run), *filter(None, [trouble_of(run), again_of(run)])):
        out.write(line)


def state_of(run: Progress) -> str:
    """``running``; of a dry run that, too."""
    return f"{run.state}{' (dry run)' if run.dry_run else ''}"


def done_of(run: Progress) -> str:
    """``62%``, never 100% before it is done; empty: not known."""
    if run.is_over or run.share is None:
        return ""
    return f"{min(99, int(run.share * 100))}%"


def line_of(run: Progress) -> str:
    """How far it is, and how fast it goes."""
    done = "would be copied" if run.dry_run else "copied"
    copied = run.counts["copied"]
    parts = [number_of(run.files, "file"), f"{copied:,} {done} ({size_of(run.bytes)})"]
    if run.counts["missing"]:
        parts.append(f"{run.counts['missing']:,} missing at {run.source}")
    if run.counts["failed"]:
        parts.append(f"{run.counts['failed']:,} failed")
    said = ", ".join(parts)
    if run.files_per_second is not None:
        speed = "" if run.dry_run else f", {size_of(run.bytes_per_second or 0)}/s"
        said += f"; {run.files_per_second:,.0f} files/s{speed}"
    if percent := done_of(run):
        said += f"; {percent}"
        if run.eta is not None and run.state == CopyRun.State.RUNNING:
            said += f", about {age_of(run.eta)} left"
    return said


def trouble_of(run: Progress) -> str:
    """Why it does not go on just now; empty: it does."""
    seconds = (run.due_at - timezone.now()).total_seconds()
    if not run.trouble or run.state != CopyRun.State.RUNNING:
        return ""
    return f"In trouble: {run.trouble}; goes on {f'in {age_of(seconds)}' if seconds > 0 else 'now'}"


def troubles_of_models(run: Progress) -> list[str]:
    """Why models can't be read."""
    return [f"{model.model} is not copied: {model.trouble}" for model in run.models if model.trouble]


def again_of(run: Progress) -> str:
    """What is tried again by itself; empty: nothing."""
    if not run.again or run.next_at is None:
        return ""
    seconds = (run.next_at - timezone.now()).total_seconds()
    return (
        f"{number_of(run.again, 'file')} that failed: tried again by themselves, the next "
        f"{f'in {age_of(seconds)}' if seconds > 0 else 'now'}."
    )


def failures_of(run: CopyRun, limit: int) -> list[CopyFailure]:
    """The *limit* that it came across last, with their models."""
    rows = CopyFailure.objects.using(database.alias()).filter(run=run).select_related("part")
    return list(rows.order_by("-pk")[:limit])


def write_failures(run: Progress, failures: Sequence[CopyFailure], out: OutputWrapper) -> None:
    """Which files could not be copied, and why."""
    if not failures:
        return
    every = run.counts["failed"] + run.counts["missing"]
    out.write("")
    if every > len(failures):
        how = command_for(run.id, "--failures", str(every))
        out.write(f"The last of {every:,} that could not be copied (all of them: {how}):")
    else:
        out.write("Not copied:")
    for line in _lines_of_failures(run, failures):
        out.write(f"  {line}")


def failure_as_json(failure: CopyFailure) -> dict[str, Any]:
    return {
        "model": failure.part.model,
        **{
            column: getattr(failure, column)
            for column in ("object_id", "field", "name", "state", "error_kind", "error_text", "attempts", "due_at")
        },
    }


def _lines_of_failures(run: Progress, failures: Sequence[CopyFailure]) -> Iterator[str]:
    now = timezone.now()
    for failure in failures:
        yield f"{failure.part.model} {failure.object_id} {failure.field}: {failure.name}"
        if failure.state == CopyFile.State.MISSING:
            yield f"    missing at {run.source}"
            continue
        again = ""
        if failure.due_at is not None and not run.is_over:
            again = f"; tried again in {age_of(max(0.0, (failure.due_at - now).total_seconds()))}"
        yield f"    {failure.error_kind}: {failure.error_text}{again}"


def _write_models(run: Progress, out: OutputWrapper) -> None:
    """A table of them; counts that are 0 for all are left out."""
    shown = [state for state in _COUNTS if run.counts[state] or state == "copied"]
    rows = [
        [model.model, rows_of(model), *(f"{model.counts[state]:,}" for state in shown), size_of(model.bytes)]
        for model in run.models
    ]
    if len(rows) > 1:
        total = f"{run.rows:,}"
        rows.append(["all", total, *(f"{run.counts[state]:,}" for state in shown), size_of(run.bytes)])
    titles = {**_COUNTS, "copied": "would be copied"} if run.dry_run else _COUNTS
    head = ["model", "rows", *(titles[state] for state in shown), "size"]
    write_table(head, rows, out, right=set(range(1, len(head))))


def rows_of(model: ModelProgress) -> str:
    """``300``, or ``6,200 of 10,000`` while there are more."""
    if model.walked or model.total is None:
        return f"{model.rows:,}"
    return f"{model.rows:,} of {max(model.rows, model.total):,}"


def _ago(run: Progress) -> str:
    since = age_of((timezone.now() - run.started_at).total_seconds())
    took = f", ended after {age_of((run.ended_at - run.started_at).total_seconds())}" if run.ended_at else ""
    return f"{since} ago{took}"
