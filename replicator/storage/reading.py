"""Reading a storage's files: from here, and back from its targets what is not here any more."""

from __future__ import annotations

import errno
import hashlib
import tempfile
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, TypeVar

from django.core.files import File
from django.core.files.storage import FileSystemStorage

from replicator import ledger, local
from replicator.errors import Corrupt, DeliveryError
from replicator.models import MediaFile
from replicator.storage.belonging import nested
from replicator.storage.names import cleaned
from replicator.storage.transactions import deletes
from replicator.targets import get_target
from replicator.targets.base import Stat, Target, TargetFile, url_path
from replicator.targets.http import PIECE

if TYPE_CHECKING:
    from replicator.storage.replicated import ReplicatedStorage

T = TypeVar("T")

#: Up to this size in memory; above, in a temporary file.
SPOOL = 1024 * 1024


class Reading(FileSystemStorage):
    """How a replicated storage reads its files."""

    alias: str

    def _open_to_read(self, name: str, mode: str) -> File[Any]:
        return File(open(self.path(name), mode))  # noqa: PTH123  # whoever opens it closes it

    def exists(self, name: str) -> bool:
        """Whether the file is here, or (of another node) in the ledger; not if this transaction has deleted it."""
        name = cleaned(self, name)
        if deletes(self.alias, name):
            return False
        if name in nested(self):
            return True  # a folder, even before anything was saved to it
        return super().exists(name) or ledger.is_recorded(self.alias, name)

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        folders, files = super().listdir(path)
        return (
            [name for name in folders if not local.is_ours(name)],
            [name for name in files if not local.is_ours(name)],
        )


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
