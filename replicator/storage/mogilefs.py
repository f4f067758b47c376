"""A Django storage whose files are in MogileFS, as the ancestors documented it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.files import File
from django.utils.deconstruct import deconstructible

from replicator.ancestors import MOGILEFS
from replicator.conf import config, media_url
from replicator.ledger.database import alias as database_alias
from replicator.models import MediaFile
from replicator.storage.reading import fetch, stat
from replicator.storage.replicated import ReplicatedStorage


@deconstructible(path="replicator.storage.MogileFSStorage")
class MogileFSStorage(ReplicatedStorage):
    """Files here, and in MogileFS, where they are read from once they are not here any more.

    *base_url*: ``MOGILEFS_MEDIA_URL`` or ``MEDIA_URL`` unless given. *targets*: those of ``REPLICATOR["TARGETS"]``
    that are MogileFS, or what ``MOGILEFS_DOMAIN`` and ``MOGILEFS_TRACKERS`` stand for, unless given. *mogile_class*,
    also an attribute of a subclass: the class of its files. The others are those of ``ReplicatedStorage``.
    """

    def __init__(self, location: Any = None, base_url: str | None = None, *args: Any, **options: Any) -> None:
        super().__init__(location, media_url() if base_url is None else base_url, *args, **options)

    @property
    def targets(self) -> Sequence[str]:
        """Aliases of the targets that must hold this storage's files. Raises ``ImproperlyConfigured``."""
        if self._targets is not None:
            return super().targets
        found = [name for name, target in config().targets.items() if target.backend == MOGILEFS]
        if not found:
            raise ImproperlyConfigured(
                'MogileFSStorage has no MogileFS to send its files to: write MOGILEFS_DOMAIN = "production" and '
                'MOGILEFS_TRACKERS = ["10.0.0.5:7001"].'
            )
        return found

    def _open_to_read(self, name: str, mode: str) -> File[Any]:
        try:
            return super()._open_to_read(name, mode)
        except FileNotFoundError:
            row = self._row(name)
            if row is not None and row.deleted:
                raise
        raw: Any = fetch(self, self._cleaned(name), row)
        return File(raw if "b" in mode else io.TextIOWrapper(raw, encoding="utf-8"), name)

    def size(self, name: str) -> int:
        try:
            return super().size(name)
        except FileNotFoundError:
            row = self._row(name)
            if row is not None and row.deleted:
                raise
        return stat(self, self._cleaned(name)).size if row is None else row.size

    def get_modified_time(self, name: str) -> datetime:
        """When it was written; of a file that is not here any more, as the ledger knows it."""
        try:
            return super().get_modified_time(name)
        except FileNotFoundError:
            row = self._row(name)
            if row is None or row.deleted:
                raise
        return row.updated_at

    def get_created_time(self, name: str) -> datetime:
        """As ``get_modified_time``, of its first write."""
        try:
            return super().get_created_time(name)
        except FileNotFoundError:
            row = self._row(name)
            if row is None or row.deleted:
                raise
        return row.created_at

    def _row(self, name: str) -> MediaFile | None:
        """What the ledger says of a file."""
        rows = MediaFile.objects.using(database_alias()).filter(storage=self.alias, name=self._cleaned(name))
        return rows.first()
