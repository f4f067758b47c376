"""The entries of ``STORAGES``, as targets see them: which may hold copies, and which are copied. No network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import FileSystemStorage, Storage, storages
from django.utils.module_loading import import_string

from replicator.conf import nearest

#: Classes of django-storages that are S3; others inherit from them.
_S3 = {"storages.backends.s3.S3Storage", "storages.backends.s3boto3.S3Boto3Storage"}


def find(alias: str) -> Storage:
    """The project's storage, fit to hold copies. Raises ``ImproperlyConfigured`` with what to write instead."""
    known = entries()
    if alias not in known:
        raise ImproperlyConfigured(
            f"its storage is {alias!r}, which STORAGES does not have. {nearest(alias, list(known))}"
        )
    if replicates(alias):
        raise ImproperlyConfigured(
            f"its storage is {alias!r}, which replicates itself: copies would be copied without an end. "
            "Name a storage that does not."
        )
    try:
        return made(alias)
    except ImproperlyConfigured as error:
        raise ImproperlyConfigured(f"its storage {error}") from error.__cause__


def made(alias: str) -> Storage:
    """The project's storage. Raises ``ImproperlyConfigured`` that names it, with what to write instead."""
    where = f"STORAGES[{alias!r}]"
    try:
        storage: Storage = storages[alias]
    except (ImproperlyConfigured, ImportError, TypeError) as error:
        raise ImproperlyConfigured(f"{where} can't be made: {error}") from error
    except Exception as error:
        # Its text may quote what is wrong: a URL with a password, perhaps.
        raise ImproperlyConfigured(f"{where} can't be made: {type(error).__name__}") from None
    if is_s3(storage):
        for problem in problems_of_s3(storage):
            raise ImproperlyConfigured(f"{where} {problem}")
    return storage


def fresh(alias: str) -> Storage:
    """An instance that nobody else has, whose connections are its own."""
    return storages.create_storage(entries()[alias])


def entries() -> dict[str, dict[str, Any]]:
    """``STORAGES``, with Django's defaults."""
    backends: Any = storages.backends
    return dict(backends)


def replicates(alias: str) -> bool:
    """By its class: making it could ask a network."""
    try:
        return hasattr(import_string(entries()[alias].get("BACKEND", "")), "targets")
    except (ImportError, AttributeError, ImproperlyConfigured):
        return False


def sources() -> Iterator[tuple[str, FileSystemStorage, list[str]]]:
    """The storages that replicate: alias, storage, and the aliases of their targets."""
    for alias in entries():
        if replicates(alias):
            try:
                storage: Any = storages[alias]
                targets = list(storage.targets)
            except (ImproperlyConfigured, ImportError, TypeError, ValueError):
                continue  # its own check says what it lacks
            yield alias, storage, targets


def is_s3(storage: Storage) -> bool:
    return _base(storage, _S3) is not None


def saves_its_own_way(storage: Storage) -> bool:
    """Whether its class does something of its own with contents, such as to encrypt them."""
    base, kind = _known_base(storage), type(storage)
    return base is None or _differs(kind, base, "_save") or _differs(kind, base, "_open")


def sizes_contents(storage: Storage) -> bool:
    """Whether its ``size`` is that of the content that its ``open`` gives: a class that changes what it opens, and
    leaves ``size`` as it was, tells that of what it keeps."""
    base, kind = _known_base(storage), type(storage)
    return base is None or not _differs(kind, base, "_open") or _differs(kind, base, "size")


def overlap(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether one of two folders is inside of the other, or they are the same."""
    paths = [os.path.realpath(one), os.path.realpath(other)]
    return os.path.commonpath(paths) in paths


def _known_base(storage: Storage) -> type | None:
    return _base(storage, _S3) or (FileSystemStorage if isinstance(storage, FileSystemStorage) else None)


def _differs(kind: type, base: type, method: str) -> bool:
    return getattr(kind, method) is not getattr(base, method)


def _base(storage: Storage, names: set[str]) -> type | None:
    return next((c for c in type(storage).__mro__ if f"{c.__module__}.{c.__qualname__}" in names), None)


def problems_of_s3(storage: Any) -> Iterator[str]:
    """What its options lack, as the end of a sentence, and what to write."""
    if not storage.bucket_name:
        yield 'has no bucket_name. Write "bucket_name": "…" into its OPTIONS.'
    if storage.endpoint_url:
        try:
            parts = urlsplit(storage.endpoint_url)
            is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            is_url = False
        if not is_url:
            yield 'has an endpoint_url that is no URL. Write it as "https://s3.example.com".'
        elif "@" in parts.netloc:
            yield "has an endpoint_url with credentials. Write them as its options access_key and secret_key."
