"""The gallery's page, as tests use it in a browser."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

from tests.project.pictures import png

#: Many times the probe's rhythm, a retry and the doubt window together; milliseconds.
PATIENCE = 90_000


def upload(page: Page, title: str, hue: float) -> Locator:
    """Upload an image; its card."""
    page.get_by_label("Image", exact=True).set_input_files(
        {"name": f"{title}.png", "mimeType": "image/png", "buffer": png(hue)}
    )
    page.get_by_label("Title").fill(title)
    page.get_by_role("button", name="Upload").click()
    card = page.locator(".card").filter(has=page.get_by_role("heading", name=title))
    expect(card).to_be_visible()
    return card


def badge(card: Locator, host: str) -> Locator:
    return card.locator(f'.badge[data-target="{host}"]')


def expect_status(card: Locator, **statuses: str) -> None:
    """In the page as it is, without loading it again."""
    for host, status in statuses.items():
        expect(badge(card, host)).to_have_text(f"{host} {status}", timeout=PATIENCE)
