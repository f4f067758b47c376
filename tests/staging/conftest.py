"""A staging site for each test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.staging.live import Staging


@pytest.fixture
def site(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Staging:
    return Staging(settings, tmp_path, monkeypatch)
