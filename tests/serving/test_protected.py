"""``serve_protected_file``: who gets a file, where it comes from, and what is said of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.test import Client
from django.utils.http import http_date

from replicator import delivery, signing, wake
from replicator.errors import Unavailable
from replicator.models import MediaFile, Replica, TargetState
from replicator.storage import ProtectedStorage
from replicator.targets import get_target
from replicator.testing import MemoryTarget
from replicator.urls import protected_urls
from tests.serving.conftest import LARGE, Site

TARGETS = {f"media{n}": {"BACKEND": "replicator.testing.MemoryTarget"} for n in (1, 2)}
BACKEND = "replicator.storage.ProtectedStorage"


class Private:
    """The storage "private", and what who has a link sees."""

    def __init__(self) -> None:
        self._client = Client()
        self.answers: list[Any] = []

    @property
    def storage(self) -> ProtectedStorage:
        storage = storages["private"]
        assert isinstance(storage, ProtectedStorage)
        return storage

    def target(self, alias: str) -> MemoryTarget:
        target = get_target(alias)
        assert isinstance(target, MemoryTarget)
        return target

    def save(self, name: str = "a.txt", data: bytes = b"bytes") -> Path:
        """Saved, and not delivered; the local file."""
        assert self.storage.save(name, ContentFile(data)) == name
        return Path(self.storage.path(name))

    def get(self, link: str, method: str = "GET", /, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self._client.generic(method, link, headers=named)
        self.answers.append(answer)
        return answer


def _options(settings: Any, alias: str = "private", **options: Any) -> None:
    """Further options of the storage."""
    entry = settings.STORAGES[alias]
    settings.STORAGES = {**settings.STORAGES, alias: {**entry, "OPTIONS": {**entry["OPTIONS"], **options}}}


@pytest.fixture
def private(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transactional_db: None
) -> Iterator[Private]:
    """And "others", of which nothing is known to who has a link to "private"."""
    settings.MEDIA_ROOT = str(tmp_path / "media")
    settings.MOGILEFS_MEDIA_URL = "/media/"
    settings.ROOT_URLCONF = "tests.serving.private_urls"
    settings.REPLICATOR = {"TARGETS": TARGETS}
    settings.STORAGES = {
        **settings.STORAGES,
        **{
            alias: {
                "BACKEND": BACKEND,
                "OPTIONS": {"alias": alias, "location": str(tmp_path / alias), "base_url": f"/{alias}/"},
            }
            for alias in ("private", "others")
        },
    }
    monkeypatch.setattr(wake, "announce", lambda targets: None)
    private = Private()
    yield private
    for answer in private.answers:
        answer.close()


# Who gets it.


def test_who_has_a_link_gets_the_file(private: Private) -> None:
    """With all that is known of it, and what keeps browsers and caches from passing it on."""
    private.save("é 1.png", LARGE)
    answer = private.get(private.storage.url("é 1.png"))
    row = MediaFile.objects.get()
    assert (answer.status_code, answer.getvalue() == LARGE) == (200, True)
    assert answer.headers == {
        "Content-Type": "image/png",
        "Content-Length": str(len(LARGE)),
        "ETag": f'"{row.sha256}"',
        "Last-Modified": http_date(int(row.updated_at.timestamp())),
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "private, no-cache",
    }


def _without(link: str, field: str) -> str:
    path, _, query = link.partition("?")
    return f"{path}?{'&'.join(part for part in query.split('&') if not part.startswith(field))}"


TAMPERED: dict[str, Callable[[str], str]] = {
    "no link": lambda link: link.partition("?")[0],
    "no end": lambda link: _without(link, "expires"),
    "no signature": lambda link: _without(link, "signature"),
    "later": lambda link: link.replace("expires=1", "expires=2"),
    "an end that is none": lambda link: link.replace("expires=1", "expires=x1"),
    "an end beyond all dates": lambda link: link.replace("expires=1", f"expires={'1' * 20}"),
    "an end in other digits": lambda link: link.replace("expires=1", "expires=%D9%A1"),
    "one letter": lambda link: link[:-1] + ("A" if link[-1] != "A" else "B"),
    "a letter more": lambda link: f"{link}A",
    "another name": lambda link: link.replace("/a.txt", "/b.txt"),
    "no such name": lambda link: link.replace("/a.txt", "/c.txt"),
    "another storage": lambda link: link.replace("/private/", "/others/"),
    "a folder": lambda link: link.replace("/a.txt", "/"),
    "a way around": lambda link: link.replace("/a.txt", "/x/../a.txt"),
    "a way out": lambda link: link.replace("/a.txt", "/../private/a.txt"),
    "a slash more": lambda link: link.replace("/a.txt", "//a.txt"),
    "a NUL": lambda link: link.replace("/a.txt", "/a.txt%00"),
    "a line more": lambda link: link.replace("/a.txt", "/a.txt%0A"),
}


@pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED)
def test_a_link_that_was_changed_is_forbidden(private: Private, change: Callable[[str], str]) -> None:
    """403, whether there is such a file or not."""
    private.save("a.txt")
    private.save("b.txt")
    storages["others"].save("a.txt", ContentFile(b"others'"))
    link = private.storage.url("a.txt")
    assert private.get(link).status_code == 200
    assert change(link) != link
    assert private.get(change(link)).status_code == 403


def test_a_link_that_has_ended_is_forbidden(private: Private, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From that second on."""
    _options(settings, querystring_expire=60)
    private.save()
    link = private.storage.url("a.txt")
    end = int(link.partition("expires=")[2].partition("&")[0])
    for now, status in ((end - 0.1, 200), (end, 403), (end + 1e6, 403)):
        monkeypatch.setattr("replicator.views.time", SimpleNamespace(time=lambda now=now: now))
        assert private.get(link).status_code == status
    assert 0 < end - time.time() <= 60


