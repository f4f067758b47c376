"""Another site over HTTP: its files as a Django storage has them, and as the source of a copy."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import storages

from replicator.errors import Corrupt, Refused, Unavailable
from replicator.staging.base import Facts, NotCopied
from replicator.staging.httpsource import HTTPSource
from replicator.storage import HTTPStorage
from replicator.targets.base import TargetFile
from replicator.targets.webdav import WebDAVTarget
from tests.processes import free_port
from tests.servers import Apache, Embedded, Lighttpd, MediaHost, Nginx
from tests.targets.rawserver import RawServer, Script, answers, read_head

LARGE = os.urandom(3_000_017)
ODD = "ä b/c?d#e%41+&;=@~!*()'.jpg"
SECRETS = ("s3cret", "t0ken", "X-Signature")


@pytest.fixture
def site(nginx: MediaHost) -> MediaHost:
    """A site with a few files below /media/."""
    nginx.write("media/a.jpg", b"bytes of a")
    nginx.write("media/empty.txt", b"")
    nginx.write(f"media/{ODD}", b"odd")
    nginx.write("media/deep/er/large.bin", LARGE)
    return nginx


def source_of(url: str, **options: Any) -> HTTPSource:
    return HTTPSource("live", storage_of(url, **options))


def storage_of(url: str, **options: Any) -> HTTPStorage:
    return HTTPStorage(f"{url}/media/", **{"connect_timeout": 20.0, "read_timeout": 20.0, **options})


@pytest.fixture
def serve() -> Iterator[Callable[..., RawServer]]:
    """Starts a server that runs a script, or gives these answers, on each connection."""
    servers: list[RawServer] = []

    def start(*script: Script | str) -> RawServer:
        texts = [each for each in script if isinstance(each, str)]
        server = RawServer(answers(*texts) if texts else script[0]).__enter__()  # type: ignore[arg-type]
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.__exit__()


Serve = Callable[..., RawServer]


def ok(body: str = "ok", *fields: str) -> str:
    return answer("200 OK", f"Content-Length: {len(body)}", *fields, body=body)


def answer(status: str, *fields: str, body: str = "") -> str:
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", body])


def no(status: str, *fields: str) -> str:
    return answer(status, "Content-Length: 0", *fields)


def read(source: HTTPSource, name: str = "a.jpg", size: int = 65536) -> bytes:
    """All of a file, piece by piece."""
    with source.open(name) as stream:
        return b"".join(iter(lambda: stream.read(size), b""))


def is_clean(*texts: object) -> bool:
    return not any(secret in str(text) + repr(text) for secret in SECRETS for text in texts)


# As a Django storage.


def test_a_storage_reads_another_sites_files(site: MediaHost) -> None:
    """What Django's API asks of a storage that is read, under any name."""
    storage = storage_of(site.url)
    for name, data in (("a.jpg", b"bytes of a"), ("empty.txt", b""), (ODD, b"odd"), ("deep/er/large.bin", LARGE)):
        assert storage.exists(name)
        assert storage.size(name) == len(data)
        with storage.open(name) as file:
            assert file.name == name
            assert file.size == len(data)
            assert file.read() == data
    assert not storage.exists("b.jpg")
    for ask in (storage.open, storage.size, storage.get_modified_time):
        with pytest.raises(FileNotFoundError):
            ask("b.jpg")
    assert storage.url("ä b/c.jpg") == f"{site.url}/media/%C3%A4%20b/c.jpg"
    assert repr(storage) == f"<HTTPStorage {site.url}/media/>"


def test_an_open_file_is_seekable(site: MediaHost) -> None:
    """As code that looks into pictures and archives expects."""
    with storage_of(site.url).open("deep/er/large.bin") as file:
        assert file.seek(-5, os.SEEK_END) == len(LARGE) - 5
        assert file.read() == LARGE[-5:]
        file.seek(1_000_000)
        assert file.read(7) == LARGE[1_000_000:1_000_007]
        file.seek(0)
        assert b"".join(file.chunks()) == LARGE


@pytest.mark.parametrize("use_tz", [True, False])
def test_modified_times_are_as_the_settings_want_them(site: MediaHost, settings: Any, use_tz: bool) -> None:
    """Aware if ``USE_TZ``; else local and naive."""
    settings.USE_TZ = use_tz
    settings.TIME_ZONE = "Asia/Tokyo"
    os.utime(site.root / "media/a.jpg", (1_700_000_000, 1_700_000_000))
    modified = storage_of(site.url).get_modified_time("a.jpg")
    assert modified == (datetime.fromtimestamp(1_700_000_000, UTC) if use_tz else datetime(2023, 11, 15, 7, 13, 20))


