"""What audits found, in lines for people."""

from __future__ import annotations

from collections.abc import Sequence

from django.core.management.base import OutputWrapper

from replicator.management.verbs.base import write_table
from replicator.management.verbs.run_report import state_of, trouble_of
from replicator.models import TargetRun
from replicator.operating.audit.reporting import FOUND, findings_of, found_by
from replicator.operating.progress import progress_of

COMMAND = "manage.py replicator audit"

#: Findings that are listed of each run.
_LISTED = 50
_CURED = ("sent", "restored", "deleted")


def write_report(runs: Sequence[TargetRun], out: OutputWrapper) -> None:
    """A line for each run, and what there is to say of those that found something."""
    words = ("checked", *FOUND, *_CURED)
    rows = [
        [
            str(run.pk),
            run.target or run.node or "local disk",
            state_of(progress_of(run)),
            *(f"{run.counts.get(word, 0):,}" for word in words),
        ]
        for run in runs
    ]
    write_table(["run", "place", "state", *words], rows, out, right={0, *range(3, 3 + len(words))})
    for run in runs:
        if said := trouble_of(progress_of(run)):
            out.write(f"{run}: {said}")
        if count := run.counts.get("recorded", 0):
            out.write(f"{run}: {count:,} files had no row for it, and have one now.")
        if count := run.counts.get("lacking", 0):
            out.write(f"{run}: {count:,} files have no row for it: manage.py replicator backfill {run.target}")
        if count := run.counts.get("outdated", 0):
            out.write(f"{run}: {count:,} files were written or deleted while nobody recorded it for {run.target}.")
        if count := run.counts.get("unhashed", 0):
            out.write(f"{run}: of {count:,} files no hash is known: compared by size.")
        _write_findings(run, out)


def _write_findings(run: TargetRun, out: OutputWrapper) -> None:
    found = found_by(run)
    if not found:
        return
    out.write("")
    out.write(f"{run}:")
    for finding in findings_of(run)[:_LISTED]:
        cure = f", {finding.get_cure_display()}" if finding.cure else ""
        text = f" ({finding.text})" if finding.text else ""
        out.write(f"  {finding.storage}: {finding.name}: {finding.get_what_display()}{cure}{text}")
    if found > _LISTED:
        out.write(f"  … {found:,} in all: {COMMAND} --report {run.pk} --json")
