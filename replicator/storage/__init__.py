"""The storages that a project names in its settings."""

from replicator.storage.replicated import ReplicatedStorage

__all__ = ["ReplicatedStorage"]
