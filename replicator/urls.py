"""The URL patterns that a project includes."""

from __future__ import annotations

import re

from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import InvalidStorageError, storages
from django.urls import URLPattern, path, re_path

from replicator import monitoring
from replicator.conf import media_url
from replicator.storage import ProtectedStorage
from replicator.targets.base import url_path
from replicator.views import Permission, serve_mogilefs_file, serve_protected_file


def health_urls() -> list[URLPattern]:
    """``/healthz``, ``/readyz`` and ``/metrics``: ``urlpatterns += health_urls()``. See ``docs/operate.md``."""
    views = (monitoring.healthz, monitoring.readyz, monitoring.metrics)
    return [path(view.__name__, view, name=f"replicator-{view.__name__}") for view in views]


def mogilefs_urls(*, permission: Permission | None = None, as_attachment: bool = False) -> list[URLPattern]:
    """The pattern that serves ``MOGILEFS_MEDIA_URL`` (or ``MEDIA_URL``): ``urlpatterns += mogilefs_urls()``.

    *permission*, *as_attachment*: as ``serve_mogilefs_file`` takes them.
    """
    path = url_path(media_url())
    if path == "/":
        raise ImproperlyConfigured(
            f"mogilefs_urls(): every URL begins with the path of {media_url()!r}. Write MOGILEFS_MEDIA_URL with a "
            'path of its own, as in "/media/", or your own pattern for replicator.views.serve_mogilefs_file.'
        )
    options = {"permission": permission, "as_attachment": as_attachment, "for_everyone": permission is None}
    return [re_path(rf"^{re.escape(path[1:])}(?P<key>(?s:.+))\Z", serve_mogilefs_file, options)]


def protected_urls(alias: str, *, permission: Permission | None = None) -> list[URLPattern]:
    """The pattern that answers the links of the ``ProtectedStorage`` *alias*: ``urlpatterns += protected_urls("…")``.

    *permission*: as ``serve_protected_file`` takes it.
    """
    try:
        storage = storages[alias]
    except InvalidStorageError:
        storage = None
    if not isinstance(storage, ProtectedStorage):
        raise ImproperlyConfigured(f"protected_urls({alias!r}): STORAGES[{alias!r}] is no ProtectedStorage.")
    if permission is not None and storage.sign != "view":
        raise ImproperlyConfigured(
            f"protected_urls({alias!r}): who has a link that nginx or a target answers is asked nothing. "
            f'Write "sign": "view" in the OPTIONS of STORAGES[{alias!r}], or remove the permission.'
        )
    path = url_path(storage.base_url or "/")
    if path == "/":
        raise ImproperlyConfigured(
            f"protected_urls({alias!r}): every URL begins with the path of the storage's base_url. Write one with a "
            'path of its own, as in "/private/".'
        )
    options = {"alias": storage.alias, "permission": permission}
    return [re_path(rf"^{re.escape(path[1:])}(?P<name>(?s:.*))\Z", serve_protected_file, options)]
