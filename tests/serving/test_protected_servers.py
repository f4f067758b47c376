"""Links to private files over the network: through what stands in front of Django, and at an nginx alone."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages

from replicator import delivery, signing, wake
from replicator.storage import ProtectedStorage
from tests.servers import MediaHost
from tests.serving.conftest import LARGE, Site
from tests.serving.fronts import Django, fetch, in_front
from tests.serving.private_fronts import AccelNginx, LinkNginx, SendfileApache

pytestmark = pytest.mark.django_db(transaction=True)

#: The secrets of docs/private.md.
OLD = "an-example-of-a-secret-of-43-characters-long"
NEW = "another-secret-that-is-as-long-as-the-first"
NAMES = [
    "a.png",
    "é 1.png",
    "x/日本.png",
    "a%20b.png",
    "a+b&c=d;e,f.png",
    "what?.png",
    "#1.png",
    "a'b(c)!.png",
    'q".png',
]
FRONTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "nginx": (AccelNginx, {"x_accel_redirect": "/replicator-private/"}),
    "apache": (SendfileApache, {"x_sendfile": True}),
}


@pytest.fixture(autouse=True)
def _settings(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    settings.MEDIA_ROOT = str(tmp_path / "media")
    settings.MOGILEFS_MEDIA_URL = "/media/"
    settings.ROOT_URLCONF = "tests.serving.private_urls"
    settings.REPLICATOR = {"TARGETS": {}}
    monkeypatch.setattr(wake, "announce", lambda targets: None)


def _configure(settings: Any, location: Path, **options: Any) -> ProtectedStorage:
    """The storages "private", here, and "others", with these options."""
    backend = "replicator.storage.ProtectedStorage"
    own: dict[str, Any] = {"alias": "private", "location": str(location), "base_url": "/private/", **options}
    others = {"alias": "others", "location": f"{location}-others", "base_url": "/others/"}
    settings.STORAGES = {
        **settings.STORAGES,
        "private": {"BACKEND": backend, "OPTIONS": own},
        "others": {"BACKEND": backend, "OPTIONS": others},
    }
    storage = storages["private"]
    assert isinstance(storage, ProtectedStorage)
    return storage


# In front of Django.


@pytest.fixture
def django() -> Iterator[Django]:
    django = Django()
    yield django
    django.stop()


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest, django: Django, settings: Any) -> Iterator[Any]:
    """Each in turn, with a storage whose local files it sends."""
    kind, options = FRONTS[request.param]
    with kind(django) as front:
        _configure(settings, front.private, **options)
        yield front


def _save(name: str, data: bytes) -> str:
    """The link, without its first slash."""
    storage = storages["private"]
    assert storage.save(name, ContentFile(data)) == name
    return str(storage.url(name))[1:]


def test_the_front_sends_what_django_allows(front: Any, django: Django) -> None:
    """With the words that Django said of the file, and no byte from Django."""
    for name in NAMES:
        link = _save(name, LARGE)
        answer = fetch(front.port, link)
        assert (answer.status, answer.body == LARGE) == (200, True), name
        assert answer.header("Content-Type") == "image/png"
        assert answer.header("Cache-Control") == "private, no-cache"
        assert answer.header("Referrer-Policy") == "no-referrer"
        assert answer.header("X-Content-Type-Options") == "nosniff"
        head = fetch(django.port, link, "HEAD")
        for field in ("ETag", "Last-Modified", "Accept-Ranges"):
            assert answer.header(field) == head.header(field), field
        assert not [field for field in answer.headers if field.lower() in ("x-sendfile", "x-accel-redirect")]
    assert django.sent == 0


def test_parts_and_conditions(front: Any, django: Django) -> None:
    """The version's name is the ledger's, whoever compares it."""
    link = _save("a.bin", LARGE)
    etag = fetch(front.port, link).header("ETag")
    for asked, part in (
        ({"Range": "bytes=0-99"}, slice(0, 100)),
        ({"Range": "bytes=3000000-"}, slice(3_000_000, None)),
        ({"Range": "bytes=100-199", "If_Range": etag}, slice(100, 200)),
        ({"Range": "bytes=-5"}, slice(-5, None)),
    ):
        answer = fetch(front.port, link, **asked)
        assert (answer.status, answer.body == LARGE[part]) == (206, True), asked
        assert answer.header("ETag") == etag
    other = fetch(front.port, link, Range="bytes=0-99", If_Range='"other"')
    assert (other.status, other.body == LARGE) == (200, True)
    assert fetch(front.port, link, If_None_Match=etag).status == 304
    assert fetch(front.port, link, If_None_Match='"other"').status == 200
    # What nginx would say of the file by itself.
    path = Path(storages["private"].path("a.bin"))
    os.utime(path, (1_420_070_400, 1_420_070_400))
    own = f'"{1_420_070_400:x}-{len(LARGE):x}"'
    for condition in (
        {"If_None_Match": own},
        {"If_Modified_Since": "Thu, 01 Jan 2015 00:00:00 GMT"},
        {"If_Match": etag},
        {"If_Unmodified_Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
    ):
        answer = fetch(front.port, link, **condition)
        assert (answer.status, answer.body == LARGE) == (200, True), condition
    for condition in ({"If_Match": own}, {"If_Unmodified_Since": "Thu, 01 Jan 2015 00:00:00 GMT"}):
        assert fetch(front.port, link, **condition).status == 412, condition
    head = fetch(front.port, link, "HEAD")
    assert (head.status, head.header("Content-Length")) == (200, str(len(LARGE)))


def test_the_front_gives_nothing_to_who_has_no_link(front: Any) -> None:
    """Neither at the place that Django names to it, nor at the link's without its signature."""
    link = _save("a.txt", b"bytes")
    assert fetch(front.port, link).body == b"bytes"
    path = link.partition("?")[0]
    assert fetch(front.port, path).status == 403
    assert fetch(front.port, link.replace("a.txt", "b.txt")).status == 403
    assert fetch(front.port, link.replace("private/", "others/")).status == 403
    assert fetch(front.port, link.replace("a.txt", "x/../b.txt")).status == 403
    assert fetch(front.port, "replicator-private/a.txt").status == 404
    assert fetch(front.port, f"replicator-private/{link}").status == 404


