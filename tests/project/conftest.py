"""A browser at the gallery of the module's own ``site``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.processes import need
from tests.project.running import RunningSite


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, with Playwright's own arguments and no others."""
    executable = need("chromium", "/usr/bin/chromium", "chromium")
    # What is to be seen at once, too, takes its time on a busy machine.
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, site: RunningSite, tmp_path: Path) -> Iterator[Page]:
    """The gallery, logged in. What it looks like at the end is in ``tmp_path``."""
    context = browser.new_context(viewport={"width": 1100, "height": 850})
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(site.url)
    page.get_by_label("User name").fill("demo")
    page.get_by_label("Password").fill("demo")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Upload")).to_be_visible()
    yield page
    page.screenshot(path=tmp_path / "end.png", full_page=True)
    context.close()
    assert complaints == [], "errors in the page's script"
