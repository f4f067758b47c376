"""Media hosts behind one name, as docs/hosts.md configures them: what one does not have yet comes from the origin."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import Storage, storages
from django.db import transaction

from replicator import delivery, wake
from replicator.models import Replica
from replicator.targets.httppool import close_all
from tests.serving.fronts import Answer, fetch
from tests.serving.hosts import KINDS, Host, Origin

#: Names that are easily made into others on their way.
NAMES = [
    "é 1.txt",
    "e\u0301.txt",
    "🎉.txt",
    "a?b=c.txt",
    "a#b.txt",
    "100%.txt",
    "a%20b%3Fc.txt",
    "a+b&c;d=e.txt",
    "'\"<>{}|^`.txt",
    "[1]*.txt",
    "back\\slash.txt",
    "a:b@c,$!~.txt",
    "folder.d/x",
    # A dot alone makes no journal.
    ".replicatory/x",
    ".part",
    "x.part",
    "x~",
]
WHOSE = "00112233445566778899aabbccddeeff"
#: What a storage has in its folder, and no browser may see.
JOURNAL = [
    f".replicator/{WHOSE}",
    f".replicator-{WHOSE}.new",
    f"a/.replicator-{WHOSE}.old",
    f"a/b/.replicator-{WHOSE}.put",
]
#: What a host may have in its folder while a file arrives, or beside files.
ARRIVING: dict[str, list[str]] = {
    "nginx": [f"a/.{WHOSE}.part"],
    "lighttpd": [f"a/.{WHOSE}.part", "a/x.txt.4711.7ffe12ab~"],
    "apache": [f"a/.{WHOSE}.part", "a/.davfs.tmpAbC123", ".DAV/x.pag", "a/.DAV/.state_for_dir.pag"],
    "caddy": [f"a/.{WHOSE}.part"],
}
#: Paths that are not the media path, or only look like it.
ELSEWHERE = [
    "static/a.css",
    "mediax/a.txt",
    "a.txt",
    "media",
    "media/../a.txt",
    "media/%2e%2e/a.txt",
    "media/..%2fa.txt",
    "replicator-origin/media/b.txt",
    "replicator-origin/a.txt",
]
TEXT = b"0123456789" * 1000
#: Header fields, and what comes of them.
ASKED: list[tuple[dict[str, str], int, bytes]] = [
    ({"Range": "bytes=2-4"}, 206, b"234"),
    ({"Range": "bytes=-3"}, 206, b"789"),
    ({"Range": "bytes=9998-"}, 206, b"89"),
    ({"Range": "bytes=0-1", "If_Range": '"other"'}, 200, TEXT),
    ({"If_None_Match": '"other"'}, 200, TEXT),
    ({"If_Modified_Since": "Mon, 01 Jan 2001 00:00:00 GMT"}, 200, TEXT),
]


@pytest.fixture(scope="module")
def _origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture(scope="module", params=KINDS)
def _host(request: pytest.FixtureRequest, _origin: Origin) -> Iterator[Host]:
    with KINDS[request.param](_origin.port) as host:
        yield host


@pytest.fixture
def origin(_origin: Origin) -> Origin:
    """Running, with nothing in it, and not asked yet."""
    _origin.start()
    _empty(_origin.media)
    _origin.asked()
    return _origin


@pytest.fixture
def host(_host: Host, origin: Origin) -> Host:
    """Each kind, with nothing in it."""
    _empty(_host.root)
    return _host


@pytest.fixture
def kind(host: Host) -> str:
    return next(name for name, kind in KINDS.items() if type(host) is kind)


@pytest.fixture
def storage(
    host: Host, origin: Origin, settings: Any, monkeypatch: pytest.MonkeyPatch, transactional_db: None
) -> Iterator[Storage]:
    """A site: the origin serves its files, the host is a target."""
    settings.MEDIA_ROOT = str(origin.media)
    settings.MEDIA_URL = "/media/"
    settings.REPLICATOR = {
        "TARGETS": {
            "media1": {
                "BACKEND": "replicator.targets.webdav.WebDAVTarget",
                "OPTIONS": {"url": f"http://127.0.0.1:{host.writing_port}"},
            }
        }
    }
    monkeypatch.setattr(wake, "announce", lambda targets: None)
    yield storages["default"]
    close_all()


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _deliver() -> None:
    delivery.deliver("media1")
    assert set(Replica.objects.values_list("status", flat=True)) == {"synced"}


def _get(host: Host, name: str, method: str = "GET", /, **headers: str) -> Answer:
    return fetch(host.port, f"media/{quote(name)}", method, **headers)


# Uploads.


@pytest.mark.parametrize("size", [5, 2 * 1024 * 1024])
def test_a_link_works_before_the_host_has_the_file(host: Host, origin: Origin, storage: Storage, size: int) -> None:
    """From the moment that the upload commits; and from then on that it is delivered, it is the host that answers."""
    name = storage.save("2026/é 1.txt", ContentFile(b"x" * size))
    link = storage.url(name).lstrip("/")
    assert fetch(host.port, link).body == b"x" * size
    assert [unquote(line) for line in origin.asked()] == ["GET /media/2026/é 1.txt"]
    _deliver()
    assert fetch(host.port, link).body == b"x" * size
    assert origin.asked() == []


def test_a_deleted_file_does_not_come_back(host: Host, origin: Origin, storage: Storage) -> None:
    """Promise 2: the host has it until it is told; the origin lost it when the delete committed."""
    name = storage.save("a.txt", ContentFile(b"first"))
    _deliver()
    storage.delete(name)
    assert fetch(origin.port, "media/a.txt").status == 404
    assert _get(host, name).body == b"first"
    _deliver()
    assert _get(host, name).status == 404
    assert host.holds() == []


def test_an_overwritten_file_is_the_old_one_until_it_is_delivered(host: Host, storage: Storage) -> None:
    """The old version or the new one, whole."""
    storage.save("a.txt", ContentFile(b"first"))
    _deliver()
    with transaction.atomic():
        storage.delete("a.txt")
        assert storage.save("a.txt", ContentFile(b"second")) == "a.txt"
    assert _get(host, "a.txt").body == b"first"
    _deliver()
    assert _get(host, "a.txt").body == b"second"


def test_workers_learn_what_the_host_has_itself(host: Host, origin: Origin) -> None:
    """Promise 1: an answer of the origin's would pass for a delivery."""
    origin.write("a.txt", TEXT)
    for method in ("HEAD", "GET"):
        assert fetch(host.writing_port, "media/a.txt", method).status == 404
    assert origin.asked() == []


