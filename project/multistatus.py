"""What the embedded media host answers to PROPFIND: the names, sizes and times of files (RFC 4918, section 9.1)."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from email.utils import formatdate
from itertools import islice
from urllib.parse import quote

Entries = AbstractContextManager[Iterable[os.DirEntry[bytes]]]


def multistatus(path: bytes, url_path: str, *, inside: bool) -> Iterator[bytes]:
    """The body that tells of what is at *path*, and if asked, of what is directly *inside*.

    *url_path*: of the same, percent-encoded. Raises ``OSError`` before anything is told; later, the end is missing.
    """
    info = os.stat(path)  # noqa: PTH116 - Path has no bytes
    is_folder = stat.S_ISDIR(info.st_mode)
    entries = os.scandir(path) if inside and is_folder else None
    room = _room(path) if is_folder and not inside else ""
    return _joined(_told(url_path.rstrip("/"), info, room, entries))


def _room(path: bytes) -> str:
    """RFC 4331."""
    disk = shutil.disk_usage(path)
    return (
        f"<D:quota-available-bytes>{disk.free}</D:quota-available-bytes>"
        f"<D:quota-used-bytes>{disk.used}</D:quota-used-bytes>"
    )


def _told(url: str, info: os.stat_result, room: str, entries: Entries | None) -> Iterator[bytes]:
    yield b'<?xml version="1.0" encoding="utf-8"?>\n<D:multistatus xmlns:D="DAV:">\n'
    yield _response(url, info, room)
    with entries or nullcontext(()) as inside:
        for entry in inside:
            try:
                found = entry.stat()
            except OSError:
                continue  # it went meanwhile, or is a link to nothing: GET finds nothing either
            yield _response(f"{url}/{quote(entry.name)}", found)
    yield b"</D:multistatus>\n"


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Fewer and larger: each is sent by itself."""
    while several := b"".join(islice(pieces, 200)):
        yield several


def _response(url: str, info: os.stat_result, room: str = "") -> bytes:
    kind, size = "", f"<D:getcontentlength>{info.st_size}</D:getcontentlength>"
    if stat.S_ISDIR(info.st_mode):
        url, kind, size = f"{url}/", "<D:collection/>", ""
    modified = formatdate(info.st_mtime, usegmt=True)
    return (
        f"<D:response><D:href>{url}</D:href><D:propstat><D:prop><D:resourcetype>{kind}</D:resourcetype>{size}"
        f"<D:getlastmodified>{modified}</D:getlastmodified>{room}</D:prop>"
        "<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>\n"
    ).encode()
