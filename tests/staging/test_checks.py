"""Facts about what ``manage.py check`` says of a staging site."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks

from replicator.checks import staging as checks
from tests.staging.live import TARGETS, Staging

FILES = "django.core.files.storage.FileSystemStorage"
WHERE = 'REPLICATOR["STAGING"]'


def found() -> list[str]:
    return [f"{message.id}: {message.msg} | {message.hint}" for message in checks.problems()]


def storages(site: Staging, **entries: dict[str, Any]) -> None:
    site.settings.STORAGES = {**site.settings.STORAGES, **entries}


def copying(site: Staging, targets: Any = TARGETS, **conf: Any) -> None:
    site.settings.REPLICATOR = {"TARGETS": targets, "STAGING": {"SOURCE": "live", **conf}}


def test_a_right_configuration_is_silent(site: Staging) -> None:
    assert found() == []


def test_a_site_that_is_not_for_staging_is_none_of_its_business(site: Staging) -> None:
    storages(site, live={"BACKEND": FILES, "OPTIONS": {"location": str(site.media)}})
    assert found() != []
    site.settings.REPLICATOR = {"TARGETS": TARGETS}
    assert found() == []


def test_the_checks_are_registered(site: Staging) -> None:
    copying(site, SOURCE="liv")
    assert "replicator.E038" in [message.id for message in run_checks()]


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        (
            {"SOURCE": "liv"},
            f"E038: {WHERE}[\"SOURCE\"] is 'liv', which STORAGES does not have. | Did you mean 'live'?",
        ),
        (
            {"SOURCE": "xyz"},
            f"E038: {WHERE}[\"SOURCE\"] is 'xyz', which STORAGES does not have. | Known: live, static",
        ),
        (
            {"SOURCE": "default"},
            f"E039: {WHERE}[\"SOURCE\"] is 'default', a storage of this site, which replicates. | Name one that "
            "reads the live site's files. Known: live, staticfiles.",
        ),
        (
            {"SOURCES": {"defalt": "live"}},
            f"E038: {WHERE}[\"SOURCES\"] names the storage 'defalt', which STORAGES does not have. | Did you mean "
            "'default'?",
        ),
        (
            {"SOURCES": {"default": "live-avatars"}},
            f"E038: {WHERE}[\"SOURCES\"]['default'] is 'live-avatars', which STORAGES does not have.",
        ),
    ],
)
def test_a_source_that_is_none_is_named(site: Staging, conf: dict[str, Any], message: str) -> None:
    """With what to write instead; one cause, one message."""
    copying(site, **conf)
    (said,) = found()
    assert said.startswith(f"replicator.{message}")


def test_a_source_that_can_not_be_made_is_named(site: Staging) -> None:
    storages(site, live={"BACKEND": FILES, "OPTIONS": {"locaton": "/mnt/live"}})
    (said,) = found()
    assert said.startswith(f"replicator.E046: {WHERE}[\"SOURCE\"]: The source STORAGES['live'] can't be made: ")
    assert said.endswith("| Correct STORAGES['live'].")


@pytest.mark.parametrize("where", ["the same", "inside", "around", "a link"])
def test_live_files_that_this_site_would_write_to_are_an_error(site: Staging, tmp_path: Path, where: str) -> None:
    (tmp_path / "link").symlink_to(site.media)
    place = {
        "the same": site.media,
        "inside": site.media / "live",
        "around": site.media.parent,
        "a link": tmp_path / "link",
    }
    storages(site, live={"BACKEND": FILES, "OPTIONS": {"location": str(place[where])}})
    (said,) = found()
    assert said.startswith("replicator.E044: shop.")
    assert "STORAGES['live']" in said
    assert "STORAGES['default']" in said


def test_a_target_that_is_the_live_place_is_an_error(site: Staging) -> None:
    """A staging site with the live site's media hosts in its settings."""
    copying(
        site,
        {"old": {"BACKEND": "replicator.targets.django_storage.StorageTarget", "OPTIONS": {"storage": "live"}}},
    )
    (said,) = found()
    assert said.startswith("replicator.E044: shop.")
    assert "the target 'old'" in said


def test_each_storage_is_held_against_its_own_source(site: Staging, tmp_path: Path) -> None:
    """What is copied from elsewhere may be anywhere, but there."""
    storages(site, other={"BACKEND": FILES, "OPTIONS": {"location": str(tmp_path / "other")}})
    copying(site, SOURCES={"default": "other"})
    assert found() == []
    storages(site, live={"BACKEND": FILES, "OPTIONS": {"location": str(site.media)}})
    assert found() == []
    storages(site, other={"BACKEND": FILES, "OPTIONS": {"location": str(site.media)}})
    assert [said[:16] for said in found()] == ["replicator.E044:"]


def test_a_field_that_takes_no_copies_is_told_of_once(site: Staging) -> None:
    """However many fields have its storage; a site may well show what the live one has."""
    http = {"BACKEND": "replicator.storage.HTTPStorage", "OPTIONS": {"base_url": "https://www.example.com/media/"}}
    storages(site, default=http)
    (said,) = found()
    assert said.startswith("replicator.W047: shop.")
    assert "it only reads" in said


def test_a_target_that_can_not_be_made_has_its_own_check(site: Staging) -> None:
    copying(site, {"media1": {"BACKEND": "replicator.targets.webdav.WebDAVTarget"}})
    assert found() == []


def test_no_network_is_asked(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check runs before every command."""

    def connect(*args: Any) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    keys = {"access_key": "a", "secret_key": "b", "region_name": "eu-central-1"}
    storages(
        site,
        live={"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {"bucket_name": "live-media", **keys}},
    )
    copying(
        site,
        {
            "media1": {
                "BACKEND": "replicator.targets.webdav.WebDAVTarget",
                "OPTIONS": {"url": "http://media1.invalid"},
            }
        },
    )
    assert found() == []