def test_a_new_key_leaves_old_links_as_they_are(private: Private, settings: Any) -> None:
    """The first signs, all are valid; once the old one is gone, its links are, too."""
    old, new = "o" * 32, "n" * 32
    private.save()
    _options(settings, keys=[old])
    link = private.storage.url("a.txt")
    _options(settings, keys=[new, old])
    assert private.storage.url("a.txt") != link
    assert private.get(private.storage.url("a.txt")).status_code == 200
    assert private.get(link).status_code == 200
    _options(settings, keys=[new])
    assert private.get(link).status_code == 403


def test_djangos_secret_and_its_fallbacks(private: Private, settings: Any) -> None:
    """Which is what is there unless keys are given."""
    private.save()
    link = private.storage.url("a.txt")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [settings.SECRET_KEY]
    assert private.get(link).status_code == 200
    settings.SECRET_KEY_FALLBACKS = []
    assert private.get(link).status_code == 403


def test_the_permission_is_asked_of_who_has_a_good_link(private: Private) -> None:
    """And of nobody else."""
    private.save()
    link = private.storage.url("a.txt").replace("/private/", "/guarded/")
    assert private.get(link, X_Word="private/a.txt").getvalue() == b"bytes"
    assert private.get(link, X_Word="private/b.txt").status_code == 403
    assert private.get(link.partition("?")[0], X_Word="private/a.txt").status_code == 403


def test_links_to_a_storage_that_is_not_protected_are_none(private: Private) -> None:
    """However they were signed."""
    storages["default"].save("a.txt", ContentFile(b"public"))
    expires = int(time.time()) + 60
    signed = signing.signature("default", "a.txt", expires)
    assert private.get(f"/unprotected/a.txt?expires={expires}&signature={signed}").status_code == 403


def test_a_file_that_was_deleted_or_never_was(private: Private) -> None:
    """404 for who has a link; a copy that a target still has is not shown."""
    private.save()
    delivery.deliver("media1")
    link, unknown = private.storage.url("a.txt"), private.storage.url("unknown.txt")
    private.storage.delete("a.txt")
    assert private.get(link).status_code == 404
    assert private.get(unknown).status_code == 404


def test_what_the_ledger_does_not_know_is_not_shown(private: Private) -> None:
    """What lies there may be of a save that is not committed."""
    path = private.save()
    path.with_name("b.txt").write_bytes(b"stray")
    assert private.get(private.storage.url("b.txt")).status_code == 404


