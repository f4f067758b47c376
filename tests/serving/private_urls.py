"""What a project with private files writes; a pattern that asks who comes; and one that looks at no link."""

from __future__ import annotations

from django.http import HttpRequest
from django.urls import re_path

from replicator.urls import mogilefs_urls, protected_urls
from replicator.views import serve_protected_file


def may_read(request: HttpRequest, storage: str, name: str) -> bool:
    """Who knows the word."""
    return request.headers.get("X-Word") == f"{storage}/{name}"


urlpatterns = [
    *protected_urls("private"),
    *protected_urls("others"),
    re_path(r"^guarded/(?P<name>.+)$", serve_protected_file, {"alias": "private", "permission": may_read}),
    re_path(r"^unprotected/(?P<name>.+)$", serve_protected_file, {"alias": "default"}),
    *mogilefs_urls(),
]
