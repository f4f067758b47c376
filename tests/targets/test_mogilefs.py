"""What a careful client of MogileFS does: each care has a failure that it survives, made to happen for real."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from replicator.errors import Corrupt, LeaseEnded, Refused, TargetError, Unavailable
from replicator.targets import mogiledomain
from replicator.targets.base import Entry, TargetFile
from replicator.targets.mogilefs import MogileFSTarget
from replicator.targets.tracker import Trackers
from replicator.testing import BytesContent
from tests.mogilefs.cluster import MogileFS
from tests.processes import free_port
from tests.targets.rawserver import RawServer, read_head, read_request

SMALL = b"a few bytes"
#: Streamed, and sent in several pieces.
LARGE = bytes(range(256)) * 4096 * 3
SIZES = pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])


@pytest.fixture(scope="module")
def installation() -> Iterator[MogileFS]:
    with MogileFS(trackers=2, classes=["avatar:2", "thumb:1", "hashed:1:MD5"], idle=0.5) as mogilefs:
        yield mogilefs


@pytest.fixture
def mogilefs(installation: MogileFS) -> MogileFS:
    """Nothing in it, nothing wrong with it; no copies are made or removed behind a test's back."""
    installation.control("wipe")
    installation.control("background", paused=True)
    return installation


@pytest.fixture
def make(mogilefs: MogileFS) -> Iterator[Callable[..., MogileFSTarget]]:
    made: list[MogileFSTarget] = []

    def make(**options: object) -> MogileFSTarget:
        given = {
            "domain": mogilefs.domain,
            "trackers": mogilefs.trackers,
            "base_url": "/media/",
            "read_timeout": 20.0,
        }
        target = MogileFSTarget("mogilefs", **(given | options))  # type: ignore[arg-type]
        made.append(target)
        return target

    yield make
    for target in made:
        target.close()


@pytest.fixture
def target(make: Callable[..., MogileFSTarget]) -> MogileFSTarget:
    return make()


@pytest.fixture
def hasty(make: Callable[..., MogileFSTarget]) -> MogileFSTarget:
    """One that gives up what takes longer than two seconds."""
    return make(read_timeout=2.0)


def _file(name: str = "a.txt", data: bytes = SMALL, mogile_class: str = "") -> TargetFile:
    digest = hashlib.sha256(data).hexdigest()
    return TargetFile("default", name, "/media/", len(data), digest, mogile_class=mogile_class)


def _put(target: MogileFSTarget, name: str = "a.txt", data: bytes = SMALL, mogile_class: str = "") -> TargetFile:
    file = _file(name, data, mogile_class)
    target.put(file, BytesContent(data))
    return file


def _read(target: MogileFSTarget, file: TargetFile) -> bytes:
    with target.open(file) as reader:
        return reader.read()


def _is_unseen(mogilefs: MogileFS, key: str = "a.txt") -> bool:
    return mogilefs.stored(key) is None


# PUT to what was offered.


@SIZES
def test_the_next_place_gets_the_whole_file(mogilefs: MogileFS, target: MogileFSTarget, data: bytes) -> None:
    """A node that fails after it took the body: the content is rewound for the next one, of the same create_open."""
    mogilefs.control("fault", kind="offer", command="create_open", value=[1, 3])
    mogilefs.control("fault", kind="offer", command="create_open", value=[1])
    mogilefs.control("fault", node=1, kind="answer", command="PUT", value=500)
    _put(target, data=data)
    assert mogilefs.files() == {"a.txt": data}


@SIZES
def test_a_hung_node_is_waited_for_once(mogilefs: MogileFS, hasty: MogileFSTarget, data: bytes) -> None:
    """Often both offers are devices of one host: the second is not tried when the first said nothing."""
    mogilefs.control("monitor", looking=False)
    mogilefs.control("node", number=1, do="hang")
    mogilefs.control("fault", kind="offer", command="create_open", value=[1, 2])
    mogilefs.control("fault", kind="offer", command="create_open", value=[2, 1, 3])
    begun = time.monotonic()
    _put(hasty, data=data)
    assert time.monotonic() - begun < 3.8
    mogilefs.control("node", number=1, do="start")
    assert mogilefs.files() == {"a.txt": data}


