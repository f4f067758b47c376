"""A replicated storage that has a folder of its own, below what settings say of media."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.deconstruct import deconstructible

from replicator.storage.options import folder
from replicator.storage.replicated import ReplicatedStorage


@deconstructible(path="replicator.storage.PrefixedStorage")
class PrefixedStorage(ReplicatedStorage):
    """Files in a folder of their own below ``MEDIA_ROOT`` and ``MEDIA_URL``, or *location* and *base_url*.

    *prefix*, also an attribute of a subclass: the folder. *alias*: the same word unless given, so that
    ``STORAGES["assets"]`` needs no more than the prefix ``"assets"``. The others are those of ``ReplicatedStorage``.
    """

    def __init__(self, *args: Any, alias: str | None = None, prefix: str | None = None, **options: Any) -> None:
        inside = folder(self.prefix if prefix is None else prefix)
        if not inside:
            name = type(self).__name__
            raise ImproperlyConfigured(
                f'{name} has no prefix: write "OPTIONS": {{"prefix": "assets"}} for its STORAGES["assets"], '
                f'{name}(prefix="assets"), or prefix = "assets" in a subclass'
            )
        super().__init__(*args, alias=inside if alias is None else alias, prefix=inside, **options)
