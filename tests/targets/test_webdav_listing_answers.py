"""What is made of answers to PROPFIND: those of servers that lie, break off or hang, too."""

from __future__ import annotations

import socket
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from replicator.errors import Corrupt, Refused, TargetError, Unavailable
from replicator.targets import ability, multistatus, webdavlisting
from replicator.targets.base import Entry
from replicator.targets.webdav import WebDAVTarget
from tests.processes import free_port
from tests.targets.rawserver import RawServer, answers, read_request

START = '<?xml version="1.0" encoding="utf-8"?><D:multistatus xmlns:D="DAV:">'
END = "</D:multistatus>"
FOLDER = "<D:collection/>"
ITSELF = "/media/"


def target(url: str, **options: Any) -> WebDAVTarget:
    return WebDAVTarget("media1", **{"url": url, "connect_timeout": 10.0, "read_timeout": 10.0, **options})


def names(at: WebDAVTarget, prefix: str = "/media/") -> list[str]:
    return sorted(entry.name for entry in at.entries(prefix))


def told(
    href: str, kind: str = "", size: str = "<D:getcontentlength>3</D:getcontentlength>", status: str = "200 OK"
) -> str:
    """One resource, as servers tell of it."""
    modified = "<D:getlastmodified>Sat, 21 Nov 2026 14:31:36 GMT</D:getlastmodified>"
    properties = f"<D:prop><D:resourcetype>{kind}</D:resourcetype>{size}{modified}</D:prop>"
    return (
        f"<D:response><D:href>{href}</D:href><D:propstat>{properties}<D:status>HTTP/1.1 {status}</D:status>"
        "</D:propstat></D:response>"
    )


def answer(body: str, status: str = "207 Multi-Status", *fields: str) -> str:
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body.encode())}", *fields, "", body])


def multi(*resources: str) -> str:
    return answer(START + told(ITSELF, FOLDER) + "".join(resources) + END)


def listed(*texts: str) -> list[Entry]:
    """What a target makes of these answers, one after another."""
    with RawServer(answers(*texts)) as server:
        return list(target(server.url).entries("/media/"))


def test_a_listing_is_asked_for_folder_by_folder() -> None:
    """Never all at once, which servers refuse or choke on; and only for what is needed."""
    heads: list[str] = []

    def script(sock: socket.socket) -> None:
        for text in (
            multi(told("/media/b/", FOLDER)),
            answer(START + told("/media/b/", FOLDER) + told("/media/b/x") + END),
        ):
            head = b""
            while b"</propfind>" not in head:
                head += sock.recv(65536)
            heads.append(head.decode())
            sock.sendall(text.encode())

    with RawServer(script) as server:
        found = list(target(server.url).entries("/media/"))
    assert [entry.name for entry in found] == ["b/x"]
    assert [head.partition(" HTTP")[0] for head in heads] == ["PROPFIND /media/", "PROPFIND /media/b/"]
    for head in heads:
        assert "\r\nDepth: 1\r\n" in head
        assert "<prop><resourcetype/><getcontentlength/><getlastmodified/></prop>" in head


@pytest.mark.parametrize(
    ("href", "name"),
    [
        ("/media/a%20b.txt", "a b.txt"),
        ("https://cdn.example.com/media/a.txt", "a.txt"),
        ("HTTP://10.0.0.1:8080/media/a.txt", "a.txt"),
        ("/%6dedia/a.txt", "a.txt"),
        ("/media/%c3%A9.txt", "é.txt"),
        ("/media/é&amp;.txt", "é&.txt"),
        ("\n  /media/a.txt\n", "a.txt"),
        ("/media/%2541", "%41"),
        ("/media/a;b:c@d", "a;b:c@d"),
    ],
)
def test_a_path_is_understood_however_it_is_written(href: str, name: str) -> None:
    """Servers encode in their own ways, and give a path or a URL; one behind a proxy knows another host."""
    assert [entry.name for entry in listed(multi(told(href)))] == [name]


