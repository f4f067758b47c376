"""A version's bytes, read from here or from another target, and checked before the last of them is handed out."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, suppress
from typing import Protocol

from replicator.errors import DeliveryError, LeaseEnded, LocalChanged, LocalMissing
from replicator.ledger import Claim
from replicator.targets.base import Target, TargetFile
from replicator.targets.throttle import Throttle


class Source(Protocol):
    """Where the bytes come from."""

    def read(self, size: int = -1, /) -> bytes: ...

    def seek(self, offset: int, /) -> int: ...


class Elsewhere:
    """A file that is read from another target, since it is not here. Raises ``LocalMissing`` if it can't be."""

    def __init__(self, target: Target, file: TargetFile) -> None:
        self._target, self._file = target, file
        self._open = ExitStack()
        self.seek(0)

    def seek(self, _: int, /) -> int:
        self.close()
        try:
            self._reader = self._open.enter_context(self._target.open(self._file))
        except (DeliveryError, FileNotFoundError) as error:
            raise self._missing(error) from error
        return 0

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._read(size)
        except DeliveryError as error:
            raise self._missing(error) from error

    def _read(self, size: int) -> bytes:
        size = self._target.throttle.at_most(size)
        self._target.throttle.take(size)
        try:
            return self._reader.read(size)
        except Exception:
            # The source says in its own words what became of its connection. Unsaid, it would pass for the other one.
            with self._open:
                raise

    def close(self) -> None:
        # What goes wrong with a connection that is not needed any more says nothing of the file.
        with suppress(DeliveryError):
            self._open.close()

    def _missing(self, error: Exception) -> LocalMissing:
        why = "it is not there" if isinstance(error, FileNotFoundError) else str(error)
        return LocalMissing(f"the file is not here, and can't be read from {self._target.alias}: {why}")


class CheckedContent:
    """What a target reads for one transfer.

    The last chunk is handed out only when all of them are known to be the version's: a target that waits for the
    announced length then never shows bytes that the ledger did not record. An open file stays the same file
    whatever is renamed over its name.

    *throttle*: that of the target which reads it. Servers count only what they wait for themselves: what is waited
    for here is read in small pieces, so that they never wait for long.
    """

    def __init__(self, file: Source, claim: Claim, throttle: Throttle) -> None:
        self.size = claim.size
        self._throttle = throttle
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
        left = self.size - self._at
        size = self._throttle.at_most(left if size < 0 else min(size, left))
        self._throttle.take(size)
        # After the wait: it may have ended meanwhile.
        if not self._claim.live():
            raise LeaseEnded("the lease ended in mid-transfer")
        data = self._file.read(size)
        self._sha256.update(data)
        self._at += len(data)
        if left and not data:
            raise LocalChanged(f"the file has only {self._at} of {self.size} bytes")
        if data and self._at == self.size:
            self._verify()
        return data

    def _verify(self) -> None:
        if self._file.read(1) or self._sha256.hexdigest() != self._claim.sha256:
            raise LocalChanged("the file is not what was recorded: its SHA-256 differs")
