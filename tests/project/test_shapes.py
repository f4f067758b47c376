"""The page of storage shapes: each one saved to, asked for, and seen at work."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Locator, Page, expect

from tests.project.gallery import PATIENCE, badge, expect_status
from tests.project.running import RunningSite, clean_environment
from tests.servers import CHECKOUT, Embedded

ALIASES = ("assets", "private", "archive", "careful", "cdn")

#: Django's own client, on a site without a broker, a worker or a host. Prints what it saw.
WITHOUT_ANYBODY = """
import io, json, socket, time
import django
django.setup()
from django.contrib.auth.models import User
from django.core.files.storage import storages
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from project.gallery.models import Example

call_command("migrate", verbosity=0)
User.objects.create_user("ada", password="x")
seen = {}

def upload(client, alias, name="notes.txt", content=b"to read"):
    file = io.BytesIO(content)
    file.name = name
    return client.post(f"/shapes/{alias}/save", {"file": file})

def look(client):
    began = time.monotonic()
    connect, tried = socket.socket.connect, []
    socket.socket.connect = lambda sock, address: tried.append(str(address))
    try:
        with CaptureQueriesContext(connection) as queries:
            page = client.get("/shapes")
    finally:
        socket.socket.connect = connect
    return {"status": page.status_code, "seconds": time.monotonic() - began, "queries": len(queries),
            "connected": tried, "page": page.content.decode()}

stranger, client = Client(SERVER_NAME="localhost"), Client(SERVER_NAME="localhost")
client.force_login(User.objects.get())
seen["stranger"] = [stranger.get("/shapes").url, upload(stranger, "assets").url]
seen["after stranger"] = Example.objects.count()
seen["empty"] = look(client)
seen["answers"] = {}
for alias in json.loads(ALIASES):
    answer = upload(client, alias)
    seen["answers"][alias] = [answer.status_code, answer.url]
    upload(client, alias, "again.txt")
    client.post(f"/shapes/{alias}/save")
seen["full"] = look(client)
seen["here"] = {e.shape: storages[e.shape].exists(e.file.name) for e in Example.objects.all()}
seen["careful"] = list(Example.objects.filter(shape="careful").order_by("pk").values_list("copies", flat=True))
seen["nobody's"] = [upload(client, "default").status_code, upload(client, "second-disk").status_code]
too_large = upload(client, "assets", "large.bin", bytes(2 * 1024 * 1024))
seen["too large"] = client.get(too_large.url).content.decode()

def read(url):
    answer = client.get(url)
    return [answer.status_code, b"".join(answer.streaming_content).decode() if answer.streaming else ""]

private = Example.objects.filter(shape="private").earliest("pk").file
link = private.url
seen["link"] = [read(link), read(link[:-1] + ("A" if link[-1] != "A" else "B")), read(link.partition("?")[0])]
now = time.time
time.time = lambda: now() + 61
seen["ended"] = read(link)
time.time = now

first = Example.objects.filter(shape="cdn").earliest("pk")
sent_to = stranger.post(f"/shapes/{first.pk}/delete").url
seen["strange delete"] = [sent_to, Example.objects.filter(pk=first.pk).exists()]
client.post(f"/shapes/{first.pk}/delete")
seen["deleted"] = [Example.objects.filter(pk=first.pk).exists(), first.file.storage.exists(first.file.name)]

gone = Example.objects.create(shape="bucket", bucket="pictures/mine.png")
storages["default"].save("pictures/mine.png", io.BytesIO(b"mine"))
seen["not ours"] = [client.post(f"/shapes/{gone.pk}/delete").status_code, client.get("/shapes").status_code,
                    storages["default"].exists("pictures/mine.png")]
try:
    call_command("fill_bucket")
except CommandError as error:
    seen["no bucket"] = str(error)
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    var = tmp_path_factory.mktemp("alone")
    own = {
        "VAR": str(var),
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "MEDIA_HOSTS": "media1=http://127.0.0.1:9,media2=http://127.0.0.1:10,media3=http://127.0.0.1:11",
        "MAX_UPLOAD_MIB": "1",
        "LOG_LEVEL": "CRITICAL",
    }
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ANYBODY.replace("ALIASES", repr(json.dumps(ALIASES)))],
        env={**clean_environment(), **own},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_page_and_its_buttons_are_for_people_who_logged_in(seen: dict[str, Any]) -> None:
    """Strangers are sent to the login, and nothing that they send is saved or deleted."""
    assert seen["stranger"] == ["/login?next=/shapes", "/login?next=/shapes/assets/save"]
    assert seen["after stranger"] == 0
    address, is_there = seen["strange delete"]
    assert address.startswith("/login")
    assert is_there


