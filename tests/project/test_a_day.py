"""A day in the life of a site with 20,000 files: each thing that hosts do to the person on call, one after the other.

What ``docs/operate.md`` tells. Hosts are asked from outside, by their disks; the ledger's word is not taken for it.
With ``REPLICATOR_SCREENS=folder`` the pages of each step, and what the commands said, are kept there.
``REPLICATOR_DAY_FILES`` is for who develops this test.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Browser, expect

from tests.brokers import Postgres
from tests.project import screens
from tests.project.running import PNG, RunningSite, Visitor
from tests.servers import CHECKOUT, Apache, Embedded, Lighttpd, MediaHost, Nginx

FILES = int(os.environ.get("REPLICATOR_DAY_FILES", "20000"))
#: Each step leaves the site as the next one finds it.
pytestmark = pytest.mark.timeout(900)
#: Seconds: for what takes as long as there are files, and for what takes as long as a probe or a retry.
LONG, SHORT = 300, 120


class Day:
    """The site, its hosts, and what has to be at each of them."""

    def __init__(self, folder: Path, database: str, shots: Path) -> None:
        self.folder, self.database, self.shots = folder, database, shots
        self.hosts: dict[str, MediaHost] = {}
        self.site: RunningSite | None = None
        self.uploads = 0

    def deploy(self, *aliases: str) -> None:
        """Start the site anew, with these hosts in its settings."""
        if self.site is not None:
            self.site.close()
        self.site = RunningSite(
            self.folder,
            DATABASE_URL=self.database,
            MEDIA_HOSTS=",".join(f"{alias}={self.hosts[alias].url}" for alias in aliases),
            SHAPES="0",
            REPLICATOR_DOWN_AFTER="2",
            WORKERS="4",
        ).start()

    @property
    def running(self) -> RunningSite:
        assert self.site is not None
        return self.site

    def manage(self, *arguments: str, status: int = 0) -> str:
        """What ``manage.py replicator`` printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", "replicator", *arguments],
            env={**self.running.environment, "DJANGO_SETTINGS_MODULE": "project.settings"},
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=LONG,
            check=False,
        )
        if arguments[0] != "status":
            with (self.shots / "commands.txt").open("a") as said:
                print("$ manage.py replicator", *arguments, f"\n{done.stdout}{done.stderr}", file=said)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + (done.stderr if status else "")

    def audit(self, *arguments: str, status: int = 0) -> set[tuple[str, str, str]]:
        """Name, what was found, and the cure, of each finding of an audit."""
        said = self.manage("audit", *arguments, "--wait", "--json", status=status)
        [run] = json.loads(said[: said.rindex("}") + 1])["runs"]
        assert run["state"] == "done", run
        return {(each["name"], each["what"], each["cure"]) for each in run["findings"]}

    def targets(self) -> dict[str, dict[str, Any]]:
        return {each["target"]: each for each in json.loads(self.manage("status", "--json"))["targets"]}

    def upload(self) -> str:
        """Its name, seen from the hosts."""
        self.uploads += 1
        with Visitor(self.running.url) as visitor:
            visitor.log_in()
            assert visitor.upload(f"upload-{self.uploads}.png", PNG + str(self.uploads).encode()).ok
        [name] = [str(path.relative_to(self.media)) for path in self.media.rglob(f"upload-{self.uploads}*.png")]
        return name

    @property
    def media(self) -> Path:
        return self.folder / "media"

    def disk(self) -> dict[str, str]:
        """Name → SHA-256 of what is here."""
        paths = (path for path in self.media.rglob("*") if path.is_file() and ".replicator" not in str(path))
        return {str(path.relative_to(self.media)): _sha256(path.read_bytes()) for path in paths}

    def held(self, alias: str) -> dict[str, str]:
        """Name → SHA-256 of what is on a host's disk."""
        found = self.hosts[alias].files()
        return {name.removeprefix("media/"): _sha256(data) for name, data in found.items()}

    def wait_for(self, condition: Callable[[], object], seconds: float, say: Callable[[], object] = str) -> float:
        start = time.monotonic()
        while not condition():
            assert time.monotonic() - start < seconds, f"not within {seconds} s: {say()}"
            time.sleep(0.5)
        return time.monotonic() - start

    def wait_until_synced(self, *aliases: str, seconds: float = LONG) -> None:
        """By the ledger; then the disks are asked whether it is true."""
        with psycopg.connect(self.database, autocommit=True) as ledger:
            waiting = "SELECT 1 FROM replicator_replica WHERE target = ANY(%s) AND status <> 'synced' LIMIT 1"
            self.wait_for(lambda: not ledger.execute(waiting, [list(aliases)]).fetchone(), seconds, self.targets)
        found = self.targets()
        assert not any(found[alias]["pending"] + found[alias]["failed"] for alias in aliases), found
        here = self.disk()
        for alias in aliases:
            there = self.held(alias)
            wrong = {name for name in here.keys() | there.keys() if here.get(name) != there.get(name)}
            assert not wrong, (alias, len(wrong), sorted(wrong)[:5])

    def close(self) -> None:
        if self.site is not None:
            self.site.close()


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    """20,000 files at three hosts of three kinds."""
    shots = Path(os.environ.get("REPLICATOR_SCREENS") or tmp_path_factory.mktemp("screens"))
    shots.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        postgres = stack.enter_context(Postgres())
        day = Day(tmp_path_factory.mktemp("site"), postgres.url, shots)
        stack.callback(day.close)
        for alias, kind in {"media1": Nginx, "media2": Lighttpd, "media3": Apache, "media4": Embedded}.items():
            day.hosts[alias] = stack.enter_context(kind())
        _fill(day.media)
        day.deploy("media1", "media2", "media3")
        day.manage("adopt")
        day.wait_until_synced("media1", "media2", "media3")
        yield day


