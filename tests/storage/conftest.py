"""A replicated storage in a temporary folder, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings as django_settings
from django.core.files.storage import storages
from django.core.signals import setting_changed

from replicator import wake
from replicator.storage import ReplicatedStorage

TARGETS = {f"media{n}": {"BACKEND": "replicator.testing.MemoryTarget"} for n in (1, 2)}


def _keep_options(*, setting: str, **_: object) -> None:
    """Django before 5.1 sets the old settings too when a test sets STORAGES, and then thinks that they are meant."""
    if setting == "STORAGES":
        for old in ("DEFAULT_FILE_STORAGE", "STATICFILES_STORAGE"):
            vars(django_settings._wrapped).pop(old, None)


if django.VERSION < (5, 1):
    setting_changed.connect(_keep_options)


@pytest.fixture(autouse=True)
def announced(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What was announced, each call's targets: here no worker and no broker are."""
    calls: list[list[str]] = []
    monkeypatch.setattr(wake, "announce", lambda targets: calls.append(list(targets)))
    return calls


@pytest.fixture
def media_root(tmp_path: Path) -> Path:
    return tmp_path / "media"


@pytest.fixture
def make_storage(settings: Any, media_root: Path) -> Callable[..., ReplicatedStorage]:
    """The storage of the alias "default", with these options; other settings of REPLICATOR in *replicator*."""

    def make(replicator: dict[str, Any] | None = None, **options: Any) -> ReplicatedStorage:
        settings.MEDIA_ROOT = str(media_root)
        settings.REPLICATOR = {"TARGETS": TARGETS, **(replicator or {})}
        settings.STORAGES = {
            **settings.STORAGES,
            "default": {"BACKEND": "replicator.storage.ReplicatedStorage", "OPTIONS": options},
        }
        storage = storages["default"]
        assert isinstance(storage, ReplicatedStorage)
        return storage

    return make


@pytest.fixture
def storage(make_storage: Callable[..., ReplicatedStorage]) -> ReplicatedStorage:
    return make_storage()


@pytest.fixture
def tidy_now(settings: Any) -> Callable[[], int]:
    """Tidy the default storage as if the grace period were over."""

    def tidy() -> int:
        settings.REPLICATOR = {**settings.REPLICATOR, "ORPHAN_GRACE": 0}
        storage = storages["default"]
        assert isinstance(storage, ReplicatedStorage)
        return storage.tidy()

    return tidy


@pytest.fixture
def s3() -> Iterator[Any]:
    """An empty S3, where what it takes is installed: beside Django 4.2 it is not."""
    pytest.importorskip("boto3")
    from tests.s3 import S3

    with S3() as server:
        yield server


def everything(root: Path) -> dict[str, bytes]:
    """Name → bytes of all files below *root*, the storage's own too; what a journal's link says for it."""
    return {
        str(path.relative_to(root)): bytes(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def contents(storage: ReplicatedStorage, name: str) -> bytes:
    """What *storage* gives to read under *name*."""
    with storage.open(name) as file:
        data = file.read()
    assert isinstance(data, bytes)
    return data