def test_the_page_asks_no_network_and_the_database_a_fixed_number_of_times(seen: dict[str, Any]) -> None:
    """With hosts, broker and workers all away, however many files there are."""
    for look in (seen["empty"], seen["full"]):
        assert look["status"] == 200
        assert look["connected"] == []
        assert look["seconds"] < 10
    assert seen["full"]["queries"] <= 12, "session, user, examples, ledger, hosts, and holders of two storages"
    assert seen["empty"]["queries"] <= seen["full"]["queries"]
    for alias in ALIASES:
        assert f'id="{alias}"' in seen["empty"]["page"]
        assert seen["full"]["page"].count(f"/media/{alias}/" if alias != "private" else "/private/notes.txt?") >= 1
    assert "make run S3=1" in seen["empty"]["page"]


def test_a_file_of_each_shape_is_saved_and_kept_while_no_host_is_there(seen: dict[str, Any]) -> None:
    """Also of the one that waits for copies, which says that it got none: the file is kept."""
    assert seen["answers"] == {alias: [302, f"/shapes#{alias}"] for alias in ALIASES}
    assert seen["here"] == dict.fromkeys(ALIASES, True)
    assert seen["careful"] == [0, 0, 0]
    page = seen["full"]["page"]
    assert "2 confirmed copies could not be had" in page
    assert page.count("0 of 3 copies confirmed by then") == 9
    assert page.count("here, until every host has it") == 3
    assert seen["nobody's"] == [404, 404], "storages that are no shapes"
    assert "which is too large" in seen["too large"]


def test_a_private_link_is_good_for_who_has_it_until_it_ends(seen: dict[str, Any]) -> None:
    """Changed, without a signature, or too late: 403."""
    assert seen["link"] == [[200, "to read"], [403, ""], [403, ""]]
    assert seen["ended"] == [403, ""]


def test_an_example_can_be_deleted(seen: dict[str, Any]) -> None:
    """The row and the file."""
    assert seen["deleted"] == [False, False]


def test_files_of_a_bucket_that_is_switched_off_are_left_alone(seen: dict[str, Any]) -> None:
    """Their column has the default storage then: a file there of the same name is not theirs."""
    assert seen["not ours"] == [404, 200, True]
    assert "write S3=1 make run" in seen["no bucket"]


# At work, in a browser


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, Embedded]]:
    with ExitStack() as stack:
        yield {f"media{number}": stack.enter_context(Embedded()) for number in (1, 2, 3)}


