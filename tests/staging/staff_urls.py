"""An admin site of a project's own, where one of the models whose files are copied has its page."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from replicator.admin import CopyFailureAdmin, CopyRunAdmin
from replicator.models import CopyFailure, CopyRun
from tests.staging.shop.models import Letter

site = admin.AdminSite(name="staff")
site.register(CopyRun, CopyRunAdmin)
site.register(CopyFailure, CopyFailureAdmin)
site.register(Letter)

urlpatterns = [path("staff/", site.urls)]