@pytest.mark.parametrize(
    ("as_attachment", "name", "disposition"),
    [
        (None, "a.html", 'attachment; filename="a.html"'),
        (None, "x/é.svg", "attachment; filename*=utf-8''%C3%A9.svg"),
        (None, "a.png", None),
        (True, "x/a.png", 'attachment; filename="a.png"'),
        (False, "a.html", None),
    ],
)
def test_what_browsers_would_run_is_saved(
    private: Private, settings: Any, as_attachment: bool | None, name: str, disposition: str | None
) -> None:
    """Unless the storage says otherwise."""
    _options(settings, as_attachment=as_attachment)
    private.save(name)
    assert private.get(private.storage.url(name)).headers.get("Content-Disposition") == disposition


def test_conditions_parts_and_methods(private: Private) -> None:
    """As of any file that is served."""
    private.save("a.bin", LARGE)
    link = private.storage.url("a.bin")
    head = private.get(link, "HEAD")
    assert (head.status_code, head.headers["Content-Length"], head.content) == (200, str(len(LARGE)), b"")
    assert private.get(link, If_None_Match=head.headers["ETag"]).status_code == 304
    part = private.get(link, Range="bytes=1000-1999")
    assert (part.status_code, part.getvalue()) == (206, LARGE[1000:2000])
    assert private.get(link, Range=f"bytes={len(LARGE)}-").status_code == 416
    assert private.get(link, "POST").status_code == 405
    assert private.get(link, "DELETE").status_code == 405


# Where it comes from.


def test_what_is_not_here_comes_from_a_target_that_holds_it(private: Private) -> None:
    """All of it, or a part; HEAD asks for no bytes."""
    private.save("a.bin", LARGE).unlink()
    private.target("media1").files["private/a.bin"] = b"older"
    link = private.storage.url("a.bin")
    answer = private.get(link)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
    MediaFile.objects.all().delete()
    private.save("a.bin", LARGE)
    delivery.deliver("media2")
    Path(private.storage.path("a.bin")).unlink()
    assert private.get(link).getvalue() == LARGE
    assert private.get(link, Range="bytes=1000000-1000009").getvalue() == LARGE[1_000_000:1_000_010]
    assert private.get(link, Range="bytes=-9").getvalue() == LARGE[-9:]
    private.target("media2").operations.clear()
    assert private.get(link, "HEAD").headers["Content-Length"] == str(len(LARGE))
    assert private.target("media2").operations == [("stat", "private/a.bin")]
    assert private.target("media1").operations == []


def test_a_target_that_fails_leaves_it_to_the_next(private: Private) -> None:
    """And none left is 502: the ledger knows that there is such a file."""
    private.save().unlink()
    private.storage.replace("a.txt", ContentFile(b"bytes"))
    for alias in ("media1", "media2"):
        delivery.deliver(alias)
    Path(private.storage.path("a.txt")).unlink()
    link = private.storage.url("a.txt")
    private.target("media1").fail_with = Unavailable("it hangs")
    assert private.get(link).getvalue() == b"bytes"
    private.target("media2").files.clear()
    for method in ("GET", "HEAD"):
        answer = private.get(link, method)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (502, "no-store")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_copy_that_is_lost_is_no_file_that_never_was(private: Private, settings: Any, method: str) -> None:
    """Caches keep a 404; this one is delivered again, once somebody notices."""
    _options(settings, targets=["media1"])
    private.save()
    delivery.deliver("media1")
    Path(private.storage.path("a.txt")).unlink()
    private.target("media1").files.clear()
    answer = private.get(private.storage.url("a.txt"), method)
    assert (answer.status_code, answer.headers["Retry-After"]) == (502, "10")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_target_that_is_down_is_not_asked(private: Private, method: str) -> None:
    """Promise 7: it would be waited for."""
    private.save()
    delivery.deliver("media1")
    Path(private.storage.path("a.txt")).unlink()
    TargetState.objects.update_or_create(target="media1", defaults={"state": "down"})
    private.target("media1").operations.clear()
    assert private.get(private.storage.url("a.txt"), method).status_code == 503
    assert private.target("media1").operations == []


