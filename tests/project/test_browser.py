"""The site in a browser: what a person sees of hosts that fail and come back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.project.gallery import PATIENCE, badge, expect_status, upload
from tests.project.pictures import png
from tests.project.running import RunningSite
from tests.servers import Embedded


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, Embedded]]:
    """Three media hosts that the test can stop and start; the site is told of them."""
    with ExitStack() as stack:
        yield {f"media{number}": stack.enter_context(Embedded()) for number in (1, 2, 3)}


@pytest.fixture(scope="module")
def site(hosts: dict[str, Embedded], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    """With a password for the hosts, which they ask for only if they were started so."""
    names = ",".join(f"{name}={host.url}" for name, host in hosts.items())
    credentials = {"MEDIA_HOSTS_USERNAME": "writer", "MEDIA_HOSTS_PASSWORD": "sent"}
    with RunningSite(tmp_path_factory.mktemp("site"), MEDIA_HOSTS=names, **credentials) as site:
        yield site


def test_an_upload_turns_synced_while_one_looks(page: Page, hosts: dict[str, Embedded]) -> None:
    """Log in, upload, and watch each host confirm; the empty page said what to do."""
    expect(page.get_by_role("heading", name="Nothing here yet")).to_be_visible()
    card = upload(page, "harbour", 0.55)
    expect_status(card, media1="synced", media2="synced", media3="synced")
    for host in hosts.values():
        assert [data for name, data in host.files().items() if name.endswith("harbour.png")] == [png(0.55)]


def test_a_file_waits_for_a_stopped_host_and_arrives_when_it_is_back(page: Page, hosts: dict[str, Embedded]) -> None:
    """Stop a host, upload: pending there, synced elsewhere; start it again: synced, in the page as it is."""
    hosts["media2"].stop()
    try:
        card = upload(page, "mountain", 0.3)
        expect_status(card, media1="synced", media2="pending", media3="synced")
        page.wait_for_timeout(1500)
        expect_status(card, media2="pending")
        expect(badge(card, "media2")).not_to_have_attribute("title", "")
    finally:
        hosts["media2"].start()
    expect_status(card, media2="synced")


def test_a_deleted_file_is_shown_until_every_host_has_followed(page: Page, hosts: dict[str, Embedded]) -> None:
    """The delete button, while a host is down: the file is listed as being deleted, until the host is back."""
    card = upload(page, "short lived", 0.8)
    expect_status(card, media1="synced", media2="synced", media3="synced")
    hosts["media1"].stop()
    try:
        page.once("dialog", lambda dialog: dialog.accept())
        card.get_by_role("button", name="Delete").click()
        leaving = page.locator("#leaving")
        expect(leaving).to_contain_text("short_lived")
        expect_status(leaving, media1="pending", media2="synced")
    finally:
        hosts["media1"].start()
    expect(leaving).to_be_hidden(timeout=PATIENCE)
    assert not [name for host in hosts.values() for name in host.files() if "short_lived" in name]


def test_a_failure_is_requeued_in_the_admin(page: Page, hosts: dict[str, Embedded], site: RunningSite) -> None:
    """A host that refuses: failed, with the reason; cured, requeued in the admin: synced."""
    host = hosts["media3"]
    host.stop()
    host.options = {"user": "writer", "password": "another"}
    host.start()
    try:
        card = upload(page, "forest", 0.1)
        expect_status(card, media1="synced", media2="synced", media3="failed")
        expect(badge(card, "media3")).to_have_attribute("title", expected_reason())
        assert "another" not in page.content()
        assert "sent" not in (badge(card, "media3").get_attribute("title") or "").split(), "the password"
    finally:
        host.stop()
        host.options = {}
        host.start()

    page.goto(f"{site.url}admin/replicator/replica/?status__exact=failed")
    page.locator("#action-toggle").check()
    page.get_by_label("Action:").select_option(label="Requeue failed replicas")
    page.get_by_role("button", name="Run").or_(page.get_by_role("button", name="Go")).first.click()
    expect(page.locator(".messagelist")).to_contain_text("1")
    page.goto(site.url)
    card = page.locator(".card").filter(has=page.get_by_role("heading", name="forest"))
    expect_status(card, media3="synced")


def expected_reason() -> object:
    import re

    return re.compile(r"401.*requeue it in the admin", re.DOTALL)


def test_what_is_no_image_is_refused_beside_its_field(page: Page) -> None:
    """Invalid uploads: the page says what to choose instead."""
    page.get_by_label("Image", exact=True).set_input_files(
        {"name": "page.png", "mimeType": "image/png", "buffer": b"<html>"}
    )
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("choose a PNG, JPEG, GIF, WebP or AVIF file")


def test_the_gallery_fits_a_phone(browser: Browser, page: Page, site: RunningSite) -> None:
    """No scrolling sideways on 360 pixels."""
    page.set_viewport_size({"width": 360, "height": 720})
    page.goto(site.url)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_flower_shows_the_tasks(browser: Browser, page: Page, site: RunningSite) -> None:
    """Tasks are readable in Flower: deliver('media1') and what it did."""
    upload(page, "for Flower", 0.7)
    context = browser.new_context(http_credentials={"username": "demo", "password": "demo"})
    try:
        flower = context.new_page()
        flower.goto(f"{site.flower_url}tasks")
        row = flower.locator("#tasks-table tbody tr").filter(has_text="replicator.deliver").first
        expect(row).to_be_visible(timeout=PATIENCE)
        expect(row).to_contain_text("['media")
        expect(flower.locator("#tasks-table")).to_contain_text("'put': 1", timeout=PATIENCE)
    finally:
        context.close()
