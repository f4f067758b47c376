"""Noting what an audit found: a row for each file, as long as people could read them all."""

from __future__ import annotations

from collections.abc import Sequence

from replicator.ledger.database import alias
from replicator.models import AuditFinding, TargetRun

#: Findings that are kept of one run: so many of unknown files, and so many of others. All are counted.
MOST = 10_000
_LONGEST = 1024


def add(run: TargetRun, findings: Sequence[AuditFinding]) -> None:
    """Keep *findings*, all unknown files or none; of a file that there is one of already, that stays."""
    if not findings:
        return
    rows = AuditFinding.objects.using(alias()).filter(run=run)
    unknown = AuditFinding.What.UNKNOWN
    rows = rows.filter(what=unknown) if findings[0].what == unknown else rows.exclude(what=unknown)
    room = MOST - rows.count()
    AuditFinding.objects.using(alias()).bulk_create(findings[: max(0, room)], batch_size=500, ignore_conflicts=True)


def finding(run: TargetRun, storage: str, name: str, what: str, text: str = "", cure: str = "") -> AuditFinding:
    return AuditFinding(run=run, storage=storage, name=shown(name), what=what, text=text[:2000], cure=cure)


def shown(name: str) -> str:
    """*name*, as every database takes it: bytes that are not UTF-8 are escaped."""
    return name.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")[:_LONGEST]
