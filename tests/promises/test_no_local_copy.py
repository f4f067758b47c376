"""Promises 1, 2 and 8 where no local copy is kept: real workers, hosts and databases, and kills."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.promises.harness import Killed, Site, new_database, wait_until
from tests.servers import Embedded, MediaHost, Nginx, Redis

MIB = 1024 * 1024
RELEASING = ["after settle, before a release", "after a stat, before a release", "in a release"]

Make = Callable[..., Site]


@pytest.fixture(params=["sqlite", "postgresql"])
def make(request: pytest.FixtureRequest, tmp_path: Path, nginx: Nginx, embedded: Embedded) -> Iterator[Make]:
    """A site with two hosts that keeps no local copy."""
    sites: list[Site] = []

    def make(**given: Any) -> Site:
        if request.param == "postgresql":
            given["database"] = new_database(request.getfixturevalue("_postgres"))
        storage = {"keep_local": False, **given.pop("storage", {})}
        sites.append(Site(tmp_path, {"media1": nginx, "media2": embedded}, storage=storage, **given))
        return sites[0]

    yield make
    for site in sites:
        site.close()


def here(site: Site) -> dict[str, bytes]:
    """Name → bytes of the files that are still here; traces of writes, too."""
    files = [path for path in site.media_root.rglob("*") if path.is_file() or path.is_symlink()]
    return {str(p.relative_to(site.media_root)): b"" if p.is_symlink() else p.read_bytes() for p in files}


def wrong(site: Site) -> list[str]:
    """Where a host, or who reads, has something else than the ledger says."""
    found = []
    for name, wanted in site.operator.call("wanted").items():
        has = {alias: site.held(alias, name) for alias in site.hosts}
        if wanted != "absent":
            has["a reader"] = site.operator.call("read_in_pieces", name=name)
        found += [f"{name} at {who}: {what} instead of {wanted}" for who, what in has.items() if what != wanted]
    return found


def settle(site: Site) -> None:
    """Deliver and tidy until nothing is left to do."""

    def settled() -> bool:
        site.drain()
        return not site.operator.call("backlog") and not here(site)

    wait_until(settled, say=lambda: (here(site), site.operator.call("rows"), site.logs()))


@pytest.mark.parametrize("where", RELEASING)
def test_a_worker_killed_at_any_instant_of_a_release_loses_nothing(make: Make, where: str) -> None:
    """Promise 1: the file is here or at all targets, at every instant; what is left is released by tidy."""
    # One attempt, at which the worker is to be killed.
    site = make(options={alias: {"read_timeout": 20.0} for alias in ("media1", "media2")})
    site.operator.call("save", name="folder/a.txt", data="1")
    worker = site.shell()
    worker.call("deliver", target="media1")
    worker.call("die", where=where)
    with pytest.raises(Killed):
        worker.call("deliver", target="media2")
    assert ("folder/a.txt" in here(site)) is (where != "in a release")
    assert wrong(site) == []
    settle(site)
    assert wrong(site) == []


def test_writers_workers_and_tidying_at_once_lose_nothing(make: Make) -> None:
    """Promises 1 to 3: what was committed last is what all hosts have, and what is read; and nothing stays here."""
    site = make(storage={"min_copies": 1}, replicator={"ORPHAN_GRACE": 2.0})
    names = [f"{n % 3}/{n}.txt" for n in range(6)]
    writers, workers = [site.shell() for _ in range(2)], [site.shell() for _ in range(2)]
    for seed, writer in enumerate(writers):
        writer.tell("random_writes", seed=seed, names=names, count=150)
    for worker, alias in zip(workers, site.hosts, strict=True):
        worker.tell("keep_delivering", target=alias, seconds=6)
    assert sum(writer.answer() for writer in writers) > 200
    for worker in workers:
        assert worker.answer() > 0
    settle(site)
    assert wrong(site) == []
    assert set(site.operator.call("wanted").values()) - {"absent"}


def test_a_large_file_is_read_back_in_constant_memory(make: Make) -> None:
    """Promise 8: 256 MiB pass through the process; it does not grow by 60."""
    site = make(options={alias: {"read_timeout": 30.0} for alias in ("media1", "media2")})
    source = site.folder / "source"
    with source.open("wb") as file:
        file.truncate(256 * MIB)
    site.operator.call("save_from", name="large.bin", path=str(source))
    for alias in site.hosts:
        site.operator.call("deliver", target=alias)
    settle(site)
    reader = site.shell()
    before = reader.call("memory")
    assert reader.call("read_in_pieces", name="large.bin") == site.operator.call("wanted")["large.bin"]
    growth = reader.call("memory") - before
    assert growth < 60 * MIB, growth


def test_files_go_and_come_with_workers_and_a_host_that_is_down(
    make: Make, redis: Redis, embedded: MediaHost
) -> None:
    """One host of two has them: they go from here, are read from it, and reach the other from it when it is back."""
    redis.flush()
    site = make(broker=redis.url, storage={"min_copies": 1})
    site.worker()
    site.beat()
    names = [f"folder/{n}.txt" for n in range(10)]
    site.operator.call("save", name=names[0], data="0")
    wait_until(lambda: not here(site), say=site.logs)
    embedded.stop()
    for number, name in enumerate(names[1:], 1):
        site.operator.call("save", name=name, data=str(number))
    wait_until(lambda: not here(site), say=site.logs)
    assert [site.operator.call("read_in_pieces", name=name) for name in names] == [
        site.operator.call("wanted")[name] for name in names
    ]
    site.operator.call("delete", name=names[1])
    embedded.start()
    wait_until(lambda: not site.operator.call("backlog"), say=site.logs)
    assert wrong(site) == []
    assert here(site) == {}
