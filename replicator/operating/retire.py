"""Retire: what the ledger knows of a target goes, and, if people want that, what the target holds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar

from django.utils import timezone

from replicator.conf import config
from replicator.ledger import life, retiring
from replicator.models import TargetRun, TargetState
from replicator.operating.backfill import batch_size, breathe
from replicator.operating.deleting import Deleted, Deleting, own_folder_at
from replicator.operating.retiring import only_here_among
from replicator.operating.work import Held, Later, Stopped, Work

#: Files that are deleted at the target until it is noted.
_BATCH_DELETING = 500
#: Seconds that processes may go on to believe that the target is not retired, and some more for their clocks.
_BELIEVED = 10.0
#: Seconds after which what somebody was just writing is looked at again; and how often.
_AGAIN, _TIMES = 2.0, 30
#: What "quiet_at" in the options is: when nothing that was sent before can take effect any more.
_QUIET_AT = "quiet_at"


class Retire(Work):
    """Walks the replicas by their files. Those that must stay are left behind, and told of at the end."""

    kind: ClassVar[str] = TargetRun.Kind.RETIRE

    def __init__(self, run: TargetRun, held: Held) -> None:
        super().__init__(run, held)
        self.target = run.target
        self.delete = bool(run.options.get("delete")) and not run.dry_run
        self.refusal = ""

    def begin(self) -> int:
        return retiring.replicas_at(self.target).count()

    def step(self) -> bool:
        if not self.run.dry_run:
            self._check()
        some = retiring.next_replicas(
            self.target, self.run.position, _BATCH_DELETING if self.delete else batch_size()
        )
        if not some:
            return self._is_something_left()
        only_here = only_here_among(self.target, list(some))
        free = [pk for pk in some if pk not in only_here]
        done = Deleted(gone=free)
        if self.delete:
            done = Deleting(self.target, self.held).delete(retiring.with_files(free))
        for reason in done.refused.values():
            self.refusal = reason
        self._note(list(some.values()), only_here, done)
        if done.trouble is not None:
            raise done.trouble
        breathe()
        return True

    def _note(self, files: Sequence[int], only_here: set[int], done: Deleted) -> None:
        columns = {}
        if done.trouble is None:
            # What is walked once more was counted before.
            columns = {"position": files[-1], "done": 0 if self.run.step else len(files)}
        with self.held.noting(**columns) as counts:
            counts["removed"] = len(done.gone) if self.run.dry_run else retiring.remove(done.gone)
            if self.delete:
                counts["deleted"] = len(done.gone)
            if self.run.dry_run:
                counts["kept"] = len(only_here)

    def _check(self) -> None:
        state = life.meet(self.target)
        if state.phase != TargetState.Phase.RETIRED:
            raise Stopped(f"{self.target} is not retired any more.")
        if self.delete:
            if self.target not in config().targets:
                raise Stopped(f'{self.target} is not in REPLICATOR["TARGETS"] any more: nobody can delete there.')
            if state.paused:
                raise Later(f"{self.target} is paused", seconds=_AGAIN)
        if self.run.position or self.run.step:
            return
        self._wait_for_quiet(state)
        if self.delete and (own := own_folder_at(self.target)):
            raise Stopped(
                f"{self.target} keeps its files in the folder of its storage {own!r} here: deleting would hit both, "
                f"so none was deleted. To leave them there: manage.py replicator retire {self.target}"
            )

    def _wait_for_quiet(self, state: TargetState) -> None:
        """Until no PUT can bring back what is deleted; nor, where nothing is, undo what is sent there next, should
        the target be activated at once: see "Doubt" in the ledger's protocol."""
        now = timezone.now()
        believed = state.phase_since + timedelta(seconds=_BELIEVED)
        if now < believed:
            raise Later("workers may not know yet that it is retired", seconds=(believed - now).total_seconds())
        if retiring.is_leased(self.target, now):
            raise Later("workers are just sending there", seconds=_AGAIN)
        if not retiring.is_unsettled(self.target):
            return
        quiet = self.run.options.get(_QUIET_AT)
        if quiet is None:
            quiet = (now + timedelta(seconds=config().doubt_window)).isoformat()
            self.held.note(options={**self.run.options, _QUIET_AT: quiet})
        left = (datetime.fromisoformat(quiet) - now).total_seconds()
        if left > 0:
            raise Later("what was sent there without an answer may still arrive", seconds=left)

    def _is_something_left(self) -> bool:
        """After a walk: whether another is worth it. Raises ``Stopped`` if some replicas must stay."""
        if self.run.dry_run:
            return False
        rows = retiring.replicas_at(self.target)
        left = rows.count()
        if not left:
            return False
        times = int(self.run.step.removeprefix("again ") or 0)
        some = list(rows.values_list("pk", flat=True)[: batch_size()])
        only_here = only_here_among(self.target, some)
        if only_here and (len(only_here) == len(some) or times):
            example = rows.select_related("file").filter(pk__in=only_here).first()
            raise Stopped(
                f"{left:,} of its files stay: {self.target} has the only copy that is known of {len(only_here):,} of "
                f"them, such as {example.file if example else '…'}. Bring it back (manage.py replicator activate "
                f"{self.target}), let other targets get these, and retire it again."
            )
        if self.refusal and times:
            raise Stopped(
                f"{left:,} of its files could not be deleted: {self.refusal}. When that is cured, or to leave them "
                f"there, retire it again: manage.py replicator retire {self.target}"
            )
        if times >= _TIMES:
            raise Stopped(f"{left:,} of its replicas are held by somebody's transaction. Retire it again later.")
        self.held.note(step=f"again {times + 1}", position=0)
        raise Later("somebody was just writing what is left", seconds=_AGAIN)
