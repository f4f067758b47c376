"""WebDAV targets: answers and silences, names, folders, and what each server does of its own."""

from __future__ import annotations

import email.utils
import os
import signal
import socket
import time
from typing import Any

import pytest

from replicator.errors import Corrupt, Refused, TargetError, Unavailable
from replicator.targets.base import TargetFile
from replicator.targets.webdav import WebDAVTarget
from replicator.testing import BytesContent, ZeroContent
from tests.processes import descendants, free_port
from tests.promises.harness import wait_until
from tests.servers import Apache, Embedded, MediaHost, Nginx
from tests.targets.rawserver import RawServer, answers, read_head, read_request

FILE = TargetFile("default", "a b/file.txt", prefix="/media/", content_type="text/plain")
NO_CONTENT = "HTTP/1.1 204 No Content\r\n\r\n"


def target(url: str, **options: Any) -> WebDAVTarget:
    return WebDAVTarget("media1", **{"url": url, "connect_timeout": 10.0, "read_timeout": 10.0, **options})


def answer(status: int, *fields: str) -> str:
    return "\r\n".join([f"HTTP/1.1 {status} Some Reason", "Content-Length: 0", *fields, "", ""])


def put(at: WebDAVTarget, data: bytes = b"data", file: TargetFile = FILE) -> None:
    at.put(file, BytesContent(data))


# What is sent.


def test_a_request_names_the_file_as_browsers_do() -> None:
    """The target's URL, the storage's path, the name; each segment percent-encoded; and the type."""
    heads: list[bytes] = []

    def script(sock: socket.socket) -> None:
        heads.append(read_head(sock))

    file = TargetFile("s", "ä#?%/x.txt", prefix="/my media/", content_type="text/x-test")
    with RawServer(script) as server, pytest.raises(Unavailable):
        put(target(f"{server.url}/dav%20s/", headers={"X-Zone": "b"}), file=file)
    assert heads[0].startswith(b"PUT /dav%20s/my%20media/%C3%A4%23%3F%25/x.txt HTTP/1.1\r\n")
    for field in (f"Host: 127.0.0.1:{server.port}", "Content-Type: text/x-test", "Content-Length: 4", "X-Zone: b"):
        assert f"\r\n{field}\r\n".encode() in heads[0]


def test_a_content_type_cannot_add_a_field() -> None:
    """It came from a form."""
    heads: list[bytes] = []

    def script(sock: socket.socket) -> None:
        heads.append(read_head(sock))

    file = TargetFile("s", "x", content_type="text/plain\r\nX-Evil: 1")
    with RawServer(script) as server, pytest.raises(Unavailable):
        put(target(server.url), file=file)
    assert b"X-Evil" not in heads[0]


@pytest.mark.parametrize("name", ["../up.txt", "a/../../up.txt", "", "/etc/passwd", "folder/", "a//b", "\udcff"])
def test_an_unsafe_name_opens_no_connection(name: str) -> None:
    """Promise 6: a directory, an empty name or a name outside the root is never sent."""
    with RawServer(lambda sock: None) as server:
        at = target(server.url)
        file = TargetFile("s", name)
        for call in (lambda: put(at, file=file), lambda: at.delete(file), lambda: at.stat(file)):
            with pytest.raises(Refused):
                call()
        with pytest.raises(Refused):
            at.stat(TargetFile("s", "x", prefix="/a/../b/"))
        assert server.connections == 0