def test_a_node_that_said_nothing_is_tried_last_by_the_next_file(mogilefs: MogileFS, hasty: MogileFSTarget) -> None:
    """Promise 7: one bad node does not cost each file a time-out."""
    mogilefs.control("monitor", looking=False)
    mogilefs.control("node", number=1, do="hang")
    mogilefs.control("fault", kind="offer", command="create_open", value=[1, 3], times=11)
    _put(hasty)
    begun = time.monotonic()
    for number in range(10):
        _put(hasty, f"{number}.txt")
    assert time.monotonic() - begun < 15, "one wait, not ten"
    mogilefs.control("node", number=1, do="start")


@SIZES
def test_when_all_that_was_offered_fails_others_are_asked_for(
    mogilefs: MogileFS, target: MogileFSTarget, data: bytes
) -> None:
    """The second create_open may offer what the first did not."""
    mogilefs.control("monitor", looking=False)
    mogilefs.control("node", number=2, do="stop")
    mogilefs.control("monitor", looking=False)
    mogilefs.control("fault", kind="offer", command="create_open", value=[3, 4])
    mogilefs.control("fault", kind="offer", command="create_open", value=[4, 5])
    _put(target, data=data)
    mogilefs.control("node", number=2, do="start")
    assert mogilefs.files() == {"a.txt": data}


def test_no_node_is_unavailable_without_doubt(mogilefs: MogileFS, target: MogileFSTarget) -> None:
    """Nothing was closed, so nothing can be seen later."""
    for number in (1, 2, 3):
        mogilefs.control("node", number=number, do="stop")
    with pytest.raises(Unavailable, match="no storage node has room") as caught:
        _put(target)
    assert not caught.value.doubt
    with pytest.raises(Unavailable, match="no storage node can be written to"):
        target.probe()


@SIZES
def test_bytes_that_changed_on_their_way_are_not_kept(
    mogilefs: MogileFS, target: MogileFSTarget, data: bytes
) -> None:
    """The node compares them with Content-MD5, which each PUT has; the next place gets the file."""
    mogilefs.control("fault", kind="offer", command="create_open", value=[1, 3])
    with _changed_on_the_way(mogilefs, lambda head, body: head + bytes([body[0] ^ 1]) + body[1:]) as proxy:
        _put(target, data=data)
    assert proxy.connections == 1
    assert mogilefs.files() == {"a.txt": data}


def test_bytes_that_keep_changing_are_corrupt(mogilefs: MogileFS, target: MogileFSTarget) -> None:
    """What is wrong has a name: someone should look at the network or the node."""
    mogilefs.control("fault", kind="offer", command="create_open", value=[1], times=2)
    with _changed_on_the_way(mogilefs, lambda head, body: head + bytes([body[0] ^ 1]) + body[1:]):
        with pytest.raises(Corrupt, match="other bytes arrived at") as caught:
            _put(target)
    assert not caught.value.doubt


@SIZES
def test_a_file_that_was_cut_off_is_not_closed(mogilefs: MogileFS, target: MogileFSTarget, data: bytes) -> None:
    """A node keeps what arrived, and a create_close without ``size`` would take that for the file."""
    mogilefs.control("fault", kind="offer", command="create_open", value=[1, 3])

    def cut(head: bytes, body: bytes) -> bytes:
        lines = [line for line in head.split(b"\r\n") if not line.startswith((b"Content-MD5", b"Content-Length"))]
        lines.insert(1, b"Content-Length: %d" % (len(body) // 2))
        return b"\r\n".join(lines) + body[: len(body) // 2]

    with _changed_on_the_way(mogilefs, cut) as proxy:
        _put(target, data=data)
    assert proxy.connections == 1
    assert mogilefs.files() == {"a.txt": data}


@contextmanager
def _changed_on_the_way(mogilefs: MogileFS, change: Callable[[bytes, bytes], bytes]) -> Iterator[RawServer]:
    """The trackers give node1 the address of a proxy that changes each request."""

    def proxy(sock: socket.socket) -> None:
        while True:
            head = read_head(sock)
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
            body = b""
            while len(body) < length:
                body += sock.recv(length - len(body)) or b"?"
            with socket.create_connection(("127.0.0.1", mogilefs.node_ports[0]), timeout=30) as node:
                node.sendall(change(head, body))
                sock.sendall(node.recv(65536))

    trackers = Trackers(mogilefs.trackers, connect_timeout=30, read_timeout=30)
    with RawServer(proxy) as server:
        trackers.ask("update_host", {"host": "node1", "port": server.port})
        try:
            yield server
        finally:
            trackers.ask("update_host", {"host": "node1", "port": mogilefs.node_ports[0]})
            trackers.close()


# create_close.


def test_a_close_whose_answer_is_lost_is_looked_up(mogilefs: MogileFS, target: MogileFSTarget) -> None:
    """It took effect: the key holds the fid that was closed, and nothing is sent again."""
    mogilefs.control("fault", kind="eof", command="create_close")
    _put(target)
    assert mogilefs.files() == {"a.txt": SMALL}
    assert len(mogilefs.on_disk()) == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "eof", "value": "before"},
        {"kind": "slow", "seconds": 3.0, "times": 1},
        {"kind": "rerun", "value": False},
        {"kind": "answer", "value": "ERR failure Operation+failed"},
    ],
    ids=["connection closed", "no answer in time", "no_temp_file", "failure"],
)
def test_a_close_that_may_yet_take_effect_is_a_doubt(
    mogilefs: MogileFS, hasty: MogileFSTarget, fault: dict[str, object]
) -> None:
    """Promise 2: the key does not hold what was stored, and could a moment later."""
    _put(hasty, data=b"old")
    mogilefs.control("fault", command="create_close", **fault)
    if fault["kind"] == "slow":
        # file_info finds the fid in place only if it is asked after the close: let it see the time before.
        mogilefs.control("fault", kind="answer", command="file_info", value="OK fid=1&length=3")
    with pytest.raises(Unavailable) as caught:
        _put(hasty)
    assert caught.value.doubt


