"""The bytes that S3 is sent, as boto reads them, and what its answers prove of those that it has."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Mapping
from time import monotonic
from typing import Any

from replicator.errors import LocalChanged, Unavailable
from replicator.targets.base import Content
from replicator.targets.httpanswer import Patience

_MD5 = re.compile(r'"?([0-9a-f]{32})"?')


class Body:
    """The next *size* bytes of *content*, read as they are sent. *last*: the content ends with them.
    *what*: for messages.

    Its last bytes are handed out only when the content is at its end: until then S3 misses a byte, and keeps what it
    had. boto wraps what the content raises in an exception of its own: it is kept in ``error``.
    """

    def __init__(self, content: Content, size: int, patience: Patience, what: str, *, last: bool) -> None:
        self.left = size
        #: Of what was handed out.
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.error: BaseException | None = None
        self._content = content
        self._size = size
        self._patience = patience
        self._what = what
        self._last = last
        #: When bytes were handed out last.
        self._handed = 0.0

    def __len__(self) -> int:
        return self._size

    @property
    def is_sent(self) -> bool:
        """Whether S3 may have all of it."""
        return not self.left

    def read(self, size: int = -1) -> bytes:
        try:
            return self._read(self.left if size < 0 else min(size, self.left))
        except BaseException as error:
            self.error = error
            raise

    def _read(self, size: int) -> bytes:
        if not size:
            return b""
        if self.left < self._size:
            # What was handed out last has gone to S3 since. Before that, it was asked first whether it may come.
            self._patience.waited += monotonic() - self._handed
        if self._patience.left() <= 0:
            raise Unavailable(f"{self._what}: S3 took too little of the file in time")
        data = self._content.read(size)
        ends = self._last and len(data) == self.left
        if not data or (ends and self._content.read(1)):
            raise LocalChanged("the content is not as many bytes as it was said to be")
        self.left -= len(data)
        self._patience.moved += len(data)
        self.md5.update(data)
        self._handed = monotonic()
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """boto begins again in the bucket's own region, before anything is read; after that it must not."""
        if offset or whence or self.left != self._size:
            raise io.UnsupportedOperation("seek")
        return 0


def whole(content: Content) -> bytes:
    """All of a small content, read to its end."""
    parts: list[bytes] = []
    size = 0
    while data := content.read(content.size + 1 - size):
        parts.append(data)
        size += len(data)
        if size > content.size:
            break
    if size != content.size:
        raise LocalChanged(f"the content is not the {content.size} bytes that it was said to be")
    return b"".join(parts)


def md5_of(answer: Mapping[str, Any]) -> str:
    """The MD5 that an ETag is; empty if it is none: that of parts, or of what a key of KMS or the client's encrypted.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
    """
    found = _MD5.fullmatch(answer.get("ETag", ""))
    if (
        found is None
        or answer.get("SSECustomerAlgorithm")
        or answer.get("ServerSideEncryption", "AES256") != "AES256"
    ):
        return ""
    return found[1]


def checksums_of(answer: Mapping[str, Any]) -> dict[str, str]:
    """Those of the whole content that an answer to HEAD or GET tells: name as in ``hashlib`` → lower-case hex."""
    checksums = {"md5": md5_of(answer)}
    # Of parts it is a checksum of their checksums, and ends with their number.
    if (sha256 := answer.get("ChecksumSHA256", "")) and "-" not in sha256:
        checksums["sha256"] = base64.b64decode(sha256).hex()
    return {kind: checksum for kind, checksum in checksums.items() if checksum}
