"""An audit by real workers: started by the command, told by Redis, repaired by deliveries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Redis
from tests.promises.harness import Site, wait_until
from tests.servers import Embedded, Nginx


@pytest.fixture
def site(tmp_path: Path, nginx: Nginx, embedded: Embedded, redis: Redis) -> Iterator[Site]:
    redis.flush()
    # What was synced a moment ago is not looked at again only if it was after the audit began.
    # Its workers are not to lose what they are at on a busy machine; beat would make up for it.
    hosts = {"media1": nginx, "media2": embedded}
    options = {alias: {"read_timeout": 20.0} for alias in hosts}
    with Site(tmp_path, hosts, broker=redis.url, options=options, replicator={"LEASE_SECONDS": 20.0}) as site:
        site.worker(2)
        site.sweep_seldom()
        yield site


def test_what_people_did_behind_its_back_is_repaired(site: Site, nginx: Nginx) -> None:
    """Three corrupted on a host, two deleted here: all five, and only these, without anybody's help."""
    names = [f"n/{number}.txt" for number in range(30)]
    for name in names:
        site.operator.call("save", name=name, data=f"what is in {name}")
    site.wait_for_agreement(names)
    whole = nginx.files()
    corrupted, lost = names[2:5], names[10:12]
    for path, data in whole.items():
        if path.endswith(tuple(f"/{name}" for name in corrupted)):
            (nginx.root / path).write_bytes(data[::-1])
    for name in lost:
        (site.media_root / name).unlink()
    said = site.operator.call("replicator", words=["audit", "--level", "content", "--follow"])
    assert said.rstrip().endswith("5 files found that should not be so."), said
    report = site.operator.call("replicator", words=["audit", "--report", "--json"])
    runs = json.JSONDecoder().raw_decode(report)[0]["runs"]
    found = {(run["target"], each["name"], each["what"], each["cure"]) for run in runs for each in run["findings"]}
    assert found == {
        *(("media1", name, "wrong", "sent") for name in corrupted),
        *(("", name, "missing", "restored") for name in lost),
    }
    wait_until(lambda: nginx.files() == whole)
    site.wait_for_agreement(names)
    assert [(site.media_root / name).read_text() for name in lost] == [f"what is in {name}" for name in lost]
    said = site.operator.call("replicator", words=["audit", "--level", "content", "--follow"])
    assert "found that should not be so" not in said
