"""A site whose files are in MogileFS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.test import Client

from replicator import delivery, wake
from replicator.models import Replica
from replicator.storage import MogileFSStorage
from replicator.targets import get_target
from replicator.targets.httppool import close_all
from replicator.targets.mogilefs import MogileFSTarget
from tests.mogilefs.cluster import MogileFS

#: Sent in several pieces.
LARGE = bytes(range(256)) * 4096 * 3


class Site:
    """The default storage, its MogileFS, and what browsers see."""

    def __init__(self, mogilefs: MogileFS) -> None:
        self.mogilefs = mogilefs
        self._client = Client()
        self._answers: list[Any] = []

    @property
    def storage(self) -> MogileFSStorage:
        storage = storages["default"]
        assert isinstance(storage, MogileFSStorage)
        return storage

    @property
    def target(self) -> MogileFSTarget:
        target = get_target("mogilefs")
        assert isinstance(target, MogileFSTarget)
        return target

    def save(self, name: str, data: bytes) -> Path:
        """Saved, and not delivered; the local file."""
        assert self.storage.save(name, ContentFile(data)) == name
        return Path(self.storage.path(name))

    def store(self, name: str, data: bytes, *, keep: bool = False) -> None:
        """Saved and delivered; with or without its local file."""
        path = self.save(name, data)
        delivery.deliver("mogilefs")
        assert set(Replica.objects.values_list("status", flat=True)) == {"synced"}
        if not keep:
            path.unlink()

    def get(self, path: str, method: str = "GET", /, **headers: str) -> Any:
        """The answer for a path below the root; header names with ``_`` for ``-``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self._client.generic(method, f"/{path}", headers=named)
        self._answers.append(answer)
        return answer

    def connections_to_nodes(self) -> int:
        """Those of this process that are open."""
        ends = {f"{port:04X}" for port in self.mogilefs.node_ports}
        lines = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
        # Those of the nodes themselves have these ports at their own end.
        return sum(1 for line in lines if line.split()[2][-4:] in ends and line.split()[3] == "01")

    def close(self) -> None:
        """What servers do with each answer, read or not; and no connection stays."""
        for answer in self._answers:
            answer.close()
        close_all()


@pytest.fixture(scope="session")
def installation() -> Iterator[MogileFS]:
    with MogileFS() as mogilefs:
        yield mogilefs


@pytest.fixture
def site(
    installation: MogileFS, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transactional_db: None
) -> Iterator[Site]:
    """Nothing in it, and nothing wrong with it."""
    installation.wipe()
    installation.pause_background()
    settings.MEDIA_ROOT = str(tmp_path / "media")
    settings.MOGILEFS_MEDIA_URL = "/media/"
    settings.ROOT_URLCONF = "tests.serving.urls"
    settings.REPLICATOR = {
        "TARGETS": {
            "mogilefs": {
                "BACKEND": "replicator.targets.mogilefs.MogileFSTarget",
                "OPTIONS": {
                    "domain": installation.domain,
                    "trackers": installation.trackers,
                    "read_timeout": 3.0,
                },
            }
        },
        "DOUBT_WINDOW": 0.0,
    }
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": "replicator.storage.MogileFSStorage"}}
    monkeypatch.setattr(wake, "announce", lambda targets: None)
    monkeypatch.setattr(wake, "wake", lambda targets: True)
    site = Site(installation)
    yield site
    site.close()
