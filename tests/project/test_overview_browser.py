"""The overview in a browser, of a site with workers: hosts that die and come back, buttons, an audit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.project.gallery import PATIENCE, expect_status, upload
from tests.project.running import RunningSite
from tests.project.screens import OVERVIEW, WIDTHS, take
from tests.project.test_copies_browser import HIDE, note_loads, until, with_policy
from tests.servers import Embedded

#: Longer than DOWN_AFTER probes take to call a host down.
LONG = 2 * PATIENCE


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, Embedded]]:
    with ExitStack() as stack:
        yield {f"media{number}": stack.enter_context(Embedded()) for number in (1, 2)}


@pytest.fixture(scope="module")
def site(hosts: dict[str, Embedded], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    names = ",".join(f"{name}={host.url}" for name, host in hosts.items())
    settings = {"MEDIA_HOSTS": names, "SHAPES": "0", "REPLICATOR_DOWN_AFTER": "2"}
    with RunningSite(tmp_path_factory.mktemp("site"), **settings) as site:
        yield site


def card(page: Page, target: str) -> Locator:
    return page.get_by_role("article", name=target)


def state(page: Page, target: str) -> Locator:
    return card(page, target).locator(".replicator-badge").first


def number(page: Page, target: str, label: str) -> Locator:
    term = card(page, target).locator("dl > div").filter(has=page.get_by_text(label, exact=True))
    return term.locator("dd")


def press(page: Page, target: str, verb: str, why: str = "") -> None:
    """Through the page that asks."""
    group = card(page, target).get_by_role("group")
    group.get_by_role("link", name=re.compile(f"^{verb}")).click()
    expect(page.get_by_role("heading", name="What will happen")).to_be_visible()
    page.get_by_label("Why").fill(why)
    page.get_by_role("button", name=f"{verb} {target}").click()


def test_a_killed_host_turns_down_and_up_while_one_looks(
    page: Page, site: RunningSite, hosts: dict[str, Embedded]
) -> None:
    """The page is loaded once: the card's state, its reason and its backlog come by themselves."""
    upload(page, "before", 0.2)
    page.goto(f"{site.url}{OVERVIEW}")
    expect(state(page, "media2")).to_have_text("up", timeout=PATIENCE)
    expect(page.get_by_text("one of them is not running")).to_be_hidden(timeout=PATIENCE)
    expect(page.get_by_text("Load this page again")).to_be_hidden()
    loads = note_loads(page)
    other = page.context.new_page()
    hosts["media2"].kill()
    try:
        other.goto(site.url)
        upload(other, "during", 0.6)
        expect(state(page, "media2")).to_have_text("down", timeout=LONG)
        expect(card(page, "media2")).to_contain_text("Down for")
        expect(number(page, "media2", "Pending")).to_have_text("1")
        expect(page.locator("[aria-live]")).to_have_text("media2 is down.")
        expect(state(page, "media1")).to_have_text("up")
        expect(number(page, "media1", "Pending")).to_have_text("0")
    finally:
        hosts["media2"].start()
        other.close()
    expect(state(page, "media2")).to_have_text("up", timeout=LONG)
    expect(number(page, "media2", "Pending")).to_have_text("0", timeout=PATIENCE)
    expect(page.locator("[aria-live]")).to_have_text("No target is down.")
    assert loads == []


def test_pause_and_resume_through_the_buttons(page: Page, site: RunningSite, hosts: dict[str, Embedded]) -> None:
    """Paused: nothing arrives, the card says who wanted it and why. Resumed: what waited arrives."""
    page.goto(f"{site.url}{OVERVIEW}")
    press(page, "media1", "Pause", "new disk")
    expect(page.locator(".messagelist")).to_contain_text("edia1 is paused.")
    expect(state(page, "media1")).to_have_text("paused")
    expect(card(page, "media1")).to_contain_text("paused by demo: new disk")
    other = page.context.new_page()
    other.goto(site.url)
    # What each process believes of targets may be some seconds old.
    other.wait_for_timeout(6000)
    upload(other, "paused", 0.4)
    other.close()
    expect(number(page, "media1", "Pending")).to_have_text("1", timeout=PATIENCE)
    assert not [name for name in hosts["media1"].files() if "paused" in name]
    press(page, "media1", "Resume")
    expect(state(page, "media1")).to_have_text("up")
    expect(number(page, "media1", "Pending")).to_have_text("0", timeout=PATIENCE)
    assert [name for name in hosts["media1"].files() if "paused" in name]
    page.get_by_role("link", name="media1", exact=True).first.click()
    page.get_by_role("link", name="History").click()
    expect(page.locator("#content")).to_contain_text("Why: new disk")


