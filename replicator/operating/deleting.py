"""Deleting many files at a target that is retired."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

from django.core.files.storage import InvalidStorageError, storages

from replicator.errors import DeliveryError, LeaseEnded, Refused, Unavailable
from replicator.local import ASKING
from replicator.models import MediaFile, Replica
from replicator.operating.work import Held
from replicator.storage.reading import target_file
from replicator.storage.replicated import replicated_storages
from replicator.targets import get_target
from replicator.targets.base import TargetFile
from replicator.targets.webdav import WebDAVTarget

log = logging.getLogger(__name__)

#: Seconds between looks at whether the run is still to go on.
_LOOK = 1.0


@dataclass(slots=True)
class Deleted:
    """What became of some replicas."""

    gone: list[int] = field(default_factory=list)
    """Ids of those that the target confirmed not to have any more."""
    refused: dict[int, str] = field(default_factory=dict)
    """Ids of those that it will not delete, and why."""
    trouble: DeliveryError | None = None
    """Why the others were not tried, or in vain."""


class Deleting:
    """Sends the DELETEs of one run, several at once, for as long as the run is this worker's."""

    def __init__(self, target: str, held: Held) -> None:
        self._target = get_target(target)
        self._held = held
        self._stopped = False

    def delete(self, replicas: Sequence[Replica]) -> Deleted:
        """Have *replicas* deleted at the target. After the first that it does not answer no more are begun.

        Raises ``Gone`` if the run is somebody else's by now: what was begun comes to its end.
        """
        done = Deleted()
        with ThreadPoolExecutor(self._target.concurrency, thread_name_prefix="replicator-delete") as pool:
            waiting = {pool.submit(self._delete, replica.file): replica for replica in replicas}
            try:
                while waiting:
                    ended = wait(waiting, _LOOK, FIRST_COMPLETED).done
                    for future in ended:
                        self._note(future, waiting.pop(future), done)
                    self._held.renew()
            finally:
                self._stopped = True
                pool.shutdown(wait=True, cancel_futures=True)
        return done

    def _note(self, future: Future[None], replica: Replica, done: Deleted) -> None:
        try:
            future.result()
        except Refused as error:
            done.refused[replica.pk] = str(error)
            log.warning(
                "file not deleted",
                extra={"target": self._target.alias, "file": str(replica.file), "reason": str(error)},
            )
        except DeliveryError as error:
            self._stopped = True
            if done.trouble is None or isinstance(error, Unavailable):
                done.trouble = error
        else:
            done.gone.append(replica.pk)

    def _delete(self, file: MediaFile) -> None:
        self._may_send()
        self._target.delete(_target_file(file, self._may_send))

    def _may_send(self) -> None:
        if self._stopped or time.monotonic() >= self._held.ends:
            raise LeaseEnded("the run was held up before its turn came")


def own_folder_at(alias: str) -> str:
    """The storage in whose folder on this disk the target *alias* deletes; empty if there is none.

    No setting tells whether a WebDAV server is this machine. So a file that nobody sent is put there, and deleted at
    the target: what is gone then is the same file. Raises ``DeliveryError`` if the target gives no answer.
    """
    target = get_target(alias)
    if not isinstance(target, WebDAVTarget):
        return ""  # of other kinds it is known where they keep their files
    for storage in replicated_storages():
        name = f"{ASKING}{uuid4().hex}"
        place = Path(storage.location, name)
        # Who can't write here can't tell; nor is anything deleted by a target that refuses to.
        with suppress(Refused, OSError):
            place.touch()
            try:
                target.delete(target_file(storage, name))
                if not place.exists():
                    return storage.alias
            finally:
                place.unlink(missing_ok=True)
    return ""


def _target_file(file: MediaFile, may_send: object) -> TargetFile:
    try:
        storage = storages[file.storage]
    except InvalidStorageError:
        raise Refused(f"STORAGES has no {file.storage!r} any more: nobody knows where its files are") from None
    found = target_file(storage, file.name)  # type: ignore[arg-type]  # whatever has a base_url
    return replace(found, mogile_class=file.mogile_class, may_send=may_send)  # type: ignore[arg-type]
