"""A version's bytes, read from the local file and checked before the last of them is handed out."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from replicator.errors import LeaseEnded, LocalChanged
from replicator.ledger import Claim


class LocalContent:
    """What a target reads for one transfer.

    The last chunk is handed out only when all of them are known to be the version's: a target that waits for the
    announced length then never shows bytes that the ledger did not record. An open file stays the same file
    whatever is renamed over its name.
    """

    def __init__(self, file: BinaryIO, claim: Claim) -> None:
        self.size = claim.size
        self._file = file
        self._claim = claim
        self._restart()
        if not self.size:
            # Nobody reads an empty file.
            self._verify()

    def _restart(self) -> None:
        self._sha256 = hashlib.sha256()
        self._at = 0

    def seek(self, offset: int, /) -> int:
        if offset != 0:
            raise ValueError("a transfer starts again from its beginning")
        self._restart()
        return self._file.seek(0)

    def read(self, size: int = -1, /) -> bytes:
        if not self._claim.live():
            raise LeaseEnded("the lease ended in mid-transfer")
        left = self.size - self._at
        data = self._file.read(left if size < 0 else min(size, left))
        self._sha256.update(data)
        self._at += len(data)
        if left and not data:
            raise LocalChanged(f"the local file has only {self._at} of {self.size} bytes")
        if data and self._at == self.size:
            self._verify()
        return data

    def _verify(self) -> None:
        if self._file.read(1) or self._sha256.hexdigest() != self._claim.sha256:
            raise LocalChanged("the local file is not what was recorded: its SHA-256 differs")