def test_a_target_in_doubt_is_not_asked(private: Private) -> None:
    """What was sent earlier may have taken effect since."""
    private.save()
    delivery.deliver("media1")
    Path(private.storage.path("a.txt")).unlink()
    Replica.objects.filter(target="media1").update(status="pending", doubt=True)
    assert private.get(private.storage.url("a.txt")).status_code == 503


def test_a_copy_of_another_length_makes_no_complete_answer(private: Private) -> None:
    """Somebody cut it behind our back: the connection ends before the length that was promised."""
    private.save("a.txt", b"bytes")
    delivery.deliver("media1")
    Path(private.storage.path("a.txt")).unlink()
    private.target("media1").files["private/a.txt"] = b"byt"
    link = private.storage.url("a.txt")
    assert private.get(link, "HEAD").status_code == 502
    assert private.get(link, Range="bytes=4-4").status_code == 502
    answer = private.get(link)
    with pytest.raises(Unavailable, match="2 bytes are missing"):
        answer.getvalue()


@pytest.mark.parametrize("size", [5, len(LARGE)])
@pytest.mark.parametrize("change", [lambda data: data[:-1] + b"!", lambda data: data + b"!"])
def test_another_copy_makes_no_complete_answer(private: Private, size: int, change: Callable[[bytes], bytes]) -> None:
    """Somebody changed it behind our back: the last bytes of another version are given to nobody."""
    private.save("a.txt", LARGE[:size])
    delivery.deliver("media1")
    Path(private.storage.path("a.txt")).unlink()
    link = private.storage.url("a.txt")
    assert private.get(link).getvalue() == LARGE[:size]
    private.target("media1").files["private/a.txt"] = change(LARGE[:size])
    with pytest.raises(Unavailable, match="media1: it has another version"):
        private.get(link).getvalue()


# The server in front.


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        (
            {"x_accel_redirect": "/replicator-private/"},
            "X-Accel-Redirect",
            "/replicator-private/x/%C3%A9%20%2520%3F.png",
        ),
        ({"x_sendfile": True}, "X-Sendfile", "{}/x/Ã© %20?.png"),
    ],
)
def test_the_server_in_front_is_told_where_the_local_file_is(
    private: Private, settings: Any, options: dict[str, Any], field: str, value: str
) -> None:
    """Percent-encoded for nginx, as bytes for Apache, as they read it; with all that is said of the file."""
    _options(settings, **options)
    private.save("x/é %20?.png", LARGE)
    answer = private.get(private.storage.url("x/é %20?.png"))
    assert answer.headers[field] == value.format(settings.STORAGES["private"]["OPTIONS"]["location"])
    assert (answer.content, answer.headers["Content-Type"]) == (b"", "image/png")
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert answer.has_header("ETag")


@pytest.mark.parametrize("name", ["a\nX-Evil: 1.png", "a.png ", "\u2028.png"])
@pytest.mark.parametrize("options", [{"x_accel_redirect": "/replicator-private/"}, {"x_sendfile": True}])
def test_a_name_adds_no_field(private: Private, settings: Any, options: dict[str, Any], name: str) -> None:
    """What can't be said to Apache is sent from here; nginx decodes."""
    _options(settings, **options)
    private.save(name)
    answer = private.get(private.storage.url(name))
    told = answer.headers.get("X-Accel-Redirect")
    assert (answer.status_code, answer.getvalue()) == (200, b"" if told else b"bytes")
    assert bool(told) is ("x_accel_redirect" in options)
    assert not answer.has_header("X-Evil")


@pytest.mark.parametrize("options", [{"x_accel_redirect": "/replicator-private/"}, {"x_sendfile": True}])
def test_a_local_file_of_another_version_is_handed_to_nobody(
    private: Private, settings: Any, options: dict[str, Any]
) -> None:
    """Nor one that is not here: then a target's copy is sent from here."""
    _options(settings, **options)
    path = private.save("a.txt", b"right")
    link = private.storage.url("a.txt")
    other = path.with_name("other")
    other.write_bytes(b"wrong")
    other.replace(path)
    assert private.get(link).status_code == 503
    private.storage.replace("a.txt", ContentFile(b"right"))
    delivery.deliver("media1")
    path.unlink()
    assert private.get(link).getvalue() == b"right"


