"""A staging site in a browser: a copy from the live site is started, watched, stopped and cured in the admin."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, Response, Route, expect

from tests.project.gallery import PATIENCE
from tests.project.livesite import LiveSite
from tests.project.running import RunningSite
from tests.servers import Embedded

FILES = 600
MISSING = 3
RUNS = "admin/replicator/copyrun/"
#: As a browser does with the page of a tab that is not in front.
HIDE = """hidden => {
    Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture(scope="module")
def live() -> Iterator[LiveSite]:
    """With all but a few of the files that the rows of the dump name."""
    files = {f"pictures/{n:04}.png": b"x" * (n + 1) for n in range(MISSING, FILES)}
    with LiveSite(files) as live:
        yield live


@pytest.fixture(scope="module")
def site(live: LiveSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with Embedded() as host:
        names = {"MEDIA_HOSTS": f"media1={host.url}", "STAGING_URL": live.url, "SHAPES": "0"}
        with RunningSite(tmp_path_factory.mktemp("site"), **names) as site:
            with closing(sqlite3.connect(site.var / "db.sqlite3", timeout=20)) as database, database:
                database.executemany(
                    "INSERT INTO gallery_picture (title, image, attachment, thumb, created_at)"
                    " VALUES (?, ?, '', '', '2026-01-01')",
                    [(f"picture {n}", f"pictures/{n:04}.png") for n in range(FILES)],
                )
            yield site


def test_a_copy_is_started_watched_and_stopped_while_one_looks(page: Page, site: RunningSite, live: LiveSite) -> None:
    """The page is loaded once: its numbers, its buttons and what is wrong come by themselves."""
    page.goto(f"{site.url}{RUNS}")
    expect(page.get_by_role("heading", name="Nothing has been copied yet")).to_be_visible()
    page.get_by_role("link", name="Copy from live").click()
    # So slow that it lasts longer than all that is looked at on the way.
    live.seconds = 1.0
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("heading", name=re.compile("Copy .* from live"))).to_be_visible()
    begun = page.url
    loads = note_loads(page)
    state, bar = page.locator("[data-badge]"), page.get_by_role("progressbar", name="Done in all")
    expect(state).to_have_text("running")
    place = page.get_by_role("heading", name="Models").bounding_box()
    until(page, lambda: 0 < share(page) < 0.9)
    expect(bar).to_be_visible()
    expect(page.get_by_role("progressbar", name="gallery.Picture")).to_be_visible()
    assert page.get_by_role("heading", name="Models").bounding_box() == place, "nothing jumps"
    expect(page.locator("[data-text='run.pace']")).to_contain_text("files/s", timeout=PATIENCE)

    live.in_trouble = True
    expect(page.get_by_text("It is held up:")).to_be_visible(timeout=PATIENCE)
    expect(page.locator(".replicator-trouble")).to_contain_text("503")
    expect(page.get_by_role("button", name="Try again now")).to_be_visible()
    live.in_trouble = False
    expect(page.get_by_text("It is held up:")).to_be_hidden(timeout=PATIENCE)
    assert loads == []

    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".messagelist")).to_contain_text("is paused")
    expect(state).to_have_text("paused")
    expect(page.get_by_role("button", name="Pause")).to_be_hidden()
    until_it_rests(page, live)
    assert share(page) < 1, "nothing is copied while it is paused"
    page.get_by_role("button", name="Resume").click()
    expect(state).to_have_text("running")
    live.seconds = 0.0
    loads = note_loads(page)
    expect(state).to_have_text("done", timeout=PATIENCE)
    expect(page.locator("[data-text='run.percent']")).to_have_text("100%")
    expect(page.locator("[data-text='run.copied']")).to_have_text(str(FILES - MISSING))
    expect(page.locator("[data-text='run.missing']")).to_have_text(str(MISSING))
    expect(page.get_by_role("link", name="Start another like this…")).to_be_visible()
    expect(page.locator("#content").get_by_role("button")).to_have_count(0)
    assert loads == []
    assert page.url == begun
    held = {path.name: path.read_bytes() for path in (site.var / "media" / "pictures").iterdir()}
    assert held == {name.rpartition("/")[2]: data for name, data in live.files.items()}


