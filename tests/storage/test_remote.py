"""Reading back from targets what is not here: streaming, from the next target when one fails, never wrong bytes."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import connection
from django.http import FileResponse
from django.test.utils import CaptureQueriesContext

from replicator import delivery, ledger, wake
from replicator.errors import Unavailable
from replicator.ledger import health, life
from replicator.models import MediaFile, Replica
from replicator.storage import ReplicatedStorage
from replicator.storage.remote import SPOOL, open_remote
from replicator.targets import get_target
from replicator.targets.base import TargetFile
from replicator.testing import MemoryTarget
from tests.servers import MediaHost
from tests.storage.conftest import contents
from tests.targets.rawserver import RawServer, read_head

pytestmark = pytest.mark.django_db(transaction=True)

WEBDAV = "replicator.targets.webdav.WebDAVTarget"
LARGE = os.urandom(3 * SPOOL + 17)
PATH = "media/folder/a.bin"


@pytest.fixture(autouse=True)
def _nobody_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wake, "wake", lambda *_: True)


@pytest.fixture
def memory(storage: ReplicatedStorage) -> Callable[[str], MemoryTarget]:
    def target(alias: str) -> MemoryTarget:
        found = get_target(alias)
        assert isinstance(found, MemoryTarget)
        return found

    return target


Memory = Callable[[str], MemoryTarget]


def _lost(storage: ReplicatedStorage, data: bytes, name: str = "folder/a.bin") -> str:
    """A file that every target has, and that is not here."""
    name = storage.save(name, ContentFile(data))
    for target in storage.targets:
        delivery.deliver(target)
    assert not list(Replica.objects.backlog().values_list("target", "error_text"))
    Path(storage.path(name)).unlink()
    return name


def _opened(target: MemoryTarget) -> int:
    return sum(operation == "open" for operation, _ in target.operations)


# What is here


def test_what_is_here_costs_no_query(storage: ReplicatedStorage) -> None:
    """Reading is as fast as Django's own where the site has one disk and keeps its files there."""
    storage.save("folder/a.txt", ContentFile(b"1"))
    with CaptureQueriesContext(connection) as queries:
        assert contents(storage, "folder/a.txt") == b"1"
        with storage.open("folder/a.txt", "r") as text:
            assert text.read() == "1"
        storage.size("folder/a.txt")
        storage.get_modified_time("folder/a.txt")
        storage.get_created_time("folder/a.txt")
        storage.get_accessed_time("folder/a.txt")
        storage.exists("folder/a.txt")
        storage.listdir("folder")
    assert queries.captured_queries == []


def test_a_lost_disk_is_read_around(storage: ReplicatedStorage, memory: Memory) -> None:
    """Any replicated storage: what targets have can be read, asked for and written on."""
    name = _lost(storage, b"hello\nworld\n")
    assert contents(storage, name) == b"hello\nworld\n"
    with storage.open(name, "r") as text:
        assert text.readlines() == ["hello\n", "world\n"]
    row = MediaFile.objects.get()
    assert (storage.exists(name), storage.size(name)) == (True, 12)
    assert (storage.get_modified_time(name), storage.get_created_time(name)) == (row.updated_at, row.created_at)
    assert storage.get_accessed_time(name) == row.updated_at
    with storage.open(name, "ab") as file:
        file.write(b"more")
    assert contents(storage, name) == b"hello\nworld\nmore"


@pytest.mark.parametrize("close", [life.pause, lambda target: life.enter(target, "retired")])
def test_nothing_is_asked_of_what_people_have_paused(
    storage: ReplicatedStorage, memory: Memory, close: Callable[[str], bool]
) -> None:
    """Not even as a last resort: somebody works at the machine. And that is no "no such file"."""
    name = _lost(storage, b"1")
    for target in storage.targets:
        close(target)
    asked = {target: len(memory(target).operations) for target in storage.targets}
    with pytest.raises(OSError, match="media1 is paused, or retired") as failed:
        storage.open(name)
    assert not isinstance(failed.value, FileNotFoundError)
    assert asked == {target: len(memory(target).operations) for target in storage.targets}
    assert life.resume("media1") or life.enter("media1", "active")
    assert contents(storage, name) == b"1"


