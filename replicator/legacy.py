"""Settings of earlier times that still work."""

from __future__ import annotations

from typing import Any

from django import VERSION
from django.conf import global_settings, settings
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.files.storage import default_storage, storages
from django.utils.functional import empty

#: Alias in ``STORAGES`` → the setting that named its class before.
SETTINGS = {"default": "DEFAULT_FILE_STORAGE", "staticfiles": "STATICFILES_STORAGE"}


def named(alias: str) -> str | None:
    """What the old setting says, where Django itself ignores it (5.1 and later)."""
    return getattr(settings, SETTINGS[alias], None) if VERSION >= (5, 1) else None


def conflicts() -> list[str]:
    """The aliases for which the project sets both, to different storages."""
    found = []
    for alias in SETTINGS:
        wanted, given = named(alias), _given(alias)
        if wanted is not None and given is not None and given.get("BACKEND") != wanted:
            found.append(alias)
    return found


def _given(alias: str) -> dict[str, Any] | None:
    """That entry of ``STORAGES``, if the project wrote it: what Django puts there is no choice of the project's."""
    overridden: bool = settings.is_overridden("STORAGES")  # type: ignore[misc]  # the stubs lack it
    return settings.STORAGES.get(alias) if overridden else None


def apply() -> None:
    """Map the old settings onto ``STORAGES``, unless the project sets those entries itself."""
    wanted = {alias: {"BACKEND": named(alias)} for alias in SETTINGS if named(alias) and _given(alias) is None}
    if not wanted:
        return
    settings.STORAGES = {**getattr(settings, "STORAGES", global_settings.STORAGES), **wanted}
    # What Django's own receiver of setting_changed does: forget what was made of the old setting.
    storages.__dict__.pop("backends", None)
    storages._backends = None  # type: ignore[attr-defined]
    storages._storages = {}  # type: ignore[attr-defined]
    default_storage._wrapped = empty  # type: ignore[attr-defined]
    staticfiles_storage._wrapped = empty  # type: ignore[attr-defined]
