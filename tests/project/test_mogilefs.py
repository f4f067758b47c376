"""``make run MOGILEFS=1``: avatars and thumbs in a MogileFS of the site's own, and the site without it again."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from project.demo.mogile import CLASSES, NO_CLASS, Tracker
from tests.project.gallery import PATIENCE, expect_status, upload
from tests.project.pictures import png
from tests.project.running import PNG, RunningSite, Visitor, alive_after
from tests.servers import CHECKOUT

EVERYWHERE = dict.fromkeys(("media1", "media2", "media3", "mogilefs"), "synced")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with RunningSite(tmp_path_factory.mktemp("site"), MOGILEFS="1") as site:
        yield site


@pytest.fixture
def visitor(site: RunningSite) -> Iterator[Visitor]:
    with Visitor(site.url) as visitor:
        visitor.log_in()
        yield visitor


def in_mogilefs(site: RunningSite) -> dict[str, tuple[str, int]]:
    """Key → class and number of copies, as its tracker says."""
    with Tracker(f"127.0.0.1:{site.ports['MOGILEFS_PORT']}", "replicator") as tracker:
        infos = {key: tracker.ask("file_info", key=key) for key in tracker.list_keys()}
    return {key: (info["class"], int(info["devcount"])) for key, info in infos.items()}


def wait_for_copies(site: RunningSite, expected: dict[str, tuple[str, int]]) -> None:
    """Until MogileFS has made the further ones, which it does in its own time."""
    end = time.monotonic() + 60
    while (found := in_mogilefs(site)) != expected:
        assert time.monotonic() < end, found
        time.sleep(0.1)


def on_hosts(site: RunningSite) -> list[set[str]]:
    """For each media host: the paths of its files."""
    roots = [site.host_root(f"media{number}") / "media" for number in (1, 2, 3)]
    return [{str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} for root in roots]


def test_files_go_to_mogilefs_with_their_classes_and_are_served_from_there(
    site: RunningSite, visitor: Visitor
) -> None:
    """Avatars and pictures at every host and, twice, in MogileFS; thumbs only there, once. Then the local ones go."""
    assert re.search(r"mogilefs .*avatar: 2 copies, thumb: 1; stop it with: kill \d+", site.output())
    assert "Your avatar" in visitor.get("").text
    image, thumb, avatar = PNG + b"1" * 5000, PNG + b"2" * 500, PNG + b"3" * 900
    visitor.upload("one.png", image, thumb=("one.webp", thumb))
    page = visitor.post("avatar", seen="/", files={"avatar": ("me.png", avatar)})
    assert "Your avatar is saved" in page.text
    statuses = visitor.wait_until_settled(1)
    (picture,) = (name for name in statuses if name.startswith("pictures/"))
    (small,) = (name for name in statuses if name.startswith("thumbs/"))
    assert small.endswith("/one.png"), "its content decides on the suffix"
    assert statuses == {picture: EVERYWHERE, small: {"mogilefs": "synced"}, "avatars/me.png": EVERYWHERE}
    wait_for_copies(site, {picture: NO_CLASS, small: CLASSES["thumbs"], "avatars/me.png": CLASSES["avatars"]})
    assert on_hosts(site) == [{picture, "avatars/me.png"}] * 3
    page = visitor.get("")
    assert [page.text.count(f">class {kind}<") for kind in ("avatar", "thumb", "default")] == [1, 1, 0]

    for name, content in ((small, thumb), ("avatars/me.png", avatar)):
        (site.var / "media" / name).unlink()
        answer = visitor.get(f"media/{name}")
        assert (answer.status_code, answer.content) == (200, content)
        assert answer.headers["Content-Type"] == "image/png"

    visitor.post("pictures/1/replace", seen="/", files={"image": ("x.png", PNG)})
    statuses = visitor.wait_until_settled(1)
    assert small not in statuses, "it would show the old image"
    visitor.post("avatar", seen="/", files={"avatar": ("me.png", PNG + b"4")})
    statuses = visitor.wait_until_settled(1)
    assert visitor.get("media/avatars/me.png").content == PNG + b"4"
    wait_for_copies(site, {picture: NO_CLASS, "avatars/me.png": CLASSES["avatars"]})


def test_what_is_no_image_is_no_avatar_and_no_thumb(visitor: Visitor) -> None:
    """Bad input gets a message that says what to choose."""
    page = visitor.post("avatar", seen="/", files={"avatar": ("me.png", b"<html>")})
    assert "choose a PNG, JPEG, GIF, WebP or AVIF file" in page.text
    page = visitor.upload("two.png", PNG, thumb=("two.webp", b"<html>"))
    assert page.status_code == 422
    assert "two.webp is not an image" in page.text


def test_status_shows_mogilefs_as_one_more_target(site: RunningSite) -> None:
    """On the command line, where the site's notes tell where the tracker is."""
    done = subprocess.run(
        [sys.executable, "manage.py", "replicator", "status"],
        env={**site.environment, "DJANGO_SETTINGS_MODULE": "project.settings"},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for target in EVERYWHERE:
        assert re.search(rf"^\W*{target}\s+up\b", done.stdout, re.MULTILINE), done.stdout
    assert "avatars" in done.stdout


def test_the_browser_makes_the_thumb_and_shows_it_from_mogilefs(site: RunningSite, page: Page) -> None:
    """An upload as people make it: a small image beside the large one, both on the page with their places."""
    page.get_by_label("Your avatar").set_input_files(
        {"name": "face.png", "mimeType": "image/png", "buffer": png(0.9, 200, 200)}
    )
    page.get_by_role("button", name="Save avatar").click()
    profile = page.locator("#profile")
    expect_status(profile, **EVERYWHERE)
    expect(profile).to_contain_text("class avatar")
    card = upload(page, "coast", 0.45)
    badges = card.locator('.badges[data-file^="thumbs/"] .badge')
    expect(badges).to_have_text(["mogilefs synced"], timeout=PATIENCE)
    expect_status(card.locator('.badges[data-file^="pictures/"]'), **EVERYWHERE)
    expect(card).to_contain_text("class thumb")

    for local in (site.var / "media" / "avatars").glob("face*"):
        local.unlink()
    (thumb,) = (site.var / "media" / "thumbs").rglob("coast*")
    assert thumb.suffix == ".webp"
    assert thumb.stat().st_size < len(png(0.45))
    thumb.unlink()
    page.goto(site.url)
    for image, width in ((card.locator(".picture img"), 480), (profile.locator("img"), 200)):
        page.wait_for_function("image => image.complete", arg=image.element_handle())
        assert image.evaluate("image => image.naturalWidth") == width, "not shown"


def test_an_overwritten_image_gets_a_new_thumb(site: RunningSite, page: Page) -> None:
    """The old one shows the old image."""
    card = upload(page, "lake", 0.2)
    (thumb,) = (site.var / "media" / "thumbs").rglob("lake*")
    before = thumb.read_bytes()
    card.get_by_text("Overwrite", exact=True).click()
    card.get_by_label("New image for lake").set_input_files(
        {"name": "other.png", "mimeType": "image/png", "buffer": png(0.7)}
    )
    card.get_by_role("button", name="Overwrite now").click()
    expect(page.get_by_role("status")).to_contain_text("overwritten")
    expect(card.locator('.badges[data-file^="thumbs/"] .badge')).to_have_text(["mogilefs synced"], timeout=PATIENCE)
    assert not thumb.exists()
    (renewed,) = (site.var / "media" / "thumbs").rglob("other*")
    assert renewed.read_bytes() != before
    expect(card.locator(".picture img")).to_have_attribute("src", re.compile("/media/thumbs/.*/other.webp"))


def test_the_gallery_with_an_avatar_fits_a_phone(site: RunningSite, page: Page) -> None:
    """No scrolling sideways on 360 pixels."""
    page.set_viewport_size({"width": 360, "height": 720})
    page.goto(site.url)
    expect(page.locator("#profile img")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_admin_shows_mogilefs_as_one_more_target(site: RunningSite, page: Page) -> None:
    """A file with its class, and the list of targets."""
    page.goto(f"{site.url}admin/replicator/mediafile/?storage__exact=avatars")
    page.get_by_role("link", name="face.png").click()
    expect(page.locator(".field-mogile_class")).to_contain_text("avatar")
    page.goto(f"{site.url}admin/replicator/targetstate/")
    card = page.get_by_role("article", name="mogilefs")
    expect(card.locator(".replicator-badge").first).to_have_text("up")


def test_the_site_outlives_its_mogilefs_and_does_without_it_afterwards(
    site: RunningSite, tmp_path: Path, visitor: Visitor
) -> None:
    """Stopped by hand: files wait. Ctrl-C ends all of it. The next run, without the switch, shows what there is."""
    pid = re.search(r"mogilefs .*kill (\d+)", site.output())
    assert pid is not None
    subprocess.run(["kill", pid[1]], check=True)
    assert alive_after([int(pid[1])], 60) == {}
    thumb = PNG + b"waits"
    visitor.upload("waits.png", PNG, thumb=("waits.png", thumb))
    text = visitor.get("").text
    (small,) = re.findall(r"/media/(thumbs/[\d/]+waits\.png)", text)[:1]
    assert visitor.get(f"media/{small}").content == thumb, "served from here while it waits"
    assert site.end(signal.SIGINT) == 130, site.output()
    assert alive_after(site.pids, 0) == {}
    assert "Traceback" not in site.output()

    del site.environment["MOGILEFS"]
    with site, Visitor(site.url) as again:
        again.log_in()
        text = again.get("").text
        assert "Your avatar" not in text
        assert 'name="thumb"' not in text
        assert again.get(f"media/{small}").content == thumb
        assert "the settings do not name mogilefs any more" in text
        assert not re.search("^  mogilefs", site.output(), re.MULTILINE)
        assert "Traceback" not in site.output(), "of a wake-up that was left over"
        again.upload("plain.png", PNG)
        again.wait_until_settled(int(max(re.findall(r'data-picture="(\d+)"', again.get("").text), key=int)))
        assert site.end() == 130


@pytest.mark.parametrize(
    ("environment", "cure"),
    [
        ({"MOGILEFS": "ture"}, "write MOGILEFS=1 or MOGILEFS=0"),
        ({"MOGILEFS": "1", "MOGILEFS_PORT": "x"}, "MOGILEFS_PORT=x is not a port"),
    ],
)
def test_a_switch_that_cannot_be_read_is_an_error_that_says_what_to_write(
    tmp_path: Path, environment: dict[str, str], cure: str
) -> None:
    """As for every other variable."""
    done = subprocess.run(
        [sys.executable, "-m", "project.run"],
        env={**RunningSite(tmp_path).environment, **environment},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert cure in done.stderr
    assert "Traceback" not in done.stderr
