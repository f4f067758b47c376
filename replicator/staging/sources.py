"""The sources of this process, by alias."""

from __future__ import annotations

import os
from functools import cache

from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import FileSystemStorage
from django.core.signals import setting_changed

from replicator.conf import nearest
from replicator.staging.anysource import AnySource
from replicator.staging.base import NotCopied, Source
from replicator.staging.foldersource import FolderSource
from replicator.staging.httpsource import HTTPSource
from replicator.storage.http import HTTPStorage
from replicator.targets.storageentries import entries, fresh, made, replicates, saves_its_own_way


def source_of(alias: str) -> Source:
    """The one instance for *alias* in this process. Raises ``NotCopied`` with what to write instead. No network."""
    return _source_of(alias, os.getpid())


def forget_sources() -> None:
    """Have them made anew: settings changed."""
    _source_of.cache_clear()


@cache
def _source_of(alias: str, process: int) -> Source:
    """*process*: connections must not cross a fork."""
    known = [each for each in entries() if not replicates(each)]
    if alias not in entries():
        raise NotCopied(f"The source is {alias!r}, which STORAGES does not have. {nearest(alias, known)}")
    if replicates(alias):
        raise NotCopied(
            f"The source is {alias!r}, a storage which replicates: name one that reads the live site's files. "
            f"{nearest(alias, known)}"
        )
    try:
        made(alias)
    except ImproperlyConfigured as error:
        raise NotCopied(f"The source {error}") from error
    storage = fresh(alias)
    if isinstance(storage, HTTPStorage) and type(storage)._open is HTTPStorage._open:
        return HTTPSource(alias, storage)
    if saves_its_own_way(storage):
        return AnySource(alias, storage)
    if isinstance(storage, FileSystemStorage):
        return FolderSource(alias, storage)
    # boto takes a quarter of a second and 30 MB to import, and is there only if the project has such a storage.
    from replicator.staging.s3source import S3Source

    return S3Source(alias, lambda: fresh(alias))


def _forget(*, setting: str, **_: object) -> None:
    if setting in ("STORAGES", "MEDIA_ROOT", "MEDIA_URL", "USE_TZ"):
        forget_sources()


setting_changed.connect(_forget, dispatch_uid="replicator.staging.sources")