def test_what_was_deleted_is_not_read_back(storage: ReplicatedStorage, memory: Memory) -> None:
    """Promise 2: targets that have it still do not bring it back."""
    name = _lost(storage, b"1")
    storage.delete(name)
    assert memory("media1").files
    for ask in (storage.open, storage.size, storage.get_modified_time, storage.get_accessed_time):
        with pytest.raises(FileNotFoundError):
            ask(name)
    assert not storage.exists(name)


def test_where_disks_are_the_nodes_own_an_older_file_here_is_not_read(
    make_storage: Callable[..., ReplicatedStorage], settings: Any
) -> None:
    """Another node has overwritten it. Size, hash and time are the ledger's."""
    storage = make_storage({"SHARED_MEDIA": False, "NODE": "web1"})
    old = storage.save("a.txt", ContentFile(b"old"))
    place = Path(storage.path(old))
    storage.replace(old, ContentFile(b"new"))
    for target in storage.targets:
        delivery.deliver(target)
    place.write_bytes(b"old")
    assert contents(storage, old) == b"new"
    place.write_bytes(b"new")
    memory = get_target("media1")
    assert isinstance(memory, MemoryTarget)
    memory.operations.clear()
    assert contents(storage, old) == b"new"
    assert _opened(memory) == 0
    place.write_bytes(b"longer than it was")
    assert (storage.size(old), storage.get_modified_time(old)) == (3, MediaFile.objects.get().updated_at)


# Which target


def test_targets_that_hold_the_version_are_asked_first(storage: ReplicatedStorage, memory: Memory) -> None:
    """No request to a target that is behind, or down, while another one is neither."""
    name = _lost(storage, b"1")
    Replica.objects.filter(target="media1").update(status="pending")
    assert contents(storage, name) == b"1"
    assert (_opened(memory("media1")), _opened(memory("media2"))) == (0, 1)
    Replica.objects.filter(target="media1").update(status="synced")
    assert contents(storage, name) == b"1"
    assert _opened(memory("media1")) == 1
    health.mark_down("media1", "as told")
    assert contents(storage, name) == b"1"
    assert (_opened(memory("media1")), _opened(memory("media2"))) == (1, 2)


def test_a_target_that_the_ledger_is_not_sure_of_is_the_last_resort(
    storage: ReplicatedStorage, memory: Memory
) -> None:
    """What it has must prove itself: by size and hash."""
    name = _lost(storage, b"right")
    Replica.objects.filter(target="media1").update(status="pending")
    memory("media2").files.clear()
    assert contents(storage, name) == b"right"
    memory("media1").files[PATH] = b"wrong"
    with pytest.raises(OSError, match="media1 has another version of it"):
        storage.open(name)


@pytest.mark.parametrize("wrong", [b"wrong", b"right and more", b"", b"r"])
def test_a_wrong_copy_of_a_small_file_is_found_out_when_it_is_opened(
    storage: ReplicatedStorage, memory: Memory, wrong: bytes
) -> None:
    """And the next target's is taken."""
    name = _lost(storage, b"right")
    memory("media1").files[PATH] = wrong
    assert contents(storage, name) == b"right"
    memory("media2").files[PATH] = wrong
    with pytest.raises(OSError, match=r"media1 has another version of it; media2 has another"):
        storage.open(name)


def test_no_answer_is_an_error_and_not_absence(storage: ReplicatedStorage, memory: Memory) -> None:
    """Who asks must not take a file for deleted that can't be had just now."""
    name = _lost(storage, b"1")
    memory("media1").fail_with = memory("media2").fail_with = Unavailable("down for maintenance")
    with pytest.raises(OSError, match="down for maintenance") as caught:
        storage.open(name)
    assert not isinstance(caught.value, FileNotFoundError)
    # What the ledger knows needs no target.
    assert storage.size(name) == 1


