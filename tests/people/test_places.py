"""manage.py check, of places: two that would undo each other are both named; what works is silent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage

from replicator.checks import check, places
from replicator.storage import ReplicatedStorage
from replicator.storage.replicated import replicated_storages
from tests.people.conftest import BACKEND, TARGETS

WEBDAV = "replicator.targets.webdav.WebDAVTarget"
MOGILEFS = "replicator.targets.mogilefs.MogileFSTarget"
STORAGE = "replicator.targets.django_storage.StorageTarget"
FOLDER = "django.core.files.storage.FileSystemStorage"
S3 = "storages.backends.s3.S3Storage"
PREFIXED = "replicator.storage.PrefixedStorage"


def found() -> list[str]:
    """``id: message`` of what is said of places."""
    return [f"{m.id}: {m.msg}" for m in places.problems(list(replicated_storages()))]


def said() -> list[CheckMessage]:
    """All that is said, but that this process has no Celery app."""
    return [message for message in check() if message.id != "replicator.W015"]


def with_targets(settings: Any, backend: str, one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    settings.REPLICATOR = {
        "TARGETS": {
            "media1": {"BACKEND": backend, "OPTIONS": one},
            "media2": {"BACKEND": backend, "OPTIONS": other},
        }
    }
    return found()


def clash(said: str) -> list[str]:
    return [
        "replicator.E036: REPLICATOR[\"TARGETS\"]['media1'] and ['media2'] keep copies in the same place: "
        f"each would undo what the other does ({said})."
    ]


SAME = clash("x of STORAGES['default'] is where x of STORAGES['default'] is")


# Two targets in one place


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("http://10.0.0.1", "http://10.0.0.1", SAME),
        ("http://10.0.0.1", "http://10.0.0.1/", SAME),
        ("http://10.0.0.1", "http://10.0.0.1:80", SAME),
        ("https://HOST.example.com/dav", "https://host.example.com:443/dav/", SAME),
        ("http://10.0.0.1/d%61v%20x", "http://10.0.0.1/dav%20x", SAME),
        ("http://10.0.0.1", "http://10.0.0.1:8080", []),
        ("http://10.0.0.1", "http://10.0.0.2", []),
        ("http://10.0.0.1/one", "http://10.0.0.1/two", []),
        ("http://10.0.0.1", "http://10.0.0.1/copy", []),  # /media/… and /copy/media/…
        (
            "http://10.0.0.1",
            "http://10.0.0.1/media/copy",
            clash("copy/media/x of STORAGES['default'] is where x of STORAGES['default'] is"),
        ),
        (
            "http://10.0.0.1/media",
            "http://10.0.0.1",
            clash("media/x of STORAGES['default'] is where x of STORAGES['default'] is"),
        ),
    ],
)
def test_two_hosts_that_are_one(settings: Any, tmp_path: Path, one: str, other: str, expected: list[str]) -> None:
    """Promise 2 is kept for each replica: two of them in one place undo each other."""
    settings.MEDIA_ROOT = str(tmp_path)
    assert with_targets(settings, WEBDAV, {"url": one}, {"url": other}) == expected
    assert with_targets(settings, WEBDAV, {"url": other}, {"url": one}) == expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, SAME),
        ({"trackers": ["10.0.0.7", "10.0.0.5:7001"]}, SAME),  # one in common is enough
        ({"trackers": ["10.0.0.6:7001"]}, []),
        ({"domain": "staging"}, []),
        ({"base_url": "/"}, clash("media/x of STORAGES['default'] is where x of STORAGES['default'] is")),
        ({"base_url": "/media/elsewhere/"}, []),  # its keys begin with a slash
    ],
)
def test_two_targets_in_one_mogilefs(
    settings: Any, tmp_path: Path, changed: dict[str, Any], expected: list[str]
) -> None:
    settings.MEDIA_ROOT = str(tmp_path)
    options = {"domain": "production", "trackers": ["10.0.0.5:7001", "10.0.0.9:7001"], "base_url": "/media/"}
    assert with_targets(settings, MOGILEFS, options, {**options, **changed}) == expected


def test_two_django_storages_in_one_place(settings: Any, tmp_path: Path) -> None:
    """By another alias, by a link, as a part of a bucket or of a folder."""
    settings.MEDIA_ROOT = str(tmp_path / "media")
    (tmp_path / "copies").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "copies")
    settings.STORAGES = {
        **settings.STORAGES,
        "a": {"BACKEND": FOLDER, "OPTIONS": {"location": str(tmp_path / "copies")}},
        "b": {"BACKEND": FOLDER, "OPTIONS": {"location": str(tmp_path / "link")}},
        "c": {"BACKEND": S3, "OPTIONS": {"bucket_name": "b", "location": "part"}},
        "d": {"BACKEND": S3, "OPTIONS": {"bucket_name": "b"}},
        # Of which nobody can tell that they are one.
        "e": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
        "f": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    }
    below = {"prefix": "copy", "base_url": "/media/"}
    inside = clash("copy/x of STORAGES['default'] is where x of STORAGES['default'] is")
    for one, other, expected in (
        ({"storage": "a"}, {"storage": "b"}, SAME),
        ({"storage": "c"}, {"storage": "d", "prefix": "part"}, SAME),
        ({"storage": "d", "prefix": "media", "base_url": "/media/"}, {"storage": "d"}, SAME),
        ({"storage": "a", "base_url": "/media/"}, {"storage": "b", **below}, inside),
        ({"storage": "d", "base_url": "/media/"}, {"storage": "d", **below}, inside),
        ({"storage": "a"}, {"storage": "b", **below}, []),
        ({"storage": "c"}, {"storage": "d"}, []),
        ({"storage": "d", "prefix": "one"}, {"storage": "d", "prefix": "one2"}, []),
        ({"storage": "e"}, {"storage": "e"}, SAME),
        ({"storage": "e"}, {"storage": "f"}, []),
    ):
        assert with_targets(settings, STORAGE, one, other) == expected, (one, other)


def test_two_storages_that_meet_through_two_targets(settings: Any, tmp_path: Path) -> None:
    """Each path is cut below another base_url, and both begin at the same place."""
    settings.MEDIA_ROOT = str(tmp_path / "media")
    settings.STORAGES = {
        "default": {"BACKEND": BACKEND, "OPTIONS": {"targets": ["media1"]}},
        "other": {
            "BACKEND": BACKEND,
            "OPTIONS": {
                "alias": "other",
                "location": str(tmp_path / "other"),
                "base_url": "/other/",
                "targets": ["media2"],
            },
        },
        "copies": {"BACKEND": FOLDER, "OPTIONS": {"location": str(tmp_path / "copies")}},
    }
    one, other = {"storage": "copies", "base_url": "/media/"}, {"storage": "copies", "base_url": "/other/"}
    assert with_targets(settings, STORAGE, one, other) == clash(
        "x of STORAGES['default'] is where x of STORAGES['other'] is"
    )
    assert with_targets(settings, STORAGE, one, {**other, "prefix": "others"}) == clash(
        "others/x of STORAGES['default'] is where x of STORAGES['other'] is"
    )
    assert with_targets(settings, STORAGE, {**one, "prefix": "media"}, {**other, "prefix": "others"}) == []


def test_a_storage_inside_of_another_has_its_own_folder_at_targets_too(settings: Any, tmp_path: Path) -> None:
    """The outer one writes nothing there, so nothing is undone: one host, known by two aliases."""
    settings.MEDIA_ROOT = str(tmp_path / "media")

    def storages(prefix: str, location: str) -> None:
        options = {"prefix": prefix, "alias": "assets", "location": location, "targets": ["media2"]}
        settings.STORAGES = {
            "default": {"BACKEND": BACKEND, "OPTIONS": {"targets": ["media1"]}},
            "assets": {"BACKEND": PREFIXED, "OPTIONS": options},
        }

    hosts = {"url": "http://10.0.0.1"}, {"url": "http://10.0.0.1"}
    for prefix in ("assets", "große assets/100%"):
        storages(prefix, str(tmp_path / "media"))
        assert with_targets(settings, WEBDAV, *hosts) == []
    storages("assets", str(tmp_path / "elsewhere"))
    expected = clash("assets/x of STORAGES['default'] is where x of STORAGES['assets'] is")
    assert with_targets(settings, WEBDAV, *hosts) == expected


def test_targets_that_share_no_storage_are_no_business_of_each_other(settings: Any, tmp_path: Path) -> None:
    """One host takes media under one alias and static files under another, in other paths."""
    settings.MEDIA_ROOT, settings.STATIC_ROOT = str(tmp_path / "media"), str(tmp_path / "static")
    static = "replicator.storage.ReplicatedStaticFilesStorage"
    settings.STORAGES = {
        "default": {"BACKEND": BACKEND, "OPTIONS": {"targets": ["media1"]}},
        "staticfiles": {"BACKEND": static, "OPTIONS": {"targets": ["media2"]}},
    }
    assert with_targets(settings, WEBDAV, {"url": "http://10.0.0.1"}, {"url": "http://10.0.0.1"}) == []


def test_one_message_for_each_two_targets(site: ReplicatedStorage, settings: Any) -> None:
    """Whatever number of storages meets there; among the other checks."""
    host = {"BACKEND": WEBDAV, "OPTIONS": {"url": "http://10.0.0.1"}}
    settings.STORAGES = {**settings.STORAGES, "assets": {"BACKEND": PREFIXED, "OPTIONS": {"prefix": "assets"}}}
    settings.REPLICATOR = {"TARGETS": dict.fromkeys(("media1", "media2", "media3"), host)}
    said = [m.msg for m in check() if m.id == "replicator.E036"]
    assert [m.partition(" keep")[0].partition('TARGETS"]')[2] for m in said] == [
        "['media1'] and ['media2']",
        "['media1'] and ['media3']",
        "['media2'] and ['media3']",
    ]


def test_what_can_not_be_made_is_left_to_its_own_check(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = str(tmp_path)
    assert with_targets(settings, WEBDAV, {"url": "http://10.0.0.1"}, {"nothing": 1}) == []
    assert with_targets(settings, WEBDAV, {"url": ""}, {"url": ""}) == []
    assert with_targets(settings, STORAGE, {"storage": "none"}, {"storage": "none"}) == []


# URLs of replicas


def test_replicas_that_no_browser_can_read(site: ReplicatedStorage, settings: Any) -> None:
    """A query for each URL, which is the origin's in the end."""

    def serving(**public: str) -> list[str]:
        settings.REPLICATOR = {
            "TARGETS": {
                alias: {**entry, "OPTIONS": {"public_url": public.get(alias, "")}} for alias, entry in TARGETS.items()
            }
        }
        settings.STORAGES = {
            "default": {"BACKEND": BACKEND, "OPTIONS": {"serve_from": "replicas"}},
            "avatars": settings.STORAGES["avatars"],
        }
        return [f"{m.id}: {m.msg} | {m.hint}" for m in said()]

    assert serving() == [
        'replicator.W037: STORAGES[\'default\'] has "serve_from": "replicas", but no target of it a public_url: '
        "each url() asks the database, and gives the URL of the origin. "
        '| Write "public_url": "https://…" into the OPTIONS of the targets that browsers can read from.'
    ]
    assert serving(media2="https://cdn.example.com") == []


