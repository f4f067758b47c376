"""Long pieces of work in lines for people."""

from __future__ import annotations

from collections.abc import Sequence

from django.core.management.base import OutputWrapper
from django.utils import timezone

from replicator.management.verbs.base import age_of, number_of, write_table
from replicator.models import TargetRun
from replicator.operating.progress import RunProgress
from replicator.operating.wish import local

COMMAND = "manage.py replicator runs"


def write_runs(runs: Sequence[RunProgress], out: OutputWrapper) -> None:
    """A line for each, and what there is to say of those that do not simply go on."""
    rows = []
    for run in runs:
        begun = f"{local(run.started_at):%Y-%m-%d %H:%M}"
        place = run.target or run.node or "local disk"
        rows.append([str(run.id), run.kind, place, state_of(run), done_of(run), rate_of(run), eta_of(run), begun])
    write_table(["run", "kind", "target", "state", "done", "rate", "left", "started"], rows, out, right={0, 4, 5, 6})
    for run in runs:
        if said := trouble_of(run):
            out.write(f"{run.kind} {run.id}: {said}")


def write_open_runs(runs: Sequence[RunProgress], out: OutputWrapper) -> None:
    """A line for each of those under way."""
    if runs:
        out.write("")
    for run in runs:
        why = trouble_of(run)
        paused = " (paused)" if run.state == TargetRun.State.PAUSED else ""
        out.write(f"{line_of(run)}{paused}{f': {why}' if why else ''}")


def state_of(run: RunProgress) -> str:
    return f"{run.state} (dry run)" if run.dry_run else run.state


def done_of(run: RunProgress) -> str:
    if run.share is None:
        return f"{run.done:,}"
    return f"{100 * run.share:.0f} %"


def rate_of(run: RunProgress) -> str:
    return f"{run.rate:,.0f}/s" if run.rate else "-"


def eta_of(run: RunProgress) -> str:
    return age_of(run.eta) if run.eta is not None else "-"


def trouble_of(run: RunProgress) -> str:
    """Why it does not go on, or ended before it was done; empty if neither."""
    if run.reason:
        return run.reason
    if not run.trouble:
        return ""
    seconds = (run.due_at - timezone.now()).total_seconds()
    return f"{run.trouble}; goes on in {age_of(seconds)}" if seconds > 0 else run.trouble


def line_of(run: RunProgress) -> str:
    """How far it is: ``backfill 4 of media4: 45 %, 9,000 of 20,000 files, 8,211/s, 2 s left; 9,000 recorded``."""
    of_all = f" of {run.total:,}" if run.total is not None else ""
    parts = [done_of(run), f"{run.done:,}{of_all} files" if run.total is not None else number_of(run.done, "file")]
    if run.rate:
        parts.append(rate_of(run))
    if run.eta is not None:
        parts.append(f"{age_of(run.eta)} left")
    place = run.target or run.node or "the local disk"
    return f"{run.kind} {run.id} of {place}: {', '.join(parts)}{counts_of(run)}"


def counts_of(run: RunProgress) -> str:
    """``; 9,000 recorded``."""
    found = ", ".join(f"{count:,} {word}" for word, count in run.counts.items() if count)
    return f"; {found}" if found else ""


def end_of(run: RunProgress) -> str:
    """What became of one that is over."""
    place = run.target or run.node or "the local disk"
    seconds = ((run.ended_at or timezone.now()) - run.started_at).total_seconds()
    dry = " It was a dry run." if run.dry_run else ""
    name = f"{run.kind.capitalize()} {run.id} of {place}"
    return f"{name} is {run.state} after {age_of(seconds)}: {number_of(run.done, 'file')}{counts_of(run)}.{dry}"
