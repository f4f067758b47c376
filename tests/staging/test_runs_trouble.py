"""What is under way when a source gets into trouble."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from replicator.errors import Unavailable
from replicator.staging import streams
from replicator.staging.foldersource import FolderSource
from tests.staging.live import Staging

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_stream_that_still_flows_when_the_source_refuses_others_comes_to_its_end(
    site: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last bytes of a large file are not thrown away, each time again, since a source is asked too much."""
    names = site.fill(40)
    site.write(names[0], b"large" * 100_000)
    original = FolderSource.open
    refused: list[str] = []
    enough = threading.Event()

    def one_flows(self: FolderSource, name: str) -> Any:
        if name == names[0]:
            # It was let in before the others; it flows when they have been refused.
            assert enough.wait(20)
            return original(self, name)
        refused.append(name)
        if len(refused) >= streams.IN_A_ROW:
            threading.Timer(0.3, enough.set).start()
        raise Unavailable("503 Slow Down")

    with monkeypatch.context() as patched:
        patched.setattr(FolderSource, "open", one_flows)
        run = site.start()
        site.work(most=1)
    run.refresh_from_db()
    assert run.trouble == "503 Slow Down"
    assert site.held() == {names[0]: b"large" * 100_000}
    assert site.counts(run)["copied"] == 1
    assert len(refused) < streams.IN_A_ROW + 4, "four are at it at once, and nothing is begun any more"
