"""A folder of a file system, as a ``FileSystemStorage`` names it: written atomically."""

from __future__ import annotations

import errno
import os
import shutil
import stat as modes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import FileSystemStorage, storages
from django.utils._os import safe_makedirs

from replicator.errors import LocalChanged, Refused, Unavailable
from replicator.targets.base import Content, Entry, Reader, Space, Stat, TargetFile
from replicator.targets.http import CHUNK
from replicator.targets.storageaddresses import address_of
from replicator.targets.storageerrors import failure, reader, sorting
from replicator.targets.storagelisting import files_below

#: What a file system without hard links says.
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
ABSENT = (FileNotFoundError, NotADirectoryError)


class Folder:
    """Where *storage* keeps its files. Never what a replicated storage keeps: see ``_not_the_source``."""

    def __init__(self, storage: FileSystemStorage) -> None:
        self._storage = storage

    def put(self, name: str, file: TargetFile, content: Content, *, if_free: bool = False) -> None:
        what = f"put {name}"
        path = self._path(name, what)
        self._not_the_source(path, file)
        self._not_a_folder(path, what)
        file.may_send()
        temporary = path.with_name(f".{uuid4().hex}.part")
        with sorting(what):
            descriptor = self._create(temporary)
        try:
            try:
                self._fill(descriptor, content, what)
            finally:
                os.close(descriptor)
            file.may_send()
            if not if_free or not self._show_if_free(temporary, path, what):
                with sorting(what):
                    temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise

    def _show_if_free(self, temporary: Path, path: Path, what: str) -> bool:
        """Whether it could be done at once. Raises ``FileExistsError`` if something has the name."""
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise failure(what, error, doubt=False) from None
            if os.path.lexists(path):
                raise FileExistsError(path) from None
            return False
        with suppress(OSError):
            temporary.unlink()
        return True

    def delete(self, name: str, file: TargetFile) -> None:
        what = f"delete {name}"
        path = self._path(name, what)
        self._not_the_source(path, file)
        self._not_a_folder(path, what)
        file.may_send()
        with sorting(what), suppress(*ABSENT):
            path.unlink()

    def stat(self, name: str) -> Stat | None:
        what = f"stat {name}"
        with sorting(what):
            try:
                found = self._path(name, what).stat()
            except ABSENT:
                return None
        return (
            None
            if modes.S_ISDIR(found.st_mode)
            else Stat(found.st_size, modified=datetime.fromtimestamp(found.st_mtime, tz=UTC))
        )

    @contextmanager
    def open(self, name: str) -> Iterator[Reader]:
        what = f"open {name}"
        path = self._path(name, what)
        stream = None
        with sorting(what), suppress(*ABSENT, IsADirectoryError):
            stream = path.open("rb")
        if stream is None:
            raise FileNotFoundError(name)
        with stream:
            yield reader(stream, what)

    def can_list(self) -> bool:
        return True

    def entries(self, folder: str) -> Iterator[Entry]:
        what = f"list {folder}"
        return files_below(str(self._path(folder, what)), what)

    def signed_url(self, name: str, seconds: int, disposition: str) -> str:
        """None: a folder has no URL."""
        return ""

    def space(self) -> Space:
        with sorting("ask for space at"):
            found = shutil.disk_usage(self._there())
        return Space(found.free, found.total)

    def probe(self, name: str) -> None:
        """*name* is not used: that the folder can be written to is seen without a file."""
        with sorting("probe"):
            folder = self._there()
            if not folder.is_dir():
                raise Unavailable(f"{folder} is not a folder")
            if not os.access(folder, os.W_OK | os.X_OK):
                raise Unavailable(f"{folder} cannot be written to")

    def _there(self) -> Path:
        """The folder, or where it will be."""
        folder = Path(self._storage.location)
        while not folder.exists():
            folder = folder.parent
        return folder

    def folder_of(self, name: str) -> str:
        return str(self._path(name, "find").parent)

    def address(self, name: str) -> str:
        """Equal for what is the same place."""
        return address_of(self._storage, name)

    def remove_folder(self, name: str) -> None:
        with suppress(OSError):
            self._path(name, "remove").rmdir()

    def close(self) -> None:
        """It keeps nothing open."""

    def _path(self, name: str, what: str) -> Path:
        with sorting(what):
            return Path(self._storage.path(name))

    def _not_the_source(self, path: Path, file: TargetFile) -> None:
        """Promise 6: a target that is the source's own folder would delete what is to be replicated."""
        try:
            own = Path(storages[file.storage].path(file.name))
        except (ImproperlyConfigured, NotImplementedError):
            return
        # The folders are compared, not the files: what is in the way may be a link.
        if own.name == path.name and os.path.realpath(own.parent) == os.path.realpath(path.parent):
            raise Refused(f"{path} is the file itself: give the target's storage a folder of its own, or a prefix")

    def _not_a_folder(self, path: Path, what: str) -> None:
        with sorting(what):
            if path.is_dir() and not path.is_symlink():
                raise IsADirectoryError

    def _create(self, temporary: Path) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(temporary, flags, 0o666)
        except FileNotFoundError:
            mode = self._storage.directory_permissions_mode
            if mode is None:
                temporary.parent.mkdir(parents=True, exist_ok=True)
            else:
                safe_makedirs(temporary.parent, mode, exist_ok=True)
            return os.open(temporary, flags, 0o666)

    def _fill(self, descriptor: int, content: Content, what: str) -> None:
        """Write all of *content*, to the disk. What its ``read`` raises is not this folder's error."""
        size = 0
        while data := content.read(CHUNK):
            size += len(data)
            view = memoryview(data)
            with sorting(what):
                while view:
                    view = view[os.write(descriptor, view) :]
            if size > content.size:
                break
        if size != content.size:
            raise LocalChanged(f"the content is not the {content.size} bytes that it was said to be")
        with sorting(what):
            if self._storage.file_permissions_mode is not None:
                os.fchmod(descriptor, self._storage.file_permissions_mode)
            # After a power failure there is the old content or the new, not an empty file.
            os.fsync(descriptor)