def test_what_was_missing_is_requeued_once_it_is_there(page: Page, site: RunningSite, live: LiveSite) -> None:
    """From the run to its failures, to the row of one, and back to being tried again."""
    page.goto(f"{site.url}{RUNS}")
    page.locator("#result_list tbody tr").last.get_by_role("link").first.click()
    page.locator("[data-text='run.missing']").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(MISSING)
    expect(page.get_by_role("link", name="gallery.Picture 1", exact=True)).to_have_attribute(
        "href", re.compile("/admin/gallery/picture/1/change/")
    )
    live.files |= {f"pictures/{n:04}.png": b"found" for n in range(MISSING)}
    page.locator("#action-toggle").check()
    page.get_by_label("Action:").select_option(label="Requeue failures")
    page.get_by_role("button", name="Run").or_(page.get_by_role("button", name="Go")).first.click()
    expect(page.locator(".messagelist")).to_contain_text(f"{MISSING} failures are tried again.")
    page.goto(f"{site.url}{RUNS}")
    page.locator("#result_list tbody tr").last.get_by_role("link").first.click()
    expect(page.locator("[data-text='run.copied']")).to_have_text(str(FILES), timeout=PATIENCE)
    expect(page.locator("[data-badge]")).to_have_text("done", timeout=PATIENCE)


def test_cancel_asks_and_then_stops(page: Page, site: RunningSite, live: LiveSite) -> None:
    page.goto(f"{site.url}{RUNS}add/")
    page.get_by_label("are copied again").check()
    page.get_by_label("Overwrite what is newer here").check()
    live.seconds, begun = 1.0, live.asked
    page.get_by_role("button", name="Start").click()
    until(page, lambda: share(page) > 0)
    page.get_by_role("link", name="Cancel…").click()
    expect(page.get_by_text("What is copied stays")).to_be_visible()
    page.get_by_role("link", name="No, take me back").click()
    expect(page.locator("[data-badge]")).to_have_text("running")
    page.get_by_role("link", name="Cancel…").click()
    page.get_by_role("button", name="Yes, cancel it").click()
    expect(page.locator("[data-badge]")).to_have_text("cancelled")
    until_it_rests(page, live)
    assert live.asked - begun < FILES
    live.seconds = 0.0
    page.get_by_role("link", name="Start another like this…").click()
    expect(page.get_by_label("are copied again")).to_be_checked()


def test_file_fields_are_chosen_by_app_model_or_field(page: Page, site: RunningSite) -> None:
    """With the keyboard alone: a box of an app or a model ticks those below it, and follows them."""
    page.goto(f"{site.url}{RUNS}add/")
    everything, app = page.get_by_label("All", exact=True), page.get_by_label("Gallery", exact=True)
    picture, image = page.get_by_label("Picture", exact=True), page.get_by_label("image", exact=True)
    thumb = page.get_by_label("thumb", exact=True)
    for box in (everything, app, picture, image, thumb):
        expect(box).to_be_checked()
    app.focus()
    page.keyboard.press("Space")
    for box in (everything, picture, image, thumb):
        expect(box).not_to_be_checked()
    image.focus()
    page.keyboard.press("Space")
    expect(picture).to_have_js_property("indeterminate", True)
    expect(everything).to_have_js_property("indeterminate", True)
    expect(thumb).not_to_be_checked()
    page.get_by_label("Sample").fill("much")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was started")
    expect(page.get_by_text("'much' is no sample")).to_be_visible()
    expect(image).to_be_checked()
    expect(thumb).not_to_be_checked()
    expect(picture).to_have_js_property("indeterminate", True)
    page.get_by_label("Sample").fill("50%")
    page.get_by_label("Dry run").check()
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("Only gallery.Picture.image.")).to_be_visible()
    expect(page.locator("[data-badge]")).to_have_text("done", timeout=PATIENCE)
    expect(page.get_by_text("Would be copied").first).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_fit_a_phone_and_a_strict_site(
    browser: Browser, page: Page, site: RunningSite, scheme: Literal["light", "dark"]
) -> None:
    """No scrolling sideways on 360 pixels; nothing is blocked by a policy without inline scripts and styles."""
    page.goto(f"{site.url}{RUNS}")
    link = page.locator("#result_list tbody tr").last.get_by_role("link").first.get_attribute("href") or ""
    run = f"{site.url.rstrip('/')}{link}"
    state = page.context.storage_state()
    context = browser.new_context(
        viewport={"width": 360, "height": 720},
        storage_state=state,
        color_scheme=scheme,
    )
    try:
        phone = context.new_page()
        blocked: list[str] = []
        phone.on("console", lambda message: blocked.append(message.text) if message.type == "error" else None)
        phone.route(f"{site.url}admin/**", with_policy)
        for url in (run, f"{site.url}{RUNS}add/"):
            phone.goto(url)
            expect(phone.locator("#content h1")).to_contain_text("Copy")
            assert phone.evaluate("document.documentElement.scrollWidth") <= 360, url
        assert [text for text in blocked if "Content Security Policy" in text] == []
    finally:
        context.close()


