"""What targets say of the room that they have."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from replicator.errors import Unavailable
from replicator.targets.base import Space
from replicator.targets.django_storage import StorageTarget
from replicator.targets.mogilefs import MogileFSTarget
from replicator.targets.webdav import WebDAVTarget
from replicator.testing import MemoryTarget
from tests.mogilefs.cluster import MogileFS
from tests.servers import Embedded, MediaHost


def test_a_target_that_cannot_tell_tells_nothing() -> None:
    """The kinds of third parties, which know of no such question."""
    assert MemoryTarget("memory").space() is None


def test_a_folder_has_its_file_systems(settings: Any, tmp_path: Path) -> None:
    """Also one that the first file will make."""
    backend = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": tmp_path / "not/yet"},
    }
    settings.STORAGES = {**settings.STORAGES, "disk": backend}
    space = StorageTarget("second", storage="disk").space()
    assert space is not None
    disk = shutil.disk_usage(tmp_path)
    assert space.total == disk.total
    assert abs(space.free - disk.free) < 1 << 30
    assert not (tmp_path / "not").exists()


def test_a_storage_of_another_kind_does_not_tell(settings: Any) -> None:
    """Its API has no such question."""
    settings.STORAGES = {**settings.STORAGES, "other": {"BACKEND": "django.core.files.storage.InMemoryStorage"}}
    assert StorageTarget("second", storage="other").space() is None


def test_the_embedded_media_host_says_what_its_disk_has(embedded: Embedded) -> None:
    """A server that knows RFC 4331."""
    target = WebDAVTarget("media1", url=embedded.url)
    space = target.space()
    target.close()
    assert space is not None
    disk = shutil.disk_usage(embedded.root)
    assert space.total == pytest.approx(disk.used + disk.free, rel=0.01)
    assert abs(space.free - disk.free) < 1 << 30


@pytest.mark.parametrize("kind", ["nginx", "lighttpd", "apache"])
def test_a_server_that_knows_no_quotas_tells_nothing(request: pytest.FixtureRequest, kind: str) -> None:
    """Whatever it answers to a question that it does not know."""
    host: MediaHost = request.getfixturevalue(kind)
    target = WebDAVTarget("media1", url=host.url)
    assert target.space() is None
    target.close()


ANSWERS = {
    # As Nextcloud writes it: another prefix, white space and line breaks.
    '<?xml version="1.0"?>\n<d:multistatus xmlns:d="DAV:"><d:response><d:href>/</d:href><d:propstat><d:prop>\n'
    "<d:quota-available-bytes> 700 </d:quota-available-bytes>\n<d:quota-used-bytes>300</d:quota-used-bytes></d:prop>"
    "<d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response></d:multistatus>": Space(700, 1000),
    # No prefix at all.
    '<multistatus xmlns="DAV:"><response><propstat><prop><quota-used-bytes>1</quota-used-bytes>'
    "<quota-available-bytes>2</quota-available-bytes></prop></propstat></response></multistatus>": Space(2, 3),
    # Unknown (-2, -3: what ownCloud says of no quota).
    '<D:multistatus xmlns:D="DAV:"><D:quota-available-bytes>-3</D:quota-available-bytes>'
    "<D:quota-used-bytes>9</D:quota-used-bytes></D:multistatus>": None,
    # Half of it.
    '<D:multistatus xmlns:D="DAV:"><D:quota-available-bytes>3</D:quota-available-bytes></D:multistatus>': None,
    '<D:multistatus xmlns:D="DAV:"><D:quota-available-bytes/><D:quota-used-bytes/></D:multistatus>': None,
}


@pytest.mark.parametrize(("answer", "space"), ANSWERS.items())
def test_each_servers_way_to_say_it_is_understood(answer: str, space: Space | None) -> None:
    """Prefixes and white space are the server's choice."""
    with _answering(answer) as (url, asked):
        target = WebDAVTarget("media1", url=f"{url}/dav")
        assert target.space() == space
        target.close()
    head, _, body = asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"PROPFIND /dav/ HTTP/1.1\r\n")
    assert b"\r\nDepth: 0" in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"quota-available-bytes" in body


@contextmanager
def _answering(body: str) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives one answer; what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(10)
                while b"</propfind>" not in b"".join(asked):
                    asked.append(connection.recv(65536))
                asked[:] = [b"".join(asked)]
                data = body.encode()
                connection.sendall(b"HTTP/1.1 207 Multi-Status\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data))

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        thread.join(10)


def test_a_host_that_is_away_is_unavailable() -> None:
    """As in any other request."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(Unavailable):
        WebDAVTarget("media1", url=f"http://127.0.0.1:{port}").space()


def test_mogilefs_has_what_its_disks_have() -> None:
    """Of those that are in use: what is on a dead one is room no more."""
    with MogileFS(trackers=1, classes=["avatar:2"], idle=0.5) as mogilefs:
        target = MogileFSTarget("mogilefs", domain=mogilefs.domain, trackers=mogilefs.trackers, base_url="/media/")
        devices = target.domain.devices()
        space = target.space()
    assert devices
    assert space is not None
    assert space.total == sum(int(device["mb_total"]) for device in devices) << 20
    assert 0 < space.free < space.total


def test_disks_of_mogilefs_that_are_not_in_use_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracker goes on to tell of disks that are down or dead, and of new ones it may not know a size."""
    target = MogileFSTarget("mogilefs", domain="d", trackers=["127.0.0.1:1"], base_url="/media/")
    answer = {"devices": "4"}
    for number, (status, free) in enumerate((("alive", "10"), ("dead", "500"), ("down", "500"), ("alive", "")), 1):
        answer |= {f"dev{number}_status": status, f"dev{number}_mb_free": free, f"dev{number}_mb_total": "100"}
    monkeypatch.setattr(target.domain.trackers, "ask", lambda *_, **__: answer)
    assert target.space() == Space(10 << 20, 100 << 20)
    monkeypatch.setattr(target.domain.trackers, "ask", lambda *_, **__: {"devices": "0"})
    assert target.space() is None