def test_static_files_that_are_to_be_served_from_replicas(site: ReplicatedStorage, settings: Any) -> None:
    entry = {
        "BACKEND": "replicator.storage.ReplicatedStaticFilesStorage",
        "OPTIONS": {"serve_from": "replicas", "alias": "assets"},
    }
    settings.STORAGES = {**settings.STORAGES, "assets": entry}
    [message] = said()
    assert message.id == "replicator.E005"
    assert "serve_from is for media: each {% static %} would cost a query." in message.msg


# Storages with a prefix


def test_a_prefixed_storage_passes_the_checks(site: ReplicatedStorage, settings: Any) -> None:
    entry = {"BACKEND": PREFIXED, "OPTIONS": {"prefix": "assets"}}
    settings.STORAGES = {**settings.STORAGES, "assets": entry}
    assert said() == []


def test_a_prefixed_storage_without_a_prefix_or_under_another_name(site: ReplicatedStorage, settings: Any) -> None:
    before = settings.STORAGES
    settings.STORAGES = {**before, "assets": {"BACKEND": PREFIXED}}
    [message] = said()
    assert (message.id, "PrefixedStorage has no prefix: write" in message.msg) == ("replicator.E005", True)
    settings.STORAGES = {**before, "files": {"BACKEND": PREFIXED, "OPTIONS": {"prefix": "assets"}}}
    [message] = said()
    assert message.id == "replicator.E006"
    assert message.hint == """Write STORAGES['files']["OPTIONS"] = {"alias": 'files', …}."""


