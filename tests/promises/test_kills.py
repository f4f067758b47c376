"""Promise 1: killing any process, at any instant, changes only how long it takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.promises.harness import Killed, Site, new_database, wait_until
from tests.servers import Embedded, Nginx, Postgres

SAVING = ["after staging", "after the local write", "after record", "after commit", "after the announcement"]
DELIVERING = ["after claim", "after PUT, before settle"]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    hosts = {"media1": request.getfixturevalue("_nginx"), "media2": request.getfixturevalue("_embedded")}
    for host in hosts.values():
        host.wipe()
    database = "" if request.param == "sqlite" else new_database(request.getfixturevalue("_postgres"))
    with Site(tmp_path_factory.mktemp("site"), hosts, database=database) as site:
        yield site


@pytest.mark.parametrize("where", SAVING)
def test_a_saver_killed_at_any_instant_leaves_all_or_nothing(site: Site, where: str) -> None:
    """Promises 1 and 3: before the commit the write has never been, after it it reaches every target."""
    verbs = ["save", "overwrite"] if where == "after staging" else ["save", "overwrite", "delete"]
    savers = {verb: site.shell() for verb in verbs}
    names = {verb: f"{where}/{verb}.txt" for verb in verbs}
    for verb in verbs[1:]:
        site.operator.call("save", name=names[verb], data="old")
    site.drain_until_agreed(names.values())
    for verb, saver in savers.items():
        saver.call("die", where=where)
        with pytest.raises(Killed):
            saver.call(verb, name=names[verb], **({} if verb == "delete" else {"data": "new"}))
    if where in ("after commit", "after the announcement"):
        wanted = {"save": b"new", "overwrite": b"new", "delete": None}
    else:
        wanted = {"save": None, "overwrite": b"old", "delete": b"old"}

    def local() -> dict[str, bytes | None]:
        places = {verb: site.media_root / name for verb, name in names.items()}
        return {verb: place.read_bytes() if place.exists() else None for verb, place in places.items()}

    def tidied() -> bool:
        site.drain()
        return not leftovers(site.media_root)

    wait_until(tidied, say=lambda: leftovers(site.media_root))
    assert local() == {verb: wanted[verb] for verb in verbs}
    site.drain_until_agreed(names.values())


def leftovers(media_root: Path) -> list[Path]:
    """Traces of writes."""
    return [path for path in media_root.rglob(".replicator*") if path.name != ".replicator"]


@pytest.mark.parametrize("where", DELIVERING)
def test_a_worker_killed_at_any_instant_is_taken_over(site: Site, where: str) -> None:
    """Promise 1: its lease ends, another worker takes over, in doubt of what was sent."""
    site.operator.call("save", name=f"{where}.txt", data="1")
    site.operator.call("save", name=f"{where} and gone.txt", data="1")
    site.drain_until_agreed([f"{where}.txt"])
    site.operator.call("overwrite", name=f"{where}.txt", data="22")
    site.operator.call("delete", name=f"{where} and gone.txt")
    worker = site.shell()
    worker.call("die", where=where)
    with pytest.raises(Killed):
        worker.call("deliver", target="media1")
    site.drain_until_agreed([f"{where}.txt", f"{where} and gone.txt"])


def test_a_worker_killed_in_mid_transfer_leaves_nothing_partial(
    tmp_path: Path, nginx: Nginx, embedded: Embedded
) -> None:
    """Promise 1 and 5: the host had a part of the file; it never shows it."""
    size = 64 * 1024 * 1024
    options = {alias: {"read_timeout": 20.0} for alias in ("media1", "media2")}
    with Site(tmp_path, {"media1": nginx, "media2": embedded}, options=options) as site:
        site.operator.call("save", name="big.bin", data="old")
        site.drain_until_agreed(["big.bin"])
        before = site.held("media1", "big.bin")
        site.operator.call("overwrite", name="big.bin", size=size)
        for alias, host in (("media1", nginx), ("media2", embedded)):
            host.pause()
            worker = site.shell()
            worker.tell("deliver", target=alias)
            wait_until(
                lambda alias=alias: any(row["leased"] for row in site.operator.call("rows") if row["target"] == alias)
            )
            # As far as the buffers go.
            time.sleep(0.5)
            worker.kill()
            host.resume()
            assert site.held(alias, "big.bin") == before
        site.drain_until_agreed(["big.bin"])


def test_a_host_killed_in_mid_transfer_gets_the_file_when_it_is_back(tmp_path: Path, nginx: Nginx) -> None:
    """Promise 1 and 5: the other end of the connection."""
    with Site(tmp_path, {"media1": nginx}) as site:
        site.operator.call("save", name="a.bin", data="old")
        site.drain_until_agreed(["a.bin"])
        site.operator.call("overwrite", name="a.bin", size=64 * 1024 * 1024)
        nginx.pause()
        site.operator.tell("deliver", target="media1")
        time.sleep(0.5)
        nginx.kill()
        assert site.operator.answer()["failed"] == 1
        nginx.start()
        assert len((nginx.root / "media/a.bin").read_bytes()) == 3
        site.drain_until_agreed(["a.bin"])


def test_a_database_that_restarts_in_mid_delivery_costs_only_time(tmp_path: Path, nginx: Nginx) -> None:
    """Promise 1: what could not be recorded is delivered again."""
    with Postgres() as postgres, Site(tmp_path, {"media1": nginx}, database=new_database(postgres)) as site:
        for number in range(20):
            site.operator.call("save", name=f"{number}.txt", data=str(number))
        nginx.pause()
        site.operator.tell("deliver", target="media1")
        time.sleep(0.5)
        postgres.kill()
        nginx.resume()
        with pytest.raises(RuntimeError, match=r"OperationalError|InterfaceError"):
            site.operator.answer()
        postgres.start()
        # The old process goes on with a connection that is gone: as Celery's, it closes that one between tasks.
        fresh = site.operator = site.shell()
        assert fresh.call("backlog") == 20
        site.drain_until_agreed([f"{number}.txt" for number in range(20)])
