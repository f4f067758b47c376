"""Telling a project's receivers what became of a file."""

from __future__ import annotations

from replicator import signals
from replicator.ledger import Outcome
from replicator.models import Replica


def tell(outcomes: list[Outcome]) -> None:
    """Send the signals that somebody listens to."""
    if not outcomes or not any(
        s.has_listeners(Replica) for s in (signals.replica_synced, signals.replica_failed, signals.file_synced)
    ):
        return
    versions = {o.claim.id: o.claim.version for o in outcomes}
    failures = {o.claim.id for o in outcomes if o.error is not None}
    for replica in Replica.objects.filter(pk__in=versions).select_related("file"):
        if replica.status == Replica.Status.SYNCED and replica.version == versions[replica.pk]:
            signals.replica_synced.send_robust(sender=Replica, replica=replica)
            if not Replica.objects.backlog().filter(file=replica.file_id).exists():
                signals.file_synced.send_robust(sender=Replica, file=replica.file)
        elif replica.status == Replica.Status.FAILED and replica.pk in failures:
            signals.replica_failed.send_robust(sender=Replica, replica=replica)
