"""manage.py check of private files: what would let anybody read them, and links that nobody answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.urls import clear_url_caches, re_path
from django.views.static import serve

from replicator.checks import check as every_check
from replicator.checks import private
from replicator.storage import ReplicatedStorage
from replicator.testing import MemoryTarget
from replicator.urls import mogilefs_urls, protected_urls
from tests.people.conftest import TARGETS

KEY = "k" * 32
WEBDAV = {"BACKEND": "replicator.targets.webdav.WebDAVTarget", "OPTIONS": {"url": "http://10.0.0.1"}}
S3 = {"BACKEND": "replicator.targets.django_storage.StorageTarget", "OPTIONS": {"storage": "bucket"}}


class SigningTarget(MemoryTarget):
    """One of a kind that signs."""

    def signed_url(self, *_: object, **__: object) -> str:
        raise AssertionError("asked")


Make = Callable[..., list[CheckMessage]]


@pytest.fixture
def found(site: ReplicatedStorage, settings: Any, tmp_path: Path) -> Make:
    """What is said of a site with the storage "private", with these options and targets of its own."""

    def found(
        more: dict[str, Any] | None = None,
        /,
        *,
        bucket: dict[str, Any] | None = None,
        urls: Any = None,
        **options: Any,
    ) -> list[CheckMessage]:
        own: dict[str, Any] = {"alias": "private", "location": str(tmp_path / "private"), "base_url": "/private/"}
        settings.REPLICATOR = {"TARGETS": {**TARGETS, **(more or {})}}
        settings.STORAGES = {
            **settings.STORAGES,
            "private": {"BACKEND": "replicator.storage.ProtectedStorage", "OPTIONS": {**own, **options}},
        }
        if bucket is not None:
            entry = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {"bucket_name": "b", **bucket}}
            settings.STORAGES = {**settings.STORAGES, "bucket": entry}
        patterns = protected_urls("private") if urls is None else urls
        settings.ROOT_URLCONF = ModuleType("urls_of_a_test")
        settings.ROOT_URLCONF.urlpatterns = patterns
        clear_url_caches()
        messages = list(private.problems())
        assert [message for message in every_check() if message in messages] == messages
        return messages

    return found


def _only(messages: list[CheckMessage], number: str) -> CheckMessage:
    (message,) = messages
    assert message.id == f"replicator.{number}"
    return message


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"x_accel_redirect": "/p/", "as_attachment": True},
        {"sign": "secure_link", "keys": [f"a:{KEY}"], "base_url": "https://media.example.com/private/"},
        {"targets": []},
    ],
)
def test_a_right_storage_is_silent(found: Make, options: dict[str, Any]) -> None:
    """However its links are signed."""
    assert found(**options) == []


def test_nginx_needs_a_key(found: Make) -> None:
    message = _only(found(sign="secure_link"), "E030")
    assert '"keys": ["2026:…"]' in message.msg
    assert "token_urlsafe" in str(message.hint)


@pytest.mark.parametrize("option", [{"as_attachment": False}, {"x_accel_redirect": "/p/"}, {"x_sendfile": True}])
def test_nginx_alone_does_not_do_what_the_view_does(found: Make, option: dict[str, Any]) -> None:
    message = _only(found(sign="secure_link", keys=[f"a:{KEY}"], **option), "E030")
    assert next(iter(option)) in message.msg


@pytest.mark.parametrize("where", ["media", "media/private", ".", "static/x"])
def test_a_folder_that_anybody_reads_is_named(found: Make, settings: Any, tmp_path: Path, where: str) -> None:
    """Inside of it, around it, or itself."""
    settings.STATIC_ROOT = str(tmp_path / "static")
    message = _only(found(location=str(tmp_path / where)), "E031")
    name, folder = ("STATIC_ROOT", "static") if where == "static/x" else ("MEDIA_ROOT", "media")
    assert f"{name} is {tmp_path / folder}" in message.msg


def test_a_folder_without_a_location_is_media_root(found: Make) -> None:
    """Which is what it would be by itself."""
    message = _only(found(location=None), "E031")
    assert 'BASE_DIR / "private"' in str(message.hint)


def test_a_folder_of_another_storage_is_named(found: Make, settings: Any, tmp_path: Path) -> None:
    """That anybody reads. One that is private too is no matter of this check."""
    backend = "django.core.files.storage.FileSystemStorage"
    settings.STORAGES = {
        **settings.STORAGES,
        "old": {"BACKEND": backend, "OPTIONS": {"location": str(tmp_path / "private" / "old")}},
    }
    assert "STORAGES['old']" in _only(found(), "E031").msg
    settings.STORAGES["old"]["BACKEND"] = "no.such.Storage"
    assert found() == []


def test_a_host_that_browsers_read_from_is_named(found: Make) -> None:
    """It has public files, too. Unless it verifies links."""
    message = _only(found({"dav": WEBDAV}), "W032")
    assert "who knows a name needs no link there, unless the host refuses /private/" in message.msg
    assert '"sign": "secure_link"' in str(message.hint)
    assert found({"dav": WEBDAV}, sign="secure_link", keys=[f"a:{KEY}"]) == []


def test_a_host_of_its_own_is_not(found: Make, settings: Any) -> None:
    """Nothing public goes there; unless it says where browsers find it."""
    for alias in ("default", "avatars"):
        options = settings.STORAGES[alias].get("OPTIONS", {})
        settings.STORAGES = {
            **settings.STORAGES,
            alias: {**settings.STORAGES[alias], "OPTIONS": {**options, "targets": ["media1"]}},
        }
    assert found({"dav": WEBDAV}, targets=["dav"]) == []
    shown = {**WEBDAV, "OPTIONS": {"url": "http://10.0.0.1", "public_url": "https://media.example.com"}}
    _only(found({"dav": shown}, targets=["dav"]), "W032")


def test_who_signs_must_be_able_to(found: Make) -> None:
    """By its kind: nobody is asked, since credentials may come from a network."""
    message = _only(found(sign="target", targets=["media1"]), "E033")
    assert "no target of it (media1) can sign" in message.msg
    assert found({"s": {"BACKEND": f"{__name__}.SigningTarget"}}, sign="target", targets=["media1", "s"]) == []
    assert found({"s3": S3}, bucket={}, sign="target", targets=["s3"]) == []
    assert "it has none" in _only(found(sign="target", targets=[]), "E033").msg


def test_a_folder_is_a_target_that_can_not_sign(found: Make, settings: Any, tmp_path: Path) -> None:
    backend = "django.core.files.storage.FileSystemStorage"
    settings.STORAGES = {
        **settings.STORAGES,
        "bucket": {"BACKEND": backend, "OPTIONS": {"location": str(tmp_path / "second")}},
    }
    _only(found({"s3": S3}, sign="target", targets=["s3"]), "E033")


@pytest.mark.parametrize("acl", ["public-read", "public-read-write"])
def test_a_public_object_is_no_private_file(found: Make, acl: str) -> None:
    message = _only(found({"s3": S3}, bucket={"default_acl": acl}, targets=["s3"]), "E034")
    assert '"default_acl": "private"' in str(message.hint)
    assert found({"s3": S3}, bucket={"default_acl": "private"}, targets=["s3"]) == []


def test_links_that_nobody_answers(found: Make) -> None:
    """A pattern is missing, or one that looks at no link comes first."""
    message = _only(found(urls=[]), "W035")
    assert "its links begin with /private/, which no URL pattern answers" in message.msg
    assert "urlpatterns += protected_urls('private')" in str(message.hint)
    message = _only(found(urls=[re_path("^private/(?P<path>.*)$", serve, {"document_root": "/"})]), "W035")
    assert "django.views.static.serve answers" in message.msg
    assert found(urls=[], sign="secure_link", keys=[f"a:{KEY}"]) == []


def test_the_view_of_mogilefs_comes_after(found: Make) -> None:
    """It serves all of ``MEDIA_URL`` to anybody; of a private storage nothing, but that is no answer either."""
    options: dict[str, Any] = {"base_url": "/media/private/", "targets": []}
    assert found(**options) == []
    message = _only(found(**options, urls=[*mogilefs_urls(), *protected_urls("private")]), "W035")
    assert "replicator.views.serve_mogilefs_file answers" in message.msg
    assert found(**options, urls=[*protected_urls("private"), *mogilefs_urls()]) == []
