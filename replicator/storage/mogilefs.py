"""A Django storage whose files are in MogileFS, as the ancestors documented it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.deconstruct import deconstructible

from replicator.ancestors import MOGILEFS
from replicator.conf import config, media_url
from replicator.storage.elder import ElderFiles


@deconstructible(path="replicator.storage.MogileFSStorage")
class MogileFSStorage(ElderFiles):
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
