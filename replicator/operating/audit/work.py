"""What a worker does for an audit."""

from __future__ import annotations

from typing import ClassVar

from replicator.models import TargetRun
from replicator.operating.audit.local import LocalAudit
from replicator.operating.audit.target import TargetAudit
from replicator.operating.work import Held, Work


class Audit(Work):
    """Of one target, or of the local disk."""

    kind: ClassVar[str] = TargetRun.Kind.AUDIT

    def __init__(self, run: TargetRun, held: Held) -> None:
        super().__init__(run, held)
        self._audit = TargetAudit(run, held) if run.target else LocalAudit(run, held)

    def begin(self) -> int:
        return self._audit.begin()

    def step(self) -> bool:
        return self._audit.step()