def test_what_is_not_told_is_unknown() -> None:
    """A length or a time that misses, or is none; a folder can be told by its slash alone."""
    unknown = told("/media/a", size="").replace("Sat, 21 Nov 2026 14:31:36 GMT", "yesterday")
    broken = told("/media/b", size="<D:getcontentlength>-3</D:getcontentlength>")
    apache = told("/media/c", size="").replace(
        "</D:response>",
        "<D:propstat><D:prop><D:getcontentlength/></D:prop><D:status>HTTP/1.1 404 Not Found</D:status></D:propstat>"
        "</D:response>",
    )
    bare = "<D:response><D:href>/media/d/</D:href><D:status>HTTP/1.1 200 OK</D:status></D:response>"
    below = answer(START + told("/media/d/", FOLDER) + END)
    found = listed(multi(unknown, broken, apache, bare), below)
    assert found[0] == Entry("a", None, None)
    assert [(entry.name, entry.size) for entry in found[1:]] == [("b", None), ("c", None)]


def test_the_server_may_name_its_namespace_as_it_likes() -> None:
    """Any prefix, or none."""
    whole = START + told(ITSELF, FOLDER) + told("/media/x") + END
    plain = whole.replace("<D:", "<").replace("</D:", "</").replace('xmlns:D="DAV:"', 'xmlns="DAV:"')
    other = whole.replace("<D:", "<lp1:").replace("</D:", "</lp1:").replace("xmlns:D=", "xmlns:lp1=")
    for body in (whole, plain, other):
        assert [entry.size for entry in listed(answer(body))] == [3]


def test_a_folder_that_goes_meanwhile_is_empty() -> None:
    """It is listed as its parent's answer says, and not there any more when it is asked for."""
    gone = "<D:response><D:href>/media/went</D:href><D:status>HTTP/1.1 404 Not Found</D:status></D:response>"
    first = multi(told("/media/a"), told("/media/b/", FOLDER), gone)
    for second in (
        answer("", "404 Not Found"),
        answer("", "410 Gone"),
        answer(START + told("/media/b/", FOLDER) + END),
    ):
        assert [entry.name for entry in listed(first, second)] == ["a"]


def test_nginx_is_asked_again_when_a_file_went_while_it_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers 500 then. Not for ever: a link that leads nowhere is a 500 each time."""
    monkeypatch.setattr(webdavlisting, "_PAUSES", (0.01, 0.02))
    failed = answer("", "500 Internal Server Error")
    assert [entry.name for entry in listed(failed, failed, multi(told("/media/a")))] == ["a"]
    with pytest.raises(Unavailable, match="500 to PROPFIND /media/"):
        listed(failed, failed, failed, multi(told("/media/a")))


@pytest.mark.parametrize(
    "href",
    [
        "/other/a.txt", "/media/b/c", "/mediax/a", "/a", "a.txt", "", "/media/..", "/media/%2e%2e", "/media/.",
        "/media/a%2fb", "/media/%2e%2e%2fsecret", "/media/nul%00", "/media//a", "/media/../media/a", "https://other/a",
        "ftp://other/media/a", "//media/a",
    ],
)  # fmt: skip
def test_what_is_outside_of_the_folder_is_refused(href: str) -> None:
    """Promise 6: an answer can't make anybody look, or delete, somewhere else."""
    with pytest.raises(Corrupt, match="not in this folder"):
        listed(multi(told(href)))


@pytest.mark.parametrize(
    ("resource", "error"),
    [
        (told("/media/b/", FOLDER, status="403 Forbidden"), Refused),
        (told("/media/b", status="500 Internal Server Error"), Unavailable),
        ("<D:response><D:href>/media/b</D:href><D:status>HTTP/1.1 507 x</D:status></D:response>", Unavailable),
        ("<D:response><D:href>/media/b</D:href><D:status>HTTP/1.1 403 x</D:status></D:response>", Refused),
        ("<D:response><D:href>/media/b</D:href><D:status>fine</D:status></D:response>", Corrupt),
        (told("/media/b", status=""), Corrupt),
    ],
)
def test_what_the_server_could_not_look_at_is_an_error(resource: str, error: type[TargetError]) -> None:
    """The answer as a whole is a 207: what it says of each is what counts."""
    with pytest.raises(error):
        listed(multi(told("/media/a"), resource))