def _fill(media: Path) -> None:
    chance = random.Random(6)
    for number in range(FILES):
        place = media / f"photos/{number // 250:03}/{number:05}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(chance.randbytes(chance.randrange(1, 2000)))


@pytest.fixture
def shoot(day: Day, browser: Browser) -> Callable[..., None]:
    """The overview, as it is now, at the width of a desk and of a phone."""

    def take(name: str, path: str = screens.OVERVIEW) -> None:
        screens.take(browser, day.running.url, day.shots, name, path)

    return take


def test_in_the_morning_all_is_well(day: Day, shoot: Callable[..., None]) -> None:
    """All is well."""
    assert {alias: (each["state"], each["phase"]) for alias, each in day.targets().items()} == dict.fromkeys(
        ("media1", "media2", "media3"), ("up", "active")
    )
    shoot("1-morning")


def test_a_host_joins(day: Day, browser: Browser, shoot: Callable[..., None]) -> None:
    """It is in the settings; people start its backfill on the overview, and watch."""
    day.deploy("media1", "media2", "media3", "media4")
    day.wait_for(lambda: day.targets().get("media4", {}).get("phase") == "joining", SHORT, day.targets)
    assert day.held("media4") == {}
    assert f"{FILES:,} files" in day.manage("backfill", "media4", "--dry-run")
    shoot("2-joining")
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        page = screens.log_in(context, day.running.url)
        page.goto(f"{day.running.url}{screens.OVERVIEW}")
        page.get_by_role("article").filter(has_text="media4").get_by_role("link", name="Backfill").click()
        expect(page.locator("body")).to_contain_text(f"{FILES:,}")
        page.get_by_role("button", name=re.compile("Yes|Backfill")).click()
        expect(page.locator(".messagelist")).to_be_visible()
        page.wait_for_timeout(1500)
        shoot("3-backfilling")
        name = day.upload()
        day.wait_for(lambda: day.targets()["media4"]["phase"] == "active", LONG, day.targets)
    finally:
        context.close()
    day.wait_until_synced("media1", "media2", "media3", "media4")
    assert name in day.held("media4")
    shoot("4-joined")


