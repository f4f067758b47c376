"""What each verb does to a target, and what it says before."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from replicator.ledger import life, retiring
from replicator.ledger.database import alias
from replicator.models import TargetRun, TargetState
from replicator.operating import audit, runs
from replicator.operating.missing import Recording
from replicator.operating.progress import is_resync_unfinished
from replicator.operating.retiring import brake, check_may_delete, check_nothing_is_lost, quiet_from
from replicator.operating.runs import NotStarted
from replicator.operating.wish import COMMAND, Wish, check_no_other, local, named, of

Phase, Kind = TargetState.Phase, TargetRun.Kind

#: The option of a run at a target that was not recorded what others were, and which some processes still believe so.
RETURNS = "returns"


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
            *self.effect_on_open(),
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
        if self.state.phase == Phase.READ_ONLY:
            return
        Recording(self.target).check()
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
                f"before {local(quiet):%H:%M:%S}. Try again then."
            )

    @property
    def lacks_nothing(self) -> bool:
        """Whether all that was written since is recorded for it, as it is unless it was out of the settings."""
        return self.state.phase == Phase.READ_ONLY and not Recording(self.target).is_out_of_date

    def effect(self) -> list[str]:
        if self.lacks_nothing:
            return [f"{of(self.pending(), 'write')} that wait for {self.target} are sent now.", *self.if_paused()]
        lacking = of(Recording(self.target).lacking, "file")
        found = [f"{lacking} that {self.target} lacks are recorded for it, and sent at once; then it is active."]
        if self.state.phase == Phase.RETIRED:
            found.append(
                "Whatever it held before is sent again. What was deleted while it was retired may still be there: "
                f"{COMMAND} audit {self.target} finds it."
            )
        return found + self.if_paused()

    def if_paused(self) -> list[str]:
        if not self.state.paused:
            return []
        return [f"But it is paused, and nothing is sent until it is resumed: {COMMAND} resume {self.target}"]

    def do(self) -> tuple[str, TargetRun | None]:
        if self.lacks_nothing:
            self.enter(Phase.ACTIVE)
            self.send()
            said = f"{self.target} is active; {of(self.pending(), 'write')} to send."
            return " ".join([said, *self.if_paused()]), None
        was_lost = self.state.phase == Phase.RETIRED or is_resync_unfinished(self.target)
        kind = Kind.RESYNC if was_lost else Kind.BACKFILL
        with transaction.atomic(using=alias()):
            self.enter(Phase.JOINING)
            run = self.start(kind, **{RETURNS: True})
        self.send()
        said = f"{self.target} joins, and is active by itself when it has what it should hold."
        return " ".join([said, *self.if_paused()]), run


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
        found += self.effect_on_open()
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