def test_what_no_target_has_is_not_found(storage: ReplicatedStorage, memory: Memory) -> None:
    name = _lost(storage, b"1")
    memory("media1").files.clear()
    memory("media2").files.clear()
    with pytest.raises(FileNotFoundError, match="neither here nor at a target"):
        storage.open(name)


def test_of_an_adopted_file_without_a_hash_the_size_decides(storage: ReplicatedStorage, memory: Memory) -> None:
    write = ledger.Write("default", "folder/a.bin", 5)
    ledger.record_held([write], "media1")
    memory("media1").files[PATH] = b"12345"
    assert contents(storage, "folder/a.bin") == b"12345"
    memory("media1").files[PATH] = b"123456"
    with pytest.raises(OSError, match="another version"):
        storage.open("folder/a.bin")


def test_a_file_that_is_overwritten_while_it_is_looked_for_is_read_as_it_is_now(
    storage: ReplicatedStorage, memory: Memory
) -> None:
    """Between the look at the ledger and the answer of the target."""
    name = _lost(storage, b"old")

    def overwrite(operation: str, _: TargetFile) -> None:
        memory("media1").before = None
        storage.replace(name, ContentFile(b"newer"))
        for target in storage.targets:
            delivery.deliver(target)
        Path(storage.path(name)).unlink()

    memory("media1").before = overwrite
    assert contents(storage, name) == b"newer"


# A large one


def test_a_large_file_is_a_file(storage: ReplicatedStorage, memory: Memory) -> None:
    """Seeking back and forth, lines, parts, text; read from one target, once."""
    name = _lost(storage, LARGE)
    with storage.open(name) as file:
        assert file.read(5) == LARGE[:5]
        file.seek(SPOOL)
        assert file.read(10) == LARGE[SPOOL : SPOOL + 10]
        file.seek(3)
        assert file.read(3) == LARGE[3:6]
        file.seek(-4, os.SEEK_END)
        assert file.read() == LARGE[-4:]
        assert file.read() == b""
        file.seek(len(LARGE) + 5)
        assert file.read(1) == b""
        file.seek(0)
        assert b"".join(file.chunks()) == LARGE
        assert file.size == len(LARGE)
        file.seek(0)
        assert file.readline() == io.BytesIO(LARGE).readline()
    assert _opened(memory("media1")) == 1
    assert _opened(memory("media2")) == 0


def test_a_response_streams_it(storage: ReplicatedStorage, memory: Memory) -> None:
    """Django asks for its length by seeking to the end, which fetches nothing."""
    name = _lost(storage, LARGE)
    response = FileResponse(storage.open(name))
    assert response.headers["Content-Length"] == str(len(LARGE))
    assert response.getvalue() == LARGE
    response.close()
    assert _opened(memory("media1")) == 1


def test_a_large_text_is_read_by_lines(storage: ReplicatedStorage) -> None:
    lines = ["läuft\n"] * 300_000
    name = _lost(storage, "".join(lines).encode())
    with storage.open(name, "r") as file:
        assert file.readline() == "läuft\n"
        file.seek(0)
        assert list(file) == lines


@pytest.mark.parametrize("at", [0, SPOOL, len(LARGE) - 1])
def test_wrong_bytes_of_a_large_file_end_in_an_error(make_storage: Callable[..., ReplicatedStorage], at: int) -> None:
    """What is wrong is found out at the end: so the end is never handed out."""
    storage = make_storage(targets=["media1"])
    name = _lost(storage, LARGE)
    target = get_target("media1")
    assert isinstance(target, MemoryTarget)
    target.files[PATH] = LARGE[:at] + bytes([LARGE[at] ^ 1]) + LARGE[at + 1 :]
    read = b""
    with storage.open(name) as file:
        with pytest.raises(OSError, match="media1 has another version of it"):  # noqa: PT012  # any of them may
            while data := file.read(64 * 1024):
                read += data
        with pytest.raises(OSError, match="media1 has another version of it"):
            file.read(1)
    assert len(read) < len(LARGE)


