"""An S3 for the tests of targets, targets there, and files to put."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from replicator.targets.base import Target, TargetFile
from replicator.targets.django_storage import StorageTarget
from replicator.testing import BytesContent
from tests.s3 import S3, Proxy

MakeS3 = Callable[..., StorageTarget]
#: Of a target that is to give up soon.
SOON = {"connect_timeout": 1.0, "read_timeout": 1.0}


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    with S3() as server:
        yield server


@pytest.fixture
def bucket(s3: S3) -> str:
    """A new one."""
    return s3.new_bucket()


@pytest.fixture
def proxy(s3: S3) -> Iterator[Proxy]:
    with Proxy(s3.port) as before:
        yield before


@pytest.fixture
def make_s3(s3: S3, bucket: str, settings: Any) -> MakeS3:
    """Makes a target at a URL (that of S3 unless given). *times*: its options; others are those of its storage."""

    def make(url: str = "", *, times: dict[str, float] | None = None, **options: Any) -> StorageTarget:
        entry = s3.entry(bucket, **{"endpoint_url": url or s3.url, **options})
        settings.STORAGES = {**settings.STORAGES, "backup": entry}
        # For moto, on a busy machine; who is to give up says when.
        patience: dict[str, Any] = {"connect_timeout": 20.0, "read_timeout": 20.0, **(times or {})}
        return StorageTarget("s3", storage="backup", **patience)

    return make


def file(name: str = "a b/file.txt", data: bytes = b"", **more: Any) -> TargetFile:
    sha256 = hashlib.sha256(data).hexdigest()
    fields = {"content_type": "text/plain", "sha256": sha256, "size": len(data), **more}
    return TargetFile("default", name, prefix="/media/", **fields)


def put(at: Target, data: bytes, name: str = "a b/file.txt", **more: Any) -> None:
    at.put(file(name, data, **more), BytesContent(data))