def test_a_storage_that_is_only_read_says_so(site: MediaHost) -> None:
    """Before anything is asked of the site."""
    storage = storage_of("http://127.0.0.1:9")
    for write in (
        lambda: storage.save("a.jpg", ContentFile(b"x")),
        lambda: storage.delete("a.jpg"),
        lambda: storage.open("a.jpg", "wb"),
    ):
        with pytest.raises(NotImplementedError, match="another storage"):
            write()
    with pytest.raises(NotImplementedError, match="from the database"):
        storage.listdir("")


def test_trouble_is_an_oserror_with_a_reason(serve: Serve) -> None:
    """Never "no such file", and never "not there" from ``exists``."""
    storage = storage_of(serve(no("503 Busy")).url)
    for ask in (storage.exists, storage.open):
        with pytest.raises(OSError, match="503 to GET") as caught:
            ask("a.jpg")
        assert not isinstance(caught.value, FileNotFoundError)
    storage = storage_of(serve(answer("200 OK", "Content-Length: 9", body="half")).url, read_timeout=0.3)
    with storage.open("a.jpg") as file, pytest.raises(OSError, match="too little of the body"):
        file.read()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"base_url": "/media/"}, 'base_url is not a URL .* Write it as "https://www.example.com/media/"'),
        ({"base_url": "ftp://www.example.com/"}, "base_url is not a URL"),
        ({"base_url": "http://host:s3cret/media/"}, "base_url is not a URL"),
        ({"base_url": None}, "base_url is a NoneType: write a string"),
        ({"base_url": "https://me:s3cret@host/media/"}, "Write them as the options username and password"),
        ({"base_url": "https://host/media/?X-Signature=s3cret"}, "base_url has a query"),
        ({"base_url": "https://host/a/../media/"}, r"base_url has \. or \.\."),
        ({"token": "t0ken", "username": "me"}, "Keep one of them"),
        ({"password": "s3cret"}, "Add the option username"),
        ({"ca_bundle": "/no/such.pem"}, "ca_bundle is not a file"),
        ({"base_url": "http://host/", "ca_bundle": __file__}, "ca_bundle is set, and base_url is not https"),
        ({"auth": "ntlm"}, 'Write "basic" or "digest"'),
        ({"read_timeout": 0}, "Write a number above 0"),
        ({"min_rate": "fast"}, "min_rate is a str: write a number"),
    ],
)
def test_a_wrong_option_says_what_to_write(settings: Any, options: dict[str, Any], words: str) -> None:
    """When the storage is made; what may be secret is not shown."""
    entry = {"BACKEND": "replicator.storage.HTTPStorage", "OPTIONS": {"base_url": "https://host/media/", **options}}
    settings.STORAGES = {**settings.STORAGES, "live": entry}
    with pytest.raises(ImproperlyConfigured, match=words) as caught:
        assert storages["live"]
    assert is_clean(caught.value)


# As a source.


def test_a_source_says_what_the_site_says(site: MediaHost) -> None:
    """Size, time and type, without the bytes; None if it is missing."""
    os.utime(site.root / "media/a.jpg", (1_700_000_000, 1_700_000_000))
    source = source_of(site.url)
    modified = datetime.fromtimestamp(1_700_000_000, UTC)
    facts = Facts(size=10, modified=modified, content_type="image/jpeg")
    assert source.stat("a.jpg") == facts
    with source.open("a.jpg") as stream:
        assert stream.facts == facts
        assert [stream.read(6), stream.read(6), stream.read(6), stream.read()] == [b"bytes ", b"of a", b"", b""]
    empty, large = source.stat("empty.txt"), source.stat("deep/er/large.bin")
    assert (empty and empty.size, large and large.size) == (0, len(LARGE))
    assert read(source, "empty.txt") == b""
    assert hashlib.sha256(read(source, "deep/er/large.bin")).digest() == hashlib.sha256(LARGE).digest()
    assert source.stat("b.jpg") is None
    with pytest.raises(FileNotFoundError), source.open("b.jpg"):
        pass
    assert not source.can_list


def test_each_kind_of_server_is_understood(media_host: MediaHost) -> None:
    """Also how each answers a range of an empty file: 200, or 416."""
    media_host.write("media/empty.txt", b"")
    media_host.write(f"media/{ODD}", b"odd")
    source = source_of(media_host.url)
    for name, data in (("empty.txt", b""), (ODD, b"odd")):
        facts = source.stat(name)
        assert facts is not None
        assert facts.size == len(data)
        assert read(source, name) == data
    assert source.stat("none") is None


