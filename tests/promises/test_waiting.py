"""Saves that wait for copies, as processes of a site: beside workers, without them, killed, and ended."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.promises.harness import Killed, Shell, Site, new_database, wait_until
from tests.servers import Embedded, Nginx, Postgres, Redis


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    return "" if request.param == "sqlite" else new_database(request.getfixturevalue("_postgres"))


def missing(site: Site, name: str) -> list[str]:
    return site.disagreements([name])


def by_target(site: Site, name: str) -> Mapping[str, Any]:
    return {row["target"]: row for row in site.operator.call("rows", name=name)}


def test_a_save_that_waited_is_on_every_host_beside_workers(
    tmp_path: Path, nginx: Nginx, embedded: Embedded, redis: Redis, database: str
) -> None:
    """Promise 1, at once: whoever of the two sends it. What is left to the workers is theirs."""
    hosts = {"media1": nginx, "media2": embedded}
    # One attempt each: none is to end for a machine that is busy.
    options = {alias: {"read_timeout": 30.0} for alias in hosts}
    settings = {"LEASE_SECONDS": 60.0}
    with Site(
        tmp_path, hosts, database=database, broker=redis.url, storage={"wait": 60.0}, options=options,
        replicator=settings,
    ) as site:  # fmt: skip
        site.worker()
        savers = [site.shell() for _ in range(2)]
        for turn in range(10):
            names = [f"{number}/{turn}.txt" for number in range(2)]
            for saver, name in zip(savers, names, strict=True):
                saver.tell("save", name=name, data=name)
            for saver, name in zip(savers, names, strict=True):
                assert saver.answer() == name
                assert missing(site, name) == []
        assert site.operator.call("backlog") == 0
        assert not any(row["doubt"] or row["attempts"] for row in site.operator.call("rows"))


def test_what_one_copy_does_not_need_is_delivered_by_workers(
    tmp_path: Path, nginx: Nginx, embedded: Embedded, redis: Redis
) -> None:
    """Its announcement is not lost with the wait."""
    storage = {"wait": 60.0, "min_copies": 1}
    hosts = {"media1": nginx, "media2": embedded}
    options = {alias: {"read_timeout": 30.0} for alias in hosts}
    with Site(tmp_path, hosts, broker=redis.url, storage=storage, options=options) as site:
        site.worker()
        site.operator.call("save", name="a.txt", data="1")
        assert len(site.disagreements(["a.txt"])) < len(hosts)
        # No beat is there to find it: it was announced.
        site.wait_for_agreement(["a.txt"])


def test_a_process_killed_while_it_waits_loses_nothing(
    tmp_path: Path, nginx: Nginx, embedded: Embedded, database: str
) -> None:
    """Promise 1: it had committed; its leases end, and others take over."""
    hosts = {"media1": nginx, "media2": embedded}
    # The request must hang as long as it takes to look for it.
    options = {"media1": {"read_timeout": 60.0}}
    with Site(tmp_path, hosts, database=database, storage={"wait": 60.0}, options=options) as site:
        saver = site.shell()
        nginx.pause()
        saver.tell("save", name="a.txt", data="1")
        wait_until(lambda: by_target(site, "a.txt").get("media2", {}).get("status") == "synced")
        assert by_target(site, "a.txt")["media1"]["leased"]
        saver.kill()
        nginx.resume()
        with pytest.raises(Killed):
            saver.answer()
        site.drain_until_agreed(["a.txt"])


def test_a_process_that_ends_settles_what_its_last_save_left_behind(
    tmp_path: Path, nginx: Nginx, embedded: Embedded
) -> None:
    """Promise 1: a script that saves and ends leaves no lease to its end for a transfer that ends well."""
    storage = {"wait": 60.0, "min_copies": 1}
    hosts = {"media1": nginx, "media2": embedded}
    # The request must hang, and its lease last, as long as the test has it so.
    options = {alias: {"read_timeout": 60.0} for alias in hosts}
    with Site(tmp_path, hosts, storage=storage, options=options, replicator={"LEASE_SECONDS": 60.0}) as site:
        script = site.shell()
        nginx.pause()
        script.call("save", name="a.txt", data="1")
        rows = by_target(site, "a.txt")
        assert [rows[alias]["status"] for alias in ("media1", "media2")] == ["pending", "synced"]
        _end(script)
        time.sleep(0.3)
        assert script.process.poll() is None, "it waits for what is on its way"
        nginx.resume()
        assert script.process.wait(timeout=60) == 0
        row = by_target(site, "a.txt")["media1"]
        assert (row["status"], row["doubt"], row["leased"]) == ("synced", False, False)
        assert missing(site, "a.txt") == []


def _end(shell: Shell) -> None:
    """Have it end as a script does."""
    assert shell.process.stdin is not None
    shell.process.stdin.close()


def test_an_error_of_the_wait_is_the_callers(tmp_path: Path, nginx: Nginx, postgres: Postgres) -> None:
    """The message is for people, and shows no credential (promise 9); a host that comes back gets the file."""
    hosts = {"media1": nginx, "media2": "http://127.0.0.1:9"}
    options = {"media2": {"username": "replicator", "password": "s3cret-word"}}
    with Site(
        tmp_path, hosts, database=new_database(postgres), options=options, storage={"wait": 0.5}
    ) as site, pytest.raises(RuntimeError, match=r"NotSynced: a.txt \(default\) was saved") as caught:  # fmt: skip
        site.operator.call("save", name="a.txt", data="1")
    assert "media2: 1 pending" in str(caught.value)
    assert "s3cret-word" not in str(caught.value)
