"""Checks of storages whose files only some may read: what would let anybody read them, and what answers links."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import FileSystemStorage, storages
from django.urls import Resolver404, resolve
from django.utils.module_loading import import_string

from replicator.storage import ProtectedStorage
from replicator.storage.protected import NO_KEYS
from replicator.targets import get_target
from replicator.targets.base import Target, url_path
from replicator.targets.django_storage import StorageTarget
from replicator.targets.storageentries import find, is_s3, overlap, sources
from replicator.targets.webdav import WebDAVTarget

#: Views that answer without a look at the link. Named, not imported: views and checks do not know each other.
_OPEN_VIEWS = {("replicator.views", "serve_mogilefs_file"), ("django.views.static", "serve")}


def problems() -> Iterator[CheckMessage]:
    for _, storage, _ in sources():
        # One whose alias is another's has a message of its own.
        if isinstance(storage, ProtectedStorage) and not storage.problem_with_alias:
            yield from _problems_of_options(storage)
            yield from _problems_of_folder(storage)
            yield from _problems_of_targets(storage)
            yield from _problems_of_urls(storage)


def _problems_of_options(storage: ProtectedStorage) -> Iterator[CheckMessage]:
    """E030: options that do not fit together."""
    if storage.sign != "secure_link":
        return
    where = f"STORAGES[{storage.alias!r}]"
    if not storage.keys:
        yield Error(
            f"{where}: {NO_KEYS}.",
            hint="Give nginx the same: docs/private.md. secrets.token_urlsafe(32) makes a secret.",
            id="replicator.E030",
        )
    given = {
        "as_attachment": storage.as_attachment is not None,
        "x_accel_redirect": bool(storage.x_accel_redirect),
        "x_sendfile": storage.x_sendfile,
    }
    for option in (name for name, is_given in given.items() if is_given):
        yield Error(
            f'{where}: "{option}" has no effect with "sign": "secure_link", where nginx answers alone.',
            hint=f'Remove "{option}", and say it to nginx (docs/private.md); or write "sign": "view".',
            id="replicator.E030",
        )


def _problems_of_folder(storage: ProtectedStorage) -> Iterator[CheckMessage]:
    """E031: a folder that is, or has in it, one whose files anybody may read."""
    for name, folder in _public_folders():
        if overlap(storage.location, folder):
            yield Error(
                f"STORAGES[{storage.alias!r}] keeps private files in {storage.location}, and {name} is {folder}: "
                "what serves that to anybody serves them without a link.",
                hint='Give it a "location" of its own, as in BASE_DIR / "private", neither inside nor around.',
                id="replicator.E031",
            )
            # One message: others are often of folders inside.
            return


def _public_folders() -> Iterator[tuple[str, str]]:
    for name in ("MEDIA_ROOT", "STATIC_ROOT"):
        if folder := getattr(settings, name, None):
            yield name, os.fspath(folder)
    entries: Any = storages.backends
    for alias, entry in entries.items():
        with suppress(ImproperlyConfigured, ImportError, TypeError, ValueError):
            kind = import_string(entry.get("BACKEND", ""))
            # Any other is none of our business: making it could ask a network.
            if not isinstance(kind, type) or not issubclass(kind, FileSystemStorage):
                continue
            storage: Any = storages[alias]
            if not isinstance(storage, ProtectedStorage) and storage.base_location:
                yield f"the location of STORAGES[{alias!r}]", os.fspath(storage.location)


def _problems_of_targets(storage: ProtectedStorage) -> Iterator[CheckMessage]:
    """W032: a host that browsers read from. E033: no target that signs. E034: objects that anybody may read."""
    where = f"STORAGES[{storage.alias!r}]"
    targets = dict(_targets(storage.targets))
    public = {target for _, other, its in sources() if not isinstance(other, ProtectedStorage) for target in its}
    for alias, target in targets.items():
        shows = target.public_url or (isinstance(target, WebDAVTarget) and alias in public)
        if shows and storage.sign != "secure_link":
            path = url_path(storage.base_url or "/")
            yield Warning(
                f"{where} sends private files to {alias!r}, from where browsers read public ones: who knows a name "
                f"needs no link there, unless the host refuses {path} to them.",
                hint=f'Have the host answer 403 to browsers below {path}, or verify links: "sign": "secure_link" '
                "(docs/private.md). Then silence this one: SILENCED_SYSTEM_CHECKS.",
                id="replicator.W032",
            )
        if str(getattr(_s3(target), "default_acl", None) or "").startswith("public-"):
            yield Error(
                f"{where} sends private files to {alias!r}, whose objects anybody may read (default_acl).",
                hint='Write "default_acl": "private" into the OPTIONS of the target\'s storage, or remove it.',
                id="replicator.E034",
            )
    if storage.sign == "target" and not any(map(_signs, targets.values())):
        yield Error(
            f'{where} has "sign": "target", and no target of it ({", ".join(targets) or "it has none"}) can sign.',
            hint='Add a StorageTarget that is S3 to its "targets", or write "sign": "view".',
            id="replicator.E033",
        )


def _targets(aliases: Any) -> Iterator[tuple[str, Target]]:
    for alias in aliases:
        with suppress(ImproperlyConfigured):  # its own check says what it lacks
            yield alias, get_target(alias)


def _s3(target: Target) -> Any:
    """The storage that *target* writes to, if it is S3."""
    if not isinstance(target, StorageTarget):
        return None
    with suppress(ImproperlyConfigured):
        storage = find(target.storage)
        return storage if is_s3(storage) else None
    return None


def _signs(target: Target) -> bool:
    """Without asking it: its credentials may come from a network."""
    if isinstance(target, StorageTarget):
        return _s3(target) is not None
    return type(target).signed_url is not Target.signed_url


def _problems_of_urls(storage: ProtectedStorage) -> Iterator[CheckMessage]:
    """W035: links that lead to no view, or to one that does not look at them."""
    if storage.sign == "secure_link":
        return
    where, path = f"STORAGES[{storage.alias!r}]", url_path(storage.base_url or "/")
    try:
        func: Any = resolve(f"{path}x").func
    except Resolver404:
        found = "no URL pattern answers"
    except Exception:  # Django's own check says what is wrong with the patterns
        return
    else:
        if (func.__module__, getattr(func, "__qualname__", "")) not in _OPEN_VIEWS:
            return
        found = f"{func.__module__}.{func.__qualname__} answers"
    yield Warning(
        f"{where}: its links begin with {path}, which {found}.",
        hint=f"Write urlpatterns += protected_urls({storage.alias!r}), before patterns for what is around it "
        "(replicator.urls).",
        id="replicator.W035",
    )
