"""A file that is read from targets, as a Python file."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from django.core.exceptions import ImproperlyConfigured

from replicator.errors import Corrupt, DeliveryError
from replicator.ledger import life
from replicator.storage.pulled import SPOOL, PulledFile, buffered
from replicator.targets import get_target
from replicator.targets.base import Reader, Stat, Target, TargetFile
from replicator.targets.http import PIECE

if TYPE_CHECKING:
    from replicator.local import Digest

T = TypeVar("T")


def open_remote(targets: Sequence[str], file: TargetFile, wanted: Digest | None) -> BinaryIO:
    """*file*, read from the first of *targets* that has it: seekable, at its start. To be closed.

    *wanted*: what it must be; None if nobody knows. Raises ``FileNotFoundError`` if no target has it, ``OSError`` if
    none that may have it can be read: also later, while it is read, if it is larger than ``SPOOL``.
    """
    return buffered(_RemoteFile(targets, file, wanted))


def stat_remote(targets: Sequence[str], file: TargetFile) -> Stat:
    """What the first of *targets* that has the file says of it. Raises as ``open_remote`` does."""
    asked = _Asked(targets, file)

    def ask(target: Target) -> Stat:
        found = target.stat(file)
        if found is None:
            raise FileNotFoundError(file.name)
        return found

    return asked.first(ask)[1]


class _Asked:
    """Targets to be asked for a file, one after another, and why it was not had from those that were."""

    def __init__(self, targets: Iterable[str], file: TargetFile) -> None:
        closed = life.left_alone()
        self._left = [target for target in targets if target not in closed]
        self._name = file.name
        # One of them may have it: so it can't be said that it is nowhere.
        self._reasons = [f"{target} is paused, or retired" for target in targets if target in closed]

    def first(self, ask: Callable[[Target], T]) -> tuple[Target, T]:
        """The next one that *ask* gets an answer from, and the answer."""
        while self._left:
            try:
                target = get_target(self._left.pop(0))
                return target, ask(target)
            except FileNotFoundError:
                continue
            except (DeliveryError, ImproperlyConfigured, OSError) as error:
                self.note(error)
        if self._reasons:
            raise OSError(errno.EIO, f"no copy can be read: {'; '.join(self._reasons)}", self._name)
        raise FileNotFoundError(errno.ENOENT, "neither here nor at a target", self._name)

    def note(self, error: Exception) -> None:
        """One more reason, if it is a new one."""
        if (reason := str(error)) not in self._reasons:
            self._reasons.append(reason)

    def put_back(self, target: Target) -> None:
        """Have it asked again, after all others."""
        self._left.append(target.alias)


class _RemoteFile(PulledFile):
    """Pulls a file from a target as it is read.

    When a target fails in between, the next one that begins with the same bytes goes on. The last piece is handed
    out only when size and hash are those of the ledger: wrong bytes may be read in part, and then end in an error.
    """

    def __init__(self, targets: Sequence[str], file: TargetFile, wanted: Digest | None) -> None:
        super().__init__(file.name)
        self._file, self._wanted = file, wanted
        self._asked = _Asked(targets, file)
        self._open = ExitStack()
        #: The last piece that came: handed out when the next one, or the end, shows that it was not the last.
        self._held = b""
        #: Bytes that a target had given when its connection broke.
        self._furthest = 0
        self._is_whole = False
        #: Why there is no more to be had.
        self._failed: OSError | None = None
        try:
            self._begin()
            # A wrong copy of a small file is found out while there is time to take another.
            while wanted is not None and wanted.size <= SPOOL and not self._is_whole:
                self._pull()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if not self.closed:
            with suppress(DeliveryError):  # of a connection that is not needed any more
                self._open.close()
        super().close()

    # Pulling

    def _size(self) -> int:
        return super()._size() if self._wanted is None else self._wanted.size

    def _begin(self) -> None:
        """Go on with the next target, behind the bytes that were handed out already."""
        try:
            self._target, self._reader = self._asked.first(self._opened)
        except OSError as error:
            self._failed = error
            raise

    def _opened(self, target: Target) -> Reader:
        """The copy at *target*, read up to where it is to go on."""
        self._open.close()
        self._digest, self._came, self._held = hashlib.sha256(), 0, b""
        with ExitStack() as stack:
            reader = stack.enter_context(target.open(self._file))
            self._kept.seek(0)
            while self._came < self._given:
                data = reader.read(min(PIECE, self._given - self._came))
                if not data or data != self._kept.read(len(data)):
                    raise Corrupt(f"{target.alias} has another version of it")
                self._digest.update(data)
                self._came += len(data)
            self._open = stack.pop_all()
        self._have = self._given
        return reader

    def _pull(self) -> None:
        """One more piece; from another target if this one fails. Raises ``OSError`` if there is no other."""
        if self._failed is not None:
            raise self._failed
        try:
            data = self._read()
        except (DeliveryError, OSError) as error:
            self._asked.note(error)
            if not isinstance(error, Corrupt) and self._came > self._furthest:
                # Who reads slowly, such as a browser that is sent a film, is hung up on by many servers.
                self._furthest = self._came
                self._asked.put_back(self._target)
            self._begin()
            return
        self._keep(self._held)
        self._held = data
        self._is_whole = not data

    def _read(self) -> bytes:
        """The next piece; empty at the end of what is known to be the file."""
        try:
            data = self._reader.read(PIECE)
            self._digest.update(data)
            self._came += len(data)
            self._check(at_end=not data)
            if not data:
                self._open.close()
        except Exception:
            # The target says in its own words what became of its connection.
            with self._open:
                raise
        return data

    def _check(self, *, at_end: bool) -> None:
        wanted = self._wanted
        if wanted is None:
            return
        is_it = self._came == wanted.size and wanted.sha256 in ("", self._digest.hexdigest())
        if self._came > wanted.size or (at_end and not is_it):
            raise Corrupt(f"{self._target.alias} has another version of it")
