"""WebDAV targets that must say who they are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replicator.errors import Refused, Unavailable
from replicator.targets.base import TargetFile
from replicator.targets.webdav import WebDAVTarget
from replicator.testing import BytesContent
from tests.servers import Apache, Embedded, Lighttpd, MediaHost, Nginx

FILE = TargetFile("default", "folder/file.bin", prefix="/media/")
APACHE_MODULES = "/usr/lib/apache2/modules"


def _works(url: str, host: MediaHost, **options: Any) -> None:
    target = WebDAVTarget("media1", url=url, **options)
    assert target.check() == []
    target.probe()
    for data in (b"small", os.urandom(300_000), b"small again"):
        target.put(FILE, BytesContent(data))
        assert host.files()["media/folder/file.bin"] == data
        with target.open(FILE) as reader:
            assert reader.read() == data
    target.delete(FILE)
    assert target.stat(FILE) is None


def _is_refused(url: str, **options: Any) -> None:
    target = WebDAVTarget("media1", url=url, **options)
    for size in (4, 300_000):
        with pytest.raises(Refused):
            target.put(FILE, BytesContent(bytes(size)))
    with pytest.raises(Refused):
        target.probe()


def test_basic() -> None:
    """Any characters, in UTF-8 (RFC 7617)."""
    with Embedded(user="jörg", password="pass:wörd") as host:
        _works(host.url, host, username="jörg", password="pass:wörd")
        _is_refused(host.url, username="jörg", password="wrong")
        _is_refused(host.url)


def test_bearer() -> None:
    """A token, as any server can compare it."""
    with Nginx(location='if ($http_authorization != "Bearer t0ken") { return 401; }') as host:
        _works(host.url, host, token="t0ken")
        _is_refused(host.url, token="other")


def test_digest_of_apache() -> None:
    """The password itself is never sent (RFC 7616)."""
    names = ("auth_digest", "authn_core", "authn_file", "authz_user")
    modules = "\n".join(f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so" for name in names)
    directory = 'AuthType Digest\nAuthName "media"\nAuthUserFile @ROOT@/files/.users\nRequire valid-user'
    host = Apache(modules=modules, directory=directory)
    digest = hashlib.md5(b"u:media:p").hexdigest()
    host.root.mkdir()
    (host.root / ".users").write_text(f"u:media:{digest}\n")
    with host:
        _works(host.url, host, auth="digest", username="u", password="p")
        _is_refused(host.url, auth="digest", username="u", password="wrong")


def test_digest_of_lighttpd() -> None:
    """Another server's idea of it."""
    server = """
        auth.backend = "plain"
        auth.backend.plain.userfile = "@ROOT@/users"
        auth.require = ("/" => ("method" => "digest", "realm" => "media", "require" => "valid-user"))
    """
    host = Lighttpd(modules=', "mod_auth", "mod_authn_file"', server=server)
    (host.folder / "users").write_text("u:p\n")
    with host:
        _works(host.url, host, auth="digest", username="u", password="p")
        _is_refused(host.url, auth="digest", username="u", password="wrong")


@pytest.fixture
def tls_host(certificates: Path) -> Iterator[MediaHost]:
    server = f"""
        ssl_certificate {certificates}/server.pem;
        ssl_certificate_key {certificates}/server.key;
        ssl_client_certificate {certificates}/ca.pem;
        ssl_verify_client on;
    """
    with Nginx(listen="ssl", server=server) as host:
        host.scheme = "https"
        yield host


def test_tls_trusts_the_bundle_and_shows_a_certificate(tls_host: MediaHost, certificates: Path) -> None:
    """Both sides know each other."""
    _works(
        tls_host.url,
        tls_host,
        ca_bundle=str(certificates / "ca.pem"),
        client_cert=str(certificates / "client.pem"),
        client_key=str(certificates / "client.key"),
    )


def test_tls_without_a_client_certificate_is_refused(tls_host: MediaHost, certificates: Path) -> None:
    """By the server."""
    target = WebDAVTarget("media1", url=tls_host.url, ca_bundle=str(certificates / "ca.pem"))
    with pytest.raises(Refused):
        target.put(FILE, BytesContent(b"data"))


def test_tls_is_always_verified(tls_host: MediaHost, certificates: Path) -> None:
    """An unknown authority, or another name: nothing is sent."""
    target = WebDAVTarget("media1", url=tls_host.url)
    with pytest.raises(Unavailable, match="not trusted") as caught:
        target.put(FILE, BytesContent(b"data"))
    assert not caught.value.doubt
    url = tls_host.url.replace("127.0.0.1", "localhost")
    target = WebDAVTarget("media1", url=url, ca_bundle=str(certificates / "ca.pem"))
    with pytest.raises(Unavailable, match="not trusted"):
        target.put(FILE, BytesContent(b"data"))


def test_tls_survives_a_restart(tls_host: MediaHost, certificates: Path) -> None:
    """A connection that was closed is replaced, for small files and large."""
    target = WebDAVTarget(
        "media1",
        url=tls_host.url,
        ca_bundle=str(certificates / "ca.pem"),
        client_cert=str(certificates / "client.pem"),
        client_key=str(certificates / "client.key"),
    )
    for data in (b"small", os.urandom(3_000_000)):
        target.put(FILE, BytesContent(b"before"))
        tls_host.stop()
        tls_host.start()
        target.put(FILE, BytesContent(data))
        assert tls_host.files()["media/folder/file.bin"] == data
