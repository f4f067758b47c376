"""How a storage's place and a name in it are written, so that two of them can be compared."""

from __future__ import annotations

import os
import re
from typing import Any

from django.core.files.storage import FileSystemStorage, Storage
from django.utils.crypto import salted_hmac

from replicator.targets.storageentries import is_s3
from replicator.targets.storageerrors import sorting


def address_of(storage: Storage, name: str, alias: str = "") -> str:
    """Equal, in every process, for what is the same place and name. No network.

    Of a class that nobody knows: by *alias*, if it is given, else for all that were made in the same way.
    """
    if isinstance(storage, FileSystemStorage):
        with sorting("find"):
            return f"folder {os.path.realpath(storage.path(name))}"
    if is_s3(storage):
        return bucket_address(storage, "/".join(filter(None, (storage_location(storage), name))))
    return f"storage {alias or _like(storage)}: {name}"


def storage_location(storage: Any) -> str:
    """The folder of a bucket that an S3 storage keeps its files in."""
    return str(storage.location).strip("/")


def bucket_address(storage: Any, key: str) -> str:
    """That of a key in the bucket of an S3 storage."""
    return f"bucket {storage.endpoint_url or 'AWS'} {storage.bucket_name}: {key}"


def _like(storage: Any) -> str:
    """Equal for storages of one class that were made in the same way."""
    kind = type(storage)
    try:
        made: object = storage.deconstruct()[1:]
    except (AttributeError, ValueError):
        made = sorted((name, value) for name, value in vars(storage).items() if isinstance(value, str | int | float))
    # Of an object among the options nothing is known but its class, in every process.
    said = re.sub(r" at 0x[0-9a-f]+", "", repr(made))
    # With a key: an address is shown, and passwords, which can be guessed, may be among the options.
    return f"{kind.__module__}.{kind.__qualname__} {salted_hmac(__name__, said).hexdigest()[:16]}"
