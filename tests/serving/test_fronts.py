"""Files over the network: from Django itself, and through what stands in front of it, as docs/serving.md says."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.files import File

from replicator import delivery
from replicator.models import Replica
from replicator.targets.base import TargetFile
from replicator.targets.httppool import close_all
from tests.serving.conftest import LARGE, Site
from tests.serving.fronts import Django, fetch, in_front

MIB = 1024 * 1024

#: What browsers talk to → the settings that make it fetch files itself.
FRONTS: dict[str, dict[str, Any]] = {
    "cheroot": {},
    "wsgiref": {},
    "nginx, not told": {},
    "nginx": {"X_ACCEL_REDIRECT": "/replicator-mogilefs/"},
    "perlbal stand-in": {"SERVE_WITH_PERLBAL": True},
    "perlbal": {"SERVE_WITH_PERLBAL": True},
}
FETCHES = [name for name, told in FRONTS.items() if told]
#: Header fields, and what comes of them.
ASKED: list[tuple[dict[str, str], int, slice]] = [
    ({}, 200, slice(None)),
    ({"Range": "bytes=0-99"}, 206, slice(0, 100)),
    ({"Range": "bytes=1000000-2000000"}, 206, slice(1_000_000, 2_000_001)),
    ({"Range": "bytes=3000000-"}, 206, slice(3_000_000, None)),
    ({"Range": "bytes=-5"}, 206, slice(-5, None)),
    ({"Range": "bytes=0-1,4-5"}, 200, slice(None)),
    ({"Range": "bytes=0-99", "If_Range": '"other"'}, 200, slice(None)),
]


@pytest.fixture
def django(site: Site, settings: Any) -> Iterator[Django]:
    settings.ALLOWED_HOSTS = ["*"]
    django = Django()
    yield django
    django.stop()


def _tell(settings: Any, told: dict[str, Any]) -> None:
    for name, value in told.items():
        if name == "SERVE_WITH_PERLBAL":
            settings.SERVE_WITH_PERLBAL = value
        else:
            settings.REPLICATOR = {**settings.REPLICATOR, name: value}


@pytest.fixture
def port(request: pytest.FixtureRequest, django: Django, settings: Any) -> Iterator[int]:
    """Where browsers knock: of the front that the test names."""
    _tell(settings, FRONTS[request.param])
    with in_front(request.param.partition(",")[0], django) as port:
        yield port


every_front = pytest.mark.parametrize("port", FRONTS, indirect=True)
fetching_front = pytest.mark.parametrize("port", FETCHES, indirect=True)


@every_front
def test_the_right_bytes_arrive_with_the_right_words(site: Site, port: int) -> None:
    """Whoever sends them: the part, the type, the version. Nodes know none of these."""
    site.store("é 1.png", LARGE)
    head = site.get("media/%C3%A9%201.png", "HEAD")
    for headers, status, part in ASKED:
        answer = fetch(port, "media/%C3%A9%201.png", **headers)
        assert (answer.status, answer.body == LARGE[part]) == (status, True), headers
        for name in ("Content-Type", "ETag", "Last-Modified", "Accept-Ranges", "X-Content-Type-Options"):
            assert answer.header(name) == head.headers[name], name
        start, stop, _ = part.indices(len(LARGE))
        assert answer.header("Content-Range") == (f"bytes {start}-{stop - 1}/{len(LARGE)}" if status == 206 else "")
        assert answer.header("Content-Length") == str(stop - start)
        assert not [name for name in answer.headers if name.lower().startswith(("x-reproxy", "x-accel"))]


@fetching_front
def test_django_sends_nothing_of_what_the_front_fetches(site: Site, django: Django, port: int) -> None:
    """That is what it is for. What nodes would read otherwise than it is meant, Django sends."""
    site.store("a.bin", LARGE)
    for headers, _, part in ASKED[:4]:
        assert fetch(port, "media/a.bin", **headers).body == LARGE[part]
    assert django.sent == 0
    headers, _, part = ASKED[4]
    assert fetch(port, "media/a.bin", **headers).body == LARGE[part]
    assert django.sent == 5


@every_front
def test_what_needs_no_bytes_is_answered_by_django(site: Site, port: int) -> None:
    """HEAD, conditions, methods, parts that are not there, files that are not there, files that may not be read."""
    site.store("a.txt", b"0123456789")
    head = fetch(port, "media/a.txt", "HEAD")
    assert (head.status, head.header("Content-Length"), head.body) == (200, "10", b"")
    etag, date = head.header("ETag"), head.header("Last-Modified")
    for condition in ({"If_None_Match": etag}, {"If_Modified_Since": date}):
        assert fetch(port, "media/a.txt", **condition).status == 304
    other = fetch(port, "media/a.txt", If_None_Match='"other"', If_Modified_Since=date)
    assert (other.status, other.body) == (200, b"0123456789")
    behind = fetch(port, "media/a.txt", Range="bytes=10-")
    assert (behind.status, behind.header("Content-Range")) == (416, "bytes */10")
    assert fetch(port, "media/unknown").status == 404
    assert fetch(port, "guarded/a.txt").status == 403
    assert fetch(port, "guarded/a.txt?word=default/a.txt").body == b"0123456789"
    assert fetch(port, "saved/a.txt").header("Content-Disposition") == 'attachment; filename="a.txt"'
    assert fetch(port, "media/a.txt", "POST").status == 405


@every_front
def test_the_smallest_files(site: Site, port: int) -> None:
    """A length of 0 is a length."""
    for name, data in (("empty.txt", b""), ("one.txt", b"1")):
        site.store(name, data)
        answer = fetch(port, f"media/{name}")
        assert (answer.status, answer.body, answer.header("Content-Type")) == (200, data, "text/plain")


@every_front
def test_a_fresh_upload_and_a_lost_mogilefs(site: Site, port: int) -> None:
    """The front is not sent to where the file is not."""
    site.save("fresh.bin", LARGE)
    assert fetch(port, "media/fresh.bin").body == LARGE
    delivery.deliver("mogilefs")
    for number in (1, 2, 3):
        site.mogilefs.stop_node(number, noticed=False)
    site.mogilefs.stop_tracker()
    assert fetch(port, "media/fresh.bin").body == LARGE


@every_front
def test_a_dead_path_and_a_cut_copy_are_passed_over(site: Site, port: int) -> None:
    """Perlbal tries the paths in order; nginx is told one that answers."""
    site.mogilefs.resume_background()
    site.mogilefs.put_behind_back("a.bin", LARGE, "avatar")
    site.mogilefs.wait_until_quiet()
    site.mogilefs.dead_path(times=None)
    site.mogilefs.copies("a.bin")[0].write_bytes(b"")
    for _ in range(4):  # trackers name the copies in any order
        answer = fetch(port, "media/a.bin")
        assert (answer.status, answer.body == LARGE) == (200, True)


@fetching_front
def test_without_a_copy_the_front_says_so(site: Site, port: int) -> None:
    """502 of Django where it looks first, 503 of Perlbal, which does."""
    site.store("a.txt", b"bytes")
    for number in (1, 2, 3):
        site.mogilefs.stop_node(number, noticed=False)
    assert fetch(port, "media/a.txt").status in (502, 503)


@pytest.mark.parametrize("port", ["nginx"], indirect=True)
@pytest.mark.parametrize("status", [404, 500])
def test_what_a_node_says_to_nginx_after_all_is_not_said_of_the_file(site: Site, port: int, status: int) -> None:
    """It answered HEAD, and then it has lost the file or fails: 502, to be asked for again, and no 404 to be kept."""
    site.store("a.txt", b"bytes")
    for number in (1, 2, 3):
        site.mogilefs.node_answers(number, status, "GET")
    answer = fetch(port, "media/a.txt")
    assert (answer.status, answer.header("Retry-After")) == (502, "10")


@every_front
def test_a_node_that_dies_in_mid_stream_makes_no_complete_answer(site: Site, port: int) -> None:
    """The connection ends before the length that was promised."""
    site.store("a.bin", LARGE)
    for number in (1, 2, 3):
        site.mogilefs.node_cuts(number, 1_000_000)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        fetch(port, "media/a.bin")


@pytest.mark.parametrize("port", ["nginx"], indirect=True)
def test_nobody_else_is_sent_to_a_node(site: Site, port: int) -> None:
    """The location is internal; only Django's word leads there."""
    site.store("a.txt", b"bytes")
    (url, *_) = site.target.paths(TargetFile("default", "a.txt", "/media/"))
    parts = urlsplit(url)
    assert fetch(port, f"replicator-mogilefs/{parts.netloc}{parts.path}").status in (404, 502)


