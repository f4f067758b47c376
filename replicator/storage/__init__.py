"""The storages that a project names in its settings."""

from replicator.storage.replicated import ReplicatedStorage, replicated_storages

__all__ = ["ReplicatedStorage", "replicated_storages"]
