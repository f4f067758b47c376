"""A site whose overview is looked at, and who looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from replicator.overview import _Believed
from tests.operating.audits import Site

PAGE = "/admin/replicator/targetstate/"


def overview_site(settings: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    # On a busy machine, any count takes long; and what another test's site had is not believed.
    monkeypatch.setattr("replicator.overview._QUICK", 60.0)
    monkeypatch.setattr("replicator.overview._believed", _Believed())
    monkeypatch.setattr("replicator.operating.progress._counts", {})
    return Site(settings, folder, monkeypatch)


def client_with(*permissions: str) -> Client:
    """Somebody of the staff who has these permissions, logged in."""
    user = User.objects.create_user(f"user{User.objects.count()}", is_staff=True)
    found = Permission.objects.filter(content_type__app_label="replicator", codename__in=permissions)
    assert found.count() == len(permissions)
    user.user_permissions.set(found)
    client = Client()
    client.force_login(user)
    return client
