"""Promises 1 and 2 for hosts that come and go: with real workers, which are killed in the middle of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.promises.harness import Killed, Site, new_database, wait_until
from tests.servers import Embedded, Nginx, Postgres, Redis

NAMES = [f"{n:03}.txt" for n in range(12)]
INSTANTS = ["in a step", "after a step"]


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path: Path, nginx: Nginx, embedded: Embedded) -> Iterator[Site]:
    """A site with one host, nginx; another one is there to be added."""
    for host in (nginx, embedded):
        host.wipe()
    database = "" if request.param == "sqlite" else new_database(request.getfixturevalue("postgres"))
    with Site(tmp_path, {"media1": nginx}, database=database) as site:
        for name in NAMES:
            site.operator.call("save", name=name, data=name)
        site.drain_until_agreed(NAMES)
        site.operator.call("sweep")
        yield site


def add_host(site: Site, alias: str, url: str) -> None:
    """Write it into the settings; those who are to know are started afterwards."""
    given = json.loads(site.environment["SITE"])
    targets = given["replicator"]["TARGETS"]
    targets[alias] = {**targets["media1"], "OPTIONS": {**targets["media1"]["OPTIONS"], "url": url}}
    site.environment["SITE"] = json.dumps(given)
    site.hosts[alias] = url
    site.operator = site.shell()
    site.operator.call("sweep")


def last_run(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = site.operator.call("runs")[-1]
    return found


def die_at(site: Site, where: str, run: int) -> None:
    """Have a worker of the run killed there."""
    worker = site.shell()
    worker.call("die", where=where)
    with pytest.raises(Killed):
        worker.call("work", run=run)


def finish(site: Site, run: int) -> dict[str, Any]:
    """As soon as the dead worker's lease is over."""
    wait_until(lambda: site.operator.call("work", run=run) != "running", say=lambda: site.operator.call("runs"))
    return last_run(site)


def wait_for_active(site: Site, target: str) -> None:
    """Until a sweep has seen that it has all: after a look that took long, the next one waits."""

    def is_active() -> bool:
        site.operator.call("sweep")
        return bool(site.operator.call("phases")[target] == "active")

    wait_until(is_active, 60, say=lambda: site.operator.call("phases"))


@pytest.mark.parametrize("where", INSTANTS)
def test_a_backfill_whose_worker_is_killed_goes_on(site: Site, embedded: Embedded, where: str) -> None:
    """Promise 1: nothing is left out, and nothing recorded twice."""
    add_host(site, "media2", embedded.url)
    assert site.operator.call("phases")["media2"] == "joining"
    site.operator.call("replicator", words=["backfill", "media2"])
    run = last_run(site)["id"]
    die_at(site, where, run)
    site.operator.call("overwrite", name=NAMES[0], data="newer")
    site.operator.call("delete", name=NAMES[7])
    ended = finish(site, run)
    assert (ended["state"], ended["counts"]["recorded"]) in [("done", 12), ("done", 11), ("done", 10)]
    site.drain_until_agreed(NAMES)
    wait_for_active(site, "media2")


@pytest.mark.parametrize("where", INSTANTS)
def test_a_resync_whose_worker_is_killed_goes_on(site: Site, nginx: Nginx, where: str) -> None:
    """Promise 1: a wiped host comes to hold everything."""
    nginx.wipe()
    site.operator.call("replicator", words=["resync", "media1"])
    run = last_run(site)["id"]
    die_at(site, where, run)
    site.operator.call("delete", name=NAMES[7])
    assert finish(site, run)["state"] == "done"
    site.drain_until_agreed(NAMES)
    wait_for_active(site, "media1")


@pytest.mark.parametrize("where", [*INSTANTS, "before a step is noted"])
def test_a_retirement_whose_worker_is_killed_goes_on(
    site: Site, nginx: Nginx, embedded: Embedded, where: str
) -> None:
    """Promise 6: what the ledger named is gone there, and nothing else; the other host keeps all."""
    add_host(site, "media2", embedded.url)
    site.operator.call("replicator", words=["backfill", "media2"])
    finish(site, last_run(site)["id"])
    site.drain_until_agreed(NAMES)
    (nginx.root / "media/unknown.txt").write_text("somebody else's")
    said = site.operator.call("replicator", words=["retire", "media1", "--delete", "--confirm", "12"])
    assert "retired" in said, said
    site.operator.call("age_phases")
    run = last_run(site)["id"]
    die_at(site, where, run)
    site.operator.call("save", name="more.txt", data="more")
    ended = finish(site, run)
    assert ended["state"] == "done", ended
    assert not [row for row in site.operator.call("rows") if row["target"] == "media1"]
    site.operator.call("deliver", target="media2")
    assert site.disagreements([*NAMES, "more.txt"], ["media2"]) == []
    assert {site.held("media1", name) for name in [*NAMES, "more.txt"]} == {"absent"}
    assert site.held("media1", "unknown.txt") != "absent"


def test_a_host_is_added_paused_and_retired_while_workers_are_at_work(
    tmp_path: Path, nginx: Nginx, embedded: Embedded, redis: Redis, postgres: Postgres
) -> None:
    """The whole life, with Celery's workers, beat and a broker; one worker is killed while it backfills."""
    for host in (nginx, embedded):
        host.wipe()
    redis.flush()
    names = [f"{n:04}.txt" for n in range(600)]
    with Site(tmp_path, {"media1": nginx}, database=new_database(postgres), broker=redis.url) as site:
        site.operator.call("save_many", count=len(names))
        site.drain_until_agreed(names[:3], 120)
        site.operator.call("sweep")
        add_host(site, "media2", embedded.url)
        worker, _ = site.worker(), site.beat()
        site.operator.call("replicator", words=["backfill", "media2"])
        wait_until(lambda: last_run(site)["state"] != "running" or site.operator.call("backlog"), say=site.logs)
        worker.kill()
        site.worker()
        wait_until(lambda: site.operator.call("phases")["media2"] == "active", 120, say=site.logs)
        assert site.disagreements(names) == []

        # Paused in the middle of a backlog.
        site.operator.call("make_pending", target="media2")
        wait_until(lambda: site.operator.call("backlog", target="media2") < len(names), say=site.logs)
        site.operator.call("replicator", words=["pause", "media2"])
        paused = time.monotonic()
        left = -1
        while left != (left := site.operator.call("backlog", target="media2")):
            time.sleep(1)
        assert time.monotonic() - paused < 30
        site.operator.call("replicator", words=["resume", "media2"])
        wait_until(lambda: not site.operator.call("backlog", target="media2"), say=site.logs)

        # Retired, and empty in the end.
        said = site.operator.call("replicator", words=["retire", "media2", "--delete", "--confirm", "600"])
        assert "is retired" in said, said
        site.operator.call("save", name="more.txt", data="more")
        wait_until(lambda: last_run(site)["state"] == "done", 120, say=lambda: [last_run(site), site.logs()])
        assert {site.held("media2", name) for name in [*names, "more.txt"]} == {"absent"}
        site.wait_for_agreement([*names, "more.txt"], hosts=["media1"])
