"""The storages that a project names in its settings."""

from replicator.storage.distributed import DistributedStorage
from replicator.storage.http import HTTPStorage
from replicator.storage.mogilefs import MogileFSStorage
from replicator.storage.prefetching import prefetch_urls
from replicator.storage.prefixed import PrefixedStorage
from replicator.storage.protected import ProtectedStorage
from replicator.storage.replicated import ReplicatedStorage, replicated_storages
from replicator.storage.static import ReplicatedManifestStaticFilesStorage, ReplicatedStaticFilesStorage

__all__ = [
    "DistributedStorage",
    "HTTPStorage",
    "MogileFSStorage",
    "PrefixedStorage",
    "ProtectedStorage",
    "ReplicatedManifestStaticFilesStorage",
    "ReplicatedStaticFilesStorage",
    "ReplicatedStorage",
    "prefetch_urls",
    "replicated_storages",
]
