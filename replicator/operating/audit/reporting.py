"""What an audit came to, for people and for monitors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import Case, When

from replicator.ledger.database import alias
from replicator.models import AuditFinding, TargetRun
from replicator.operating.progress import progress_of

#: The counts of files that are not as the ledger says.
FOUND: Sequence[str] = [what.value for what in AuditFinding.What]


def found_by(run: TargetRun) -> int:
    """Files that are not as the ledger says, or that it does not know. Cured or not."""
    return sum(run.counts.get(what, 0) for what in FOUND)


def last_of(targets: Iterable[str] | None = None) -> list[TargetRun]:
    """The newest audit of each of *targets* (empty: the local disk, of each node); of all that ever had one."""
    audits = TargetRun.objects.using(alias()).filter(kind=TargetRun.Kind.AUDIT)
    if targets is not None:
        audits = audits.filter(target__in=list(targets))
    places = audits.order_by("target", "node").values_list("target", "node").distinct()
    found = [audits.filter(target=target, node=node).order_by("-pk").defer("seen").first() for target, node in places]
    return [run for run in found if run is not None]


def findings_of(run: TargetRun) -> Any:
    """Those that were kept: what is missing or wrong first, what nobody knows last."""
    rows = AuditFinding.objects.using(alias()).filter(run=run)
    unknown = Case(When(what=AuditFinding.What.UNKNOWN, then=1), default=0)
    return rows.order_by(unknown, "what", "storage", "name")


def as_json(run: TargetRun) -> dict[str, Any]:
    """With all findings that were kept."""
    facts = ("storage", "name", "what", "cure", "text", "found_at")
    return {
        **progress_of(run).as_json(),
        "options": run.options,
        "found": found_by(run),
        "findings": list(findings_of(run).values(*facts)),
    }