def test_only_the_network_of_the_site_writes_or_asks_the_origin(host: Host, origin: Origin) -> None:
    """What has no password has an address that not everyone reaches."""
    origin.write("a.txt", TEXT)
    host.write("a.txt", TEXT)
    for port, method in [(host.writing_port, "GET"), (host.writing_port, "DELETE"), (origin.port, "GET")]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10, source_address=("127.0.0.9", 0))
        with contextlib.closing(connection):
            connection.request(method, "/media/a.txt")
            assert connection.getresponse().status == 403
    assert host.holds() == ["media/a.txt"]


# Requests are the same on both ways.


def test_every_name_is_the_same_name(host: Host, origin: Origin) -> None:
    """Percent-encoded once, whoever answers."""
    for name in NAMES:
        origin.write(name, f"origin: {name}".encode())
    for name in NAMES:
        assert _get(host, name).body == f"origin: {name}".encode()
    assert len(origin.asked()) == len(NAMES)
    for name in NAMES:
        host.write(name, f"host: {name}".encode())
    for name in NAMES:
        assert _get(host, name).body == f"host: {name}".encode()
    assert origin.asked() == []


@pytest.mark.parametrize("holder", ["host", "origin"])
def test_parts_and_conditions_are_answered(host: Host, origin: Origin, holder: str) -> None:
    """A video can be wound, a download go on, and what a browser has is not sent again."""
    (host if holder == "host" else origin).write("a.bin", TEXT)
    for headers, status, body in ASKED:
        answer = _get(host, "a.bin", **headers)
        assert (answer.status, answer.body) == (status, body), headers
    head = _get(host, "a.bin", "HEAD")
    assert (head.status, head.header("Content-Length"), head.body) == (200, "10000", b"")
    assert _get(host, "a.bin", If_None_Match=head.header("ETag")).status == 304
    assert _get(host, "a.bin", If_Modified_Since=head.header("Last-Modified")).status == 304
    assert _get(host, "a.bin", Range="bytes=10000-").status == 416
    assert (len(origin.asked()) > 0) is (holder == "origin")