WHOLE = START + told(ITSELF, FOLDER) + told("/media/a") + END
BOMB = (
    (
        '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
        '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>'
    )
    + START.partition("?>")[2]
    + told(ITSELF, FOLDER)
    + told("/media/&c;")
    + END
)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (answer(WHOLE[: -len(END)]), Unavailable),
        (answer(WHOLE[: WHOLE.index("/media/a") + 4]), Unavailable),
        (answer(""), Unavailable),
        (answer(START + told("/media/a") + END), Unavailable),
        (answer(START + END), Unavailable),
        (answer("<html><body>Welcome</body></html>"), Corrupt),
        (answer("Welcome"), Unavailable),
        (answer(WHOLE.replace("<D:prop>", "<D:prop", 1)), Corrupt),
        (answer(WHOLE + "<more/>"), Corrupt),
        (answer(BOMB), Corrupt),
        (answer('<!DOCTYPE x SYSTEM "file:///etc/passwd">' + WHOLE.partition("?>")[2]), Corrupt),
        (answer("", "200 OK"), Refused),
        (answer("", "301 Moved", "Location: http://u:secret@elsewhere/media/?secret"), Refused),
        (answer("", "401 Unauthorized"), Refused),
        (answer("", "403 Forbidden"), Refused),
        (answer("", "405 Not Allowed"), Refused),
        (answer("", "501 Not Implemented"), Refused),
        (answer("", "429 Too Many"), Unavailable),
        (answer("", "502 Bad Gateway"), Unavailable),
        (answer("", "503 Busy"), Unavailable),
    ],
)  # fmt: skip
def test_anything_but_a_whole_answer_is_an_error(text: str, error: type[TargetError]) -> None:
    """Half of a listing would make the other half look missing."""
    with pytest.raises(error) as caught:
        listed(text)
    assert "secret" not in str(caught.value)


@contextmanager
def serving(script: Callable[[socket.socket], None], **options: Any) -> Iterator[WebDAVTarget]:
    with RawServer(script) as server:
        yield target(server.url, **options)


def test_an_answer_that_breaks_off_is_an_error() -> None:
    """In the middle of what was announced, between two chunks, or by the end of the connection."""
    chunk = f"{len(WHOLE.encode()):x}\r\n{WHOLE}\r\n"
    for head, body in (
        ("Content-Length: 9999", WHOLE),
        ("Transfer-Encoding: chunked", chunk),
        ("Transfer-Encoding: chunked", chunk[:-20]),
        ("Connection: close", WHOLE[:-20]),
    ):

        def script(sock: socket.socket, text: str = f"HTTP/1.1 207 M\r\n{head}\r\n\r\n{body}") -> None:
            read_request(sock)
            sock.sendall(text.encode())

        with serving(script) as at, pytest.raises(Unavailable):
            list(at.entries("/media/"))


def test_a_server_that_hangs_is_not_waited_for() -> None:
    """Before its answer, or in the middle of it."""
    for text in ("", "HTTP/1.1 207 M\r\nContent-Length: 9999\r\n\r\n" + WHOLE):

        def script(sock: socket.socket, text: str = text) -> None:
            read_request(sock)
            sock.sendall(text.encode())
            sock.recv(1)

        begun = time.monotonic()
        with serving(script, read_timeout=0.5) as at:
            with pytest.raises(Unavailable):
                list(at.entries("/media/"))
            assert time.monotonic() - begun < 8
            if not text:
                with pytest.raises(Unavailable):
                    at.can_list()
    with pytest.raises(Unavailable, match="could not be connected to"):
        list(target(f"http://127.0.0.1:{free_port()}").entries("/media/"))


