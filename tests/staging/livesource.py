"""A live S3 that copies read from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.s3 import S3, Proxy


@pytest.fixture(scope="session")
def source_s3() -> Iterator[S3]:
    with S3() as server:
        yield server


@pytest.fixture
def source_bucket(source_s3: S3) -> str:
    """A new one."""
    return source_s3.new_bucket()


@pytest.fixture
def source_proxy(source_s3: S3) -> Iterator[Proxy]:
    with Proxy(source_s3.port) as before:
        yield before
