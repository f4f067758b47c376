"""What folders, and storages that have nothing but the Storage API, hold."""

from __future__ import annotations

import errno
import os
import stat as modes
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from django.core.files.storage import Storage

from replicator.errors import Refused
from replicator.targets.base import Entry
from replicator.targets.folderstack import MAX_DEPTH, FolderStack
from replicator.targets.storageerrors import sorting

if TYPE_CHECKING:
    from os import DirEntry, _ScandirIterator


@dataclass(frozen=True, slots=True)
class _Open:
    """A folder that is being gone through."""

    entries: _ScandirIterator[str]
    name: str
    """Empty, or with a slash at its end."""
    identity: tuple[int, int]


def files_below(path: str, what: str) -> Iterator[Entry]:
    """All files below a folder of this machine, those behind links too. Nothing if it is not there.

    *what*: for messages. Memory grows with the depth only.
    """
    way: list[_Open] = []
    try:
        _enter(way, path, "", what)
        while way:
            here = way[-1]
            with sorting(what):
                entry = next(here.entries, None)
                found = _stat(entry) if entry else None
            if entry is None:
                way.pop().entries.close()
            elif found and modes.S_ISDIR(found.st_mode):
                _enter(way, entry.path, f"{here.name}{entry.name}/", what)
            elif found:
                modified = datetime.fromtimestamp(found.st_mtime, tz=UTC)
                yield Entry(here.name + entry.name, found.st_size, modified)
    finally:
        for each in way:
            each.entries.close()


def _enter(way: list[_Open], path: str, name: str, what: str) -> None:
    """Go into a folder, unless it is gone, or one that we are in: then a link leads back to it."""
    with sorting(what):
        try:
            info = os.stat(path)  # noqa: PTH116 - a Path for each folder costs more than the call
            identity = info.st_dev, info.st_ino
            if identity not in (each.identity for each in way):
                way.append(_Open(os.scandir(path), name, identity))
        except (FileNotFoundError, NotADirectoryError):
            return


def _stat(entry: DirEntry[str]) -> os.stat_result | None:
    """None for what went meanwhile, and for a link that leads nowhere."""
    try:
        return entry.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise


def lists(storage: Storage) -> bool:
    """Whether its class has a listing of its own."""
    return type(storage).listdir is not Storage.listdir


def files_of(storage: Storage, folder: str) -> Iterator[Entry]:
    """All files below *folder* (empty, or with a slash at its end), by the storage's own listing. Nothing if it is
    not there. To ask for each one's size could be a request each."""
    with FolderStack() as folders:
        folders.push("")
        while (inside := folders.pop()) is not None:
            what = f"list {folder}{inside}"
            if inside.count("/") > MAX_DEPTH:
                raise Refused(f"{what}: folders are more than {MAX_DEPTH} deep: remove the link that leads back")
            with sorting(what):
                try:
                    below, files = storage.listdir(f"{folder}{inside}".rstrip("/"))
                except FileNotFoundError:
                    continue
                # Stores without folders list an empty name for the folder itself.
                for name in filter(None, (str(each).strip("/") for each in below)):
                    folders.push(f"{inside}{name}/")
                names = [str(each) for each in files if each]
            yield from (Entry(f"{inside}{name}") for name in names)