@pytest.mark.parametrize("cut", [0, 5, 2 * SPOOL, len(LARGE) - 1])
def test_a_copy_that_ends_too_early_is_gone_on_with_at_the_next_target(
    storage: ReplicatedStorage, memory: Memory, cut: int
) -> None:
    name = _lost(storage, LARGE)
    memory("media1").files[PATH] = LARGE[:cut]
    assert contents(storage, name) == LARGE
    memory("media1").files[PATH] = LARGE + b"x"
    assert contents(storage, name) == LARGE


def test_a_copy_that_is_wrong_at_its_end_is_gone_on_with_at_the_next_target(
    storage: ReplicatedStorage, memory: Memory
) -> None:
    """Nothing of what is wrong was handed out: who reads notices nothing."""
    name = _lost(storage, LARGE)
    memory("media1").files[PATH] = LARGE[:-1] + bytes([LARGE[-1] ^ 1])
    with storage.open(name) as file:
        assert b"".join(iter(lambda: file.read(10_000), b"")) == LARGE


def test_a_second_copy_that_begins_otherwise_is_not_gone_on_with(storage: ReplicatedStorage, memory: Memory) -> None:
    """One of the two was wrong, and bytes of the first are in the reader's hands: an error, not a mixture."""
    name = _lost(storage, LARGE)
    memory("media1").files[PATH] = b"x" + LARGE[1 : 2 * SPOOL]
    with storage.open(name) as file:
        assert file.read(1) == b"x"
        with pytest.raises(OSError, match=r"media1 has another version of it; media2 has another version of it"):
            file.read()


# Hosts that fail in mid-stream


class Failing(RawServer):
    """A media host that has ``LARGE``, and breaks off each GET after so many bytes; None: after none."""

    def __init__(self, *stops: int | None) -> None:
        super().__init__(self._answer)
        self.stops = list(stops)
        #: A connection has ended.
        self.gone = threading.Event()

    def _answer(self, sock: socket.socket) -> None:
        try:
            stop: int | None = None
            while stop is None:
                method = read_head(sock).split(b" ", 1)[0]
                sock.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(LARGE)}\r\n\r\n".encode())
                if method == b"GET":
                    stop = self.stops.pop(0)
                    sock.sendall(LARGE[:stop])
        finally:
            self.gone.set()


@pytest.fixture
def failing(
    make_storage: Callable[..., ReplicatedStorage],
) -> Iterator[Callable[..., tuple[ReplicatedStorage, Failing]]]:
    """A storage with such a host, and perhaps others; and the host."""
    with Failing() as server:

        def make(*stops: int | None, **others: MediaHost) -> tuple[ReplicatedStorage, Failing]:
            server.stops = list(stops)
            urls = {"failing": server.url, **{alias: host.url for alias, host in others.items()}}
            targets = {alias: {"BACKEND": WEBDAV, "OPTIONS": {"url": url}} for alias, url in urls.items()}
            storage = make_storage({"TARGETS": targets})
            storage.save("folder/a.bin", ContentFile(LARGE))
            for alias in others:
                assert delivery.deliver(alias).put == 1
            Replica.objects.update(status="synced", version=MediaFile.objects.get().version)
            Path(storage.path("folder/a.bin")).unlink()
            return storage, server

        yield make


@pytest.mark.parametrize("stop", [0, 100, 2 * SPOOL, len(LARGE) - 1])
def test_when_a_host_fails_in_mid_stream_the_next_one_goes_on(
    failing: Callable[..., tuple[ReplicatedStorage, Failing]], media_host: MediaHost, stop: int
) -> None:
    """Who reads notices nothing, whatever was read before."""
    storage, _ = failing(stop, good=media_host)
    with storage.open("folder/a.bin") as file:
        first = file.read(50)
        assert first + file.read() == LARGE


