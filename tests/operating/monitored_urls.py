"""The admin, and what monitors ask."""

from django.contrib import admin
from django.urls import path

from replicator.urls import health_urls

urlpatterns = [path("admin/", admin.site.urls), *health_urls()]
