"""Which targets links lead to."""

from __future__ import annotations

from contextlib import suppress

from django.core.exceptions import ImproperlyConfigured

from replicator.storage.protected import ProtectedStorage
from replicator.storage.replicated import replicated_storages
from replicator.targets import get_target


def linked_targets() -> set[str]:
    """Aliases of those that a storage's ``url()`` may name. That one of them is down has to be noticed also while
    nothing is delivered there."""
    found: set[str] = set()
    for storage in replicated_storages():
        with suppress(ImproperlyConfigured):  # a check says so
            if isinstance(storage, ProtectedStorage) and storage.sign == "target":
                found.update(storage.targets)
            elif storage.serve_from == "replicas":
                found.update(alias for alias in storage.targets if get_target(alias).public_url)
    return found