@pytest.fixture(scope="module")
def site(hosts: dict[str, Embedded], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    names = ",".join(f"{name}={host.url}" for name, host in hosts.items())
    with RunningSite(
        tmp_path_factory.mktemp("site"),
        MEDIA_HOSTS=names,
        S3="1",
        STATIC_TO_HOSTS="1",
        REPLICATOR_DOWN_AFTER="2",
        LINK_SECONDS="15",
    ) as site:
        yield site


def save(page: Page, alias: str) -> Locator:
    """Save an example; its entry."""
    page.locator(f"#{alias}").get_by_role("button", name="Save an example").click()
    expect(page.get_by_role("status")).to_be_visible()
    return page.locator(f"#{alias} .files > li").first


def answer(link: Locator, site: RunningSite) -> requests.Response:
    href = link.get_attribute("href") or ""
    return requests.get(href if "://" in href else site.url.rstrip("/") + href, timeout=60)


def test_each_shape_is_seen_at_work_while_a_host_stops_and_comes_back(
    page: Page, site: RunningSite, hosts: dict[str, Embedded], tmp_path: Path
) -> None:
    """In the page as it is: badges, links, what is still here, and how long a save took."""
    page.goto(f"{site.url}shapes")
    everywhere = dict.fromkeys(hosts, "synced")
    for alias in ("assets", "private", "archive", "careful", "cdn", "bucket"):
        entry = save(page, alias)
        expect_status(entry, **{"private": {"second": "synced"}, "bucket": {"s3": "synced"}}.get(alias, everywhere))
    expect(page.locator("#archive .local")).to_have_text("released: only the targets have it", timeout=PATIENCE)
    expect(page.locator("#careful .files")).to_contain_text(re.compile(r"took \d+ ms; [23] of 3 copies"))
    expect_status(page.locator("#assets"), second="synced")

    page.reload()  # for a link that has just been made
    good, changed = page.locator("#private dd a").all()
    assert answer(good, site).status_code == 200
    assert answer(changed, site).status_code == 403
    # The page makes another one whenever it looks again.
    ending = str(good.get_attribute("href"))
    signed = page.locator("#bucket dd", has_text="the bucket").locator("a")
    expect(signed).to_have_count(2, timeout=PATIENCE)
    assert answer(signed.first, site).content.startswith(b"Saved at")
    assert answer(signed.last, site).status_code == 403, "without the signature"

    where = page.locator("#cdn .who").last
    expect(where).to_have_text(re.compile("media"))
    first = where.inner_text()
    assert answer(page.locator("#cdn dd a").last, site).status_code == 200
    hosts[first].stop()
    try:
        kept = save(page, "archive")
        expect(page.locator("#cdn .who").last).not_to_have_text(first, timeout=PATIENCE)
        expect(page.locator("#cdn .who").last).to_have_text(re.compile("media"))
        assert answer(page.locator("#cdn dd a").last, site).status_code == 200
        expect(badge(kept, first)).to_contain_text("pending")
        expect(kept.locator(".local")).to_have_text("here, until every host has it")
        waiting = save(page, "careful")
        expect(waiting).to_contain_text("2 of 3 copies confirmed by then")
    finally:
        hosts[first].start()
    expect(page.locator("#archive .local").first).to_have_class(re.compile("released"), timeout=PATIENCE)
    expect(page.locator("#private .left").first).to_contain_text("ended", timeout=PATIENCE)
    assert requests.get(site.url.rstrip("/") + ending, timeout=60).status_code == 403
    page.screenshot(path=tmp_path / "desktop.png", full_page=True)

    page.set_viewport_size({"width": 360, "height": 720})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.screenshot(path=tmp_path / "phone.png", full_page=True)


def test_static_files_are_collected_to_every_host(site: RunningSite, hosts: dict[str, Embedded]) -> None:
    """As the page says: by a command beside the running site, whose workers help or not."""
    done = subprocess.run(
        [sys.executable, "manage.py", "collectstatic", "--noinput", "-v0"],
        env={**site.environment, **run_env(site), "DJANGO_SETTINGS_MODULE": "project.settings"},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    here = {f"static/{path.relative_to(site.var / 'static')}" for path in (site.var / "static").rglob("*.css")}
    assert len(here) > 20
    for host in hosts.values():
        assert here == {name for name in host.files() if name.startswith("static/") and name.endswith(".css")}


def run_env(site: RunningSite) -> dict[str, str]:
    """What the running site has noted for others."""
    lines = (site.var / "run.env").read_text().splitlines()
    assert "STATIC_TO_HOSTS=1" in lines
    return dict(line.split("=", 1) for line in lines)


def test_what_an_s3_has_forgotten_is_sent_to_the_next_one(page: Page, site: RunningSite) -> None:
    """The S3 of ``make run S3=1`` keeps files in memory: the next start sends them again."""
    page.goto(f"{site.url}shapes")
    name = save(page, "bucket").locator(".line b").inner_text()
    expect_status(page.locator("#bucket .files > li").first, s3="synced")
    assert site.end() == 130, site.output()
    with site:
        page.goto(f"{site.url}shapes")
        entry = page.locator("#bucket .files > li").filter(has_text=name).first
        signed = entry.locator("dd", has_text="the bucket").locator("a").first
        expect(signed).to_be_visible(timeout=PATIENCE)
        expect_status(entry, s3="synced")
        page.reload()
        assert answer(page.locator("#bucket dd", has_text="the bucket").locator("a").first, site).status_code == 200
