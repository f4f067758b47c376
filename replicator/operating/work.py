"""How a worker does a run: step by step, under a lease, each step noted before the next."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID, uuid4

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from replicator.conf import config
from replicator.errors import DeliveryError
from replicator.ledger.database import alias
from replicator.models import TargetRun
from replicator.operating import runs
from replicator.retry import delay_seconds

log = logging.getLogger(__name__)
State = TargetRun.State

#: A worker thinks its hold over a little before the database does.
_MARGIN = 0.9


class Stopped(Exception):
    """A run can't, or must not, go on: the message says why, and what to do."""


class Later(Exception):
    """A run goes on in so many *seconds*: the message says what it waits for."""

    def __init__(self, message: str, *, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class Gone(Exception):
    """The run is not this worker's any more: paused, cancelled, or another worker has it."""


class Work(ABC):
    """What one kind of run does; one object for each time that a worker works at a run."""

    kind: ClassVar[str]

    def __init__(self, run: TargetRun, held: Held) -> None:
        self.run = run
        self.held = held

    @abstractmethod
    def begin(self) -> int:
        """Before the first step, once: the number of files to deal with. May raise ``Stopped``."""

    @abstractmethod
    def step(self) -> bool:
        """Do the next part, and have it noted. Whether there is more to do.

        May be killed at any point and done again. Raises ``Stopped``, ``Later``, or ``Unavailable`` for a target in
        trouble.
        """

    def end(self) -> None:  # noqa: B027  # most have nothing left to do
        """After the last step, before the run is done."""


class Held:
    """A worker's hold on a run. It notes what was done, and finds out whether it is still to go on."""

    def __init__(self, run: TargetRun, token: UUID) -> None:
        self.run = run
        self._token = token
        self._renewed = time.monotonic()
        #: Until when, by this process's monotonic clock, a request may be started that changes something: a little
        #: before another worker may take the run, and each time that the hold is renewed later.
        self.ends = self._end()

    @contextmanager
    def noting(self, **columns: Any) -> Iterator[Counter[str]]:
        """What the block writes into the ledger, and that it was done, in one transaction. It may add to the counts
        that this gives.

        *columns*: of the run, as they are after it; "done" is added to what was done. Raises ``Gone`` if the run is
        not to go on: then nothing of it is written.
        """
        counts: Counter[str] = Counter()
        ends = self._end()
        with transaction.atomic(using=alias()):
            # First: whoever pauses or cancels it waits for this part, or this part is not begun.
            current = self._mine().select_for_update().values_list("counts", flat=True).first()
            if current is None:
                raise Gone
            yield counts
            added = columns.pop("done", 0)
            counts = Counter({**current}) + counts
            self._mine().update(
                **columns, counts=dict(counts), done=F("done") + added, **self._fresh(), attempts=0, trouble=""
            )
        self.ends = ends
        self.run.counts, self.run.done = dict(counts), self.run.done + added
        for name, value in columns.items():
            setattr(self.run, name, value)

    def note(self, counts: Mapping[str, int] | None = None, **columns: Any) -> None:
        """As ``noting``, for what writes nothing else."""
        with self.noting(**columns) as noted:
            noted.update(counts or {})

    def renew(self) -> None:
        """Hold on to it during a long step; cheap enough to be called for each file. Raises ``Gone``."""
        if time.monotonic() - self._renewed < config().lease_seconds / 6:
            return
        self._renewed, ends = time.monotonic(), self._end()
        if not self._mine().update(**self._fresh()):
            raise Gone
        self.ends = ends

    @staticmethod
    def _end() -> float:
        return time.monotonic() + config().lease_seconds * _MARGIN

    def _mine(self) -> Any:
        return TargetRun.objects.using(alias()).filter(pk=self.run.pk, lease=self._token, state=State.RUNNING)

    def _fresh(self) -> dict[str, Any]:
        now = timezone.now()
        return {"lease_until": now + timedelta(seconds=config().lease_seconds), "worked_at": now}

    def give_back(self, **columns: Any) -> bool:
        return bool(self._mine().update(lease=None, lease_until=None, **columns))


def work(
    run_id: int, works: Mapping[str, type[Work]], *, seconds: float | None = None, task: str = ""
) -> dict[str, Any]:
    """Work at a run until it is done, or *seconds* are over (then another worker is woken); what Flower shows of it.

    Safe to call twice, at the same time, and for a run that has ended.
    """
    token = uuid4()
    now = timezone.now()
    until = now + timedelta(seconds=config().lease_seconds)
    free = TargetRun.objects.using(alias()).filter(Q(lease=None) | Q(lease_until__lte=now), pk=run_id)
    task_id = UUID(task) if task else None
    taken = {"lease": token, "lease_until": until, "task": task_id, "worked_at": now}
    if not free.filter(state=State.RUNNING, due_at__lte=now).update(**taken):
        return {"skipped": "busy, or not running"}
    run = TargetRun.objects.using(alias()).get(pk=run_id)
    held = Held(run, token)
    facts = {"run": run.pk, "kind": run.kind, "target": run.target}
    try:
        if _work(
            works[run.kind](run, held), time.monotonic() + (config().run_seconds if seconds is None else seconds)
        ):
            held.give_back(state=State.DONE, ended_at=timezone.now(), seen=None)
            log.info("run done", extra={**facts, **run.counts})
        else:
            held.give_back()
            runs.go_on(run)
    except Gone:
        log.info("run left alone", extra=facts)
    except Stopped as error:
        held.give_back(state=State.STOPPED, ended_at=timezone.now(), reason=str(error), seen=None)
        log.error("run stopped", extra={**facts, "reason": str(error)})  # noqa: TRY400  # said in full
    except Later as later:
        due_at = timezone.now() + timedelta(seconds=later.seconds)
        held.give_back(due_at=due_at, trouble=str(later))
        log.info("run waits", extra={**facts, "reason": str(later)})
    except (DeliveryError, ImproperlyConfigured) as error:
        _hold_up(held, str(error))
    except Exception as error:  # a target of somebody's own, a database that went: people must see why it waits
        log.exception("run raised", extra=facts)
        # The message stays out: it may hold a URL with a password.
        _hold_up(held, f"a defect, or a database in trouble: {type(error).__name__}; the worker's log says more")
    return {"run": str(run), "state": _state(run_id), **run.counts}


def _work(work: Work, end: float) -> bool:
    """Whether it is done."""
    if work.run.total is None:
        total = work.begin()
        work.held.note(total=total)
    while work.step():
        if time.monotonic() >= end:
            return False
    work.end()
    return True


def _hold_up(held: Held, trouble: str) -> None:
    run = held.run
    delay = delay_seconds(run.attempts + 1, base=5.0, cap=300.0, jitter=1.0)
    due_at = timezone.now() + timedelta(seconds=delay)
    held.give_back(due_at=due_at, attempts=F("attempts") + 1, trouble=trouble)
    log.warning("run held up", extra={"run": run.pk, "target": run.target, "trouble": trouble})


def _state(run_id: int) -> str:
    return TargetRun.objects.using(alias()).values_list("state", flat=True).filter(pk=run_id).first() or ""
