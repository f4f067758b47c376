"""The embedded media host, as any client sees it (the target contract runs against it too)."""

from __future__ import annotations

import hashlib
import http.client
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.processes import descendants
from tests.servers import Embedded


@pytest.fixture
def client(embedded: Embedded) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", embedded.port, timeout=60)
    yield connection
    connection.close()


def ask(
    client: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    client.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = client.getresponse()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


def test_a_file_comes_back_as_it_went(client: http.client.HTTPConnection, embedded: Embedded) -> None:
    """PUT makes folders as nginx does with ``create_full_put_path``: 201 if new, 204 if replaced."""
    assert ask(client, "PUT", "/a/b/c.txt", b"first")[0] == 201
    assert ask(client, "PUT", "/a/b/c.txt", b"second")[0] == 204
    status, headers, body = ask(client, "GET", "/a/b/c.txt")
    assert (status, headers["content-type"], headers["content-length"], body) == (200, "text/plain", "6", b"second")
    status, headers, body = ask(client, "HEAD", "/a/b/c.txt")
    assert (status, headers["content-length"], body) == (200, "6", b"")
    assert embedded.files() == {"a/b/c.txt": b"second"}


def test_names_are_decoded_once(client: http.client.HTTPConnection, embedded: Embedded) -> None:
    """UTF-8, a percent sign, a plus; bytes that are no text; the query is not part of it."""
    for path in ("/%C3%A4%20b.txt", "/50%25.txt", "/%2541.txt", "/a+b.txt", "/%FF.txt", "/q%3Fx.txt?x=1"):
        assert ask(client, "PUT", path, b"data")[0] == 201
        assert ask(client, "GET", path)[2] == b"data"
    names = {os.fsencode(path.name) for path in embedded.root.iterdir()}
    assert names == {"ä b.txt".encode(), b"50%.txt", b"%41.txt", b"a+b.txt", b"\xff.txt", b"q?x.txt"}


@pytest.mark.parametrize(
    "path", ["/../x", "/a/../../x", "/%2e%2e/x", "/a/%2e%2e%2f%2e%2e%2fx", "/a//b", "/./a", "/a%00"]
)
def test_a_path_never_leaves_the_root(client: http.client.HTTPConnection, embedded: Embedded, path: str) -> None:
    """400, for every method."""
    embedded.write("x", b"kept")
    for method in ("PUT", "GET", "HEAD", "DELETE", "MKCOL"):
        assert ask(client, method, path, b"evil" if method == "PUT" else None)[0] == 400
    assert embedded.files() == {"x": b"kept"}
    assert not (embedded.folder / "x").exists()


def test_a_range_is_a_part(client: http.client.HTTPConnection) -> None:
    """RFC 9110, section 14: first, last, beyond, and none at all."""
    ask(client, "PUT", "/r.bin", b"0123456789")
    for header, status, body in (
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=5-500", 206, b"56789"),
        ("bytes=0-9", 206, b"0123456789"),
        ("bytes=10-", 416, b""),
        ("lines=1-2", 200, b"0123456789"),
        ("bytes=x-y", 200, b"0123456789"),
    ):
        got, headers, data = ask(client, "GET", "/r.bin", Range=header)
        assert (got, data) == (status, body), header
        if status == 206:
            assert headers["content-range"].endswith("/10")
        if status == 416:
            assert headers["content-range"] == "bytes */10"
    assert ask(client, "PUT", "/r.bin", b"x", Content_Range="bytes 0-0/10")[0] == 501


def test_an_unchanged_file_is_not_sent_again(client: http.client.HTTPConnection) -> None:
    """By its ETag, which changes with each PUT, also within a second."""
    tags = set()
    for data in (b"one", b"two", b"six"):
        ask(client, "PUT", "/e.txt", data)
        tag = ask(client, "GET", "/e.txt")[1]["etag"]
        assert ask(client, "GET", "/e.txt", If_None_Match=tag)[0] == 304
        tags.add(tag)
    assert len(tags) == 3


def test_folders(client: http.client.HTTPConnection, embedded: Embedded) -> None:
    """MKCOL makes one, whose parent exists; DELETE takes only an empty one; GET and PUT none."""
    assert ask(client, "MKCOL", "/one/two/")[0] == 409
    assert ask(client, "MKCOL", "/one/")[0] == 201
    assert ask(client, "MKCOL", "/one/")[0] == 405
    ask(client, "PUT", "/one/file.txt", b"kept")
    for path in ("/one", "/one/"):
        assert ask(client, "DELETE", path)[0] == 409
    assert ask(client, "DELETE", "/")[0] == 403
    assert ask(client, "PUT", "/one", b"")[0] == 409
    assert ask(client, "PUT", "/two/", b"")[0] == 409
    assert ask(client, "PUT", "/one/file.txt/below", b"")[0] == 409
    assert ask(client, "GET", "/one/file.txt/below")[0] == 404
    status, headers, _ = ask(client, "HEAD", "/one")
    assert (status, headers["location"]) == (301, "/one/")
    assert embedded.files() == {"one/file.txt": b"kept"}
    ask(client, "DELETE", "/one/file.txt")
    assert ask(client, "DELETE", "/one/")[0] == 204
    assert ask(client, "DELETE", "/one")[0] == 404


def test_other_methods_are_named(client: http.client.HTTPConnection) -> None:
    """OPTIONS says which there are; 405 for the rest, the connection stays usable."""
    assert "PUT" in ask(client, "OPTIONS", "/")[1]["allow"]
    for method in ("POST", "PROPPATCH", "MOVE", "PATCH"):
        status, headers, _ = ask(client, method, "/x", b"body")
        assert status == 405
        assert "MKCOL" in headers["allow"]
    assert ask(client, "GET", "/")[0] == 403


def test_a_folder_is_told_of_one_level_at_a_time(client: http.client.HTTPConnection, embedded: Embedded) -> None:
    """PROPFIND: a file, a folder, what is in it; not all there is, and nothing of what is not there."""
    embedded.write("a/b&c.txt", b"data")
    embedded.write("a/deep/x", b"")
    (embedded.root / "a/nowhere").symlink_to("nothing")

    def hrefs(path: str, depth: str) -> list[str]:
        status, headers, body = ask(client, "PROPFIND", path, b"<propfind/>", Depth=depth)
        assert (status, headers["content-type"]) == (207, "application/xml; charset=utf-8")
        return sorted(element.text or "" for element in ElementTree.fromstring(body).iter("{DAV:}href"))

    assert hrefs("/a", "1") == hrefs("/a/", "1") == ["/a/", "/a/b%26c.txt", "/a/deep/"]
    assert hrefs("/", "1") == ["/", "/a/"]
    assert hrefs("/a/", "0") == ["/a/"]
    assert hrefs("/a/b%26c.txt", "1") == ["/a/b%26c.txt"]
    assert ask(client, "PROPFIND", "/", Depth="infinity")[0] == ask(client, "PROPFIND", "/")[0] == 403
    assert ask(client, "PROPFIND", "/none/", Depth="1")[0] == 404
    assert ask(client, "PROPFIND", "/a/b%26c.txt/x", Depth="1")[0] == 404


def test_an_upload_cut_short_leaves_the_old_content(embedded: Embedded, client: http.client.HTTPConnection) -> None:
    """Promise 5: no partial file is ever visible, and none stays behind."""
    ask(client, "PUT", "/cut.bin", b"old")
    for head in (b"Content-Length: 1000000", b"Transfer-Encoding: chunked"):
        with socket.create_connection(("127.0.0.1", embedded.port)) as sock:
            sock.sendall(b"PUT /cut.bin HTTP/1.1\r\nHost: t\r\n%b\r\n\r\n" % head)
            sock.sendall((b"80000\r\n" if b"chunked" in head else b"") + bytes(300_000))
            time.sleep(0.05)
            assert ask(client, "GET", "/cut.bin")[2] == b"old"
    uploads = embedded.root.with_name("files.uploads")
    deadline = time.monotonic() + 60
    while list(uploads.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(uploads.iterdir()) == []
    assert embedded.files() == {"cut.bin": b"old"}


def test_memory_stays_flat(embedded: Embedded, client: http.client.HTTPConnection) -> None:
    """Promise 8, on the other side: 256 MiB in and out."""

    def resident() -> int:
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 for pid in pids)

    assert embedded.process is not None
    pids = descendants(embedded.process.pid)
    ask(client, "PUT", "/warm.bin", bytes(1000))
    before = resident()
    client.putrequest("PUT", "/large.bin")
    client.putheader("Content-Length", str(256 << 20))
    client.endheaders()
    for _ in range(256):
        client.send(bytes(1 << 20))
    assert client.getresponse().read() == b""
    client.request("GET", "/large.bin")
    response = client.getresponse()
    size = 0
    while data := response.read(1 << 20):
        size += len(data)
    assert size == 256 << 20
    assert resident() - before < 32 << 20


def test_it_asks_for_the_password() -> None:
    """Everything but the right one is a 401, and nothing is done."""
    with Embedded(user="u", password="p") as host:
        client = http.client.HTTPConnection("127.0.0.1", host.port, timeout=60)
        for value in ("", "Basic dTp4", "Bearer p", "Basic"):
            status, headers, _ = ask(client, "PUT", "/x", b"data", Authorization=value)
            assert status == 401
            assert headers["www-authenticate"].startswith("Basic")
        assert host.files() == {}
        assert ask(client, "PUT", "/x", b"data", Authorization="Basic dTpw")[0] == 201
        client.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly(number: signal.Signals) -> None:
    """At once, although connections are open; and starts again with its files."""
    with Embedded() as host:
        client = http.client.HTTPConnection("127.0.0.1", host.port, timeout=60)
        ask(client, "PUT", "/x", b"data")
        assert host.process is not None
        host.process.send_signal(number)
        assert host.process.wait(timeout=8) == 0
        client.close()
        host.stop()
        assert "Traceback" not in host.output()
        (host.root.with_name("files.uploads")).mkdir(exist_ok=True)
        (host.root.with_name("files.uploads") / "left-over").write_bytes(b"half")
        host.start()
        assert host.files() == {"x": b"data"}
        assert not (host.root.with_name("files.uploads") / "left-over").exists()


def test_concurrent_uploads_of_one_name_never_mix(embedded: Embedded) -> None:
    """One of them wins, whole."""
    bodies = [bytes([number]) * 3_000_000 for number in range(4)]
    clients = [http.client.HTTPConnection("127.0.0.1", embedded.port, timeout=60) for _ in bodies]
    for client, body in zip(clients, bodies, strict=True):
        client.putrequest("PUT", "/same.bin")
        client.putheader("Content-Length", str(len(body)))
        client.endheaders()
    for start in range(0, 3_000_000, 500_000):
        for client, body in zip(clients, bodies, strict=True):
            client.send(body[start : start + 500_000])
    for client in clients:
        assert client.getresponse().status in (201, 204)
        client.close()
    held = embedded.files()["same.bin"]
    assert hashlib.sha256(held).digest() in {hashlib.sha256(body).digest() for body in bodies}