def test_a_doubtful_close_takes_effect_late(mogilefs: MogileFS, target: MogileFSTarget) -> None:
    """What the doubt is about: the first run of a close ends after all that the client did since."""
    mogilefs.control("fault", kind="rerun", command="create_close", value=True, seconds=2.0)
    with pytest.raises(Unavailable) as caught:
        _put(target, data=b"stale")
    assert caught.value.doubt
    _put(target, data=b"newer")
    assert mogilefs.files() == {"a.txt": b"newer"}
    _until(lambda: mogilefs.files() == {"a.txt": b"stale"})


def test_a_rerun_close_that_took_effect_is_a_success(mogilefs: MogileFS, target: MogileFSTarget) -> None:
    """no_temp_file is also what the second run of a close says whose first run stored the file."""
    mogilefs.control("fault", kind="rerun", command="create_close", value=True, seconds=0)
    mogilefs.control("fault", kind="slow", command="create_close", seconds=0.3)
    _put(target)
    assert mogilefs.files() == {"a.txt": SMALL}


def test_a_doubtful_close_with_no_tracker_to_ask_is_a_doubt(mogilefs: MogileFS, target: MogileFSTarget) -> None:
    """It may have taken effect: nobody can tell."""
    mogilefs.control("fault", kind="eof", command="create_close")
    mogilefs.control("fault", kind="eof", command="file_info", value="before", times=8)
    with pytest.raises(Unavailable) as caught:
        _put(target)
    assert caught.value.doubt


@SIZES
def test_a_failed_close_starts_again_from_create_open(
    mogilefs: MogileFS, target: MogileFSTarget, data: bytes
) -> None:
    """The fid is spent: closing it once more says no_temp_file. Nothing was stored, so this is no doubt."""
    # The node lost it between PUT and close.
    mogilefs.control("fault", kind="offer", command="create_open", value=[1])
    mogilefs.control("fault", kind="offer", command="create_open", value=[3])
    mogilefs.control("fault", node=1, kind="answer", command="HEAD", value=404)
    _put(target, data=data)
    assert mogilefs.files() == {"a.txt": data}


def test_a_size_that_differs_again_and_again_is_corrupt(mogilefs: MogileFS, target: MogileFSTarget) -> None:
    """And leaves what was there."""
    _put(target, data=b"old")
    mogilefs.control("fault", kind="size_mismatch", command="create_close", times=2)
    with pytest.raises(Corrupt, match="size_mismatch") as caught:
        _put(target)
    assert not caught.value.doubt
    assert mogilefs.files() == {"a.txt": b"old"}


def test_nothing_is_closed_once_the_lease_has_ended(mogilefs: MogileFS, target: MogileFSTarget) -> None:
    """Promise 2: another worker may be sending a newer version; asked before each of the three requests."""
    for allowed in range(3):
        left = allowed

        def may_send() -> None:
            nonlocal left
            if not left:
                raise LeaseEnded("ended")
            left -= 1

        with pytest.raises(LeaseEnded):
            target.put(replace(_file(), may_send=may_send), BytesContent(SMALL))
        assert _is_unseen(mogilefs)


