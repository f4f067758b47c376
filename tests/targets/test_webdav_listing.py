"""What real WebDAV servers hold, listed."""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from replicator.errors import Refused, TargetError, Unavailable
from replicator.targets import folderstack
from replicator.targets.base import Entry, TargetFile
from replicator.targets.webdav import WebDAVTarget
from replicator.testing import BytesContent
from tests.servers import Apache, Embedded, Lighttpd, MediaHost, Nginx

MODULES = "/usr/lib/apache2/modules"
DIGEST = ("auth_digest", "authn_core", "authn_file", "authz_user")


def target(url: str, **options: Any) -> WebDAVTarget:
    return WebDAVTarget("media1", **{"url": url, "connect_timeout": 10.0, "read_timeout": 20.0, **options})


def names(at: WebDAVTarget, prefix: str = "/media/") -> list[str]:
    return sorted(entry.name for entry in at.entries(prefix))


def test_sizes_and_times_are_those_of_the_files(media_host: MediaHost) -> None:
    """Also of an empty one; the time is aware."""
    media_host.write("media/a.txt", b"four")
    media_host.write("media/deep/er/empty", b"")
    os.utime(media_host.root / "media/a.txt", (1_700_000_000, 1_700_000_000))
    at = target(media_host.url)
    assert at.can_list()
    found = {entry.name: entry for entry in at.entries("/media/")}
    assert found["a.txt"] == Entry("a.txt", 4, datetime.fromtimestamp(1_700_000_000, tz=UTC))
    assert found["deep/er/empty"].size == 0
    assert len(found) == 2
    assert names(at, "/") == ["media/a.txt", "media/deep/er/empty"]
    assert names(at, "/media/deep/") == ["er/empty"]
    assert names(at, "/nothing here/") == []


def test_names_that_are_no_text_are_told_byte_by_byte(media_host: MediaHost) -> None:
    """As surrogates, as names of the file system have them."""
    media_host.write("media/a.txt", b"x")
    (media_host.root / "media/\udce9.txt").write_bytes(b"x")
    assert names(target(media_host.url)) == ["a.txt", "\udce9.txt"]
    (media_host.root / "media/d\udcff").mkdir()
    (media_host.root / "media/d\udcff/b.txt").write_bytes(b"x")
    if isinstance(media_host, Lighttpd):  # it finds no such folder again
        with pytest.raises(Refused, match="400 to PROPFIND /media/d%FF/"):
            names(target(media_host.url))
    else:
        assert names(target(media_host.url)) == ["a.txt", "d\udcff/b.txt", "\udce9.txt"]


def test_both_forms_of_an_accent_are_names_of_their_own(media_host: MediaHost) -> None:
    """Composed and decomposed."""
    for name in ("é.txt", "e\u0301.txt"):
        media_host.write(f"media/é/{name}", b"x")
        media_host.write(f"media/e\u0301/{name}", b"x")
    assert names(target(media_host.url)) == sorted(f"{a}/{b}.txt" for a in ("é", "e\u0301") for b in ("é", "e\u0301"))


def test_uploads_under_way_are_told_too(media_host: MediaHost) -> None:
    """What is left of them is unknown to the ledger. nginx hides what begins with a dot."""
    media_host.write("media/.0123.part", b"x")
    expected = [] if isinstance(media_host, Nginx) else [".0123.part"]
    assert names(target(media_host.url)) == expected


def test_many_files_in_one_folder_are_all_told(media_host: MediaHost) -> None:
    """More than any server has in one page of anything."""
    media_host.write("media/x.jpg", b"x")
    for number in range(2500):
        (media_host.root / f"media/{number:05}.jpg").write_bytes(b"x")
    assert names(target(media_host.url)) == [*(f"{number:05}.jpg" for number in range(2500)), "x.jpg"]