def test_nothing_but_get_is_sent(serve: Serve) -> None:
    """A live site's log shows reads only; and nothing is asked for compressed."""
    heads: list[bytes] = []

    def script(sock: socket.socket) -> None:
        while True:
            heads.append(read_head(sock))
            sock.sendall(ok().encode())

    source = source_of(serve(script).url)
    source.check()
    source.stat("a.jpg")
    read(source)
    assert [head.split(b"\r\n")[0] for head in heads] == [
        b"GET /media/ HTTP/1.1",
        b"GET /media/a.jpg HTTP/1.1",
        b"GET /media/a.jpg HTTP/1.1",
    ]
    assert [b"Range: bytes=0-0" in head for head in heads] == [False, True, False]
    assert all(b"Accept-Encoding: identity\r\n" in head for head in heads)


def test_a_server_without_ranges_is_hung_up_on(serve: Serve) -> None:
    """Looking at a film must not cost its bytes."""
    taken = []

    def script(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(answer("200 OK", f"Content-Length: {1 << 40}").encode())
        sock.settimeout(5)
        taken.append(0)
        while True:
            taken[-1] += sock.send(bytes(65536))

    server = serve(script)
    source = source_of(server.url)
    for _ in range(2):
        facts = source.stat("a.jpg")
        assert facts is not None
        assert facts.size == 1 << 40
    assert server.connections == 2
    assert max(taken) < 16 << 20  # what the kernel's buffers took


def test_a_small_body_is_read_rather_than_hung_up_on(serve: Serve) -> None:
    """A connection costs more, with TLS much more."""
    server = serve(*[ok("x" * 1000)] * 3)
    source = source_of(server.url)
    for _ in range(3):
        facts = source.stat("a.jpg")
        assert facts is not None
        assert facts.size == 1000
    assert server.connections == 1


@pytest.mark.parametrize(
    ("texts", "size"),
    [
        ([answer("206 Part", "Content-Range: bytes 0-0/1234", "Content-Length: 1", body="x")], 1234),
        ([answer("206 Part", "Content-Range: bytes 0-0/*", "Content-Length: 1", body="x")], None),
        ([no("416 No", "Content-Range: bytes */0")], 0),
        ([no("416 No"), ok("all")], 3),
        ([no("416 No", "Content-Range: bytes */77"), ok("all")], 3),
        ([answer("200 OK", "Transfer-Encoding: chunked", body="1\r\nx\r\n0\r\n\r\n")], None),
        ([answer("200 OK", body="until it closes")], None),
    ],
)
def test_the_size_is_that_of_the_whole_file(serve: Serve, texts: list[str], size: int | None) -> None:
    """However the server says it, or does not."""
    facts = source_of(serve(*texts).url).stat("a.jpg")
    assert facts is not None
    assert facts.size == size


def test_a_part_of_unknown_size_is_refused(serve: Serve) -> None:
    """A broken server's answer is not made sense of."""
    with pytest.raises(Refused, match="206 without a Content-Range"):
        source_of(serve(answer("206 Part", "Content-Length: 1", body="x")).url).stat("a.jpg")
    with pytest.raises(Refused, match="206 to GET"):
        read(source_of(serve(answer("206 Part", "Content-Range: bytes 0-0/9", "Content-Length: 1", body="x")).url))


@pytest.mark.parametrize(
    ("text", "modified"),
    [
        ("Tue, 14 Nov 2023 22:13:20 GMT", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("Tue, 14 Nov 2023 22:13:20 -0000", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("yesterday", None),
        ("Tue, 14 Nov 99999999999999999999 22:13:20 GMT", None),
        ("", None),
    ],
)
def test_times_are_aware(serve: Serve, text: str, modified: datetime | None) -> None:
    """Or unknown."""
    facts = source_of(serve(ok("ok", f"Last-Modified: {text}")).url).stat("a.jpg")
    assert facts is not None
    assert facts.modified == modified


def _b64(algorithm: str, data: bytes = b"ok") -> str:
    return base64.b64encode(hashlib.new(algorithm, data).digest()).decode()


def _hex(**checksums: bytes) -> dict[str, str]:
    return {name: hashlib.new(name, data).hexdigest() for name, data in checksums.items()}


@pytest.mark.parametrize(
    ("fields", "checksums"),
    [
        ([f"Repr-Digest: sha-256=:{_b64('sha256')}:"], _hex(sha256=b"ok")),
        (
            [f"Repr-Digest: sha-512=:{_b64('sha512')}:, sha-256=:{_b64('sha256')}:"],
            _hex(sha256=b"ok", sha512=b"ok"),
        ),
        ([f"Digest: SHA-256={_b64('sha256')},unixsum=30637"], _hex(sha256=b"ok")),
        ([f"Content-MD5: {_b64('md5')}"], _hex(md5=b"ok")),
        ([f'ETag: "{hashlib.md5(b"ok").hexdigest()}"'], {}),
        (["Repr-Digest: sha-256=:AAAA:", "Content-MD5: !", "Digest: md5"], {}),
        (["Digest: md5=A", "Content-MD5: é"], {}),
    ],
)
def test_checksums_are_what_is_certain(serve: Serve, fields: list[str], checksums: dict[str, str]) -> None:
    """RFC 9530, RFC 3230 and RFC 1864; an ETag is none. And what came is compared with them."""
    source = source_of(serve(ok("ok", *fields), ok("ok", *fields), ok("no", *fields)).url)
    facts = source.stat("a.jpg")
    assert facts is not None
    assert facts.checksums == checksums
    assert read(source) == b"ok"
    if checksums:
        with pytest.raises(Corrupt, match="other bytes came"):
            read(source)


def test_of_a_part_a_checksum_must_be_of_the_whole(serve: Serve) -> None:
    """Content-MD5 is of what was sent, for some servers."""
    fields = "Content-Range: bytes 0-0/2", "Content-Length: 1", f"Repr-Digest: sha-256=:{_b64('sha256')}:"
    facts = source_of(serve(answer("206 Part", *fields, f"Content-MD5: {_b64('md5')}", body="o")).url).stat("a.jpg")
    assert facts is not None
    assert facts.checksums == _hex(sha256=b"ok")


# Bodies that are not what was said.


@pytest.mark.parametrize("pieces", [1, 2, 3, 65536])
def test_wrong_bytes_end_in_an_error_not_in_an_end(serve: Serve, pieces: int) -> None:
    """At the latest where the end would be, however it is read."""
    source = source_of(serve(answer("200 OK", "Content-Length: 3", f"Content-MD5: {_b64('md5')}", body="bad")).url)
    with source.open("a.jpg") as stream:
        with pytest.raises(Corrupt):
            list(iter(lambda: stream.read(pieces), b""))
        with pytest.raises(Corrupt):
            stream.read(pieces)


def test_more_bytes_than_were_said_are_corrupt(serve: Serve) -> None:
    """And are not taken for the next answer."""
    server = serve(answer("200 OK", "Content-Length: 2", body="ok, and more"))
    source = source_of(server.url)
    for _ in range(2):
        with pytest.raises(Corrupt, match="more bytes"):
            read(source)
    assert server.connections == 2


@pytest.mark.parametrize(
    "text",
    [
        answer("200 OK", "Content-Length: 9", body="half"),
        answer("200 OK", "Transfer-Encoding: chunked", body="9\r\nhalf"),
        answer("200 OK", "Transfer-Encoding: chunked", body="4\r\nhalf\r\n"),
    ],
)
@pytest.mark.parametrize("closes", [True, False])
def test_a_body_that_stops_is_no_file(serve: Serve, text: str, closes: bool) -> None:
    """The connection ends, or nothing more comes: to be tried again."""

    def script(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(text.encode())
        if not closes:
            read_head(sock)

    source = source_of(serve(script).url, read_timeout=0.3)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
        read(source)


def test_a_body_that_drips_is_given_up(serve: Serve) -> None:
    """Below the lowest rate, though it never falls silent."""

    def script(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            sock.sendall(b"x")
            time.sleep(0.05)

    begun = time.monotonic()
    with pytest.raises(Unavailable, match="too little"):
        read(source_of(serve(script).url, read_timeout=0.5))
    assert time.monotonic() - begun < 20


def test_a_file_that_is_left_early_is_not_drained(serve: Serve) -> None:
    """Its connection is dropped."""
    sent = threading.Event()

    def script(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(answer("200 OK", f"Content-Length: {1 << 40}").encode())
        try:
            while True:
                sock.send(bytes(65536))
        except OSError:
            sent.set()

    with source_of(serve(script).url).open("a.jpg") as stream:
        assert len(stream.read(10)) == 10
    assert sent.wait(5)


@pytest.mark.parametrize(
    "field", ["Content-Encoding: gzip", "Content-Encoding: identity, br", "Transfer-Encoding: gzip, chunked"]
)
def test_compressed_files_are_refused(serve: Serve, field: str) -> None:
    """What arrives would not be the file; the reason says where to switch it off."""
    source = source_of(serve(ok("0\r\n\r\n", field)).url)
    for ask in (source.stat, lambda name: read(source, name)):
        with pytest.raises(Refused, match="nginx: gzip off"):
            ask("a.jpg")


def test_identity_is_no_compression(serve: Serve) -> None:
    """Some servers name it."""
    assert read(source_of(serve(ok("ok", "Content-Encoding: identity")).url)) == b"ok"


def test_a_site_that_compresses_where_it_may_sends_files_as_they_are() -> None:
    """nginx with ``gzip on``."""
    with Nginx(server="gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any;") as host:
        host.write("media/a.txt", b"a" * 10_000)
        source = source_of(host.url)
        facts = source.stat("a.txt")
        assert facts is not None
        assert facts.size == 10_000
        assert read(source, "a.txt") == b"a" * 10_000


# Redirects.


def test_redirects_lead_to_the_file(site: MediaHost) -> None:
    """To another host, with a signature, as sites with a CDN do; missing there is missing."""
    query = "?X-Signature=s3cret"
    with Nginx(server=f"location /media/ {{ return 302 {site.url}$request_uri{query}; }}") as host:
        source = source_of(host.url)
        for name, data in (("a.jpg", b"bytes of a"), (ODD, b"odd"), ("deep/er/large.bin", LARGE)):
            facts = source.stat(name)
            assert facts is not None
            assert facts.size == len(data)
            assert read(source, name) == data
        assert source.stat("b.jpg") is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_five_redirects_are_followed_and_no_more(serve: Serve, status: int) -> None:
    """Each kind; relative ones, and those with characters that no URL has."""
    onward = no(f"{status} There", "Location: ../ä b/x.jpg?X-Signature=s3cret#part")
    assert read(source_of(serve(*[onward] * 5, ok()).url)) == b"ok"
    server = serve(*[onward] * 6, ok())
    with pytest.raises(
        Refused, match=f"redirects more than 5 times; write {server.url}/%C3%A4%20b/x.jpg as"
    ) as caught:
        read(source_of(server.url))
    assert is_clean(caught.value)


@pytest.mark.parametrize("location", ["", "ftp://host/a.jpg", "http://host:port/", "file:///etc/passwd"])
def test_a_redirect_to_nowhere_is_refused(serve: Serve, location: str) -> None:
    """Only http and https are spoken."""
    with pytest.raises(Refused, match="to nothing that is a URL"):
        read(source_of(serve(no("302 There", f"Location: {location}")).url))


def test_no_redirect_leads_out_of_encryption(site: MediaHost, certificates: Path) -> None:
    """It says which base_url to write instead. The other way is the usual one."""
    server = f"""
        ssl_certificate {certificates}/server.pem; ssl_certificate_key {certificates}/server.key;
        location /media/ {{ return 301 {site.url}$request_uri?X-Signature=s3cret; }}
    """
    ca_bundle = str(certificates / "ca.pem")
    with Nginx(listen="ssl", server=server) as host:
        host.scheme = "https"
        with pytest.raises(Refused, match=f"nothing is encrypted; write {site.url}/media/ as base_url") as caught:
            read(source_of(host.url, ca_bundle=ca_bundle))
        assert is_clean(caught.value)


def test_http_may_lead_to_https(certificates: Path) -> None:
    """Whose certificate must be trusted."""
    server = f"ssl_certificate {certificates}/server.pem; ssl_certificate_key {certificates}/server.key;"
    with Nginx(listen="ssl", server=server) as host:
        host.scheme = "https"
        host.write("media/a.jpg", b"a")
        assert read(source_of(host.url, ca_bundle=str(certificates / "ca.pem"))) == b"a"
        with Nginx(server=f"location /media/ {{ return 301 {host.url}$request_uri; }}") as before:
            with pytest.raises(Unavailable, match="not trusted"):
                read(source_of(before.url))


def test_another_host_must_be_trusted_and_is_not_shown_the_client_certificate(
    site: MediaHost, certificates: Path
) -> None:
    """A redirect's host is held to the same authorities, and has no right to know who asks."""
    tls = f"""
        ssl_certificate {certificates}/server.pem; ssl_certificate_key {certificates}/server.key;
        ssl_client_certificate {certificates}/ca.pem;
    """
    seen = "ssl_verify_client optional; if ($ssl_client_verify != NONE) { return 418; }"
    with Nginx(listen="ssl", server=tls + seen) as cdn:
        cdn.scheme = "https"
        cdn.write("media/a.jpg", b"a")
        redirect = f"ssl_verify_client on; location /media/ {{ return 302 {cdn.url}$request_uri; }}"
        with Nginx(listen="ssl", server=tls + redirect) as host:
            host.scheme = "https"
            pem = {"client_cert": str(certificates / "client.pem"), "client_key": str(certificates / "client.key")}
            options = {"ca_bundle": str(certificates / "ca.pem"), **pem}
            assert read(source_of(host.url, **options)) == b"a"
            with pytest.raises(Refused, match="418"):
                read(source_of(cdn.url, **options))


@pytest.mark.parametrize("options", [{"username": "me", "password": "s3cret"}, {"token": "t0ken"}])
def test_credentials_stay_with_their_origin(serve: Serve, options: dict[str, str]) -> None:
    """Nobody that a redirect names gets them; that the others did not let us in says what to write."""
    heads: dict[str, list[bytes]] = {"site": [], "cdn": []}

    def cdn(sock: socket.socket) -> None:
        while True:
            heads["cdn"].append(read_head(sock))
            sock.sendall(no("403 No").encode())

    there = serve(cdn)

    def here(sock: socket.socket) -> None:
        while True:
            heads["site"].append(read_head(sock))
            location = f"Location: {there.url}/bucket/a.jpg?X-Signature=s3cret"
            sock.sendall(no("302 There", location).encode())

    source = source_of(serve(here).url, **options)
    with pytest.raises(Refused, match=f"got no credentials; write {there.url}/bucket/ as base_url") as caught:
        read(source)
    assert is_clean(caught.value)
    assert [b"Authorization:" in head for head in (*heads["site"], *heads["cdn"])] == [True, False]
    assert b"GET /bucket/a.jpg?X-Signature=s3cret HTTP/1.1" in heads["cdn"][0]


@pytest.mark.parametrize("make", [Nginx, Apache, Lighttpd])
def test_a_folder_is_no_file(make: Callable[[], MediaHost]) -> None:
    """Servers redirect to the folder's own URL, and may show what is in it: no row's file has its name."""
    modules = "/usr/lib/apache2/modules"
    loads = f"LoadModule dir_module {modules}/mod_dir.so\nLoadModule autoindex_module {modules}/mod_autoindex.so"
    listing = {
        Nginx: {"location": "autoindex on;"},
        Apache: {"modules": loads, "directory": "Require all granted\nOptions Indexes"},
        Lighttpd: {"modules": ', "mod_dirlisting"', "server": 'dir-listing.activate = "enable"'},
    }
    with make(**listing[make]) as host:  # type: ignore[index]
        host.write("media/folder/a.txt", b"a")
        source = source_of(host.url)
        assert source.stat("folder") is None
        with pytest.raises(FileNotFoundError):
            read(source, "folder")
        assert read(source, "folder/a.txt") == b"a"


def test_a_page_to_log_in_is_not_the_file(serve: Serve) -> None:
    """Sites answer so to who is not logged in; a page of the same name is itself."""
    login = (
        no("302 There", "Location: /login/?next=/media/a.jpg"),
        ok("log in", "Content-Type: text/html; charset=utf-8"),
    )
    with pytest.raises(Refused, match="a page, perhaps to log in: give the storage a username and password"):
        read(source_of(serve(*login).url))
    with pytest.raises(Refused, match="perhaps to log in"):
        source_of(serve(*login).url).stat("a.jpg")
    assert read(source_of(serve(*login).url), "page.html") == b"log in"
    moved = no("302 There", "Location: /other/README"), ok("page", "Content-Type: text/html")
    assert read(source_of(serve(*moved).url), "docs/README") == b"page"


# Credentials.


def test_a_user_may_read(serve: Serve) -> None:
    """Basic and bearer, with the first request."""
    for options, line in (
        ({"username": "jörg", "password": "s3cret"}, b"Basic " + base64.b64encode("jörg:s3cret".encode())),
        ({"token": "t0ken"}, b"Bearer t0ken"),
    ):
        heads: list[bytes] = []

        def script(sock: socket.socket, heads: list[bytes] = heads) -> None:
            heads.append(read_head(sock))
            sock.sendall(ok().encode())

        storage = storage_of(serve(script).url, **options)
        assert read(HTTPSource("live", storage)) == b"ok"
        assert b"Authorization: " + line + b"\r\n" in heads[0]
        assert is_clean(storage, storage.site, HTTPSource("live", storage))


def test_a_digest_is_asked_for_and_given() -> None:
    """lighttpd's; each thread answers its own challenge."""
    server = """
        auth.backend = "plain"
        auth.backend.plain.userfile = "@ROOT@/users"
        auth.require = ("/" => ("method" => "digest", "realm" => "media", "require" => "valid-user"))
    """
    host = Lighttpd(modules=', "mod_auth", "mod_authn_file"', server=server)
    (host.folder / "users").write_text("u:p\n")
    with host:
        host.write("media/a.jpg", b"a")
        source = source_of(host.url, auth="digest", username="u", password="p")
        source.check()
        assert source.stat("a.jpg") is not None
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(lambda _: read(source), range(20))) == {b"a"}
        with pytest.raises(Refused, match=r"401 to GET .* options username and password, or token"):
            read(source_of(host.url, auth="digest", username="u", password="wrong"))


# What answers mean.


@pytest.mark.parametrize("status", [404, 410])
def test_only_404_and_410_are_missing(serve: Serve, status: int) -> None:
    """The file is recorded as missing, and not asked for again; the connection is kept."""
    server = serve(*[no(f"{status} No")] * 4)
    source = source_of(server.url)
    for _ in range(2):
        assert source.stat("a.jpg") is None
        with pytest.raises(FileNotFoundError):
            read(source)
    assert server.connections == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "options username and password, or token"),
        (403, "lets nobody read this"),
        (400, "not an answer that is expected"),
        (204, "not an answer that is expected"),
        (300, "not an answer that is expected"),
        (418, "not an answer that is expected"),
    ],
)
def test_what_only_a_person_can_cure_is_refused(serve: Serve, status: int, words: str) -> None:
    """With what to do."""
    source = source_of(serve(no(f"{status} No"), no(f"{status} No")).url)
    for ask in (source.stat, lambda name: read(source, name)):
        with pytest.raises(Refused, match=f"{status} to GET .*/media/a.jpg.*{words}") as caught:
            ask("a.jpg")
        assert caught.value.status == status


@pytest.mark.parametrize("status", [408, 429, 500, 501, 502, 503, 504, 520])
def test_what_time_cures_is_unavailable(serve: Serve, status: int) -> None:
    """With how long the site wants to be left alone."""
    source = source_of(serve(no(f"{status} No", "Retry-After: 7"), no(f"{status} No", "Retry-After: 7")).url)
    for ask in (source.stat, lambda name: read(source, name)):
        with pytest.raises(Unavailable) as caught:
            ask("a.jpg")
        assert (caught.value.status, caught.value.retry_after, caught.value.doubt) == (status, 7, False)


@pytest.mark.parametrize(
    "name", ["", "/a.jpg", "../a.jpg", "a/../b.jpg", "a//b.jpg", "a\\b.jpg", "a\0", "folder/", "\udcff"]
)
def test_names_that_lead_elsewhere_are_not_sent(name: str) -> None:
    """No request is made."""
    source = source_of("http://127.0.0.1:9")
    for ask in (source.stat, source.address, lambda name: read(source, name)):
        with pytest.raises(Refused, match="not a name that can be sent"):
            ask(name)


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://www.example.com/media/", "https://www.example.com"),
        ("http://WWW.example.com:80/media", "https://www.example.com:443/"),
        ("http://127.0.0.1:8080/d%61v%20x/media/", "http://127.0.0.1:8080/dav x"),
        ("https://[::1]/media/", "https://[::1]/"),
    ],
)
def test_one_place_has_one_address(base_url: str, url: str) -> None:
    """As a target there writes it: a copy onto itself can be refused."""
    source = HTTPSource("live", HTTPStorage(base_url))
    target = WebDAVTarget("media1", url=url)
    assert {source.address("ä b/c?.jpg")} == target.addresses(TargetFile("default", "ä b/c?.jpg", prefix="/media/"))
    assert source.address("ä b/c?.jpg").endswith("/media/ä b/c?.jpg")
    other = HTTPSource("live", HTTPStorage(base_url.replace("/media", "/other")))
    assert other.address("a.jpg") != source.address("a.jpg")


