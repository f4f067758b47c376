"""Screenshots of the site's admin, for people to look at: each page at the width of a desk and of a phone.

``python -m tests.project.screens URL FOLDER [NAME=PATH …]`` takes those of a site that runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.processes import need

Scheme = Literal["light", "dark"]

#: Name → width in pixels.
WIDTHS = {"desk": 1280, "phone": 360}
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
OVERVIEW = "admin/replicator/targetstate/"


def log_in(context: BrowserContext, url: str, user: str = "demo", password: str = "demo") -> Page:
    """A page of *context* at the admin of the site at *url*."""
    page = context.new_page()
    page.goto(f"{url}admin/login/")
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Site administration")).to_be_visible()
    return page


def take(
    browser: Browser,
    url: str,
    folder: Path,
    name: str,
    path: str = OVERVIEW,
    *,
    schemes: Sequence[Scheme] = ("light",),
    user: str = "demo",
    password: str = "demo",
) -> list[Path]:
    """``<folder>/<name>-desk-light.png`` and so on: the page at *path* of the site at *url*, whole.

    Fails if it scrolls sideways at any width.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context = browser.new_context()
    taken = []
    try:
        page = log_in(context, url, user, password)
        for scheme in schemes:
            page.emulate_media(color_scheme=scheme)
            for width, pixels in WIDTHS.items():
                page.set_viewport_size({"width": pixels, "height": 760})
                answer = page.goto(f"{url}{path}")
                assert answer is not None, path
                assert answer.ok, f"{path}: {answer.status}"
                taken.append(folder / f"{name}-{width}-{scheme}.png")
                page.screenshot(path=taken[-1], full_page=True)
                wide = page.evaluate("document.documentElement.scrollWidth")
                assert wide <= pixels, f"{path} scrolls sideways at {pixels} pixels: it is {wide} wide"
    finally:
        context.close()
    return taken


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        print(__doc__)
        return 2
    url, folder, *rest = arguments
    pages = dict(each.split("=", 1) for each in rest) or {"overview": OVERVIEW}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=need("chromium", "/usr/bin/chromium", "chromium"))
        for name, path in pages.items():
            for file in take(browser, url, Path(folder), name, path, schemes=SCHEMES):
                print(file)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