def test_folders_that_do_not_fit_into_memory_are_all_gone_into(
    media_host: MediaHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site may have a folder for each file."""
    monkeypatch.setattr(folderstack, "KEPT", 7)
    wanted = {f"{number}/{inner}/x.jpg" for number in range(40) for inner in range(3)}
    for name in wanted:
        media_host.write(f"media/{name}", b"x")
    assert set(names(target(media_host.url))) == wanted


def test_files_that_come_and_go_meanwhile_do_not_end_it(media_host: MediaHost) -> None:
    """Those that stay are all told of, however much goes on beside them; by nginx, that may be after it has ended."""
    stays = {f"stays/{number}.txt" for number in range(200)}
    for name in (*stays, "goes/x.txt"):
        media_host.write(f"media/{name}", b"x")
    at, until = target(media_host.url, read_timeout=20.0), time.monotonic() + 1.5

    def disturb(number: int) -> None:
        file = TargetFile("s", f"stays/{number}.tmp", prefix="/media/")
        while time.monotonic() < until:
            with suppress(Unavailable):  # lighttpd may end an idle connection just when it is used
                at.put(file, BytesContent(b"x"))
                at.delete(file)

    with ThreadPoolExecutor(2) as pool:
        disturbing = [pool.submit(disturb, number) for number in range(2)]
        while time.monotonic() < until:
            assert stays <= set(names(at))
        for each in disturbing:
            each.result()


def test_a_link_that_leads_back_does_not_go_on_for_ever() -> None:
    """nginx and the embedded host follow links: the listing is given up, not cut and taken for the whole."""
    for kind in (Nginx, Embedded):
        with kind() as host:
            host.write("media/a.txt", b"x")
            for name in ("back", "again"):
                (host.root / "media" / name).symlink_to(".")
            with pytest.raises(Refused, match="link"):
                names(target(host.url))


def test_a_server_without_propfind_says_so() -> None:
    """nginx without its extra module: files are then asked for one by one."""
    with Nginx(dav_ext_methods="") as host:
        host.write("media/a.txt", b"x")
        at = target(host.url)
        assert not at.can_list()
        with pytest.raises(Refused, match=r"405 to PROPFIND /media/: it can't list .*dav_ext_methods"):
            names(at)


def test_who_may_not_list_is_told_that_it_is_not_possible() -> None:
    """The rest may be allowed."""
    with Nginx(location="limit_except GET PUT DELETE MKCOL { deny all; }") as host:
        at = target(host.url)
        assert not at.can_list()
        with pytest.raises(Refused, match="403 to PROPFIND /media/"):
            names(at)


def test_what_a_password_opens_is_listed() -> None:
    """And nothing without it."""
    with Embedded(user="u", password="p") as host:
        host.write("media/a.txt", b"x")
        assert names(target(host.url, username="u", password="p")) == ["a.txt"]
        with pytest.raises(Refused, match="401"):
            target(host.url).can_list()
        with pytest.raises(Refused, match="401"):
            names(target(host.url))


def test_a_digest_that_grew_old_is_renewed() -> None:
    """A challenge lasts minutes, and a listing may take hours."""
    modules = "\n".join(f"LoadModule {each}_module {MODULES}/mod_{each}.so" for each in DIGEST)
    directory = (
        'AuthType Digest\nAuthName "media"\nAuthUserFile @ROOT@/files/.users\nAuthDigestNonceLifetime 1\n'
        "Require valid-user"
    )
    host = Apache(modules=modules, directory=directory)
    host.write(".users", f"u:media:{hashlib.md5(b'u:media:p').hexdigest()}\n".encode())
    for name in ("media/a.txt", "media/b/b.txt"):
        host.write(name, b"x")
    with host:
        listing = target(host.url, auth="digest", username="u", password="p").entries("/media/")
        assert next(listing).name == "a.txt"
        time.sleep(2.1)
        assert [entry.name for entry in listing] == ["b/b.txt"]


def test_a_folder_that_the_server_may_not_read_is_an_error() -> None:
    """Else all that is in it would look missing."""
    with Apache() as host:
        host.write("media/closed/a.txt", b"x")
        (host.root / "media/closed").chmod(0)
        with pytest.raises(TargetError):
            names(target(host.url))


def test_nginx_does_not_take_a_folder_that_it_may_not_read_for_an_empty_one() -> None:
    """Nor one with a link that leads nowhere."""
    with Nginx() as host:
        host.write("media/a.txt", b"x")
        (host.root / "media/nowhere").symlink_to("nothing")
        with pytest.raises(Unavailable, match="500 to PROPFIND /media/"):
            names(target(host.url))
