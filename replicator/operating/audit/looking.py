"""Looking at files where they should be: are they there, and what they should be?"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Event
from typing import Any
from uuid import UUID

from replicator.errors import DeliveryError, Unavailable
from replicator.models import AuditFinding
from replicator.operating.audit.options import CONTENT, Options
from replicator.targets.base import Target, TargetFile
from replicator.targets.http import PIECE
from replicator.targets.throttle import Throttle

log = logging.getLogger(__name__)
What = AuditFinding.What

#: Seconds between two looks at whether the audit is to go on.
_OFTEN = 0.5
#: Of the files that a target is asked for at a time: a few may be in trouble alone; more are its own trouble.
_FEW, _SHARE = 20, 0.5


@dataclass(frozen=True, slots=True)
class Asked:
    """A file that is looked at, as the ledger had it."""

    file: int
    replica: int
    """Ids."""
    storage: str
    name: str
    prefix: str
    version: UUID
    deleted: bool
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a file showed."""

    what: str = ""
    """Empty: it is as it should be."""
    text: str = ""
    unhashed: bool = False
    """Its bytes were to be compared, and there is nothing to compare them with."""

    @property
    def is_bad(self) -> bool:
        """Whether it is known not to be as it should be."""
        return self.what in (What.MISSING, What.WRONG)


Looks = list[tuple[Asked, Look]]


class Pace:
    """How fast an audit may go, all its threads together."""

    def __init__(self, options: Options) -> None:
        self.files = Throttle(options.files_per_second)
        self.bytes = Throttle(options.bytes_per_second)


class Looker:
    """Asks *target* for files, several at once."""

    def __init__(self, target: Target, level: str, pace: Pace) -> None:
        self._target, self._level, self._pace = target, level, pace
        self._stop = Event()

    def look(self, files: Sequence[Asked], renew: Callable[[], None]) -> Looks:
        """What became of each of *files*. *renew* is called again and again meanwhile, and may raise.

        Raises ``Unavailable`` if the target is in trouble, and not only some files.
        """
        answers = self._each(files, renew)
        again = [file for file, answer in zip(files, answers, strict=True) if isinstance(answer, Unavailable)]
        if again:
            self._target.probe()
            found = dict(zip(again, self._each(again, renew), strict=True))
            answers = [found.get(file, answer) for file, answer in zip(files, answers, strict=True)]
            lost = [answer for answer in answers if isinstance(answer, Unavailable)]
            if len(lost) > max(_FEW, len(files) * _SHARE):
                raise lost[-1]
        return [
            (file, Look(What.UNREADABLE, str(answer)) if isinstance(answer, Unavailable) else answer)
            for file, answer in zip(files, answers, strict=True)
        ]

    def _each(self, files: Sequence[Asked], renew: Callable[[], None]) -> list[Look | Unavailable]:
        if not files:
            return []
        threads = min(self._target.concurrency, len(files))
        pool = ThreadPoolExecutor(threads, thread_name_prefix=f"audit-{self._target.alias}")
        waiting: list[Future[Look | Unavailable]] = [pool.submit(self._look, file) for file in files]
        left: set[Future[Any]] = set(waiting)
        try:
            while left:
                left = wait(left, timeout=_OFTEN).not_done
                renew()
            return [future.result() for future in waiting]
        finally:
            # Who is not to go on does not wait for threads that wait their turn, or for a silent target.
            if left:
                self._stop.set()
            pool.shutdown(wait=not left, cancel_futures=True)

    def _look(self, file: Asked) -> Look | Unavailable:
        self._pace.files.take(1)
        if self._stop.is_set():
            return Unavailable("the audit was stopped")
        asked = TargetFile(file.storage, file.name, file.prefix, file.size, file.sha256)
        try:
            if file.deleted or self._level != CONTENT or not file.sha256:
                return self._stat(asked, file)
            return self._read(asked, file)
        except Unavailable as error:
            return error
        except DeliveryError as error:
            return Look(What.UNREADABLE, str(error))
        except Exception as error:  # as in delivery: one file's defect must not keep the others from being looked at
            facts = {"target": self._target.alias, "file": file.name, "error": type(error).__name__}
            log.error("target raised what it should not", extra=facts)  # noqa: TRY400  # it may hold a URL
            return Look(What.UNREADABLE, f"a defect in the target's code: {type(error).__name__}")

    def _stat(self, asked: TargetFile, file: Asked) -> Look:
        found = self._target.stat(asked)
        if file.deleted:
            return Look(What.WRONG, "it was deleted, and is still there") if found else Look()
        if found is None:
            return Look(What.MISSING)
        if found.size != file.size:
            return wrong_size(found.size, file.size)
        if file.sha256 and found.checksums.get("sha256", file.sha256) != file.sha256:
            return Look(What.WRONG, "its SHA-256 is another, as the target says")
        return Look(unhashed=self._level == CONTENT)

    def _read(self, asked: TargetFile, file: Asked) -> Look | Unavailable:
        sha256, size = hashlib.sha256(), 0
        throttles = (self._pace.bytes, self._target.throttle)
        piece = min(throttle.at_most(PIECE) for throttle in throttles)
        try:
            with self._target.open(asked) as reader:
                while data := reader.read(piece):
                    for throttle in throttles:
                        throttle.take(len(data))
                    sha256.update(data)
                    size += len(data)
                    if size > file.size:
                        return Look(What.WRONG, f"it is longer than its {file.size:,} bytes")
                    if self._stop.is_set():
                        return Unavailable("the audit was stopped")
        except FileNotFoundError:
            return Look(What.MISSING)
        if size != file.size:
            return wrong_size(size, file.size)
        if sha256.hexdigest() != file.sha256:
            return Look(What.WRONG, "it has the right size, and other bytes")
        return Look()


def wrong_size(found: int, wanted: int) -> Look:
    return Look(What.WRONG, f"it has {found:,} bytes instead of {wanted:,}")