@pytest.mark.parametrize("filler", ["<D:x>", "x", "<!-- x -->", " ", "<D:x/>"])
def test_an_endless_answer_takes_no_memory(filler: str) -> None:
    """Whoever sends gigabytes that tell of nothing is left."""
    sent = 0

    def script(sock: socket.socket) -> None:
        nonlocal sent
        read_request(sock)
        head = (
            f"HTTP/1.1 207 M\r\nContent-Length: 99999999999\r\n\r\n{START}{told(ITSELF, FOLDER)}<D:response><D:href>"
        )
        sock.sendall(head.encode())
        piece = (filler * (65536 // len(filler))).encode()
        while True:
            sock.sendall(piece)
            sent += len(piece)

    with serving(script) as at:
        tracemalloc.start()
        try:
            with pytest.raises(Corrupt, match="more than"):
                list(at.entries("/media/"))
            assert tracemalloc.get_traced_memory()[1] < 16 * 1024 * 1024
        finally:
            tracemalloc.stop()
    assert sent < 64 * 1024 * 1024


def test_folders_without_an_end_are_given_up() -> None:
    """Each has one more inside."""

    def script(sock: socket.socket) -> None:
        while True:
            path = read_request(sock)[1]
            sock.sendall(answer(START + told(path, FOLDER) + told(f"{path}x/", FOLDER) + END).encode())

    with RawServer(script) as server, pytest.raises(Refused, match="more than 32 deep: remove the link"):
        list(target(server.url).entries("/media/"))


def test_a_folder_of_any_size_takes_no_memory() -> None:
    """Twenty thousand files in it, told of in 6 MB."""
    count = 20_000

    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(f"HTTP/1.1 207 M\r\nConnection: close\r\n\r\n{START}{told(ITSELF, FOLDER)}".encode())
        for number in range(0, count, 100):
            sock.sendall("".join(told(f"/media/{number + each}.jpg") for each in range(100)).encode())
        sock.sendall(END.encode())

    with serving(script) as at:
        tracemalloc.start()
        try:
            assert sum(1 for _ in at.entries("/media/")) == count
            assert tracemalloc.get_traced_memory()[1] < 2 * 1024 * 1024
        finally:
            tracemalloc.stop()


def test_the_whole_is_not_taken_from_a_pause() -> None:
    """What is asked for lazily is left lazily: the connection is dropped, the next request gets its own answer."""
    many = "".join(told(f"/media/{number}") for number in range(2000))
    with RawServer(answers(multi(many), multi(told("/media/only")))) as server:
        at = target(server.url)
        listing = at.entries("/media/")
        assert next(listing).name == "0"
        del listing
        server.script = answers(multi(told("/media/only")))
        assert names(at) == ["only"]


# Whether it can.


@pytest.mark.parametrize(
    ("status", "can"),
    [
        ("207 Multi-Status", True), ("200 OK", False), ("400 Bad", False), ("403 Forbidden", False),
        ("404 Not Found", False), ("405 Not Allowed", False), ("501 Not Implemented", False),
    ],
)  # fmt: skip
def test_a_server_is_asked_whether_it_lists(status: str, can: bool) -> None:
    """About its root alone, and once a minute."""
    asked: list[tuple[str, str]] = []

    def script(sock: socket.socket) -> None:
        while True:
            method, path, _ = read_request(sock)
            asked.append((method, path))
            sock.sendall(answer("", status).encode())

    with RawServer(script) as server:
        at = target(f"{server.url}/dav")
        assert [at.can_list() for _ in range(3)] == [can] * 3
    assert asked == [("PROPFIND", "/dav/")]


@pytest.mark.parametrize(
    ("status", "error"),
    [("401 No", Refused), ("302 Found", Refused), ("500 Error", Unavailable), ("503 Busy", Unavailable)],
)
def test_whether_it_lists_is_not_known_from_an_error(
    status: str, error: type[TargetError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked again; and what it said is believed for a while only."""
    with RawServer(answers(answer("", status), answer("", "207 M"), answer("", "405 No"))) as server:
        at = target(server.url)
        with pytest.raises(error):
            at.can_list()
        assert at.can_list()
        monkeypatch.setattr(ability, "BELIEVED", 0.0)
        assert not at.can_list()


def test_a_prober_does_not_wait_long() -> None:
    """Three seconds, whatever the target's time limits are."""

    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.recv(1)

    begun = time.monotonic()
    with RawServer(script) as server, pytest.raises(Unavailable):
        target(server.url, read_timeout=60.0).can_list()
    assert time.monotonic() - begun < 20


def test_pieces_of_any_size_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag, a name or a character may be cut in two."""
    text = multi(told("/media/é &amp; è.txt"), told("/media/b"))
    whole = listed(text)
    monkeypatch.setattr(multistatus, "_PIECE", 1)
    assert listed(text) == whole
    assert [entry.name for entry in whole] == ["é & è.txt", "b"]
