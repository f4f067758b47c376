"""What people see and do in Django's admin. It writes nothing itself: only the ledger writes rows."""

from replicator.admin.copyfailures import CopyFailureAdmin
from replicator.admin.copyruns import CopyRunAdmin
from replicator.admin.files import MediaFileAdmin
from replicator.admin.findings import AuditFindingAdmin
from replicator.admin.replicas import ReplicaAdmin
from replicator.admin.targetruns import TargetRunAdmin
from replicator.admin.targets import TargetStateAdmin

__all__ = [
    "AuditFindingAdmin",
    "CopyFailureAdmin",
    "CopyRunAdmin",
    "MediaFileAdmin",
    "ReplicaAdmin",
    "TargetRunAdmin",
    "TargetStateAdmin",
]
