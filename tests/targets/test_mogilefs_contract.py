"""The target contract, against a tracker with three storage nodes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from replicator.targets.base import Target
from replicator.targets.mogilefs import LONGEST_KEY, MogileFSTarget
from replicator.testing import TargetContract
from tests.mogilefs.cluster import MogileFS


@pytest.fixture(scope="module")
def installation() -> Iterator[MogileFS]:
    with MogileFS(trackers=2) as mogilefs:
        yield mogilefs


class TestMogileFS(TargetContract):
    has_folders = False
    # The contract's prefix is a part of the key.
    longest_segment = LONGEST_KEY - len("up loads/")

    @pytest.fixture(autouse=True)
    def _installation(self, installation: MogileFS) -> None:
        self.installation = installation

    def make_target(self) -> Target:
        mogilefs = self.installation
        return MogileFSTarget("mogilefs", domain=mogilefs.domain, trackers=mogilefs.trackers, base_url="/media/")