def test_a_query_changes_nothing(host: Host, origin: Origin) -> None:
    """As in links that name a version."""
    origin.write("a?b.txt", b"origin")
    assert fetch(host.port, "media/a%3Fb.txt?v=1&w=%20").body == b"origin"
    host.write("a?b.txt", b"host")
    assert fetch(host.port, "media/a%3Fb.txt?v=1&w=%20").body == b"host"


@pytest.mark.parametrize("holder", ["host", "origin"])
def test_browsers_do_not_guess_types(host: Host, origin: Origin, holder: str) -> None:
    """A text that someone uploaded is no page."""
    (host if holder == "host" else origin).write("a.txt", b"<script>")
    answer = _get(host, "a.txt")
    assert answer.header("X-Content-Type-Options") == "nosniff"
    assert answer.header("Content-Type").startswith("text/plain")


# What is stored, and what is not.


def test_nothing_is_stored_on_the_way(host: Host, origin: Origin) -> None:
    """Promise 2: a copy that the ledger does not know would outlive its file."""
    origin.write("a.txt", b"first")
    answer = _get(host, "a.txt")
    assert answer.header("Cache-Control") == "no-cache"
    assert origin.asked() == ["GET /media/a.txt"]
    assert host.holds() == []
    origin.write("a.txt", b"second")
    assert _get(host, "a.txt").body == b"second"
    (origin.media / "a.txt").unlink()
    assert _get(host, "a.txt").status == 404


def test_that_nobody_has_a_file_is_not_kept(host: Host, origin: Origin) -> None:
    """A moment later there is one."""
    answer = _get(host, "a.txt")
    assert (answer.status, answer.header("Cache-Control")) == (404, "no-cache")
    origin.write("a.txt", b"first")
    assert _get(host, "a.txt").body == b"first"


# What does not get through.


def test_only_reading_gets_through(host: Host, origin: Origin) -> None:
    """Promise 6: neither at the host nor at the origin."""
    origin.write("origin.txt", TEXT)
    host.write("host.txt", TEXT)
    for method in ["POST", "PUT", "DELETE", "PATCH", "MKCOL", "MOVE", "PROPFIND", "OPTIONS", "TRACE"]:
        for name in ["origin.txt", "host.txt", "new.txt"]:
            assert _get(host, name, method).status in (403, 405), method
    assert origin.asked() == []
    assert host.holds() == ["media/host.txt"]
    for method in ["POST", "PUT", "DELETE"]:
        assert fetch(origin.port, "media/origin.txt", method).status in (403, 405)
    assert (origin.media / "origin.txt").exists()


def test_journals_and_what_is_arriving_are_not_served(host: Host, origin: Origin, kind: str) -> None:
    """Promise 5: only files, and only whole ones."""
    for name in [*JOURNAL, *ARRIVING[kind]]:
        paths = [quote(name), quote(name).replace(".", "%2E", 1), quote(name).replace("/", "//")]
        origin.write(name, b"private")
        for path in paths:
            assert fetch(host.port, f"media/{path}").status in (403, 404), path
            if name in JOURNAL:
                assert fetch(origin.port, f"media/{path}").status == 404, path
        origin.asked()
        host.write(name, b"private")
        for path in paths:
            assert fetch(host.port, f"media/{path}").status in (403, 404), path
        assert origin.asked() == []


def test_folders_are_not_shown(host: Host, origin: Origin) -> None:
    """Neither as a list nor as a page that someone uploaded."""
    host.write("../static/folder/index.html", b"<p>page")
    for holder in (origin, host):
        holder.write("folder/index.html", b"<p>page")
        for path in ["", "media/", "media/folder/", "media//", "media/folder//", "static/", "static/folder/"]:
            assert fetch(host.port, path).status in (403, 404), path
        assert origin.asked() == []
        assert fetch(host.port, "media").status in (403, 404)
        assert fetch(host.port, "media/folder").status in (403, 404)
        assert fetch(origin.port, "media/folder").status == 404
        assert fetch(origin.port, "media/folder/").status == 404
        assert fetch(host.port, "media/folder/index.html").body == b"<p>page"
        origin.asked()


