"""Reading a storage's files: from here, and back from its targets what is not here any more."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, BinaryIO, TypeVar

from django.core.files import File
from django.core.files.storage import FileSystemStorage

from replicator import ledger, local
from replicator.conf import config
from replicator.ledger.database import alias as database_alias
from replicator.local import Digest
from replicator.models import MediaFile
from replicator.storage import spool
from replicator.storage.belonging import nested
from replicator.storage.holders import holders
from replicator.storage.listing import listing
from replicator.storage.names import cleaned
from replicator.storage.remote import open_remote
from replicator.storage.seen import Seen, look
from replicator.storage.transactions import deletes
from replicator.targets.base import TargetFile, url_path

T = TypeVar("T")


class Reading(FileSystemStorage):
    """How a replicated storage reads its files.

    A file of the ledger's that is not here is read from a target. One that is here is what is read, and nothing is
    asked of the ledger, as long as the site has only this disk and keeps its files there. Else a file here may be an
    older one, and counts only if it is what the ledger says.
    """

    alias: str
    keep_local: bool

    @property
    def targets(self) -> Sequence[str]:
        raise NotImplementedError

    #: Whether the ledger and targets are asked for what is not here.
    _reads_back = True

    @property
    def _may_be_old(self) -> bool:
        """Whether a file here may be another than the ledger's."""
        return self._reads_back and not (self.keep_local and config().shared_media)

    def _open_to_read(self, name: str, mode: str) -> File[Any]:
        if not self._may_be_old:
            try:
                return _ReadFile(self, name, open(self.path(name), mode))  # noqa: PTH123  # whoever opens it closes it
            except FileNotFoundError:
                if not self._reads_back:
                    raise
        row = self._row(name)
        while True:
            try:
                raw = self._open_known(row) if row is not None else self._open_unknown(name)
                break
            except OSError:
                # Perhaps it was overwritten between the look and the reading.
                latest = self._row(name)
                if row is None or latest is None or latest.version == row.version:
                    raise
                row = latest
        file = _ReadFile(self, name, raw if "b" in mode else io.TextIOWrapper(raw, encoding="utf-8"), name)
        file.mode = mode
        if row is not None:
            file.size = row.size
        return file

    def _open_known(self, row: MediaFile) -> BinaryIO:
        _living(row)
        wanted = Digest(row.size, row.sha256)
        here = self._open_here(row.name, wanted)
        if here is not None:
            return here
        first = holders(self.alias, row.name)
        # The others last: what they have must prove itself, as any.
        sources = first + [target for target in self.targets if target not in first]
        return open_remote(sources, target_file(self, row.name), wanted)

    def _open_here(self, name: str, wanted: Digest) -> BinaryIO | None:
        """The file that is here, if it is *wanted*; or what a write that is not committed has put aside."""
        place = self.path(name)
        if not os.path.lexists(place):
            return None
        if (file := _opened_if(place, wanted)) is not None:
            return file
        entries = local.traces(os.fspath(self.location)).get(name, ())
        aside = (path for entry in entries for path in (entry.old, entry.new))
        return next((file for path in aside if (file := _opened_if(path, wanted)) is not None), None)

    def _open_unknown(self, name: str) -> BinaryIO:
        """A file that the ledger never heard of: a transaction's that is not committed, or none of ours."""
        return open(self.path(name), "rb")  # noqa: PTH123  # as above

    def exists(self, name: str) -> bool:
        """Whether the file is in the ledger, or here; not if this transaction has deleted it."""
        name = cleaned(self, name)
        if deletes(self.alias, name):
            return False
        if name in nested(self):
            return True  # a folder, even before anything was saved to it
        if self._may_be_old:
            row = self._row(name)
            return super().exists(name) if row is None else not row.deleted
        return super().exists(name) or ledger.is_recorded(self.alias, name)

    def size(self, name: str) -> int:
        """Bytes."""
        return self._ask(name, super().size, lambda row: row.size)

    def get_modified_time(self, name: str) -> datetime:
        """When it was written; as the ledger knows it, of a file that is not here or need not be."""
        return self._ask(name, super().get_modified_time, lambda row: row.updated_at)

    def get_created_time(self, name: str) -> datetime:
        """As ``get_modified_time``, of its first write."""
        return self._ask(name, super().get_created_time, lambda row: row.created_at)

    def get_accessed_time(self, name: str) -> datetime:
        """As ``get_modified_time``: nobody counts who reads at targets."""
        return self._ask(name, super().get_accessed_time, lambda row: row.updated_at)

    def _ask(self, name: str, here: Callable[[str], T], known: Callable[[MediaFile], T]) -> T:
        """What *here* says of the file that is here; or *known* of its row, if that is the one to be believed."""
        if not self._may_be_old:
            try:
                return here(name)
            except FileNotFoundError:
                if not self._reads_back:
                    raise
        row = self._row(name)
        return here(name) if row is None else known(_living(row))

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        """Folders and files in *path*: those here, and if they need not be here, the ledger's."""
        missing: FileNotFoundError | None = None
        folders: Iterable[str] = ()
        files: Iterable[str] = ()
        try:
            folders, files = super().listdir(path)
        except FileNotFoundError as error:
            if not self._may_be_old:
                raise
            missing = error
        if self._may_be_old:
            folder = os.path.relpath(self.path(path), self.location)
            known = listing(self.alias, "" if folder == "." else folder)
            if missing is not None and not known.folders and not known.files:
                raise missing
            folders = known.folders.union(folders)
            files = known.files.union(files) - known.deleted
        return (
            [name for name in folders if not local.is_ours(name)],
            [name for name in files if not local.is_ours(name)],
        )

    def look(self, names: Collection[str]) -> Mapping[str, Seen]:
        """What is under each of *names*, in the ledger and here. One query."""
        return look(self, names, may_be_old=self._may_be_old)

    def release(self, names: Iterable[str]) -> int:
        """Remove here what ``min_copies`` targets have, and say so, of these files. The number removed."""
        return spool.release(self, names)  # type: ignore[arg-type]  # every storage that reads so is one

    def _row(self, name: str) -> MediaFile | None:
        """What the ledger says of a file."""
        rows = MediaFile.objects.using(database_alias()).filter(storage=self.alias, name=cleaned(self, name))
        return rows.first()