@pytest.mark.parametrize("options", [{"x_accel_redirect": "/replicator-private/"}, {"x_sendfile": True}])
def test_a_local_file_that_is_about_to_go_is_sent_from_here(
    private: Private, settings: Any, options: dict[str, Any]
) -> None:
    """With keep_local=False: the server in front would open it too late."""
    _options(settings, keep_local=False, **options)
    private.save("a.txt")
    assert private.get(private.storage.url("a.txt")).getvalue() == b"bytes"


# MogileFS.


@pytest.fixture
def at_mogilefs(site: Site, settings: Any, tmp_path: Path) -> Private:
    """A storage whose files are in MogileFS, below the URL that ``mogilefs_urls`` serves to anybody."""
    settings.ROOT_URLCONF = "tests.serving.private_urls"
    settings.STORAGES = {
        **settings.STORAGES,
        **{
            alias: {
                "BACKEND": BACKEND,
                "OPTIONS": {"alias": alias, "location": str(tmp_path / alias), "base_url": f"/{alias}/"},
            }
            for alias in ("private", "others")
        },
    }
    return Private()


def test_a_file_in_mogilefs_comes_from_there(at_mogilefs: Private, site: Site, settings: Any) -> None:
    """Fetched by the server in front, if there is one that can."""
    at_mogilefs.save("a.bin", LARGE)
    delivery.deliver("mogilefs")
    Path(at_mogilefs.storage.path("a.bin")).unlink()
    link = at_mogilefs.storage.url("a.bin")
    assert at_mogilefs.get(link).getvalue() == LARGE
    settings.REPLICATOR = {**settings.REPLICATOR, "X_ACCEL_REDIRECT": "/nodes/"}
    assert at_mogilefs.get(link).headers["X-Accel-Redirect"].startswith("/nodes/127.0.0.1:")
    settings.REPLICATOR = {**settings.REPLICATOR, "X_ACCEL_REDIRECT": "", "X_REPROXY_CACHE_FOR": 600}
    settings.SERVE_WITH_PERLBAL = True
    answer = at_mogilefs.get(link)
    assert answer.headers["X-REPROXY-URL"].startswith("http://127.0.0.1:")
    assert not answer.has_header("X-REPROXY-CACHE-FOR")
    assert at_mogilefs.get(link.partition("?")[0]).status_code == 403


def test_the_view_for_all_shows_nothing_private(at_mogilefs: Private, site: Site, settings: Any) -> None:
    """The storage lies below the URL that it serves, and its files are in MogileFS."""
    _options(settings, base_url="/media/private/")
    at_mogilefs.save("a.txt")
    delivery.deliver("mogilefs")
    assert site.mogilefs.copies("private/a.txt")
    assert at_mogilefs.get("/media/private/a.txt").status_code == 404
    assert at_mogilefs.get(at_mogilefs.storage.url("a.txt")).status_code == 404


# Patterns.


@pytest.mark.parametrize(
    ("options", "permission", "message"),
    [
        (None, None, "is no ProtectedStorage"),
        ({"base_url": "/"}, None, "a path of its own"),
        ({"sign": "target"}, lambda *_: True, '"sign": "view"'),
        ({"sign": "secure_link", "keys": [f"a:{'k' * 32}"]}, lambda *_: True, "remove the permission"),
    ],
)
def test_patterns_that_could_not_work_say_what_to_write(
    private: Private, settings: Any, options: dict[str, Any] | None, permission: Any, message: str
) -> None:
    """A permission that nobody asks would be the worst of them."""
    if options is not None:
        _options(settings, **options)
    with pytest.raises(ImproperlyConfigured, match=message):
        protected_urls("nobody" if options is None else "private", permission=permission)
    if options is None:
        with pytest.raises(ImproperlyConfigured, match=message):
            protected_urls("default")
