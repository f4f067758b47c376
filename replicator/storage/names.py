"""Names, as the ledger knows them."""

from __future__ import annotations

import os

from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import FileSystemStorage

from replicator import local
from replicator.errors import Refused
from replicator.targets.base import safe_name

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
        raise SuspiciousFileOperation(f"{name!r}: names that begin with {local.PREFIX!r} are the storage's own")
    if len(os.fsencode(relative)) > LONGEST_NAME:
        raise SuspiciousFileOperation(f"a name of more than {LONGEST_NAME} bytes: {relative[:60]!r}…")
    try:
        relative.encode()
    except UnicodeEncodeError as error:
        raise SuspiciousFileOperation(f"{name!r} is not UTF-8: rename the file") from error
    return relative
