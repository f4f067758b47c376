"""Audits: whether a target, or the local disk, holds what the ledger says, and repair of what it does not."""

from replicator.operating.audit.beginning import begin, effect, nightly
from replicator.operating.audit.verifying import Verified, verify
from replicator.operating.audit.work import Audit

__all__ = ["Audit", "Verified", "begin", "effect", "nightly", "verify"]
