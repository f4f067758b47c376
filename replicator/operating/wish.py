"""What a verb that is asked for a target is, and the words for numbers in what it says."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any, ClassVar

from django.db import transaction
from django.utils import timezone

from replicator import ledger, wake
from replicator.ledger import life, retiring
from replicator.ledger.database import alias
from replicator.models import TargetRun, TargetState
from replicator.operating import runs
from replicator.operating.runs import NotStarted

COMMAND = "manage.py replicator"


class Wish(ABC):
    """One verb, asked for a target in a phase where it makes sense."""

    #: What the note says that was done.
    done: ClassVar[str]

    def __init__(self, state: TargetState, options: Mapping[str, Any], who: str, why: str) -> None:
        self.state = state
        self.target = state.target
        self.options = options
        self.dry_run = bool(options.get("dry_run"))
        self.who = who
        self.why = why

    def check(self) -> None:  # noqa: B027  # most may be had at any time
        """Raises ``NotStarted`` if it must not be."""

    @abstractmethod
    def effect(self) -> list[str]:
        """What it will do, in sentences with counts."""

    def confirm(self) -> str:
        """What must be said before; empty: nothing."""
        return ""

    @abstractmethod
    def do(self) -> tuple[str, TargetRun | None]:
        """What was done, in a sentence or two; and the run that does the rest, if there is one."""

    @property
    def note(self) -> str:
        """Kept with the target."""
        by = f" by {self.who}" if self.who else ""
        return f"{self.done}{by}{f': {self.why}' if self.why else ''}"

    def pending(self) -> int:
        return retiring.replicas_at(self.target).pending().count()

    def enter(self, phase: str) -> None:
        """Raises ``NotStarted`` if it is in another phase by now than it was when this was asked for."""
        was = self.state.phase
        if phase != was and not life.enter(self.target, phase, note=self.note, only_from=[was]):
            raise NotStarted(f"{self.target} was {was}, and is {life.phase_of(self.target)} by now: look again.")

    def start(self, kind: str, **options: Any) -> TargetRun:
        return runs.start(kind, self.target, options=options, dry_run=self.dry_run, who=self.who)

    def send(self) -> int:
        """Have what waits sent now; the number of what waited for another time."""
        hastened = ledger.hasten(self.target)
        transaction.on_commit(partial(wake.wake, [self.target]), using=alias())
        return hastened

    def effect_on_open(self) -> list[str]:
        """What ``cancel_open`` will do."""
        run = runs.open_run(self.target)
        return [f"{named(run)} is cancelled."] if run is not None else []

    def cancel_open(self) -> str:
        """What was cancelled, in a sentence; empty if nothing was under way."""
        run = runs.open_run(self.target)
        if run is None or not runs.cancel(run):
            return ""
        return f" {named(run)} is cancelled."


def check_no_other(target: str) -> None:
    """Raises ``NotStarted`` if a run is under way at *target*."""
    run = runs.open_run(target)
    if run is not None:
        raise NotStarted(
            f"{named(run)} is {run.state}, and two at once would be in each other's way. Let it end, or "
            f"cancel it: {COMMAND} runs --cancel {run.pk}"
        )


def named(run: TargetRun) -> str:
    """At the start of a sentence."""
    name = str(run)
    return f"{name[:1].upper()}{name[1:]}"


def local(moment: datetime) -> datetime:
    """As clocks here show it; with ``USE_TZ = False`` it is so already."""
    return timezone.localtime(moment) if timezone.is_aware(moment) else moment


def of(count: int, noun: str) -> str:
    """``1 file``, ``12,000 files``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size_of(count: float) -> str:
    """``1.5 MiB``."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"
