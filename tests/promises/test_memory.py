"""Promise 8: memory stays flat whatever the size of the file or of the backlog."""

from __future__ import annotations

from pathlib import Path

from tests.promises.harness import Site
from tests.servers import Nginx

MIB = 1024 * 1024


def test_a_large_file_is_saved_and_delivered_in_constant_memory(tmp_path: Path, nginx: Nginx) -> None:
    """Promise 8: 512 MiB pass through the saver and through the worker; neither grows by 60."""
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(512 * MIB)
    options = {"media1": {"read_timeout": 60.0}}
    # A disk that is busy with so large a file keeps the ledger waiting, too.
    with Site(tmp_path, {"media1": nginx}, options=options, replicator={"LEASE_SECONDS": 60.0}) as site:
        saver, worker = site.shell(), site.shell()
        before = [process.call("memory") for process in (saver, worker)]
        saver.call("save_from", name="large.bin", path=str(source))
        source.unlink()
        assert worker.call("deliver", target="media1")["put"] == 1
        growth = [process.call("memory") - was for process, was in zip((saver, worker), before, strict=True)]
        assert max(growth) < 60 * MIB, growth
        assert site.disagreements(["large.bin"]) == []


def test_a_large_backlog_is_worked_off_in_constant_memory(tmp_path: Path, nginx: Nginx) -> None:
    """Promise 8: 20,000 rows are due; a worker has a few hundred of them at a time."""
    with Site(
        tmp_path, {"media1": nginx}, replicator={"RETRY_BASE": 600.0, "RETRY_CAP": 600.0, "LEASE_SECONDS": 30.0}
    ) as site:
        site.operator.call("many", count=20_000, target="media1")
        worker = site.shell()
        before = worker.call("memory")
        assert worker.call("sweep") == ["media1"]
        # Their local files are missing: this is about rows.
        assert worker.call("deliver", target="media1", seconds=4.0)["failed"] > 250
        assert worker.call("memory") - before < 40 * MIB