def test_a_host_that_hangs_up_on_a_slow_reader_is_asked_again(
    failing: Callable[..., tuple[ReplicatedStorage, Failing]],
) -> None:
    """As nginx does with who has not read for a minute: as long as it gives more each time."""
    storage, server = failing(SPOOL, 2 * SPOOL, 3 * SPOOL, None)
    assert contents(storage, "folder/a.bin") == LARGE
    assert server.connections == 4
    assert server.stops == []


def test_a_host_that_gives_no_more_each_time_is_given_up(
    failing: Callable[..., tuple[ReplicatedStorage, Failing]],
) -> None:
    storage, server = failing(*[SPOOL] * 10)
    with storage.open("folder/a.bin") as file:
        for _ in range(2):
            with pytest.raises(OSError, match="closed the connection within a body"):
                file.read()
    assert server.connections == 2


def test_what_was_read_to_its_end_needs_no_connection(
    failing: Callable[..., tuple[ReplicatedStorage, Failing]],
) -> None:
    """Others use it, however long the file stays open."""
    storage, server = failing(None, None)
    with storage.open("folder/a.bin") as file:
        assert file.read() == LARGE
        assert contents(storage, "folder/a.bin") == LARGE
        file.seek(5)
        assert file.read(5) == LARGE[5:10]
    assert server.connections == 1


def test_closing_early_ends_the_request(failing: Callable[..., tuple[ReplicatedStorage, Failing]]) -> None:
    """A page that looks at a picture's first bytes does not fetch all of it."""
    storage, server = failing(None)
    with closing(storage.open("folder/a.bin")) as file:
        assert file.read(4) == LARGE[:4]
    assert server.gone.wait(60)


# Real targets


def test_a_file_is_read_back_from_each_kind_of_media_host(
    make_storage: Callable[..., ReplicatedStorage], media_host: MediaHost
) -> None:
    storage = make_storage({"TARGETS": {"host": {"BACKEND": WEBDAV, "OPTIONS": {"url": media_host.url}}}})
    for data in (b"", b"small", LARGE):
        name = _lost(storage, data, "ä b/#?.bin")
        assert contents(storage, name) == data
        assert storage.size(name) == len(data)


def test_a_file_is_read_back_from_s3(make_storage: Callable[..., ReplicatedStorage], settings: Any, s3: Any) -> None:
    """Any storage that a target stands for."""
    settings.STORAGES = {**settings.STORAGES, "s3": s3.entry(s3.new_bucket())}
    backend = "replicator.targets.django_storage.StorageTarget"
    storage = make_storage({"TARGETS": {"s3": {"BACKEND": backend, "OPTIONS": {"storage": "s3"}}}})
    for data in (b"", b"small", LARGE):
        name = _lost(storage, data)
        assert contents(storage, name) == data
        with storage.open(name) as file:
            assert file.read(3) == data[:3]


def test_what_nobody_knows_the_size_of_is_read_to_its_end(storage: ReplicatedStorage, memory: Memory) -> None:
    """As files from before the ledger, in MogileFS."""
    memory("media2").files["a"] = LARGE
    with open_remote(storage.targets, TargetFile("default", "a"), None) as file:
        assert file.seek(-1, os.SEEK_END) == len(LARGE) - 1
        file.seek(0)
        assert hashlib.sha256(file.read()).digest() == hashlib.sha256(LARGE).digest()


def test_an_archive_is_read_from_a_target(storage: ReplicatedStorage) -> None:
    """From its end, and then here and there; as thumbnailers do."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("large.bin", LARGE)
        file.writestr("small.txt", "small")
    name = _lost(storage, archive.getvalue(), "a.zip")
    with storage.open(name) as remote, zipfile.ZipFile(remote) as file:
        assert file.read("small.txt") == b"small"
        assert file.read("large.bin") == LARGE
