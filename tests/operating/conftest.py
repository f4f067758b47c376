"""Fixtures of the tests of operating."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.operating.audits import Site
from tests.people.conftest import manage

__all__ = ["manage"]


@pytest.fixture
def site(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """With two files, at both of its targets."""
    site = Site(settings, tmp_path, monkeypatch)
    site.save("a.txt", "b.txt")
    return site
