"""What is under way, or not noted yet, when a source gets into trouble."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from replicator import staging
from replicator.errors import Unavailable
from replicator.models import CopyRun
from replicator.staging import chunks, streams
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


def test_what_a_dead_worker_copied_counts_as_copied_though_the_source_can_not_be_asked_at_first(
    site: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted right: what failed and is tried again was begun by this run, and what was here before it was not."""
    names = site.fill(6)
    (site.media / "letters").mkdir()
    (site.media / names[0]).write_bytes((site.live / names[0]).read_bytes())
    opened: list[str] = []
    original = FolderSource.open

    def counting(self: FolderSource, name: str) -> Any:
        opened.append(name)
        return original(self, name)

    class Killed(BaseException):
        pass

    def dies(lease: chunks.Lease, results: Any, *, asked: int = 0) -> bool:
        if opened:
            raise Killed
        return settle(lease, results, asked=asked)

    def down(self: FolderSource, name: str) -> Any:
        raise Unavailable("503 Slow Down")

    settle = chunks.settle
    monkeypatch.setattr(FolderSource, "open", counting)
    with monkeypatch.context() as patched:
        # Nothing is noted of what was copied, nor of what was there.
        patched.setattr(chunks, "settle", dies)
        run = site.start()
        with pytest.raises(Killed):
            site.work()
    assert len(opened) == 5
    with monkeypatch.context() as patched:
        patched.setattr(FolderSource, "stat", down)
        site.later(run)
        staging.sweep()
        site.work()
    assert site.counts(run)["failed"] >= streams.IN_A_ROW
    while run.state == CopyRun.State.RUNNING:
        site.later(run)
        staging.sweep()
        site.work()
        run.refresh_from_db()
    size = sum(len(content) for name, content in site.held().items() if name != names[0])
    assert site.counts(run) == {"copied": 5, "there": 1, "bytes": size}
    assert len(opened) == 5, "none was fetched twice"
