"""Promise 7, where there are no more worker processes than backlogs."""

from __future__ import annotations

import time
from pathlib import Path

from tests.promises.harness import Site
from tests.servers import Embedded, Nginx, Redis


def test_a_backlog_does_not_keep_another_target_waiting_for_its_end(
    tmp_path: Path, nginx: Nginx, embedded: Embedded, redis: Redis
) -> None:
    """Promise 7: one worker process, a backlog of some minutes, and files that are saved meanwhile."""
    redis.flush()
    # As slow as it may be: 8 KiB/s in each process.
    options = {"behind": {"bandwidth": 16_384, "read_timeout": 60.0}, "well": {"read_timeout": 30.0}}
    # A batch is what is in a worker's hands; leases do not end on a busy machine.
    settings = {"BATCH_SIZE": 20, "LEASE_SECONDS": 60.0}
    hosts = {"behind": nginx, "well": embedded}
    with Site(tmp_path, hosts, broker=redis.url, options=options, replicator=settings) as site:
        for number in range(700):
            site.operator.call("save", name=f"backlog/{number}.bin", size=4096)
        site.operator.call("deliver", target="well")
        redis.flush()
        site.beat()
        site.worker(1)
        for number in range(3):
            time.sleep(3)
            site.operator.call("save", name=f"{number}.txt", data="1")
            site.wait_for_agreement([f"{number}.txt"], 150, hosts=["well"])
        assert site.operator.call("backlog", target="behind") > 30, "it is still at it"
