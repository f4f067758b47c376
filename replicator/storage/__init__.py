"""The storages that a project names in its settings."""

from replicator.storage.mogilefs import MogileFSStorage
from replicator.storage.replicated import ReplicatedStorage, replicated_storages

__all__ = ["MogileFSStorage", "ReplicatedStorage", "replicated_storages"]
