"""The target contract, for each way of writing to a storage: S3, a folder, the Storage API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from replicator.errors import Refused
from replicator.targets.base import Target
from replicator.targets.django_storage import StorageTarget
from replicator.targets.s3bucket import SINGLE
from replicator.testing import TargetContract
from replicator.testing.outcomes import raises
from tests.s3 import S3


class _OnStorage(TargetContract):
    @pytest.fixture(autouse=True)
    def _storages(self, settings: Any, entry: dict[str, Any]) -> None:
        settings.STORAGES = {**settings.STORAGES, "copies": entry}

    def make_target(self) -> Target:
        return StorageTarget("backup", storage="copies")


class TestFolder(_OnStorage):
    @pytest.fixture
    def entry(self, tmp_path: Path) -> dict[str, Any]:
        return {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / "copies")},
        }


class TestInMemory(_OnStorage):
    """The Storage API, of a storage that gives another name to what is there already."""

    large = 1 << 24

    @pytest.fixture
    def entry(self) -> dict[str, Any]:
        return {"BACKEND": "django.core.files.storage.InMemoryStorage"}

    def test_long_names_are_stored_or_refused(self) -> None:
        """Memory takes any."""


class TestS3(_OnStorage):
    has_folders = False
    # moto holds all of it in memory, some of it twice.
    large = 2 * SINGLE
    # moto's own; S3 takes it.
    refused_names = frozenset({"new\nline.txt"})

    @pytest.fixture
    def entry(self, s3: S3) -> dict[str, Any]:
        return s3.entry(s3.new_bucket())

    def test_long_names_are_stored_or_refused(self) -> None:
        """A key has 1024 bytes, however they are divided."""
        name = "l" * (1024 - len("media/up loads/"))
        self.put(name, b"long")
        assert self.holds(name) == b"long"
        with raises(Refused) as caught:
            self.put(f"{name}l", b"too long")
        assert "rename" in str(caught[0])
        assert self.holds(name) == b"long"


class TestS3Below(TestS3):
    """In a part of a bucket: the storage's location, the target's prefix, and without the storage's base_url."""

    @pytest.fixture
    def entry(self, s3: S3) -> dict[str, Any]:
        return s3.entry(s3.new_bucket(), location="a/part")

    def make_target(self) -> Target:
        return StorageTarget("backup", storage="copies", prefix="of it/", base_url="/media/")

    def test_a_large_file_is_streamed(self) -> None:
        """Seen in the other bucket."""

    def test_a_listing_of_more_files_than_a_page_is_whole(self) -> None:
        """Seen in the other bucket."""

    def test_long_names_are_stored_or_refused(self) -> None:
        """Seen in the other bucket."""