# Classes.


def test_each_file_gets_its_class(mogilefs: MogileFS, make: Callable[..., MogileFSTarget]) -> None:
    """The file's; else the target's; else the domain's, which must not be named."""
    _put(make(), "avatar.png", mogile_class="avatar")
    _put(make(default_class="thumb"), "thumb.png")
    _put(make(), "none.png")
    _put(make(), "default.png", mogile_class="default")
    found = {key: stored.mogile_class for key in mogilefs.keys() if (stored := mogilefs.stored(key))}  # noqa: SIM118
    assert found == {"avatar.png": "avatar", "thumb.png": "thumb", "none.png": "default", "default.png": "default"}


def test_an_unknown_class_is_refused_by_name(target: MogileFSTarget) -> None:
    """A person must make it, or write another: the message says both."""
    with pytest.raises(Refused, match=r"domain 'testdomain' has no class 'avatr'.*mogadm class add testdomain avatr"):
        _put(target, mogile_class="avatr")
    _put(target, mogile_class="avatar")
    with pytest.raises(Refused, match="has no class 'avatr'"):
        target.reclass(_file(mogile_class="avatr"))


def test_an_unknown_domain_is_refused_by_name(make: Callable[..., MogileFSTarget]) -> None:
    """Whatever is asked."""
    target = make(domain="nope")
    calls: list[Callable[[], object]] = [
        lambda: _put(target),
        lambda: target.stat(_file()),
        lambda: target.delete(_file()),
        lambda: target.paths(_file()),
        lambda: list(target.entries()),
        target.classes,
        target.probe,
    ]
    for call in calls:
        with pytest.raises(Refused, match="know no domain 'nope'"):
            call()


def test_a_class_is_changed_without_a_second_upload(mogilefs: MogileFS, target: MogileFSTarget) -> None:
    """The fid stays; both ways, also to the default class; and when nothing is left to change."""
    _put(target, mogile_class="avatar")
    before = mogilefs.stored("a.txt")
    assert before is not None
    for wanted in ("thumb", "default", "avatar", "avatar"):
        assert target.reclass(_file(mogile_class=wanted))
        after = mogilefs.stored("a.txt")
        assert after is not None
        assert (after.fid, after.mogile_class) == (before.fid, wanted)


def test_what_can_only_be_sent_is_not_reclassed(mogilefs: MogileFS, target: MogileFSTarget) -> None:
    """Nothing there, or other bytes."""
    assert not target.reclass(_file(mogile_class="thumb"))
    _put(target, mogile_class="avatar")
    assert not target.reclass(_file(data=b"another length", mogile_class="thumb"))
    stored = mogilefs.stored("a.txt")
    assert stored is not None
    assert stored.mogile_class == "avatar"


@pytest.mark.parametrize("code", ["invalid_key", "no_devices"])
def test_a_key_that_went_away_is_sent_again(mogilefs: MogileFS, target: MogileFSTarget, code: str) -> None:
    """It is not there any more, or has no copy left: another class would not bring it back."""
    _put(target, mogile_class="avatar")
    mogilefs.control("fault", kind="answer", command="updateclass", value=f"ERR {code}")
    assert not target.reclass(_file(mogile_class="thumb"))


@pytest.mark.parametrize("command", ["updateclass", "delete"])
def test_a_change_without_an_answer_is_a_doubt(mogilefs: MogileFS, target: MogileFSTarget, command: str) -> None:
    """It is not repeated at another tracker, where it could pass the first."""
    _put(target, mogile_class="avatar")
    mogilefs.control("fault", kind="eof", command=command, value="before")
    with pytest.raises(Unavailable) as caught:
        target.delete(_file()) if command == "delete" else target.reclass(_file(mogile_class="thumb"))
    assert caught.value.doubt
    assert not _is_unseen(mogilefs)


def test_stat_tells_the_checksum_of_a_class_that_hashes(target: MogileFSTarget) -> None:
    """No file need be read to be compared."""
    file = _put(target, mogile_class="hashed")
    found = target.stat(file)
    assert found is not None
    assert found.checksums == {"md5": hashlib.md5(SMALL, usedforsecurity=False).hexdigest()}
    plain = target.stat(_put(target, "plain.txt"))
    assert plain is not None
    assert plain.checksums == {}
    assert (found.mogile_class, plain.mogile_class) == ("hashed", "")


