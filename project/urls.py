"""The site's addresses."""

from django.contrib import admin
from django.urls import include, path

from replicator.urls import health_urls

urlpatterns = [
    *health_urls(),
    path("admin/", admin.site.urls),
    path("", include("project.gallery.urls")),
]
