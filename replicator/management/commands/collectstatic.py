"""``manage.py collectstatic``, for storages that replicate: what it does comes true at its end."""

from __future__ import annotations

from typing import Any

from django.contrib.staticfiles.management.commands import collectstatic
from django.core.management.base import CommandError

from replicator.management.verbs.wait import Bar
from replicator.storage.static import ReplicatedStaticFilesStorage
from replicator.waiting import NotSynced


class Command(collectstatic.Command):
    """Django's, for any storage. It runs instead of Django's wherever the replicator is in ``INSTALLED_APPS``.

    A command of a project's own is derived from this one.
    """

    def collect(self) -> dict[str, list[str]]:
        storage: Any = self.storage
        if self.dry_run or not isinstance(storage, ReplicatedStaticFilesStorage):
            return super().collect()
        try:
            with Bar() as bar, storage.collecting(bar.show) as run:
                collected = super().collect()
                # Also what it found unmodified: the ledger may never have seen it.
                run.include([*collected["modified"], *collected["unmodified"]])
        except NotSynced as error:
            raise CommandError(str(error)) from error
        return collected
