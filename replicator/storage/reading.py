"""Reading back from a storage's targets what is not here any more."""

from __future__ import annotations

import errno
import hashlib
import tempfile
from collections.abc import Callable
from typing import IO, TypeVar

from replicator.errors import Corrupt, DeliveryError
from replicator.models import MediaFile
from replicator.storage.replicated import ReplicatedStorage
from replicator.targets import get_target
from replicator.targets.base import Stat, Target, TargetFile, url_path
from replicator.targets.http import PIECE

T = TypeVar("T")

#: Up to this size in memory; above, in a temporary file.
SPOOL = 1024 * 1024


def fetch(storage: ReplicatedStorage, name: str, row: MediaFile | None) -> IO[bytes]:
    """The bytes of *name*, whole, and those that *row* names if the ledger knows it; at their start.

    Raises ``FileNotFoundError`` if no target has it, ``OSError`` if none that may have it can be read.
    """
    file = target_file(storage, name)

    def copy(target: Target) -> IO[bytes]:
        digest = hashlib.sha256()
        spool = tempfile.SpooledTemporaryFile(SPOOL)  # noqa: SIM115  # whoever opened the file closes it
        try:
            with target.open(file) as reader:
                while data := reader.read(PIECE):
                    digest.update(data)
                    spool.write(data)
            _compare(target, row, spool.tell(), digest.hexdigest())
            spool.seek(0)
        except BaseException:
            spool.close()
            raise
        return spool

    return _from_any(storage, name, copy)


def stat(storage: ReplicatedStorage, name: str) -> Stat:
    """What a target says of *name*. Raises as ``fetch`` does."""
    file = target_file(storage, name)

    def ask(target: Target) -> Stat:
        found = target.stat(file)
        if found is None:
            raise FileNotFoundError(name)
        return found

    return _from_any(storage, name, ask)


def _compare(target: Target, row: MediaFile | None, size: int, sha256: str) -> None:
    """Raises ``Corrupt`` for bytes that the ledger does not name. Of some files it knows no hash."""
    if row is not None and (size != row.size or row.sha256 not in ("", sha256)):
        raise Corrupt(f"{target.alias} has another version of it")


def _from_any(storage: ReplicatedStorage, name: str, read: Callable[[Target], T]) -> T:
    """What *read* makes of the first target that has the file."""
    reasons: list[str] = []
    for alias in storage.targets:
        try:
            return read(get_target(alias))
        except FileNotFoundError:
            continue
        except DeliveryError as error:
            reasons.append(str(error))
    if reasons:
        raise OSError(errno.EIO, f"no copy can be read: {'; '.join(reasons)}", name)
    raise FileNotFoundError(errno.ENOENT, "neither here nor at a target", name)


def target_file(storage: ReplicatedStorage, name: str) -> TargetFile:
    """A file of *storage*, for targets that are only asked for it."""
    return TargetFile(storage.alias, name, prefix=url_path(storage.base_url or "/"))
