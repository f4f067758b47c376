"""A storage that does not replicate, as what a copy writes to: a folder, a bucket, or what has the Storage API."""

from __future__ import annotations

import copy
import mimetypes
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from django.core.files.storage import FileSystemStorage, Storage
from django.utils.timezone import is_naive, make_aware

from replicator import local
from replicator.errors import Corrupt, LocalChanged, Refused
from replicator.staging.base import Changed, Destination, Held, Stream, checksum_of
from replicator.staging.contents import content_of
from replicator.targets.base import TargetFile, safe_name
from replicator.targets.storageaddresses import address_of
from replicator.targets.storageapi import AnyStorage
from replicator.targets.storageerrors import sorting
from replicator.targets.storageplaces import Patience, place_of

#: Kept at most: more than the threads of a worker.
CONNECTIONS = 64
#: Names that are asked for at once.
_AT_ONCE = 16


class PlaceDestination(Destination):
    """Where *storage*, any of Django's, keeps its files. *label*: what people know it by."""

    def __init__(self, storage: Storage, label: str) -> None:
        self.storage = storage
        self._label = label
        # A field's storage need not be in STORAGES: a copy of it has connections of its own.
        make = partial(copy.copy, storage)
        self._place = place_of(storage, make, label, Patience(), connections=CONNECTIONS)

    def clean(self, name: str) -> str:
        try:
            safe_name(name).encode()
        except UnicodeEncodeError:
            raise Refused(f"{name!r} is not UTF-8: rename the file") from None
        return name

    def address(self, name: str) -> str:
        return address_of(self.storage, name)

    def held(self, names: Sequence[str]) -> dict[str, Held]:
        with ThreadPoolExecutor(min(_AT_ONCE, len(names) or 1), thread_name_prefix="replicator-held") as pool:
            # If one fails, those that have not begun are cancelled.
            found = list(pool.map(self._look_if_possible, names))
        return {name: held for name, held in zip(names, found, strict=True) if held is not None}

    def put(self, name: str, stream: Stream, over: Held | None) -> int:
        self._check_way(name)
        content_type = stream.facts.content_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
        with content_of(stream) as content:
            file = TargetFile(
                self._label,
                name,
                size=content.size,
                sha256=stream.facts.checksums.get("sha256", ""),
                content_type=content_type,
                may_send=self._check(name, over),
            )
            try:
                self._place.put(name, file, content, if_free=over is None)
            except FileExistsError:
                raise Changed(name) from None
            except LocalChanged as error:
                raise Corrupt(f"{name}: {error}") from None
            return content.size

    def checksum(self, name: str, kind: str) -> str:
        try:
            with self._place.open(name) as reader:
                return checksum_of(reader, kind)
        except FileNotFoundError:
            raise Changed(name) from None

    def exists_unrecorded(self, name: str) -> bool:
        """Never: nothing is recorded of such a storage's files."""
        return False

    def adopt(self, name: str) -> None:
        """Nothing is to be done."""

    def _look_if_possible(self, name: str) -> Held | None:
        """As ``_look``; None of a name that the place does not take, which ``put`` says."""
        with suppress(Refused):
            return self._look(name)
        return None

    def _look(self, name: str) -> Held | None:
        found = self._place.stat(name)
        if found is None:
            return None
        modified = found.modified
        if isinstance(self._place, AnyStorage):
            with sorting(f"look at {name}"), suppress(NotImplementedError, FileNotFoundError):
                modified = self.storage.get_modified_time(name)
                modified = make_aware(modified) if is_naive(modified) else modified
        return Held(found.size, modified, found.checksums)

    def _check(self, name: str, over: Held | None) -> Callable[[], None]:
        """What raises ``Changed`` if there is something else than *over* when it is called."""
        times = 0

        def check() -> None:
            nonlocal times
            times += 1
            # To replace a file, the Storage API has to delete it: after that it is not there.
            if (times == 1 or not isinstance(self._place, AnyStorage)) and self._look(name) != over:
                raise Changed(name)

        return check

    def _check_way(self, name: str) -> None:
        """Raises ``Refused`` for a place that no copy is put in."""
        if not isinstance(self.storage, FileSystemStorage):
            return
        with sorting(f"put {name}"):
            root, place = os.fspath(self.storage.location), self.storage.path(name)
        if local.is_in_the_way(place):
            raise Refused(f"put {name}: something that is no file has this name: remove it")
        if local.leads_out(root, place):
            raise Refused(f"put {name}: a link on the way leads out of {root}: mount the folder there")