@pytest.mark.parametrize("port", ["nginx"], indirect=True)
def test_nodes_are_told_nothing_of_the_browser(site: Site, django: Django, settings: Any, port: int) -> None:
    """No cookie, no authorization goes further than Django."""
    with socket.create_server(("127.0.0.1", 0)) as node:
        node.settimeout(10)
        site.store("a.txt", b"bytes")
        site.mogilefs.dead_path(f"http://127.0.0.1:{node.getsockname()[1]}/dev1/0/000/000/0000000001.fid", times=None)
        browser = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        browser.request("GET", "/media/a.txt", headers={"Cookie": "sessionid=s", "Authorization": "a", "X-Own": "o"})
        heads = []
        for _ in range(2):  # Django looks, nginx fetches
            connection, _address = node.accept()
            with connection:
                heads.append(connection.recv(65536))
                body = b"" if heads[-1].startswith(b"HEAD") else b"bytes"
                connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n" + body)
        assert browser.getresponse().read() == b"bytes"
        browser.close()
    assert heads[1].startswith(b"GET /dev1/")
    for word in (b"sessionid", b"Authorization", b"X-Own"):
        assert word not in heads[1]


@pytest.mark.parametrize("port", ["perlbal"], indirect=True)
def test_perlbal_remembers_what_all_may_read_and_nothing_else(
    site: Site, django: Django, settings: Any, port: int
) -> None:
    """X_REPROXY_CACHE_FOR: with all that was said of the file; a permission is asked each time."""
    _tell(settings, {"X_REPROXY_CACHE_FOR": 60})
    site.store("a.png", LARGE)
    first = fetch(port, "media/a.png")
    assert fetch(port, "guarded/a.png?word=default/a.png").body == LARGE
    settings.ROOT_URLCONF = "tests.urls"  # Django knows none of these URLs any more
    again = fetch(port, "media/a.png")
    assert again.body == LARGE
    for name in ("Content-Type", "ETag", "Last-Modified", "Accept-Ranges", "X-Content-Type-Options"):
        assert again.header(name) == first.header(name), name
    assert fetch(port, "guarded/a.png?word=default/a.png").status == 404