class _ReadFile(File):  # type: ignore[type-arg]  # generic only in the stubs
    """A file that was opened to be read."""

    def __init__(self, storage: Reading, name: str, file: Any, shown: str | None = None) -> None:
        super().__init__(file, shown)
        self._storage, self._stored = storage, name

    def open(self, mode: str | None = None, *_: Any, **__: Any) -> _ReadFile:
        """Open it again, as fields do. Through the storage: it may have gone from here, and writes are recorded."""
        if self.closed:
            again = self._storage.open(self._stored, mode or self.mode)
            self.file = again.file if isinstance(again, _ReadFile) else again
            self.mode = mode or self.mode
            self.__dict__.pop("size", None)
            self.__dict__.update({k: v for k, v in vars(again).items() if k == "size"})
        else:
            self.seek(0)
        return self


def _opened_if(path: str, wanted: Digest) -> BinaryIO | None:
    """The file at *path*, if it is *wanted*. To be closed."""
    try:
        file = open(path, "rb")  # noqa: PTH123, SIM115  # whoever opened the storage's file closes it
    except OSError:
        return None
    if local.is_content(file, wanted):
        return file
    file.close()
    return None


def _living(row: MediaFile) -> MediaFile:
    """*row*, if its file is not deleted: that may still be here, and at targets."""
    if row.deleted:
        raise FileNotFoundError(f"{row.name!r} was deleted")
    return row


def target_file(storage: Reading, name: str) -> TargetFile:
    """A file of *storage*, for targets that are only asked for it."""
    return TargetFile(storage.alias, name, prefix=url_path(storage.base_url or "/"))
