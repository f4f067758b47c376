"""The URL patterns that a project includes."""

from __future__ import annotations

import re

from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern, re_path

from replicator.conf import media_url
from replicator.targets.base import url_path
from replicator.views import Permission, serve_mogilefs_file


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