# Answers.


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (400, Refused, "rename"),
        (401, Refused, "username"),
        (403, Refused, "access"),
        (405, Refused, "dav_methods"),
        (413, Refused, "client_max_body_size"),
        (414, Refused, "longer"),
        (415, Refused, "type"),
        (418, Refused, "418"),
        (422, Refused, "422"),
        (501, Refused, "WebDAV"),
        (408, Unavailable, "408"),
        (423, Unavailable, "423"),
        (429, Unavailable, "429"),
        (500, Unavailable, "500"),
        (503, Unavailable, "503"),
        (507, Unavailable, "disk is full"),
    ],
)
def test_each_status_says_what_happens_next(status: int, error: type[TargetError], words: str) -> None:
    """Refused: a person must act, and reads what to do. Unavailable: time may cure it."""

    def script(sock: socket.socket) -> None:
        while True:
            read_request(sock)
            sock.sendall(answer(status).encode())

    with RawServer(script) as server:
        with pytest.raises(error, match=words) as caught:
            put(target(server.url))
        assert caught.value.status == status
        assert not caught.value.doubt
        with pytest.raises(error):
            target(server.url).delete(FILE)
        with pytest.raises(error):
            target(server.url).stat(FILE)


@pytest.mark.parametrize("status", [502, 504, 520, 522, 524])
def test_a_proxy_that_gave_up_leaves_doubt(status: int) -> None:
    """What stands behind it may still be at work."""
    with RawServer(answers(answer(status), answer(status))) as server:
        with pytest.raises(Unavailable) as caught:
            put(target(server.url))
    assert caught.value.doubt


def test_retry_after_is_passed_on() -> None:
    """As seconds or as a date (RFC 9110, section 10.2.3); nonsense is ignored."""
    date = email.utils.formatdate(time.time() + 100, usegmt=True)
    for text, low, high in (("7", 7, 7), (date, 95, 101), ("0", 0, 0)):
        with RawServer(answers(answer(503, f"Retry-After: {text}"), answer(200))) as server:
            with pytest.raises(Unavailable) as caught:
                put(target(server.url))
        assert caught.value.retry_after is not None
        assert low <= caught.value.retry_after <= high
    with RawServer(answers(answer(503, "Retry-After: soon"), answer(200))) as server:
        with pytest.raises(Unavailable) as caught:
            put(target(server.url))
    assert caught.value.retry_after is None


