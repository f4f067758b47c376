"""The tables, all of them, since Django looks for them here."""

from replicator.models.copies import CopyChunk, CopyFailure, CopyFile, CopyObject, CopyPart, CopyRun
from replicator.models.ledger import (
    MediaFile,
    NodeState,
    Replica,
    ReplicaQuerySet,
    Slot,
    TargetState,
    TargetStateQuerySet,
)
from replicator.models.operating import AuditFinding, TargetCounter, TargetRun, TargetSample

__all__ = [
    "AuditFinding",
    "CopyChunk",
    "CopyFailure",
    "CopyFile",
    "CopyObject",
    "CopyPart",
    "CopyRun",
    "MediaFile",
    "NodeState",
    "Replica",
    "ReplicaQuerySet",
    "Slot",
    "TargetCounter",
    "TargetRun",
    "TargetSample",
    "TargetState",
    "TargetStateQuerySet",
]