# What a client that goes away, and a large file, leave behind.


def _store_large(site: Site, folder: Path, size: int) -> Path:
    """The local file of "a.bin", which is in MogileFS too."""
    source = folder / "source"
    with source.open("wb") as file:
        file.truncate(size)
    with source.open("rb") as file:
        site.storage.save("a.bin", File(file))
    source.unlink()
    delivery.deliver("mogilefs")
    return Path(site.storage.path("a.bin"))


def _memory(field: str) -> int:
    """Bytes: VmRSS, what this process holds, or VmHWM, the most it held since ``_forget_the_most``."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def _forget_the_most() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def test_a_client_that_goes_away_leaves_no_connection(site: Site, django: Django, tmp_path: Path) -> None:
    """The node's is closed with the response: the rest of the file is on its way there."""
    _store_large(site, tmp_path, 64 * MIB).unlink()
    close_all()
    with socket.create_connection(("127.0.0.1", django.port), timeout=10) as client:
        client.sendall(b"GET /media/a.bin HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
        assert site.connections_to_nodes() == 1
    deadline = time.monotonic() + 60
    while site.connections_to_nodes():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_whole_answer_leaves_its_connection_to_the_next(site: Site, django: Django) -> None:
    """Kept alive: one connection, however many files."""
    site.store("a.bin", LARGE)
    close_all()
    ports = set()
    for _ in range(3):
        assert fetch(django.port, "media/a.bin").body == LARGE
        ports.add(site.connections_to_nodes())
    assert ports == {1}


@pytest.mark.parametrize("here", [True, False], ids=["here", "mogilefs"])
def test_memory_stays_flat(site: Site, django: Django, tmp_path: Path, here: bool) -> None:
    """Promise 8: 256 MiB pass through Django."""
    path = _store_large(site, tmp_path, 256 * MIB)
    if here:
        Replica.objects.update(version=None, status="pending")
    else:
        path.unlink()
    connection = http.client.HTTPConnection("127.0.0.1", django.port, timeout=30)
    with contextlib.closing(connection):
        _forget_the_most()
        before = _memory("VmRSS")
        connection.request("GET", "/media/a.bin")
        answer = connection.getresponse()
        received = 0
        while piece := answer.read(MIB):
            received += len(piece)
    assert received == django.sent == 256 * MIB
    assert _memory("VmHWM") - before < 40 * MIB
