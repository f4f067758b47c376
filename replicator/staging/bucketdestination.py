"""A bucket of S3 as what a copy writes to; from another bucket there it copies by itself."""

from __future__ import annotations

from typing import Any

from django.core.files.storage import Storage

from replicator.errors import Refused, Unavailable
from replicator.staging.base import Changed, Facts, Held, Source
from replicator.staging.placedestination import PlaceDestination
from replicator.staging.places import endpoint
from replicator.staging.s3copying import Copying
from replicator.staging.s3source import S3Source
from replicator.targets.s3bucket import Bucket

#: Statuses of a store that may not read the source, or knows no such request.
_CANNOT = {403, 405, 501}


class BucketDestination(PlaceDestination):
    """Where *storage*, an ``S3Storage``, keeps its files."""

    _place: Bucket

    def __init__(self, storage: Storage, label: str) -> None:
        super().__init__(storage, label)
        #: Sources, by their aliases, that it can't read.
        self._strangers: set[str] = set()

    def copy_within(self, source: Source, name: str, facts: Facts | None, over: Held | None) -> int | None:
        if not isinstance(source, S3Source) or source.alias in self._strangers or not self._is_near(source):
            return None
        copying = Copying(source, self._place, name)
        if self._look(name) != over:
            raise Changed(name)
        try:
            return copying.run(if_free=over is None)
        except FileExistsError:
            pass
        except Refused as error:
            if error.status in _CANNOT:
                self._strangers.add(source.alias)
                return None
            if error.status == 404 and source.stat(name) is None:
                raise FileNotFoundError(name) from None
            if error.status != 412:
                raise
        if self._look(name) != over:
            raise Changed(name)
        raise Unavailable(f"copy {name}: it is being written at the source")

    def _is_near(self, source: S3Source) -> bool:
        """Whether both are at one endpoint, and what is stored there is the file as it is."""
        theirs: Any = source.requests.storage
        ours: Any = self.storage
        return not theirs.gzip and endpoint(theirs.endpoint_url) == endpoint(ours.endpoint_url)