@pytest.mark.parametrize("backend", [PREFIXED, "replicator.storage.ReplicatedStaticFilesStorage"])
def test_two_storages_with_one_prefix_are_both_named(
    site: ReplicatedStorage, settings: Any, tmp_path: Path, backend: str
) -> None:
    """E007: the same folder here; or other folders, and the same path at a target."""
    settings.STATIC_ROOT = str(tmp_path / "static")
    options = {"prefix": "assets", "base_url": "/a/", "location": str(tmp_path / "a")}

    def entry(alias: str, **changed: str) -> dict[str, Any]:
        return {"BACKEND": backend, "OPTIONS": {**options, "alias": alias, **changed}}

    before = settings.STORAGES
    settings.STORAGES = {**before, "one": entry("one"), "two": entry("two")}
    [message] = said()
    assert message.id == "replicator.E007"
    assert "STORAGES['one'] and STORAGES['two'] keep their files in the same folder" in message.msg
    settings.STORAGES = {**before, "one": entry("one"), "two": entry("two", location=str(tmp_path / "b"))}
    [message] = said()
    assert message.id == "replicator.E007"
    assert "STORAGES['one'] and STORAGES['two'] send different files to the same place at 'media1'" in message.msg
    settings.STORAGES = {**before, "one": entry("one"), "two": entry("two", prefix="other")}
    assert said() == []