def test_a_redirect_is_not_followed() -> None:
    """The message says what to write, without what could be secret."""
    location = "https://user:secret@media.example.com/new/file.txt?token=secret#secret"
    with RawServer(answers(answer(302, f"Location: {location}"), answer(200))) as server:
        with pytest.raises(Refused) as caught:
            put(target(server.url))
        assert server.connections == 1
    assert "https://media.example.com/new/file.txt" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_what_did_not_arrive_is_corrupt() -> None:
    """Another size, or nothing: found by asking, not believed."""
    for texts in (
        (answer(201), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
        (answer(201), answer(404)),
    ):
        with RawServer(answers(*texts)) as server, pytest.raises(Corrupt):
            put(target(server.url))


def test_other_bytes_of_the_same_size_are_corrupt_where_content_is_verified() -> None:
    """``verify="content"`` reads each file back."""
    head = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
    with RawServer(answers(answer(201), head, head + "dat!")) as server:
        with pytest.raises(Corrupt):
            put(target(server.url, verify="content"))
    with RawServer(answers(answer(201), head, head + "data")) as server:
        put(target(server.url, verify="content"))


# Silences.


def test_a_put_without_an_answer_leaves_doubt() -> None:
    """It may still take effect later; it is given up in bounded time."""

    def script(sock: socket.socket) -> None:
        read_request(sock)
        time.sleep(30)

    with RawServer(script) as server:
        begun = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            put(target(server.url, read_timeout=0.5))
        assert time.monotonic() - begun < 10
    assert caught.value.doubt


def test_a_put_that_a_kept_connection_took_is_not_sent_again() -> None:
    """Promise 2: the server read it whole and closed; a second PUT could be undone by the first."""
    got: list[str] = []

    def script(sock: socket.socket) -> None:
        for text in (answer(201), "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"):
            got.append(read_request(sock)[0])
            sock.sendall(text.encode())
        got.append(read_request(sock)[0])

    with RawServer(script) as server:
        at = target(server.url)
        put(at)
        with pytest.raises(Unavailable) as caught:
            put(at)
        assert server.connections == 1
    assert caught.value.doubt
    assert got == ["PUT", "HEAD", "PUT"]


def test_an_answered_put_leaves_no_doubt() -> None:
    """Only its verification got no answer."""

    def script(sock: socket.socket) -> None:
        if server.connections == 1:
            read_request(sock)
            sock.sendall(answer(201).encode())
        read_request(sock)
        time.sleep(1)

    with RawServer(script) as server:
        with pytest.raises(Unavailable) as caught:
            put(target(server.url))
    assert not caught.value.doubt


def test_a_refused_connection_leaves_no_doubt() -> None:
    """Nothing was sent."""
    with pytest.raises(Unavailable) as caught:
        put(target(f"http://127.0.0.1:{free_port()}"))
    assert not caught.value.doubt


def test_an_unfinished_upload_leaves_no_doubt() -> None:
    """Closed after half of it: the server discards it."""

    def script(sock: socket.socket) -> None:
        head = read_head(sock)
        if head.startswith(b"MKCOL"):
            sock.sendall(answer(405).encode() * 3)
            read_head(sock)
            read_head(sock)
            read_head(sock)
        sock.recv(50_000)

    with RawServer(script) as server:
        with pytest.raises(Unavailable) as caught:
            target(server.url).put(FILE, ZeroContent(50_000_000))
    assert not caught.value.doubt


def test_a_paused_server_is_unavailable_and_then_works(nginx: MediaHost) -> None:
    """Also over connections that were open before."""
    at = target(nginx.url, read_timeout=2.0)
    put(at)
    nginx.pause()
    begun = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        put(at, b"while paused")
    assert caught.value.doubt
    with pytest.raises(Unavailable):
        at.probe()
    assert time.monotonic() - begun < 20
    nginx.resume()
    at.probe()
    # What doubt is about: the first PUT takes effect now, and not at once.
    deadline = time.monotonic() + 60
    while nginx.files()["media/a b/file.txt"] != b"while paused" and time.monotonic() < deadline:
        time.sleep(0.02)
    put(at, b"afterwards")
    assert nginx.files()["media/a b/file.txt"] == b"afterwards"


def test_a_restarted_server_costs_no_attempt(media_host: MediaHost) -> None:
    """Connections that it closed are replaced."""
    at = target(media_host.url, read_timeout=20.0)
    put(at)
    media_host.stop()
    with pytest.raises(Unavailable):
        at.probe()
    media_host.start()
    put(at, b"again")
    assert media_host.files()["media/a b/file.txt"] == b"again"


@pytest.mark.parametrize("size", [4, 300_000])
def test_what_nginx_closes_while_idle_costs_no_attempt(size: int) -> None:
    """Its own time-out and its reload: the next PUT and DELETE succeed the first time."""
    with Nginx(server="keepalive_timeout 1s;") as host:
        at = target(host.url, read_timeout=20.0)
        put(at, bytes(size))
        time.sleep(2)
        put(at, bytes(size))
        time.sleep(2)
        at.delete(FILE)
        assert host.process is not None
        for _ in range(3):
            put(at, bytes(size))
            before = set(descendants(host.process.pid)) - {host.process.pid}
            host.process.send_signal(signal.SIGHUP)
            # Until those that had the connection have gone: just when it is closed there would be a race.
            wait_until(lambda before=before: not before & set(descendants(host.process.pid)))
        put(at, b"last")
        assert host.files()["media/a b/file.txt"] == b"last"


def test_probe_is_up_unless_it_says_otherwise() -> None:
    """Any answer shows that it is up, but not one that it is broken or lets us not in."""
    for status, up in ((200, True), (404, True), (405, True), (501, True), (500, False), (503, False), (403, False)):
        with RawServer(answers(answer(status))) as server:
            if up:
                target(server.url).probe()
            else:
                with pytest.raises(TargetError):
                    target(server.url).probe()


# Folders.


def _guarded(host: MediaHost) -> None:
    at = target(host.url, read_timeout=20.0)
    host.write("media/folder/inside.txt", b"kept")
    (host.root / "media/empty").mkdir()
    host.own(host.root / "media")
    for name in ("folder", "empty"):
        with pytest.raises(Refused, match="folder"):
            at.delete(TargetFile("s", name, prefix="/media/"))
    with pytest.raises(Refused, match="folder"):
        at.delete(TargetFile("s", "media"))
    assert host.files()["media/folder/inside.txt"] == b"kept"
    assert (host.root / "media/empty").is_dir()


def test_a_folder_is_never_deleted(media_host: MediaHost) -> None:
    """Promise 6: empty or not, and whatever the server would do."""
    _guarded(media_host)


def test_a_folder_is_not_deleted_without_propfind() -> None:
    """nginx without its extra module tells by redirecting."""
    with Nginx(dav_ext_methods="") as host:
        _guarded(host)


@pytest.mark.parametrize(
    "directives",
    [
        "Options Indexes\nDirectoryIndex disabled",
        "Options Indexes\nDirectorySlash Off",
        "DirectorySlash Off\nDirectoryIndex inside.txt",
    ],
)
def test_a_folder_is_not_deleted_however_apache_shows_it(directives: str) -> None:
    """As a redirect, a listing (200), or its index file (200 with a length): its DELETE is recursive."""
    modules = "/usr/lib/apache2/modules"
    loads = f"LoadModule dir_module {modules}/mod_dir.so\nLoadModule autoindex_module {modules}/mod_autoindex.so"
    with Apache(modules=loads, directory=f"Require all granted\n{directives}") as host:
        _guarded(host)


def test_a_missing_folder_is_made_where_put_answers_500() -> None:
    """nginx without ``create_full_put_path``; and again when it was taken away meanwhile."""
    with Nginx(full_put_path="off") as host:
        at = target(host.url)
        for data in (b"small", os.urandom(300_000)):
            put(at, data, TargetFile("s", "deep/er/file.bin", prefix="/media/"))
            assert host.files()["media/deep/er/file.bin"] == data
            host.wipe()


def test_a_folder_that_another_thread_makes_at_that_moment_is_no_refusal() -> None:
    """Apache answers 403, not 405, if mkdir finds that it exists only now: those below it are still to be made."""
    folders = {"/"}

    def script(sock: socket.socket) -> None:
        while True:
            method, path, _ = read_request(sock)
            parent = path.rstrip("/").rpartition("/")[0] + "/"
            status = 409
            if method == "HEAD":
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
                continue
            if parent in folders:
                status = 201
                if method == "MKCOL":
                    status = 405 if path in folders else 403 if path == "/media/a/" else 201
                    folders.add(path)
            sock.sendall(answer(status).encode())

    with RawServer(script) as server:
        put(target(server.url), file=TargetFile("s", "a/b/c/file.txt", prefix="/media/"))
    assert folders == {"/", "/media/", "/media/a/", "/media/a/b/", "/media/a/b/c/"}


def test_a_file_too_large_says_what_to_change() -> None:
    """nginx takes 1 MiB unless told otherwise; the answer comes while the body is being sent."""
    with Nginx(server="", location="client_max_body_size 1m;") as host:
        at = target(host.url, read_timeout=20.0)
        put(at, bytes(1 << 20))
        with pytest.raises(Refused, match="client_max_body_size"):
            at.put(FILE, ZeroContent(200 << 20))
        assert len(host.files()["media/a b/file.txt"]) == 1 << 20


# A PUT that is not atomic.


def test_a_temporary_name_is_moved(nginx: MediaHost, lighttpd: MediaHost, apache: MediaHost) -> None:
    """``atomic_put=False``, for servers that show an upload under way: nothing else stays behind."""
    for host in (nginx, lighttpd, apache):
        at = target(host.url, atomic_put=False, read_timeout=20.0, verify="content")
        for name in ("ä b/new?.txt", "plain.txt"):
            file = TargetFile("s", name, prefix="/media/")
            for data in (b"small", os.urandom(300_000), b""):
                put(at, data, file)
                assert host.files()[f"media/{name}"] == data
        host.write("media/folder/inside.txt", b"kept")
        with pytest.raises(TargetError):
            put(at, b"no", TargetFile("s", "folder", prefix="/media/"))
        assert host.files()["media/folder/inside.txt"] == b"kept"
        assert len(host.files()) == 3


# Options.


def test_good_options_have_no_problem() -> None:
    """``check`` finds nothing."""
    for options in ({}, {"username": "u", "password": "p"}, {"token": "t"}, {"auth": "digest", "username": "u"}):
        assert target("https://media.example.com/dav", **options).check() == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "media.example.com"}, "http://"),
        ({"url": "ftp://media.example.com"}, "http://"),
        ({"url": "http://h:port"}, "url"),
        ({"url": "https://user:secret@host"}, "username and password"),
        ({"url": "https://host/?x=secret"}, "query"),
        ({"url": "https://host/a/../b"}, "path"),
        ({"verify": "md5"}, "content"),
        ({"auth": "ntlm"}, "digest"),
        ({"token": "secret", "username": "u"}, "token"),
        ({"password": "secret"}, "username"),
        ({"token": "secret\r\nX: y"}, "line end"),
        ({"url": "https://h", "ca_bundle": "/no/such/file.pem"}, "ca_bundle"),
        ({"url": "https://h", "client_key": __file__}, "client_cert"),
        ({"client_cert": __file__}, "https"),
        ({"read_timeout": 0}, "read_timeout"),
        ({"min_rate": -1.0}, "min_rate"),
        ({"headers": {"Host": "x"}}, "Host"),
        ({"headers": {"X": "y\r\nZ: secret"}}, "headers"),
    ],
)
def test_bad_options_are_found_without_any_network(options: dict[str, Any], words: str) -> None:
    """Each problem names the option and the cure; nothing is sent meanwhile; no secret is shown."""
    at = target(**{"url": "http://media.example.com", **options})
    messages = at.check()
    shown = " ".join(f"{message.msg} {message.hint}" for message in messages)
    assert words in shown
    assert "media1" in shown
    assert "secret" not in shown
    with pytest.raises(Refused) as caught:
        at.stat(FILE)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [{"url": 5}, {"url": None}, {"username": None}, {"read_timeout": "5"}, {"atomic_put": "no"}, {"headers": "X: y"}],
)
def test_a_wrong_type_is_refused_with_what_to_write(options: dict[str, Any]) -> None:
    """When the target is made."""
    (name,) = options
    with pytest.raises(TypeError, match=f"{name} .*write"):
        target(**{"url": "http://h", **options})


def test_no_credential_is_ever_shown(caplog: pytest.LogCaptureFixture) -> None:
    """Promise 9: not in an error, a repr, a log line or a check."""
    shown: list[str] = []
    urls = [f"http://127.0.0.1:{free_port()}"]
    with Embedded(user="u", password="other") as host, RawServer(lambda sock: None) as raw:
        urls += [host.url, raw.url]
        for url in urls:
            for options in ({"username": "u", "password": "s3cret"}, {"token": "s3cret"}):
                for auth in ("basic", "digest"):
                    at = target(url, auth=auth, **options)
                    shown += [repr(at), repr(vars(at)), repr(at._options), str(at.check())]
                    for call in (lambda: put(at), lambda: at.delete(FILE), at.probe):  # noqa: B023
                        with pytest.raises(TargetError) as caught:
                            call()
                        shown += [str(caught.value), repr(caught.value)]
    assert "s3cret" not in " ".join(shown) + caplog.text