# Before a run.


@pytest.mark.parametrize("status", ["200 OK", "301 There", "403 Forbidden", "404 Not Found"])
def test_any_answer_shows_that_a_site_is_there(serve: Serve, status: str) -> None:
    """A folder is seldom shown."""
    source_of(serve(no(status)).url).check()


def test_a_site_that_lets_nobody_in_or_is_broken_fails_the_check(serve: Serve) -> None:
    """Before a run begins."""
    with pytest.raises(Refused, match="options username and password"):
        source_of(serve(no("401 Who")).url).check()
    with pytest.raises(Unavailable):
        source_of(serve(no("502 Bad")).url).check()


def test_a_site_out_of_reach_is_told_within_seconds(serve: Serve) -> None:
    """Whatever the patience with files is."""
    begun = time.monotonic()
    with pytest.raises(Unavailable, match="could not be connected to"):
        source_of(f"http://127.0.0.1:{free_port()}", read_timeout=60.0).check()
    with pytest.raises(Unavailable, match="did not answer in 3 s"):
        source_of(serve(lambda sock: time.sleep(60)).url, read_timeout=60.0).check()
    assert time.monotonic() - begun < 20


# One that takes no writes.

LIGHTTPD_DENIES = '$HTTP["request-method"] !~ "GET|HEAD" { url.access-deny = ("") }'
LIGHTTPD_READS = '$HTTP["url"] =~ "^/m" { webdav.is-readonly = "enable" }'
LIGHTTPD_OFF = '$HTTP["url"] =~ "^/m" { webdav.activate = "disable" }'


