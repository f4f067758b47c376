"""The folders that a listing has still to look into: a site may have a million, with a file in each."""

from __future__ import annotations

import tempfile
from typing import IO, Self

#: Held in memory, at most twice as many; the rest is in a temporary file.
KEPT = 5000
#: Folders below another, before a link that leads back to one above is the likelier cause. Linux follows 40 links
#: in one path: what comes before such an end must not be taken for a whole.
MAX_DEPTH = 32


class FolderStack:
    """The last one pushed comes first, so that a branch is gone through to its end before the next."""

    def __init__(self) -> None:
        self._folders: list[str] = []
        self._file: IO[bytes] | None = None
        #: Where in the file each block of folders begins.
        self._blocks: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def push(self, folder: str) -> None:
        """*folder* must not hold a NUL."""
        self._folders.append(folder)
        if len(self._folders) >= 2 * KEPT:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - __exit__ closes it
            self._blocks.append(self._file.tell())
            self._file.write("\0".join(self._folders[:KEPT]).encode("utf-8", "surrogateescape"))
            del self._folders[:KEPT]

    def pop(self) -> str | None:
        """None: there are no more."""
        if not self._folders and self._blocks and self._file is not None:
            begin = self._blocks.pop()
            self._file.seek(begin)
            self._folders = self._file.read().decode("utf-8", "surrogateescape").split("\0")
            self._file.seek(begin)
            self._file.truncate()
        return self._folders.pop() if self._folders else None
