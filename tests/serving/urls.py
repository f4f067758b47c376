"""What a project writes to serve its files, and two patterns of its own."""

from __future__ import annotations

from django.http import HttpRequest
from django.urls import re_path

from replicator.urls import mogilefs_urls
from replicator.views import serve_mogilefs_file


def may_read(request: HttpRequest, storage: str, name: str) -> bool:
    """Who knows the word, and nobody the file "secret"."""
    return request.GET.get("word") == f"{storage}/{name}" and name != "secret"


urlpatterns = [
    *mogilefs_urls(),
    re_path(r"^guarded/(?P<key>.+)$", serve_mogilefs_file, {"permission": may_read}),
    re_path(r"^saved/(?P<key>.+)$", serve_mogilefs_file, {"as_attachment": True}),
    re_path(r"^shown/(?P<key>.+)$", serve_mogilefs_file, {"filename": "Äpfel & Birnen.txt"}),
]
