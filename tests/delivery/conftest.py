"""A site with one target in memory, and no broker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from replicator import wake
from replicator.targets import get_target
from replicator.testing import MemoryTarget


@pytest.fixture
def target(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryTarget:
    settings.MEDIA_ROOT = str(tmp_path)
    settings.REPLICATOR = {
        "TARGETS": {"media1": {"BACKEND": "replicator.testing.MemoryTarget"}},
        "DOWN_AFTER": 3,
    }
    monkeypatch.setattr(wake, "announce", lambda targets: None)
    monkeypatch.setattr(wake, "wake", lambda targets: True)
    target = get_target("media1")
    assert isinstance(target, MemoryTarget)
    return target
