"""What a WebDAV server holds, asked folder by folder."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from urllib.parse import quote, unquote_to_bytes

from replicator.errors import Corrupt, Refused, TargetError, Unavailable
from replicator.targets.ability import Ability
from replicator.targets.base import Entry
from replicator.targets.folderstack import MAX_DEPTH, FolderStack
from replicator.targets.httpanswer import Answer
from replicator.targets.httperrors import PASSING, failure
from replicator.targets.multistatus import Resource, resources
from replicator.targets.webdavserver import ABSENT, WebDAVServer

#: nginx answers 500 if a file goes between its reading a folder and its looking at what is in it. In a folder where
#: files come and go all the time, only a pause in that helps: it is asked again after each of these seconds.
_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
_ORIGIN = re.compile(r"https?://[^/]*", re.IGNORECASE)


class WebDAVListing:
    """The listings of one server."""

    def __init__(self, server: WebDAVServer) -> None:
        self._server = server
        self._ability = Ability(self._ask)

    def is_there(self) -> bool:
        """Whether the server knows PROPFIND and lets us use it: asked at most once a minute."""
        return self._ability.is_there()

    def entries(self, prefix: str) -> Iterator[Entry]:
        """What ``Target.entries`` says. *prefix*: not percent-encoded."""
        root = self._server.folder_of(prefix)
        with FolderStack() as folders:
            folders.push(root)
            while (folder := folders.pop()) is not None:
                if folder.count("/", len(root)) > MAX_DEPTH:
                    raise Refused(
                        f"{folder}: folders are more than {MAX_DEPTH} deep: remove the link that leads back to a "
                        "folder above it"
                    )
                inside = unquote_to_bytes(folder[len(root) :])
                for leaf, resource in self._children(folder):
                    if resource.is_folder:
                        folders.push(f"{folder}{quote(leaf)}/")
                    else:
                        name = (inside + leaf).decode("utf-8", "surrogateescape")
                        yield Entry(name, resource.size, resource.modified)

    def _ask(self) -> bool:
        path = f"{self._server.path}/"
        answer = self._server.send("PROPFIND", path, changes=False, extra=b"Depth: 0\r\n", quick=True)
        if answer.status == 207:
            return True
        # What servers say that know no PROPFIND, or let nobody use it; 200: they took it for a GET.
        refused = 400 <= answer.status < 500 and answer.status not in {401, 407, *PASSING}
        if refused or answer.status in (200, 501):
            return False
        raise failure("PROPFIND", path, answer)

    def _children(self, folder: str) -> Iterator[tuple[bytes, Resource]]:
        """What is in *folder* (percent-encoded, with a slash at its end): the last segment of its name, and what is
        told of it. Nothing if the folder is not there (any more)."""
        what = f"PROPFIND {folder}"
        for pause in (*_PAUSES, None):
            with self._server.list_folder(folder) as (answer, body):
                if answer.status == 207:
                    yield from _checked(resources(body, what), folder, what)
                    return
                if answer.status in ABSENT:
                    return
                if answer.status != 500 or pause is None:
                    raise _failure(folder, answer)
            time.sleep(pause)


def _failure(folder: str, answer: Answer) -> TargetError:
    if answer.status in (405, 501):
        what = f"{answer.status} to PROPFIND {folder}"
        return Refused(f"{what}: it can't list what it holds (nginx: dav_ext_methods PROPFIND)", status=answer.status)
    return failure("PROPFIND", folder, answer)


def _checked(found: Iterator[Resource], folder: str, what: str) -> Iterator[tuple[bytes, Resource]]:
    """Only what is directly in *folder*; anything else, and what the server could not look at, is an error."""
    asked = unquote_to_bytes(folder)
    is_told = False
    above: str | None = None  # the folder, as the server encodes it
    for resource in found:
        path = _ORIGIN.sub("", resource.href, count=1).rstrip("/")
        parent, slash, leaf = path.rpartition("/")
        if slash and (parent == above or unquote_to_bytes(parent) + b"/" == asked):
            above, name = parent, unquote_to_bytes(leaf)
        else:
            name = b""
        if (
            name in (b".", b"..")
            or b"/" in name
            or b"\0" in name
            or not (name or unquote_to_bytes(path) + b"/" == asked)
        ):
            raise Corrupt(f"{what}: it tells of {resource.href[:200]!r}, which is not in this folder")
        if resource.status in ABSENT:
            if not name:
                return
            continue  # it went while the server looked
        if resource.status != 200:
            raise failure("PROPFIND", folder + quote(name), Answer(resource.status, {}))
        if not name:
            is_told = True
            continue
        if resource.is_folder is None:
            # Only the slash is left to tell by.
            resource.is_folder = resource.href.endswith("/")
        yield name, resource
    if not is_told:
        raise Unavailable(f"{what}: the answer does not tell of the folder itself: it is not the whole")
