"""Any Django storage, through nothing but the Storage API: exact names, but not atomic."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from django.core.files import File
from django.core.files.storage import Storage

from replicator.errors import Corrupt, LocalChanged, Refused, Unavailable
from replicator.targets.base import Content, Entry, Reader, Stat, TargetFile
from replicator.targets.http import CHUNK
from replicator.targets.storageaddresses import address_of
from replicator.targets.storageerrors import reader, sorting
from replicator.targets.storagelisting import files_of, lists

#: Up to this size a content is held in memory, above in a temporary file.
SPOOL = 1024 * 1024


class AnyStorage:
    """Keeps files under exactly their names in *storage*; *alias*: its own, or what else people know it by.

    The API has no atomic replacement. So that readers miss a file as shortly as may be, and never for a content that
    fails, the whole content is at hand before anything is changed.
    """

    def __init__(self, storage: Storage, alias: str) -> None:
        self._storage = storage
        self._alias = alias

    def put(self, name: str, file: TargetFile, content: Content, *, if_free: bool = False) -> None:
        what = f"put {name}"
        with _spooled(content) as spool:
            if not if_free:
                self._make_free(name, file, what)
            elif self._exists(name, what):
                raise FileExistsError(name)
            upload = File(spool, name)
            # Many storages look for it here.
            upload.content_type = file.content_type  # type: ignore[attr-defined]
            file.may_send()
            with sorting(what, doubt=True):
                saved = self._storage.save(name, upload)
            if saved != name:
                with suppress(Exception):
                    self._storage.delete(saved)
                raise Corrupt(
                    f"the storage {self._alias!r} saved {name} as {saved}: name one in STORAGES that keeps names"
                )
        with sorting(what):
            held = self._storage.size(name)
        if held != content.size:
            raise Corrupt(f"{name}: {content.size} bytes were sent, and the storage has {held}")

    def delete(self, name: str, file: TargetFile) -> None:
        what = f"delete {name}"
        with sorting(what):
            if not self._storage.exists(name):
                return
        self._delete(name, file, what)

    def stat(self, name: str) -> Stat | None:
        with sorting(f"stat {name}"):
            # Not all storages say of an absent file's size that there is no such file.
            if not self._storage.exists(name):
                return None
            try:
                return Stat(self._storage.size(name))
            except FileNotFoundError:
                return None

    @contextmanager
    def open(self, name: str) -> Iterator[Reader]:
        what = f"open {name}"
        stream = None
        with sorting(what), suppress(FileNotFoundError):
            if self._storage.exists(name):
                stream = self._storage.open(name, "rb")
        if stream is None:
            raise FileNotFoundError(name)
        with stream:
            yield reader(stream, what)

    def can_list(self) -> bool:
        return lists(self._storage)

    def entries(self, folder: str) -> Iterator[Entry]:
        return files_of(self._storage, folder)

    def signed_url(self, name: str, seconds: int, disposition: str) -> str:
        """None: what its class does with contents may have to be undone."""
        return ""

    def probe(self, name: str) -> None:
        """Return if it answers whether there is a file of this *name*; its own time limits count."""
        with sorting("probe"):
            self._storage.exists(name)

    def address(self, name: str) -> str:
        """Equal for what is the same place."""
        return address_of(self._storage, name, self._alias)

    def remove_folder(self, name: str) -> None:
        """As well as the storage can: many have none, or leave them."""
        with suppress(Exception):
            self._storage.delete(name)

    def close(self) -> None:
        """Its connections are the storage's own."""

    def _make_free(self, name: str, file: TargetFile, what: str) -> None:
        """Remove what has this name, if the storage would give what is saved now another one."""
        with sorting(what):
            taken = self._storage.get_available_name(name) != name and self._storage.exists(name)
        if taken:
            self._delete(name, file, what)

    def _exists(self, name: str, what: str) -> bool:
        with sorting(what):
            return self._storage.exists(name)

    def _delete(self, name: str, file: TargetFile, what: str) -> None:
        if self._is_folder(name, what):
            raise Refused(f"{what}: a folder has this name there")
        file.may_send()
        with sorting(what, doubt=True):
            self._storage.delete(name)

    def _is_folder(self, name: str, what: str) -> bool:
        """Whether there is something below *name*: some storages delete a folder with all that is in it."""
        try:
            folders, files = self._storage.listdir(name)
        except (ConnectionError, TimeoutError) as error:
            raise Unavailable(f"{what}: {type(error).__name__}") from None
        except Exception:  # each storage says in its own way that a file is no folder
            return False
        # FTP servers list a file as itself.
        return bool(folders) or list(files) not in ([], [name.rpartition("/")[2]])


@contextmanager
def _spooled(content: Content) -> Iterator[IO[bytes]]:
    """All of *content*, read to its end and at its start again."""
    with tempfile.SpooledTemporaryFile(SPOOL) as spool:
        size = 0
        while data := content.read(CHUNK):
            size += len(data)
            if size > content.size:
                break
            with sorting("the temporary file on this machine"):
                spool.write(data)
        if size != content.size:
            raise LocalChanged(f"the content is not the {content.size} bytes that it was said to be")
        spool.seek(0)
        yield spool
