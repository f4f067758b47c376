"""Settings of earlier times that still work."""

from __future__ import annotations

from typing import Any

from django import VERSION
from django.conf import global_settings, settings
from django.core.files.storage import default_storage, storages
from django.utils.functional import empty


def default_file_storage() -> str | None:
    """``DEFAULT_FILE_STORAGE``, where Django itself ignores it (5.1 and later)."""
    return getattr(settings, "DEFAULT_FILE_STORAGE", None) if VERSION >= (5, 1) else None


def conflict() -> bool:
    """Whether the project sets both ``DEFAULT_FILE_STORAGE`` and ``STORAGES["default"]``, to different storages."""
    wanted, given = default_file_storage(), _given()
    return wanted is not None and given is not None and given.get("BACKEND") != wanted


def _given() -> dict[str, Any] | None:
    """``STORAGES["default"]``, if the project wrote it: what Django puts there is no choice of the project's."""
    overridden: bool = settings.is_overridden("STORAGES")  # type: ignore[misc]  # the stubs lack it
    return settings.STORAGES.get("default") if overridden else None


def apply() -> None:
    """Map ``DEFAULT_FILE_STORAGE`` onto ``STORAGES["default"]``, unless the project sets that itself."""
    wanted = default_file_storage()
    if wanted is None or _given() is not None:
        return
    others = getattr(settings, "STORAGES", global_settings.STORAGES)
    settings.STORAGES = {**others, "default": {"BACKEND": wanted}}
    # What Django's own receiver of setting_changed does: forget what was made of the old setting.
    storages.__dict__.pop("backends", None)
    storages._backends = None  # type: ignore[attr-defined]
    storages._storages = {}  # type: ignore[attr-defined]
    default_storage._wrapped = empty  # type: ignore[attr-defined]