def test_html_is_saved_not_shown(front: Any) -> None:
    """Content-Disposition passes the front."""
    answer = fetch(front.port, _save("é.html", b"<script>"))
    assert answer.header("Content-Disposition") == "attachment; filename*=utf-8''%C3%A9.html"
    assert answer.body == b"<script>"


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("nginx", {"X_ACCEL_REDIRECT": "/replicator-mogilefs/"}),
        ("perlbal stand-in", {}),
        ("perlbal", {}),
    ],
)
def test_a_front_fetches_private_files_from_mogilefs(
    site: Site, django: Django, settings: Any, tmp_path: Path, kind: str, told: dict[str, Any]
) -> None:
    """As docs/serving.md says, with the words of private files."""
    settings.ROOT_URLCONF = "tests.serving.private_urls"
    if told:
        settings.REPLICATOR = {**settings.REPLICATOR, **told}
    else:
        settings.SERVE_WITH_PERLBAL = True
    storage = _configure(settings, tmp_path / "private")
    link = _save("é.html", LARGE)
    delivery.deliver("mogilefs")
    Path(storage.path("é.html")).unlink()
    with in_front(kind, django) as port:
        answer = fetch(port, link)
        assert (answer.status, answer.body == LARGE) == (200, True)
        assert answer.header("Cache-Control") == "private, no-cache"
        assert answer.header("Referrer-Policy") == "no-referrer"
        assert answer.header("Content-Disposition").startswith("attachment; ")
        assert django.sent == 0
        assert fetch(port, link.partition("?")[0]).status == 403


# nginx alone.


@pytest.fixture
def host(nginx: MediaHost) -> Iterator[LinkNginx]:
    """What browsers talk to, over the folder that workers write to."""
    with LinkNginx(nginx.root) as host:
        yield host


def _at_hosts(settings: Any, location: Path, url: str, **options: Any) -> ProtectedStorage:
    settings.REPLICATOR = {
        "TARGETS": {
            "media1": {"BACKEND": "replicator.targets.webdav.WebDAVTarget", "OPTIONS": {"url": url}},
        }
    }
    return _configure(settings, location, sign="secure_link", **{"keys": [f"2026:{OLD}"], **options})


def test_nginx_serves_who_has_a_link(host: LinkNginx, nginx: MediaHost, settings: Any, tmp_path: Path) -> None:
    """Uploaded, delivered by a worker, read by a browser: names with everything that means something to nginx."""
    storage = _at_hosts(settings, tmp_path / "private", nginx.url)
    run = ["a.html", "x/é.SVG", "a.rss", "a.xml", "a.xhtml"]
    names = [*NAMES, *run]
    for name in names:
        assert storage.save(name, ContentFile(name.encode())) == name
    delivery.deliver("media1")
    for name in names:
        answer = fetch(host.port, storage.url(name)[1:])
        assert (answer.status, answer.body) == (200, name.encode()), name
        assert answer.header("Content-Disposition") == ("attachment" if name in run else "")
        assert answer.header("Cache-Control") == "private, no-cache"
        assert answer.header("Referrer-Policy") == "no-referrer"
        assert answer.header("X-Content-Type-Options") == "nosniff"
        assert fetch(host.port, storage.url(name)[1:].partition("?")[0]).status == 403
    assert fetch(host.port, storage.url("a.png")[1:], Range="bytes=1-2").body == b".p"
    assert fetch(host.port, storage.url("a.png")[1:], "HEAD").status == 200


