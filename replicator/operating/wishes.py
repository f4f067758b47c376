"""What each verb does to a target, and what it says before."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from replicator import ledger, wake
from replicator.ledger import backfilling, life, retiring
from replicator.ledger.database import alias
from replicator.models import TargetRun, TargetState
from replicator.operating import audit, runs
from replicator.operating.places import storages_at
from replicator.operating.retiring import brake, check_may_delete, check_nothing_is_lost, quiet_from
from replicator.operating.runs import NotStarted

Phase, Kind = TargetState.Phase, TargetRun.Kind

COMMAND = "manage.py replicator"

#: The option of a run at a target that was not recorded what others were, and which some processes still believe so.
RETURNS = "returns"


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
        life.enter(self.target, phase, note=self.note)

    def start(self, kind: str, **options: Any) -> TargetRun:
        return runs.start(kind, self.target, options=options, dry_run=self.dry_run, who=self.who)

    def send(self) -> int:
        """Have what waits sent now; the number of what waited for another time."""
        hastened = ledger.hasten(self.target)
        transaction.on_commit(partial(wake.wake, [self.target]), using=alias())
        return hastened

    def cancel_open(self) -> str:
        """What was cancelled, in a sentence; empty if nothing was under way."""
        run = runs.open_run(self.target)
        if run is None or not runs.cancel(run):
            return ""
        return f" {named(run)} is cancelled."


class Pause(Wish):
    done = "paused"

    def effect(self) -> list[str]:
        return [
            f"Nothing is sent to {self.target} nor asked of it, until it is resumed: no file, no probe, no read.",
            f"New files are recorded for it, and wait. Waiting now: {of(self.pending(), 'write')}.",
            "Files that workers are just sending arrive.",
        ]

    def do(self) -> tuple[str, TargetRun | None]:
        life.pause(self.target, note=self.note)
        return f"{self.target} is paused. It goes on with: {COMMAND} resume {self.target}", None


class Resume(Wish):
    done = "resumed"

    def effect(self) -> list[str]:
        found = [f"{of(self.pending(), 'write')} that wait for {self.target} are sent now."]
        if self.state.phase != Phase.ACTIVE:
            found.append(f"It is still {self.state.phase} then.")
        return found

    def do(self) -> tuple[str, TargetRun | None]:
        life.resume(self.target, note=self.note)
        self.send()
        return f"{self.target} goes on; {of(self.pending(), 'write')} to send.", None


class ReadOnly(Wish):
    done = "made read-only"

    def effect(self) -> list[str]:
        return [
            f"Nothing is sent to {self.target} until it is activated: new files, overwrites and deletes are "
            f"recorded, and wait. Waiting now: {of(self.pending(), 'write')}.",
            "What it has confirmed is still read from it.",
        ]

    def do(self) -> tuple[str, TargetRun | None]:
        self.enter(Phase.READ_ONLY)
        return f"{self.target} is read-only. It gets what waits with: {COMMAND} activate {self.target}", None


class Drain(Wish):
    done = "made to drain"

    def effect(self) -> list[str]:
        return [
            f"New files are not recorded for {self.target} any more. Overwrites and deletes of what it has are sent.",
            "It is still read, but no local file is removed for its sake.",
        ]

    def do(self) -> tuple[str, TargetRun | None]:
        with transaction.atomic(using=alias()):
            was_read_only = self.state.phase == Phase.READ_ONLY
            self.enter(Phase.DRAINING)
            cancelled = self.cancel_open()
        if was_read_only:
            self.send()
        return (
            f"{self.target} drains.{cancelled} When it is not needed any more: {COMMAND} retire {self.target}",
            None,
        )


class Activate(Wish):
    done = "activated"

    def check(self) -> None:
        if self.state.phase != Phase.RETIRED:
            return
        run = runs.open_run(self.target)
        if run is not None:
            raise NotStarted(
                f"{named(run)} is under way. Let it end, or cancel it first: {COMMAND} runs --cancel {run.pk}"
            )
        quiet = quiet_from(self.target)
        if quiet is not None:
            raise NotStarted(
                f"A DELETE that was sent to {self.target} may still take effect, and hit a file that is sent there "
                f"before {timezone.localtime(quiet):%H:%M:%S}. Try again then."
            )

    def effect(self) -> list[str]:
        if self.state.phase == Phase.READ_ONLY:
            return [f"{of(self.pending(), 'write')} that wait for {self.target} are sent now."]
        lacking = of(Recording(self.target).lacking, "file")
        found = [f"{lacking} that {self.target} lacks are recorded for it, and sent at once; then it is active."]
        if self.state.phase == Phase.RETIRED:
            found.append(
                "Whatever it held before is sent again. What was deleted while it was retired may still be there: "
                f"{COMMAND} audit {self.target} finds it."
            )
        return found

    def do(self) -> tuple[str, TargetRun | None]:
        if self.state.phase == Phase.READ_ONLY:
            self.enter(Phase.ACTIVE)
            self.send()
            return f"{self.target} is active; {of(self.pending(), 'write')} to send.", None
        kind = Kind.RESYNC if self.state.phase == Phase.RETIRED else Kind.BACKFILL
        with transaction.atomic(using=alias()):
            self.enter(Phase.JOINING)
            run = self.start(kind, **{RETURNS: True})
        self.send()
        return f"{self.target} joins, and is active by itself when it has what it should hold.", run


class Backfill(Wish):
    done = "backfilled"

    def check(self) -> None:
        Recording(self.target).check()
        check_no_other(self.target)

    def effect(self) -> list[str]:
        return Recording(self.target).effect(self.state)

    def do(self) -> tuple[str, TargetRun | None]:
        life.meet(self.target)
        run = self.start(Kind.BACKFILL)
        return f"Started {run}.", run


class Resync(Wish):
    done = "resynced"

    def check(self) -> None:
        Recording(self.target).check()
        check_no_other(self.target)

    def effect(self) -> list[str]:
        recording = Recording(self.target)
        return [
            f"{self.target} is taken to have lost everything: {recording.volume()} are sent there again.",
            "Nothing is read from it that it has not got again. It is joining until it has all.",
        ]

    def do(self) -> tuple[str, TargetRun | None]:
        with transaction.atomic(using=alias()):
            if not self.dry_run:
                self.enter(Phase.JOINING)
            run = self.start(Kind.RESYNC)
        return f"Started {run}.", run


class Retire(Wish):
    done = "retired"

    @property
    def delete(self) -> bool:
        return bool(self.options.get("delete"))

    def check(self) -> None:
        if self.state.phase == Phase.RETIRED:
            check_no_other(self.target)
        if self.delete:
            check_may_delete(self.target, self.state)
        check_nothing_is_lost(self.target)

    def confirm(self) -> str:
        return brake(self.target)

    def effect(self) -> list[str]:
        count = of(retiring.replicas_at(self.target).count(), "file")
        found = [f"{self.target} gets nothing any more, and nothing is read from it."]
        run = runs.open_run(self.target)
        if run is not None and run.kind != Kind.RETIRE:
            found.append(f"{named(run)} is cancelled.")
        if self.delete:
            found.append(f"{count} are DELETED there, and what the ledger knows of them there is removed.")
        else:
            found.append(f"What the ledger knows of {count} there is removed. The files stay there.")
        found.append(f'When that is done, remove {self.target} from REPLICATOR["TARGETS"].')
        return found

    def do(self) -> tuple[str, TargetRun | None]:
        with transaction.atomic(using=alias()):
            cancelled = ""
            if not self.dry_run:
                cancelled = self.cancel_open()
                self.enter(Phase.RETIRED)
            run = self.start(Kind.RETIRE, **({"delete": True} if self.delete else {}))
        said = "" if self.dry_run else f"{self.target} is retired.{cancelled} "
        return f"{said}Started {run}.", run


class Audit(Wish):
    done = "audited"

    def check(self) -> None:
        check_no_other(self.target)

    def effect(self) -> list[str]:
        return audit.effect(self.target, self.chosen, dry_run=self.dry_run)

    def do(self) -> tuple[str, TargetRun | None]:
        run = audit.begin(self.target, self.chosen, dry_run=self.dry_run, who=self.who)
        return f"Started {run}.", run

    @property
    def chosen(self) -> dict[str, Any]:
        return {name: value for name, value in self.options.items() if name != "dry_run"}


class Recording:
    """What a backfill of a target has to record."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.storages = [storage.alias for storage in storages_at(target)]

    def check(self) -> None:
        if not self.storages:
            raise NotStarted(
                f"No storage has the target {self.target}: there is nothing that it should hold. Name it in the "
                'option "targets" of a storage in STORAGES.'
            )

    @property
    def lacking(self) -> int:
        return backfilling.lacking(self.target, self.storages).count()

    def volume(self) -> str:
        files = backfilling.living(self.storages)
        return f"{of(files.count(), 'file')} ({size_of(files.aggregate(bytes=Sum('size'))['bytes'] or 0)})"

    def effect(self, state: TargetState) -> list[str]:
        lacking = backfilling.lacking(self.target, self.storages)
        facts = lacking.aggregate(bytes=Sum("size"))
        count = lacking.count()
        if not count:
            return [f"Nothing: every file that {self.target} should hold is recorded for it."]
        waits = "sent at once"
        if state.paused or state.phase == Phase.READ_ONLY:
            waits = f"wait, since {self.target} is {'paused' if state.paused else state.phase}"
        return [f"{of(count, 'file')} ({size_of(facts['bytes'] or 0)}) are recorded for {self.target}, and {waits}."]


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


#: verb → what it does
WISHES: dict[str, type[Wish]] = {
    "pause": Pause,
    "resume": Resume,
    "read-only": ReadOnly,
    "activate": Activate,
    "drain": Drain,
    "retire": Retire,
    "backfill": Backfill,
    "resync": Resync,
    "audit": Audit,
}
