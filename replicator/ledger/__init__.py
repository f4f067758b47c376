"""The only package that writes ledger rows.

Everything people do in the admin or on the command line, and everything workers find out, goes through the
functions named here. All of them are safe to call twice, and in any order.
"""

from replicator.ledger.batches import Seen, look
from replicator.ledger.leases import (
    Batch,
    Claim,
    Lease,
    Outcome,
    claim,
    claim_one,
    claim_replicas,
    release,
    renew,
    settle,
    sources,
)
from replicator.ledger.recording import (
    Recorded,
    Write,
    hold,
    is_recorded,
    record,
    record_changed,
    record_held,
    record_new,
    record_over,
)
from replicator.ledger.upkeep import due_targets, due_work, hasten, prune, reclass, requeue

__all__ = [
    "Batch",
    "Claim",
    "Lease",
    "Outcome",
    "Recorded",
    "Seen",
    "Write",
    "claim",
    "claim_one",
    "claim_replicas",
    "due_targets",
    "due_work",
    "hasten",
    "hold",
    "is_recorded",
    "look",
    "prune",
    "reclass",
    "record",
    "record_changed",
    "record_held",
    "record_new",
    "record_over",
    "release",
    "renew",
    "requeue",
    "settle",
    "sources",
]
