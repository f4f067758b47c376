"""The live-to-staging copy, on the reference project: every file identical everywhere, the live side untouched."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from project.demo.checking import KINDS
from project.demo.copied import check_places, fetched_wrongly, touched
from project.demo.live import Live
from project.demo.livefiles import LiveFiles
from tests.promises.harness import Site, new_database, wait_until
from tests.servers import CHECKOUT, Apache, Lighttpd, MediaHost, Nginx, Postgres, Redis

OBJECTS = 5000
FILES = LiveFiles(OBJECTS)
#: Files that are copied at once: the defaults of ``REPLICATOR["STAGING"]``.
AT_ONCE = 2 * 8


#: Alone on two cores each takes less than two minutes; beside others it may take its time.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with Live(OBJECTS) as live:
        yield live


class Staging:
    """A staging site with the live one's rows, and what must be true when a copy has ended."""

    def __init__(
        self,
        folder: Path,
        live: Live,
        hosts: dict[str, MediaHost],
        broker: str,
        database: str = "",
        lease: float = 60.0,
    ) -> None:
        self.live, self.hosts = live, hosts
        environment = {
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "SHAPES": "1",
            "MEDIA_HOSTS": ",".join(f"{alias}={host.url}" for alias, host in hosts.items()),
            "REPLICATOR_LEASE_SECONDS": str(lease),
            "REPLICATOR_DOUBT_WINDOW": "1",
            "REPLICATOR_RETRY_BASE": "0.2",
            "REPLICATOR_RETRY_CAP": "1",
            "REPLICATOR_ORPHAN_GRACE": "1",
            **live.environment(),
        }
        self.site = Site(folder, hosts, database=database, broker=broker, environment=environment)
        self.site.operator.call("make_rows", live=OBJECTS)
        self.rows = self.site.operator.call("dump")
        self.source = live.state()
        self.before = len(live.requests())

    def replicator(self, *arguments: str, seconds: float = 400) -> subprocess.CompletedProcess[str]:
        """``manage.py replicator``, as people call it."""
        return subprocess.run(
            [sys.executable, "manage.py", "replicator", *arguments],
            env={**os.environ, **self.site.environment},
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def requests(self) -> list[dict[str, Any]]:
        return self.live.requests()[self.before :]

    def fetched(self) -> int:
        return self.live.fetched()

    def wait_for_run(self, seconds: float) -> dict[str, Any]:
        wait_until(lambda: self.run()["state"] == "done", seconds, say=lambda: f"{self.run()}\n{self.site.logs()}")
        return self.run()

    def run(self) -> dict[str, Any]:
        found: dict[str, Any] = self.site.operator.call("copy_run")
        return found

    def wait_for_replicas(self) -> None:
        wait_until(lambda: not self.site.operator.call("backlog"), 200, say=self.what_waits)

    def what_waits(self) -> str:
        rows = [row for row in self.site.operator.call("rows") if row["status"] != "synced"]
        return "\n".join(map(str, [len(rows), *rows[:5], self.site.logs()]))

    def check_places(self) -> None:
        """From outside: SHA-256 of what each host answers and of what is on the disk, and nothing else there."""
        places = {alias: (host.url, host.root) for alias, host in self.hosts.items()}
        for each in check_places(FILES, places, self.site.media_root, lambda: None):
            wrong = {kind: (getattr(each, kind) or [])[:5] for kind in KINDS if getattr(each, kind)}
            assert each.is_right, (each.host, wrong)
            assert each.checked == OBJECTS + OBJECTS // 100

    def check_source(self, *, kills: list[float] | None = None) -> None:
        """Bit for bit what it was; each file fetched once, but those in flight at a kill."""
        assert touched(self.source, self.live.state(), self.requests()) == []
        found = fetched_wrongly(FILES, self.requests(), kills or [], AT_ONCE)
        assert found == [], (len(found), found[:10])

    def check_rows(self) -> None:
        """No model was saved: dimensions, dates and names are those of the dump."""
        assert self.site.operator.call("dump") == self.rows


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short-lived: what pytest keeps would be half a gigabyte each time."""
    with tempfile.TemporaryDirectory(prefix="staging-") as folder:
        yield Path(folder)


@pytest.fixture
def hosts(nginx: Nginx, lighttpd: Lighttpd, apache: Apache) -> dict[str, MediaHost]:
    return {"media1": nginx, "media2": lighttpd, "media3": apache}


ENDED = {"newer": 0, "excluded": 0, "failed": 0, "trouble": "", "state": "done", "failures": sorted(FILES.missing)}
COPIED = {**ENDED, "copied": OBJECTS, "there": 0, "missing": len(FILES.missing), "bytes": sum(FILES.sizes.values())}
THERE = {**ENDED, "copied": 0, "there": OBJECTS, "missing": len(FILES.missing), "bytes": 0}


def test_a_copy_ends_with_every_file_identical_everywhere_and_the_missing_ones_listed(
    live: Live, folder: Path, hosts: dict[str, MediaHost], redis: Redis, postgres: Postgres
) -> None:
    """Issue 5: 5,000 objects, three models, five fields, a read-only key pair; a second run finds all there."""
    staging = Staging(folder, live, hosts, redis.url, new_database(postgres))
    with staging.site as site:
        site.worker(3)
        site.beat()
        done = staging.replicator("copy-media", "--from", "live", "--follow")
        assert done.returncode == 0, done.stdout + done.stderr + site.logs()
        run = staging.run()
        assert {**run, "rows": 0} == {**COPIED, "rows": 0}
        staging.wait_for_replicas()
        staging.check_places()
        staging.check_rows()
        staging.check_source()
        before = staging.fetched()
        again = staging.replicator("copy-media", "--from", "live", "--follow", "--require-read-only")
        assert again.returncode == 0, again.stdout + again.stderr
        assert {**staging.run(), "rows": 0} == {**THERE, "rows": 0}
        assert staging.fetched() == before
        # What it tried, to know that it can't, it couldn't.
        assert live.state() == staging.source
        assert {each["status"] for each in staging.requests() if each["method"] not in ("GET", "HEAD")} <= {403}
        assert not site.operator.call("backlog")


def test_with_workers_killed_and_the_source_in_trouble_it_ends_the_same(
    live: Live, folder: Path, hosts: dict[str, MediaHost], redis: Redis
) -> None:
    """Issue 5: three times SIGKILL, 503 for a while; nothing is fetched twice but what was in flight at a kill."""
    # Killed workers are taken over soon; one that lives and is slow must not be, since that fetches files twice.
    staging = Staging(folder, live, hosts, redis.url, lease=8.0)
    with staging.site as site:
        worker = site.worker(3)
        site.beat()
        start, kills = staging.fetched(), []
        said = staging.replicator("copy-media", "--from", "live")
        assert said.returncode == 0, said.stdout + said.stderr
        for share in (0.15, 0.3, 0.5, 0.75):
            wait_until(lambda so_far=start + share * OBJECTS: staging.fetched() >= so_far, 150, say=site.logs)
            if share == 0.3:
                live.say_503(to_everything=True)
                time.sleep(4)
                live.say_503(to_everything=False)
            else:
                worker.kill()
                kills.append(time.time())
                worker.start()
        run = staging.wait_for_run(300)
        assert {**run, "rows": 0} == {**COPIED, "rows": 0}
        staging.wait_for_replicas()
        wait_until(lambda: not left_behind(site), 60, say=lambda: left_behind(site))
        staging.check_places()
        staging.check_rows()
        staging.check_source(kills=kills)
        assert [each for each in staging.requests() if each["status"] == 503] != []


def left_behind(site: Site) -> list[Path]:
    """What killed workers had begun, once beat has had it tidied."""
    site.operator.call("tidy_node")
    return [path for path in site.media_root.rglob(".*") if path.is_file()]