def _without(link: str, field: str) -> str:
    path, _, query = link.partition("?")
    return f"{path}?{'&'.join(part for part in query.split('&') if not part.startswith(field))}"


def test_nginx_refuses_everything_else(host: LinkNginx, nginx: MediaHost, settings: Any, tmp_path: Path) -> None:
    """403, whether there is such a file or not; and no method that changes anything."""
    storage = _at_hosts(settings, tmp_path / "private", nginx.url)
    for name in ("a.txt", "b.txt"):
        storage.save(name, ContentFile(b"bytes"))
    delivery.deliver("media1")
    nginx.write("others/a.txt", b"bytes")
    link = storage.url("a.txt")[1:]
    assert fetch(host.port, link).status == 200
    expires = int(time.time()) - 1
    ended = f"private/a.txt?expires={expires}&key=2026&md5={signing.secure_link('/private/a.txt', expires, OLD)}"
    later = int(time.time()) + 60
    empty = f"private/a.txt?expires={later}&key=x&md5={signing.secure_link('/private/a.txt', later, '')}"
    for changed in (
        link.partition("?")[0],
        _without(link, "md5"),
        _without(link, "expires"),
        link.replace("expires=1", "expires=2"),
        link.replace("a.txt", "b.txt"),
        link.replace("a.txt", "c.txt"),
        link.replace("a.txt", "x/../b.txt"),
        link.replace("a.txt", "").replace("?", "?"),
        # Of the last character two bits count.
        link[:-1] + ("A" if link[-1] != "A" else "Q"),
        ended,
        empty,
    ):
        assert fetch(host.port, changed).status == 403, changed
    # What is not below the storage's path is no business of this server: it has to have its own say.
    for method in ("PUT", "DELETE", "POST"):
        assert fetch(host.port, link, method).status in (403, 405)
    assert nginx.files()["private/a.txt"] == b"bytes"


def test_one_file_written_in_other_percent_codes_is_one_file(
    host: LinkNginx, nginx: MediaHost, settings: Any, tmp_path: Path
) -> None:
    """nginx compares what it has decoded: so the page says."""
    storage = _at_hosts(settings, tmp_path / "private", nginx.url)
    storage.save("a.txt", ContentFile(b"bytes"))
    delivery.deliver("media1")
    link = storage.url("a.txt")[1:]
    for other in (link.replace("a.txt", "%61.txt"), link.replace("a.txt", "x/../a.txt"), link.replace("/a", "//a")):
        assert fetch(host.port, other).body == b"bytes"


def test_an_origin_gives_what_a_host_does_not_have_yet(nginx: MediaHost, settings: Any, tmp_path: Path) -> None:
    """To who has a link, and nobody else: both verify it."""
    storage = _at_hosts(settings, tmp_path / "private", nginx.url)
    names = [*NAMES, "a.html"]
    for name in names:
        storage.save(name, ContentFile(b"the origin's"))
    with LinkNginx(tmp_path / "private", is_origin=True) as origin, LinkNginx(nginx.root, origin=origin.port) as host:
        for name in names:
            link = storage.url(name)[1:]
            answer = fetch(host.port, link)
            assert (answer.status, answer.body) == (200, b"the origin's"), name
            assert answer.header("Referrer-Policy") == "no-referrer"
            assert bool(answer.header("Content-Disposition")) is name.endswith(".html")
            for port in (host.port, origin.port):
                assert fetch(port, link.partition("?")[0]).status == 403
                assert fetch(port, link.replace("expires=1", "expires=2")).status == 403
        assert fetch(host.port, storage.url("unknown.txt")[1:]).status == 404
        nginx.write("private/a.png", b"the host's")
        assert fetch(host.port, storage.url("a.png")[1:]).body == b"the host's"


def test_nginx_takes_a_new_secret_beside_the_old_one(nginx: MediaHost, settings: Any, tmp_path: Path) -> None:
    """As the page says: nginx first, then the site; links of both are good, and neither is for the other's name."""
    location = tmp_path / "private"
    storage = _at_hosts(settings, location, nginx.url)
    storage.save("a.txt", ContentFile(b"bytes"))
    delivery.deliver("media1")
    old = storage.url("a.txt")[1:]
    new = _at_hosts(settings, location, nginx.url, keys=[f"2027:{NEW}", f"2026:{OLD}"]).url("a.txt")[1:]
    with LinkNginx(nginx.root) as host:
        assert fetch(host.port, old).status == 200
        assert fetch(host.port, new).status == 403
    with LinkNginx(nginx.root, rotating=True) as host:
        assert fetch(host.port, old).body == b"bytes"
        assert fetch(host.port, new).body == b"bytes"
        assert fetch(host.port, old.replace("key=2026", "key=2027")).status == 403
        assert fetch(host.port, new.replace("key=2027", "key=2026")).status == 403