@pytest.mark.parametrize("path", ELSEWHERE)
def test_only_the_media_path_falls_back(host: Host, origin: Origin, path: str) -> None:
    """The origin is asked for uploads, and for nothing else that it may have."""
    origin.write("../a.txt", b"private")
    origin.write("b.txt", b"public")
    assert fetch(host.port, path).status in (400, 403, 404)
    assert origin.asked() == []


def test_static_files_are_the_hosts_own(host: Host, origin: Origin) -> None:
    """And nothing else beside the media path."""
    host.write("../static/a.css", b"css")
    host.write("../private/a.txt", b"private")
    assert fetch(host.port, "static/a.css").body == b"css"
    assert fetch(host.port, "static/b.css").status == 404
    assert fetch(host.port, "private/a.txt").status in (403, 404)
    assert origin.asked() == []


def test_an_uploaded_configuration_is_a_file(host: Host) -> None:
    """Apache's .htaccess is none, and a program is not run."""
    host.write(".htaccess", b"Deny from all\nErrorDocument 404 pwned\nSyntax error")
    host.write("a.php", b"<?php")
    assert _get(host, "a.php").body == b"<?php"
    assert b"pwned" not in _get(host, "b.txt").body
    assert fetch(host.writing_port, "media/b.txt").status == 404


# Troubles.


def test_who_is_asked_by_a_host_does_not_ask_on(host: Host, origin: Origin) -> None:
    """And nobody keeps that answer: it says nothing of the file to others."""
    origin.write("origin.txt", b"text")
    answer = _get(host, "origin.txt", X_Replicator_Fallback="1")
    assert (answer.status, answer.header("Cache-Control")) == (404, "no-store")
    assert origin.asked() == []
    host.write("host.txt", b"text")
    assert _get(host, "host.txt", X_Replicator_Fallback="1").body == b"text"


def test_a_host_that_is_its_own_origin_asks_once(kind: str) -> None:
    """A mistake in its configuration is a 404, not an avalanche."""
    looping = KINDS[kind]()
    looping.origin = looping.port
    with looping:
        began = time.monotonic()
        assert _get(looping, "a.txt").status == 404
        assert time.monotonic() - began < 10
        looping.write("a.txt", b"text")
        assert _get(looping, "a.txt").body == b"text"


def test_an_origin_that_is_down_costs_only_what_the_host_lacks(host: Host, origin: Origin) -> None:
    """Promise 7: at once; and when it is back, so are its files."""
    host.write("host.txt", b"host")
    origin.write("origin.txt", b"origin")
    origin.stop()
    began = time.monotonic()
    for _ in range(3):
        assert _get(host, "origin.txt").status in (502, 503)
        assert _get(host, "host.txt").body == b"host"
    assert time.monotonic() - began < 4
    origin.start()
    deadline = time.monotonic() + 60
    while (answer := _get(host, "origin.txt")).status != 200:
        assert time.monotonic() < deadline, answer
        time.sleep(0.05)
    assert answer.body == b"origin"


def test_an_origin_that_hangs_is_given_up(kind: str, origin: Origin) -> None:
    """After the time that the configuration names, which is shorter here."""
    origin.write("a.txt", b"text")
    with KINDS[kind](origin.port, patience=1) as host:
        host.write("b.txt", b"own")
        origin.pause()
        try:
            began = time.monotonic()
            assert _get(host, "a.txt").status in (502, 504)
            assert 0.5 < time.monotonic() - began < 5
            assert _get(host, "b.txt").body == b"own"
        finally:
            origin.resume()


def test_an_origin_that_dies_is_not_taken_for_the_end_of_the_file(host: Host, origin: Origin) -> None:
    """Promise 5. The file comes as the browser takes it: nothing of this size waits in the host."""
    size = 400 * 1024 * 1024
    origin.write("large", b"")
    with (origin.media / "large").open("r+b") as file:
        file.truncate(size)
    connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/media/large")
        answer = connection.getresponse()
        assert (answer.status, answer.length) == (200, size)
        answer.read(1024)
        # Time enough to collect much of it.
        time.sleep(0.5)
        assert host.waiting() < 16 * 1024 * 1024
        origin.kill()
        with contextlib.suppress(http.client.IncompleteRead, ConnectionError):
            while answer.read(1024 * 1024):
                pass
        # What a browser knows to be missing.
        assert answer.length
