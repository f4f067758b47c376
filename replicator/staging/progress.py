"""How far a copy is, in numbers for people: the admin and the command show the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count
from django.utils import timezone

from replicator.ledger.database import alias
from replicator.models import CopyChunk, CopyFile, CopyRun
from replicator.staging.base import NotCopied
from replicator.staging.choices import Choices
from replicator.staging.chunks import COUNTED, OPEN

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
    open: int = 0
    """Files of the rows walked that are still to be dealt with."""

    @property
    def files(self) -> int:
        """Dealt with, whatever became of them."""
        return sum(self.counts.values())

    @property
    def share(self) -> float | None:
        """How much of it is done, from 0 to 1; None: not known."""
        if self.walked:
            walked = 1.0
        elif self.total is None:
            return None
        else:
            walked = min(1.0, self.rows / self.total) if self.total else 0.0
        # Rows are walked before their files are copied: of few rows, with large files, all at once.
        return walked * self.files / (self.files + self.open) if self.open else walked

    @property
    def left(self) -> float | None:
        """About how many files are still to be dealt with; None: not known."""
        if self.walked:
            return self.open
        if self.total is None or not self.rows:
            return None
        return self.open + max(0, self.total - self.rows) * (self.files + self.open) / self.rows


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
    """Since it began, or was resumed, until it was done; None: too soon to say, or it was stopped."""
    bytes_per_second: float | None
    eta: float | None
    """Seconds until it is done, if it goes on like this; None: not known."""
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
    def rows(self) -> int:
        """Walked."""
        return sum(model.rows for model in self.models)

    @property
    def total(self) -> int | None:
        """Rows in all; None: not counted yet."""
        totals = [model.rows if model.walked else model.total for model in self.models]
        known = [total for total in totals if total is not None]
        return sum(known) if len(known) == len(totals) else None

    @property
    def share(self) -> float | None:
        """How much of it is done, from 0 to 1, each model by its rows; None: not known."""
        if self.total is None:
            return None
        done = sum((model.share or 0) * ((model.rows if model.walked else model.total) or 0) for model in self.models)
        return done / self.total if self.total else float(all(model.walked for model in self.models))

    @property
    def is_over(self) -> bool:
        return self.state in (CopyRun.State.DONE, CopyRun.State.CANCELLED)

    def as_json(self) -> dict[str, Any]:
        """For the command's ``--json`` and the admin's page."""
        found = asdict(self) | {"rows": self.rows, "total": self.total, "share": self.share}
        for each, model in zip(found["models"], self.models, strict=True):
            each["share"] = model.share
        return found


def progress_of(run: CopyRun, now: datetime | None = None) -> Progress:
    """Where *run* is. Five statements at most, whatever its size; for one that is over only the one that reads its
    parts, and not even that if they are prefetched."""
    now = now or timezone.now()
    is_over = run.state in (CopyRun.State.DONE, CopyRun.State.CANCELLED)
    left = {} if is_over else _open(run)
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
            left.get(part.pk, 0),
        )
        for part in sorted(run.parts.all(), key=lambda part: part.pk)
    ]
    counts: Counter[str] = Counter()
    for model in models:
        counts.update(model.counts)
    files, copied = sum(counts.values()), sum(model.bytes for model in models)
    failed = CopyFile.objects.using(alias()).filter(run=run, state=CopyFile.State.FAILED, due_at__isnull=False)
    next_at = None if is_over else failed.order_by("due_at").values_list("due_at", flat=True).first()
    until = run.ended_at if run.state == CopyRun.State.DONE and run.ended_at else now
    seconds = (until - run.resumed_at).total_seconds()
    goes = run.state in (CopyRun.State.RUNNING, CopyRun.State.DONE) and seconds >= _SOON
    # Fewer than before are those that failed, and are tried again just now.
    rate = max(0, files - run.files_at_resume) / seconds if goes else None
    to_do = [model.left for model in models]
    known = [number for number in to_do if number is not None]
    dry_run, words = _chosen(run)
    return Progress(
        id=run.pk,
        source=run.source,
        state=run.state,
        dry_run=dry_run,
        started_by=run.started_by,
        started_at=run.started_at,
        ended_at=run.ended_at,
        words=words,
        models=models,
        counts={str(state): counts[state] for state in COUNTED},
        files=files,
        bytes=copied,
        files_per_second=rate,
        bytes_per_second=(copied - run.bytes_at_resume) / seconds if goes else None,
        eta=sum(known) / rate if rate and len(known) == len(to_do) and not is_over else None,
        again=failed.count() if next_at else 0,
        next_at=next_at,
        trouble=run.trouble,
        due_at=run.due_at,
        listing=run.listing,
    )


def _chosen(run: CopyRun) -> tuple[bool, list[str]]:
    """Whether it is a dry run, and what was chosen: also of a run of which only another version knows that."""
    try:
        choices = Choices.from_json(run.choices)
    except NotCopied as error:
        return bool(run.choices.get("dry_run")), [str(error)]
    return choices.dry_run, choices.words()


def _open(run: CopyRun) -> dict[int, int]:
    """Part → files that are still to be dealt with: those of the chunks that there are, by their index."""
    chunks = list(CopyChunk.objects.using(alias()).filter(run=run).values_list("pk", flat=True))
    files = CopyFile.objects.using(alias()).filter(chunk__in=chunks, state__in=OPEN).order_by()
    return dict(files.values_list("part").annotate(Count("pk")))
