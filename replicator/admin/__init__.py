"""What people see and do in Django's admin. It writes nothing itself: only the ledger writes rows."""

from replicator.admin.files import MediaFileAdmin
from replicator.admin.replicas import ReplicaAdmin
from replicator.admin.targets import TargetStateAdmin

__all__ = ["MediaFileAdmin", "ReplicaAdmin", "TargetStateAdmin"]
