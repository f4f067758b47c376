"""Which storages have a target."""

from __future__ import annotations

from replicator.storage.replicated import ReplicatedStorage, replicated_storages


def storages_at(target: str) -> list[ReplicatedStorage]:
    """Those whose files *target* should hold, by alias."""
    return sorted((s for s in replicated_storages() if target in s.targets), key=lambda s: s.alias)
