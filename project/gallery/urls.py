"""The gallery's addresses."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path, re_path

from project.gallery import shapeviews, views
from replicator.urls import protected_urls

urlpatterns = [
    path("", views.gallery, name="gallery"),
    path("status.json", views.status_json, name="status"),
    path("pictures/<int:pk>/replace", views.replace, name="replace"),
    path("pictures/<int:pk>/delete", views.delete, name="delete"),
    path(
        "login", LoginView.as_view(template_name="gallery/login.html", redirect_authenticated_user=True), name="login"
    ),
    path("logout", LogoutView.as_view(), name="logout"),
]
prefix = urlsplit(settings.MEDIA_URL).path.strip("/")
if settings.WITH_MOGILEFS:
    urlpatterns += [
        path("avatar", views.avatar, name="avatar"),
        re_path(rf"^{re.escape(prefix)}/(?P<key>(?:avatars|thumbs)/.+)$", views.from_mogilefs),
    ]
if settings.SHAPES:
    urlpatterns += [
        path("shapes", shapeviews.page, name="shapes"),
        path("shapes/<slug:alias>/save", shapeviews.save, name="save-example"),
        path("shapes/<int:pk>/delete", shapeviews.delete, name="delete-example"),
        *(
            pattern
            for alias in ("private", "bucket")
            if alias in settings.STORAGES
            for pattern in protected_urls(alias)
        ),
    ]
if settings.SERVE_MEDIA:
    urlpatterns.append(path(f"{prefix}/<path:name>", views.media, name="media"))
