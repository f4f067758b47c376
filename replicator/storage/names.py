"""Names, as the ledger knows them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import FileSystemStorage

from replicator import local
from replicator.errors import Refused
from replicator.storage.belonging import nested
from replicator.targets.base import safe_name

if TYPE_CHECKING:
    from replicator.storage.replicated import ReplicatedStorage

#: What a PostgreSQL index and most servers take; bytes.
LONGEST_NAME = 1024


def cleaned(storage: FileSystemStorage, name: str) -> str:
    """*name* as the ledger knows it: relative to the storage, normal, one that can be sent.

    Raises ``SuspiciousFileOperation`` with what is wrong with it.
    """
    relative = os.path.relpath(storage.path(str(name).replace("\\", "/")), storage.location)
    try:
        safe_name(relative)
    except Refused as error:
        raise SuspiciousFileOperation(str(error)) from error
    if local.is_ours(relative):
        raise SuspiciousFileOperation(
            f"{name!r}: names that begin with {local.PREFIX!r} or {local.ASKING!r} are the storage's own"
        )
    if len(os.fsencode(relative)) > LONGEST_NAME:
        raise SuspiciousFileOperation(f"a name of more than {LONGEST_NAME} bytes: {relative[:60]!r}…")
    try:
        relative.encode()
    except UnicodeEncodeError as error:
        raise SuspiciousFileOperation(f"{name!r} is not UTF-8: rename the file") from error
    return relative


def owned(storage: ReplicatedStorage, name: str) -> str:
    """*name*, cleaned, to be written or deleted. Raises ``SuspiciousFileOperation`` for another storage's, too."""
    name = cleaned(storage, name)
    folders = nested(storage)
    if not folders:
        return name
    if name in folders:
        raise SuspiciousFileOperation(f"{name!r} is the folder of the storage {folders[name]!r}: choose another name")
    end = name.rfind("/")
    while end > 0:
        if alias := folders.get(name[:end]):
            raise SuspiciousFileOperation(
                f"{name!r} is in the folder of the storage {alias!r}: "
                f"write it there, as storages[{alias!r}] and the name {name[end + 1 :]!r}"
            )
        end = name.rfind("/", 0, end)
    return name