def test_it_knows_the_classes_of_its_domain(mogilefs: MogileFS, target: MogileFSTarget) -> None:
    """So that a misspelt one is found before a million files are given it."""
    assert sorted(target.classes()) == ["avatar", "default", "hashed", "thumb"]


# Reading.


def test_a_dead_path_is_passed_over(mogilefs: MogileFS, target: MogileFSTarget) -> None:
    """Trackers hand them out: what a 404 says is not the file."""
    file = _put(target)
    dead = f"http://127.0.0.1:{mogilefs.node_ports[0]}/dev1/0/000/000/0000099999.fid"
    mogilefs.control("fault", kind="dead_path", command="get_paths", value=dead)
    assert _read(target, file) == SMALL


def test_a_hung_node_is_passed_over_and_then_tried_last(mogilefs: MogileFS, hasty: MogileFSTarget) -> None:
    """noverify=1: a tracker that looked at the node itself would take half a minute. One time-out, not one each."""
    mogilefs.control("background", paused=False)
    mogilefs.control("monitor", looking=False)
    files = [_put(hasty, f"{number}.txt", mogile_class="avatar") for number in range(8)]
    _until(lambda: all(len(mogilefs.copies(f"{number}.txt")) == 2 for number in range(8)))
    mogilefs.control("node", number=1, do="hang")
    begun = time.monotonic()
    assert [_read(hasty, file) for file in files] == [SMALL] * 8
    assert time.monotonic() - begun < 12, "one wait, not eight"
    mogilefs.control("node", number=1, do="start")


def test_a_key_without_copies_is_unavailable_not_absent(mogilefs: MogileFS, target: MogileFSTarget) -> None:
    """``OK paths=0`` happens, and so does a single path that is dead: the file is known, and may come back."""
    file = _put(target)
    mogilefs.control("fault", kind="answer", command="get_paths", value="OK paths=0")
    with pytest.raises(Unavailable, match="no copy can be read"):
        _read(target, file)
    for path in mogilefs.copies("a.txt"):
        path.unlink()
    with pytest.raises(Unavailable, match="404 to GET"):
        _read(target, file)


def test_parts_are_read_by_absolute_ranges(target: MogileFSTarget) -> None:
    """Perlbal gives the first six bytes to who asks for the last five."""
    data = bytes(range(200))
    paths = target.paths(_put(target, data=data))
    for start, stop in ((0, 10), (5, 6), (195, None), (195, 200), (1, None), (0, None)):
        with target.read(paths, start, stop) as reader:
            assert reader.read() == data[start:stop]


def test_a_node_that_dies_within_a_file_is_an_error(mogilefs: MogileFS, target: MogileFSTarget) -> None:
    """Half a file is never taken for a whole one."""
    with RawServer(_half) as server:
        with pytest.raises(Unavailable), target.read([f"{server.url}/dev1/x.fid"]) as reader:
            reader.read()


def _half(sock: socket.socket) -> None:
    read_request(sock)
    sock.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\nhalf")


# Connections.


def test_a_connection_that_a_node_closed_while_it_was_idle_is_no_failure(
    mogilefs: MogileFS, target: MogileFSTarget
) -> None:
    """Nodes close them after half a minute; here, after half a second."""
    for number in range(3):
        mogilefs.control("fault", kind="offer", command="create_open", value=[1])
        file = _put(target, f"{number}.txt")
        assert _read(target, file) == SMALL
        time.sleep(0.7)
    assert len(mogilefs.files()) == 3


def test_files_go_on_while_trackers_are_restarted(mogilefs: MogileFS, target: MogileFSTarget) -> None:
    """One after the other: an error at most for what was under way, and never a wrong file."""
    stop = threading.Event()
    stored: list[str] = []
    failed: list[TargetError] = []

    def store() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                _put(target, f"{number}.txt", b"%d" % number)
                stored.append(f"{number}.txt")
            except Unavailable as error:
                failed.append(error)

    thread = threading.Thread(target=store)
    thread.start()
    for _ in range(3):
        for index in range(2):
            mogilefs.control("tracker", index=index, do="stop")
            time.sleep(0.1)
            mogilefs.control("tracker", index=index, do="start")
    _until(lambda: len(stored) > 10)
    stop.set()
    thread.join()
    files = mogilefs.files()
    assert len(stored) > 10
    assert {name: files.get(name) for name in stored} == {name: name[:-4].encode() for name in stored}
    assert len(failed) <= 6