@pytest.mark.parametrize(
    "make",
    [
        lambda: Nginx(dav_methods="off"),
        lambda: Nginx(location="limit_except GET { deny all; }"),
        lambda: Nginx(location="try_files $uri =404; limit_except GET { deny all; }"),
        lambda: Apache(directory="Dav Off\nRequire all granted"),
        lambda: Apache(directory="Require method GET"),
        lambda: Lighttpd(server=LIGHTTPD_READS),
        lambda: Lighttpd(server=LIGHTTPD_DENIES),
        lambda: Lighttpd(server=LIGHTTPD_OFF + LIGHTTPD_DENIES),
    ],
)
def test_a_site_that_takes_no_writes_proves_it(make: Callable[[], MediaHost]) -> None:
    """As the servers say it; what a refusal advises to write is among these. Files can still be read."""
    with make() as host:
        host.write("media/a.jpg", b"a")
        source = source_of(host.url)
        source.prove_read_only()
        assert read(source) == b"a"


@pytest.mark.parametrize(
    "make",
    [
        Nginx,
        Apache,
        Lighttpd,
        Embedded,
        # These take none, but say of a name that they do not have no more than that.
        lambda: Nginx(dav_methods="off", location="try_files $uri =404;"),
        lambda: Lighttpd(server=LIGHTTPD_OFF),
    ],
)
def test_a_site_that_takes_writes_is_not_proved_to_take_none(make: Callable[[], MediaHost]) -> None:
    """What to write is said; the attempt changed nothing."""
    with make() as host:
        host.write("media/a.jpg", b"a")
        before = host.files()
        with pytest.raises(NotCopied, match=r"answered 404 to a DELETE of .*nginx: limit_except GET \{ deny all; \}"):
            source_of(host.url).prove_read_only()
        assert host.files() == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (no("204 Done"), "it takes writes, or says so to everything"),
        (no("405 No", "Allow: GET, put,DELETE"), "says that it takes DELETE, PUT"),
        (no("400 Bad"), "nobody can tell"),
        (
            no("301 There", "Location: https://www.example.com/media/x?X-Signature=1"),
            "which redirects: write https://www",
        ),
    ],
)
def test_other_answers_prove_nothing(serve: Serve, text: str, words: str) -> None:
    """Only those that say that nobody may write do."""
    with pytest.raises(NotCopied, match=words) as caught:
        source_of(serve(text).url, token="t0ken").prove_read_only()
    assert is_clean(caught.value)