def test_a_host_is_dead_for_a_while(day: Day, shoot: Callable[..., None]) -> None:
    """Saves go on, the others get them; what it missed it gets when it is back."""
    day.hosts["media2"].kill()
    names = [day.upload() for _ in range(5)]
    day.wait_for(lambda: day.targets()["media2"]["state"] == "down", SHORT, day.targets)
    assert "Connection refused" in day.targets()["media2"]["reason"]
    for alias in ("media1", "media3", "media4"):
        media = day.hosts[alias].root / "media"
        day.wait_for(lambda media=media: all((media / name).is_file() for name in names), SHORT)  # type: ignore[misc]
    shoot("5-dead")
    day.hosts["media2"].start()
    day.wait_until_synced("media2", seconds=SHORT)
    assert day.targets()["media2"]["state"] == "up"
    shoot("6-back")


def test_a_host_hangs_and_the_others_do_not_notice(day: Day, shoot: Callable[..., None]) -> None:
    """It takes connections and never answers: the others do not notice."""
    day.hosts["media3"].pause()
    try:
        for _ in range(3):
            name = day.upload()
            # Less than the time-out that each request to the hanging one takes.
            for alias in ("media1", "media2", "media4"):
                day.wait_for((day.hosts[alias].root / "media" / name).is_file, 20)
        day.wait_for(lambda: day.targets()["media3"]["state"] == "down", SHORT, day.targets)
        shoot("7-hanging")
    finally:
        day.hosts["media3"].resume()
    day.wait_until_synced("media3", seconds=SHORT)
    assert day.targets()["media3"]["state"] == "up"


def test_audits_find_and_repair_what_was_damaged_and_only_that(day: Day, shoot: Callable[..., None]) -> None:
    """Three on a host, one of them without a change of its size, and two here: the audits find these five."""
    here = day.disk()
    root = day.hosts["media1"].root / "media"
    names = sorted(name for name in here if name.startswith("photos/"))
    flipped, cut, gone, *lost = (names[FILES * n // 7] for n in (1, 2, 3, 4, 5))
    data = (root / flipped).read_bytes()
    (root / flipped).write_bytes(bytes(255 - byte for byte in data))
    (root / cut).write_bytes((root / cut).read_bytes()[:-1])
    (root / gone).unlink()
    for name in lost:
        (day.media / name).unlink()
    found = day.audit("media1", "--level", "content", status=1)
    assert found == {(flipped, "wrong", "sent"), (cut, "wrong", "sent"), (gone, "missing", "sent")}
    assert day.audit("--local", status=1) == {(name, "missing", "restored") for name in lost}
    for alias in ("media2", "media3", "media4"):
        assert day.audit(alias) == set(), alias
    shoot("8-audited")
    shoot("9-audits", "admin/replicator/targetrun/")
    day.wait_until_synced("media1", "media2", "media3", "media4")
    assert day.disk() == here


def test_a_host_is_retired(day: Day, shoot: Callable[..., None]) -> None:
    """It gets nothing new, its rows go; what it holds stays there, since nobody asked for it to be deleted."""
    held = day.held("media4")
    said = day.manage("retire", "media4", status=1)
    number = re.search(r"--confirm (\d+)", said)
    assert number, said
    assert int(number[1]) >= FILES
    day.manage("retire", "media4", "--confirm", number[1], "--why", "its lease has ended")
    day.wait_for(lambda: day.targets().get("media4", {}).get("phase") == "retired", SHORT, day.targets)
    day.wait_for(lambda: "running" not in day.manage("runs"), LONG, lambda: day.manage("runs"))
    shoot("10-retired")
    name = day.upload()
    day.wait_until_synced("media1", "media2", "media3")
    assert day.held("media4") == held
    assert name not in held
    day.deploy("media1", "media2", "media3")
    day.wait_until_synced("media1", "media2", "media3")
    shoot("11-evening")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