def test_the_page_works_without_a_script(browser: Browser, page: Page, site: RunningSite, live: LiveSite) -> None:
    """Its numbers are in it, and its buttons are forms."""
    context = browser.new_context(java_script_enabled=False, storage_state=page.context.storage_state())
    live.seconds = 1.0
    try:
        plain = context.new_page()
        plain.goto(f"{site.url}{RUNS}add/")
        plain.get_by_label("are copied again").check()
        plain.get_by_label("thumb", exact=True).uncheck()
        plain.get_by_role("button", name="Start").click()
        expect(plain.get_by_text("gallery.Picture.image, gallery.Picture.attachment")).to_be_visible()
        plain.get_by_role("button", name="Pause").click()
        expect(plain.locator("[data-badge]")).to_have_text("paused")
        expect(plain.get_by_text("Load this page again for newer numbers.")).to_be_visible()
        plain.get_by_role("link", name="Cancel…").click()
        plain.get_by_role("button", name="Yes, cancel it").click()
        expect(plain.locator("[data-badge]")).to_have_text("cancelled")
    finally:
        live.seconds = 0.0
        context.close()


def test_a_page_asks_only_while_it_is_looked_at(page: Page, site: RunningSite, live: LiveSite) -> None:
    """And says so when the site does not answer, or does not know the visitor any more."""
    page.goto(f"{site.url}{RUNS}add/")
    page.get_by_label("are copied again").check()
    # The copy is to last as long as all of this takes.
    live.seconds = 1.0
    page.get_by_role("button", name="Start").click()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/progress/" in request.url else None)
    until(page, lambda: len(asked) >= 2)
    page.evaluate(HIDE, True)
    page.wait_for_timeout(2000)
    asked.clear()
    page.wait_for_timeout(3000)
    assert asked == []
    page.evaluate(HIDE, False)
    until(page, lambda: bool(asked))

    page.route("**/progress/", lambda route: route.abort())
    expect(page.get_by_text("The site does not answer")).to_be_visible(timeout=PATIENCE)
    page.unroute("**/progress/")
    expect(page.get_by_text("The site does not answer")).to_be_hidden(timeout=PATIENCE)
    cookies = page.context.cookies()
    page.context.clear_cookies()
    expect(page.get_by_text("These numbers are kept up to date no more.")).to_be_visible(timeout=PATIENCE)
    page.context.add_cookies([{**cookie} for cookie in cookies])  # type: ignore[typeddict-item]
    page.get_by_role("link", name="Cancel…").click()
    page.get_by_role("button", name="Yes, cancel it").click()
    live.seconds = 0.0
    expect(page.locator("[data-badge]")).to_have_text("cancelled")
    asked.clear()
    page.wait_for_timeout(3000)
    assert asked == [], "it is over"


def share(page: Page) -> float:
    """Of the bar of all, as it is now."""
    return float(page.get_by_role("progressbar", name="Done in all").evaluate("bar => bar.value"))


def until(page: Page, is_so: Callable[[], bool]) -> None:
    for _ in range(PATIENCE // 100):
        if is_so():
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"not so after {PATIENCE} ms")


def until_it_rests(page: Page, live: LiveSite) -> None:
    """Until workers have noticed that there is nothing to do: then they ask for nothing any more."""

    def rests() -> bool:
        asked = live.asked
        page.wait_for_timeout(int(1000 * live.seconds) + 1000)
        return live.asked == asked

    until(page, rests)


def note_loads(page: Page) -> list[str]:
    """The addresses of what the page's tab loads from now on as a page."""
    loads: list[str] = []

    def note(response: Response) -> None:
        if response.request.is_navigation_request():
            loads.append(response.url)

    page.on("response", note)
    return loads


def with_policy(route: Route) -> None:
    response = route.fetch()
    headers = {**response.headers, "content-security-policy": "default-src 'self'"}
    route.fulfill(response=response, headers=headers)
