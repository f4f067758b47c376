"""A staging site for each test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.staging.live import Staging


@pytest.fixture
def site(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Staging:
    # It needs the whole package, which most tests here do without.
    from tests.staging.live import Staging

    return Staging(settings, tmp_path, monkeypatch)
