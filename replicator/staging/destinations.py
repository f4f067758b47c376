"""The destinations of this process, by the storage that a field has."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Any

from django.core.files.storage import Storage, storages
from django.core.signals import setting_changed
from django.utils.functional import LazyObject, empty

from replicator.staging.base import Destination, NotCopied
from replicator.staging.placedestination import PlaceDestination
from replicator.staging.replicateddestination import ReplicatedDestination
from replicator.storage.http import HTTPStorage
from replicator.storage.replicated import ReplicatedStorage
from replicator.targets.storageentries import is_s3, problems_of_s3, saves_its_own_way

#: By the storage's id, which stays its own as long as the storage is kept beside it.
_made: dict[int, tuple[Storage, Destination]] = {}
_lock = threading.Lock()


def destination_of(storage: Storage) -> Destination:
    """The one for *storage* in this process. Raises ``NotCopied`` with what to write instead. No network."""
    storage = _unwrapped(storage)
    with _lock:
        known = _made.get(id(storage))
        if known is None:
            known = _made[id(storage)] = storage, _make(storage)
    return known[1]


def label_of(storage: Storage) -> str:
    """What people know a storage by."""
    if isinstance(storage, ReplicatedStorage):
        return f"STORAGES[{storage.alias!r}]"
    for alias in storages.backends:
        # One that can't be made is not this one.
        with suppress(Exception):
            if storages[alias] is storage:
                return f"STORAGES[{alias!r}]"
    return f"the field's {type(storage).__name__}"


def _unwrapped(storage: Any) -> Storage:
    """What a lazy object, such as ``default_storage``, stands for."""
    while isinstance(storage, LazyObject):
        if storage._wrapped is empty:
            storage._setup()
        storage = storage._wrapped
    found: Storage = storage
    return found


def _make(storage: Storage) -> Destination:
    label = label_of(storage)
    if isinstance(storage, ReplicatedStorage):
        if storage.problem_with_alias:
            raise NotCopied(f"Nothing can be copied to a {type(storage).__name__}: {storage.problem_with_alias}")
        return ReplicatedDestination(storage)
    if isinstance(storage, HTTPStorage):
        raise NotCopied(f"Nothing can be copied to {label}: it only reads. Give the field one that keeps files.")
    if is_s3(storage):
        for problem in problems_of_s3(storage):
            raise NotCopied(f"Nothing can be copied to {label}: it {problem}")
        if not saves_its_own_way(storage):
            # boto takes a quarter of a second and 30 MB to import, and is there only for who has such a storage.
            from replicator.staging.bucketdestination import BucketDestination

            return BucketDestination(storage, label)
    return PlaceDestination(storage, label)


def _forget(**_: object) -> None:
    """Connections must not cross a fork; nor may a lock, that another thread has."""
    global _lock
    _lock = threading.Lock()
    _made.clear()


def _forget_settings(*, setting: str, **_: object) -> None:
    if setting in ("STORAGES", "MEDIA_ROOT", "REPLICATOR", "USE_TZ"):
        _forget()


os.register_at_fork(after_in_child=_forget)
setting_changed.connect(_forget_settings, dispatch_uid="replicator.staging.destinations")
