"""The storage of django_dust and of django-resto, by its name there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.deconstruct import deconstructible

from replicator import ancestors
from replicator.storage.elder import ElderFiles


@deconstructible(path="replicator.storage.DistributedStorage")
class DistributedStorage(ElderFiles):
    """Files on every target; here too only with ``DUST_USE_LOCAL_FS = True``, as in django_dust.

    *keep_local*, or by its name there *use_local*: instead of that setting. The others are those of
    ``ReplicatedStorage``.
    """

    def __init__(
        self,
        location: Any = None,
        base_url: str | None = None,
        *args: Any,
        keep_local: bool | None = None,
        use_local: bool | None = None,
        hosts: object = None,
        **options: Any,
    ) -> None:
        if hosts is not None or isinstance(location, list | tuple):
            raise TypeError('hosts are targets now: write targets=["media1"], aliases in REPLICATOR["TARGETS"]')
        if keep_local is None:
            keep_local = ancestors.uses_local_files() if use_local is None else use_local
        super().__init__(location, base_url, *args, keep_local=keep_local, **options)

    @property
    def targets(self) -> Sequence[str]:
        """Aliases of the targets that must hold this storage's files. Raises ``ImproperlyConfigured``."""
        found = super().targets
        if not found:
            raise ImproperlyConfigured(
                'DistributedStorage has no host to send its files to: write DUST_HOSTS = ["media1"], or '
                'REPLICATOR = {"TARGETS": {…}}.'
            )
        return found

    @property
    def _may_have_elder(self) -> bool:
        return not self.keep_local