def test_a_close_goes_through_after_a_restart_of_the_tracker(mogilefs: MogileFS, target: MogileFSTarget) -> None:
    """What was opened is in the database: another tracker closes it."""
    calls = 0

    def may_send() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:  # before create_close
            mogilefs.control("tracker", index=0, do="stop")

    target.put(replace(_file(), may_send=may_send), BytesContent(SMALL))
    assert calls == 3
    assert mogilefs.files() == {"a.txt": SMALL}


# Listing.


def test_all_keys_are_listed_whatever_the_prefix_is(
    mogilefs: MogileFS, target: MogileFSTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trackers take a prefix for a regular expression from the second page on, and ignore the case."""
    monkeypatch.setattr(mogiledomain, "PAGE", 2)
    inside = [f"a+b(/{number}.txt" for number in range(7)]
    for name in (
        *inside,
        "A+B(/other.txt",
        "A+B(/page.txt",
        "a+b.txt",
        "aab(/no.txt",
        "z.txt",
        "a+b(",
        "A.txt",
        "é/中.txt",
    ):
        _put(target, name)

    def names(prefix: str) -> list[str]:
        return sorted(entry.name for entry in target.entries(prefix))

    assert names("/media/a+b(/") == sorted(name.removeprefix("a+b(/") for name in inside)
    assert names("/media/") == sorted(mogilefs.keys())
    assert len(mogilefs.keys()) == 15
    assert list(target.entries("/media/none/")) == []


def test_a_listing_that_is_not_whole_is_an_error(
    mogilefs: MogileFS, target: MogileFSTarget, make: Callable[..., MogileFSTarget], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever came before: a tracker that fails on a later page, one that begins again, one that is not there."""
    monkeypatch.setattr(mogiledomain, "PAGE", 1)
    for name in ("0", "1"):
        _put(target, f"a/{name}")
    assert target.can_list()
    listing = target.entries("/media/")
    assert next(listing) == Entry("a/0")
    mogilefs.refuse("list_keys", times=None)
    with pytest.raises(Unavailable):
        list(listing)
    with pytest.raises(Unavailable):
        list(make(trackers=[f"127.0.0.1:{free_port()}"]).entries("/media/"))
    monkeypatch.setattr(target.domain, "ask", lambda *_: {"key_count": "1", "key_1": "a"})
    with pytest.raises(Unavailable, match="does not go on after the key 'a'"):
        list(target.entries("/media/"))


# Keys.


def test_keys_are_the_paths_below_the_root(make: Callable[..., MogileFSTarget]) -> None:
    """Two storages never share one: what lies outside of the root keeps its first slash."""
    target = make(base_url="https://example.com/media/")
    keys = [target.key_of(TargetFile("x", "a.txt", prefix)) for prefix in ("/media/", "/media/x/", "/x/", "/")]
    assert keys == ["a.txt", "x/a.txt", "/x/a.txt", "/a.txt"]
    assert make(base_url="/").key_of(TargetFile("x", "a.txt", "/media/")) == "media/a.txt"


def test_a_key_that_MogileFS_would_cut_is_refused(mogilefs: MogileFS, target: MogileFSTarget) -> None:  # noqa: N802
    """MySQL keeps 255 bytes, and may cut the rest without a word: another file's key."""
    _put(target, "é" * 127 + "x")
    with pytest.raises(Refused, match="a key of 256 bytes, and MogileFS keeps 255"):
        _put(target, "é" * 128)


# Options.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"domain": ""}, "domain is empty"),
        ({"trackers": "10.0.0.5:7001"}, r'trackers is no list of addresses: write \["10.0.0.5:7001"\]'),
        ({"trackers": []}, "trackers is no list"),
        ({"trackers": ["http://10.0.0.5:7001"]}, "write host and port"),
        ({"read_timeout": 0}, "read_timeout is 0: write a number above 0"),
        ({"min_rate": True}, "min_rate is True"),
        ({"default_class": 3}, "default_class and base_url are texts"),
    ],
)
def test_a_wrong_option_says_what_to_write(
    make: Callable[..., MogileFSTarget], options: dict[str, object], message: str
) -> None:
    """Before anything is connected to."""
    with pytest.raises((ValueError, TypeError), match=message):
        make(**options)


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)
