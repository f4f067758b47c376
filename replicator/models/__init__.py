"""The tables, all of them, since Django looks for them here."""

from replicator.models.copies import CopyChunk, CopyFailure, CopyFile, CopyObject, CopyPart, CopyRun
from replicator.models.ledger import MediaFile, NodeState, Replica, ReplicaQuerySet, Slot, TargetState

__all__ = [
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
    "TargetState",
]