@pytest.mark.parametrize("status", ["401 Who", "403 No", "405 No", "501 What"])
def test_a_refusal_is_a_proof(serve: Serve, status: str) -> None:
    """405 may say what it takes instead."""
    source_of(serve(no(status, "Allow: GET, HEAD, OPTIONS, POST")).url).prove_read_only()


def test_a_proof_that_got_no_answer_can_be_asked_for_again(serve: Serve) -> None:
    """No statement about the site."""
    with pytest.raises(Unavailable):
        source_of(serve(no("503 Busy")).url).prove_read_only()
    with pytest.raises(Unavailable):
        source_of(f"http://127.0.0.1:{free_port()}").prove_read_only()


# Many at once.


def test_threads_share_a_source_and_connections_are_kept(site: MediaHost) -> None:
    """Eight at once; nothing is mixed up."""
    for number in range(40):
        site.write(f"media/many/{number}.txt", f"{number} ".encode() * 1000)
    source = source_of(site.url)

    def one(number: int) -> bool:
        facts = source.stat(f"many/{number % 40}.txt")
        data = read(source, f"many/{number % 40}.txt")
        return facts is not None and facts.size == len(data) and data == f"{number % 40} ".encode() * 1000

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(200)))
    source.close()
    assert one(1)


def test_a_connection_that_the_site_closed_meanwhile_costs_nothing(site: MediaHost) -> None:
    """A restart between two files."""
    source = source_of(site.url)
    assert read(source) == b"bytes of a"
    site.stop()
    site.start()
    assert read(source) == b"bytes of a"
