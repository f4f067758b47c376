"""How far a copy is, in numbers for people: the admin and the command show the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from replicator.ledger.database import alias
from replicator.models import CopyFile, CopyPart, CopyRun
from replicator.staging.choices import Choices
from replicator.staging.chunks import COUNTED

#: Seconds before which a rate says nothing.
_SOON = 1.0


@dataclass(frozen=True, slots=True)
class ModelProgress:
    """One model's share."""

    model: str
    fields: Sequence[str]
    rows: int
    """Walked."""
    total: int | None
    """Rows in all; None: not counted yet."""
    counts: dict[str, int]
    """State of a file → how many: copied, there, newer, excluded, missing, failed."""
    bytes: int
    """Copied."""
    walked: bool
    trouble: str

    @property
    def share(self) -> float | None:
        """Of the rows that are walked, from 0 to 1; None: not known."""
        if self.walked or self.total is None:
            return 1.0 if self.walked else None
        return min(1.0, self.rows / self.total) if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """One run, at one moment."""

    id: int
    source: str
    state: str
    dry_run: bool
    started_by: str
    started_at: datetime
    ended_at: datetime | None
    words: Sequence[str]
    """What was chosen."""
    models: Sequence[ModelProgress]
    counts: dict[str, int]
    files: int
    """Dealt with, whatever became of them."""
    bytes: int
    files_per_second: float | None
    """Since it began, or was resumed; None: too soon to say, or it does not run."""
    bytes_per_second: float | None
    eta: float | None
    """Seconds until all rows are walked, if it goes on like this; None: not known."""
    again: int
    """Failed files that are tried again by themselves."""
    next_at: datetime | None
    """When the next of these is."""
    trouble: str
    """Why it does not go on just now."""
    due_at: datetime
    """When it does."""
    listing: str

    @property
    def is_over(self) -> bool:
        return self.state in (CopyRun.State.DONE, CopyRun.State.CANCELLED)

    def as_json(self) -> dict[str, Any]:
        """For the command's ``--json`` and the admin's page."""
        found = asdict(self)
        for each, model in zip(found["models"], self.models, strict=True):
            each["share"] = model.share
        return found


def progress_of(run: CopyRun, now: datetime | None = None) -> Progress:
    """Where *run* is. Three statements, whatever its size."""
    now = now or timezone.now()
    parts = list(CopyPart.objects.using(alias()).filter(run=run).order_by("pk"))
    models = [
        ModelProgress(
            part.model,
            part.fields,
            part.rows,
            part.total,
            {str(state): getattr(part, state) for state in COUNTED},
            part.bytes,
            part.walked,
            part.trouble,
        )
        for part in parts
    ]
    counts: Counter[str] = Counter()
    for model in models:
        counts.update(model.counts)
    rows, files, copied = sum(m.rows for m in models), sum(counts.values()), sum(m.bytes for m in models)
    failed = CopyFile.objects.using(alias()).filter(run=run, state=CopyFile.State.FAILED, due_at__isnull=False)
    next_at = failed.order_by("due_at").values_list("due_at", flat=True).first()
    seconds = (now - run.resumed_at).total_seconds()
    goes = run.state == CopyRun.State.RUNNING and seconds >= _SOON
    row_rate = (rows - run.rows_at_resume) / seconds if goes else 0
    left = [m.total - m.rows for m in models if m.total is not None and not m.walked]
    known = all(m.total is not None or m.walked for m in models)
    return Progress(
        id=run.pk,
        source=run.source,
        state=run.state,
        dry_run=Choices.from_json(run.choices).dry_run,
        started_by=run.started_by,
        started_at=run.started_at,
        ended_at=run.ended_at,
        words=Choices.from_json(run.choices).words(),
        models=models,
        counts={str(state): counts[state] for state in COUNTED},
        files=files,
        bytes=copied,
        files_per_second=(files - run.files_at_resume) / seconds if goes else None,
        bytes_per_second=(copied - run.bytes_at_resume) / seconds if goes else None,
        eta=max(0, sum(left)) / row_rate if known and row_rate > 0 else None,
        again=failed.count() if next_at else 0,
        next_at=next_at,
        trouble=run.trouble,
        due_at=run.due_at,
        listing=run.listing,
    )