def test_an_audit_is_started_and_finds_what_was_spoilt(
    page: Page, site: RunningSite, hosts: dict[str, Embedded]
) -> None:
    """From the button to its findings, without a reload; the file is right again."""
    expect_status(upload(page, "spoilt", 0.9), media1="synced", media2="synced")
    name, data = next((name, data) for name, data in hosts["media1"].files().items() if "spoilt" in name)
    place = hosts["media1"].root / name.lstrip("/")
    place.write_bytes(b"something else")
    page.goto(f"{site.url}{OVERVIEW}")
    card(page, "media1").get_by_role("link", name=re.compile("^Audit")).click()
    page.get_by_label("Its bytes, too").check()
    page.get_by_role("button", name="Audit media1").click()
    expect(page.get_by_text("Nothing was done yet")).to_be_visible()
    expect(page.get_by_label("Its bytes, too")).to_be_checked()
    page.get_by_role("button", name="Audit media1").click()
    expect(page.get_by_role("heading", name=re.compile(r"Audit \d+ of media1"))).to_be_visible()
    expect(page.locator(".replicator-facts .replicator-badge").first).to_have_text("done", timeout=LONG)
    expect(page.locator(".replicator-findings")).to_contain_text("spoilt")
    until(page, lambda: hosts["media1"].files().get(name) == data)
    page.goto(f"{site.url}{OVERVIEW}")
    expect(card(page, "media1")).to_contain_text("1 wrong")


def test_the_page_asks_only_while_it_is_looked_at(page: Page, site: RunningSite) -> None:
    """And says so when the site does not answer, or does not know the visitor any more."""
    page.goto(f"{site.url}{OVERVIEW}")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    until(page, lambda: len(asked) >= 2)
    page.evaluate(HIDE, True)
    page.wait_for_timeout(2000)
    asked.clear()
    page.wait_for_timeout(4000)
    assert asked == []
    page.evaluate(HIDE, False)
    until(page, lambda: bool(asked))
    page.route("**/now/", lambda route: route.abort())
    expect(page.get_by_text("The site does not answer")).to_be_visible(timeout=PATIENCE)
    page.unroute("**/now/")
    expect(page.get_by_text("The site does not answer")).to_be_hidden(timeout=PATIENCE)
    page.context.clear_cookies()
    expect(page.get_by_text("These numbers are kept up to date no more.")).to_be_visible(timeout=PATIENCE)


def test_what_has_the_focus_keeps_it(page: Page, site: RunningSite) -> None:
    """Somebody who goes through the buttons with the keyboard is not sent back by an update."""
    page.goto(f"{site.url}{OVERVIEW}")
    button = card(page, "media2").get_by_role("link", name=re.compile("^Pause"))
    button.focus()
    for _ in range(2):
        with page.expect_response("**/now/"):
            pass
    page.wait_for_timeout(200)
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Pause media2?")).to_be_visible()


def test_the_page_works_without_a_script(browser: Browser, page: Page, site: RunningSite) -> None:
    """Its numbers and its charts are in it, its buttons are links to forms."""
    context = browser.new_context(java_script_enabled=False, storage_state=page.context.storage_state())
    try:
        plain = context.new_page()
        plain.goto(f"{site.url}{OVERVIEW}")
        expect(plain.get_by_text("Load this page again for newer numbers.")).to_be_visible()
        press(plain, "media2", "Pause")
        expect(state(plain, "media2")).to_have_text("paused")
        press(plain, "media2", "Resume")
        expect(state(plain, "media2")).to_have_text("up")
    finally:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_fit_a_phone_and_a_strict_site(
    browser: Browser, page: Page, site: RunningSite, tmp_path: Path, scheme: Literal["light", "dark"]
) -> None:
    """No scrolling sideways at any width, whatever a file is called; nothing is blocked by a policy without inline
    scripts and styles."""
    page.goto(site.url)
    upload(page, f"{scheme}{'x' * 100}", 0.5)
    page.goto(f"{site.url}admin/replicator/mediafile/")
    file = page.locator("#result_list tbody th a").first.get_attribute("href")
    assert file is not None
    blocked: list[str] = []
    page.on("console", lambda message: blocked.append(message.text) if message.type == "error" else None)
    page.route(f"{site.url}admin/**", with_policy)
    pages = {"overview": OVERVIEW, "runs": "admin/replicator/targetrun/", "app": "admin/replicator/"}
    pages |= {"files": "admin/replicator/mediafile/", "file": file.removeprefix("/")}
    pages |= {"replicas": "admin/replicator/replica/"}
    pages |= {verb: f"{OVERVIEW}media1/{verb}/" for verb in ("change", "retire", "audit")}
    for name, path in pages.items():
        page.goto(f"{site.url}{path}")
        take(browser, site.url, tmp_path, name, path, schemes=[scheme])
    assert [text for text in blocked if "Content Security Policy" in text] == []
    assert len(list(tmp_path.glob("*.png"))) >= len(pages) * len(WIDTHS)
