"""Files that are not here, or not any more as they were written: read from where they are."""

from __future__ import annotations

import hashlib
import io
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection
from django.utils import timezone

from replicator import delivery, wake
from replicator.delivery.content import Elsewhere
from replicator.errors import LocalMissing, Unavailable
from replicator.ledger import health
from replicator.models import MediaFile, Replica, TargetState
from replicator.targets import get_target
from replicator.targets.base import Reader, TargetFile
from replicator.testing import MemoryTarget
from tests.ledger.nodes import As, become
from tests.servers import MediaHost
from tests.targets.rawserver import RawServer, read_request

pytestmark = pytest.mark.django_db(transaction=True)

ALIASES = ("media1", "media2", "media3", "new")


@pytest.fixture
def as_node(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> As:
    settings.MEDIA_ROOT = str(tmp_path)
    monkeypatch.setattr(wake, "announce", lambda targets: None)
    monkeypatch.setattr(wake, "wake", lambda targets, node=None: True)
    as_node = become(settings, {"RETRY_BASE": 60, "DOUBT_WINDOW": 0.0})
    as_node("web1", targets=ALIASES)
    return as_node


def at(alias: str) -> MemoryTarget:
    target = get_target(alias)
    assert isinstance(target, MemoryTarget)
    return target


def saved(data: bytes, *holding: str, name: str = "a.txt") -> Path:
    """A file that these targets hold; its place here."""
    assert default_storage.save(name, ContentFile(data)) == name
    for alias in holding:
        assert delivery.deliver(alias).put == 1
    return Path(default_storage.path(name))


def send(alias: str = "new") -> Replica:
    """Deliver what waits for *alias*, whatever it waits for; its replica."""
    Replica.objects.at(alias).update(due_at=timezone.now())
    delivery.deliver(alias)
    return Replica.objects.get(target=alias)


def test_what_is_not_here_is_read_from_a_target_that_has_it(as_node: As) -> None:
    """Promise 1, after this disk was lost."""
    saved(b"whole", "media1").unlink()
    row = send()
    assert (row.status, row.attempts, row.error_text) == ("synced", 0, "")
    assert at("new").files == {"media/a.txt": b"whole"}
    assert [operation for operation, _ in at("media1").operations] == ["put", "open"]


def test_an_empty_file_too(as_node: As) -> None:
    """Nobody reads it, so that it must be compared before anything is sent."""
    saved(b"", "media1").unlink()
    assert send().status == "synced"
    assert at("new").files == {"media/a.txt": b""}


def test_other_bytes_here_do_not_stand_in_for_it(as_node: As) -> None:
    """Promise 2: whoever changed the file, the ledger's version is what is sent."""
    for data in (b"other", b"longer than it", b"", b"whol"):
        Replica.objects.all().delete()
        MediaFile.objects.all().delete()
        place = saved(b"whole", "media1")
        place.unlink()
        place.write_bytes(data)
        assert send().status == "synced", data
        assert at("new").files == {"media/a.txt": b"whole"}
        place.unlink()


def test_it_works_with_a_shared_disk_as_well(as_node: As) -> None:
    """A lost disk is one, whoever had it."""
    as_node(None)
    saved(b"whole", "media1").unlink()
    assert send().status == "synced"


def breaks_off(target: MemoryTarget, data: bytes, error: Exception) -> None:
    """Have *target* give these bytes, and then *error*."""

    class Broken:
        left = data

        def read(self, size: int = -1, /) -> bytes:
            if not self.left:
                raise error
            given, self.left = self.left[:3], self.left[3:]
            return given

    @contextmanager
    def opened(file: TargetFile) -> Iterator[Reader]:
        target.operations.append(("open", file.name))
        yield Broken()

    target.open = opened  # type: ignore[method-assign]


def lacks(target: MemoryTarget) -> None:
    target.files.clear()


def has_other_bytes(target: MemoryTarget) -> None:
    target.files["media/a.txt"] = b"other"


def has_more(target: MemoryTarget) -> None:
    target.files["media/a.txt"] += b"!"


def has_less(target: MemoryTarget) -> None:
    target.files["media/a.txt"] = b"whol"


def is_silent(target: MemoryTarget) -> None:
    target.fail_with = Unavailable("connection refused")


def breaks_off_in_between(target: MemoryTarget) -> None:
    breaks_off(target, b"whol", Unavailable("the connection was lost", doubt=True))


def breaks_off_at_the_end(target: MemoryTarget) -> None:
    breaks_off(target, b"whole", Unavailable("the connection was lost", doubt=True))


SPOILT = [lacks, has_other_bytes, has_more, has_less, is_silent, breaks_off_in_between, breaks_off_at_the_end]


@pytest.mark.parametrize("spoil", SPOILT)
def test_the_next_one_that_has_it_is_tried(as_node: As, spoil: Callable[[MemoryTarget], None]) -> None:
    """Promises 1 and 2: and nothing of the first one's bytes is seen."""
    saved(b"whole", "media1", "media2").unlink()
    spoil(at("media1"))
    row = send()
    assert (row.status, row.attempts, row.doubt) == ("synced", 0, False)
    assert at("new").files == {"media/a.txt": b"whole"}
    assert ("open", "media/a.txt") in at("media2").operations


@pytest.mark.parametrize("spoil", SPOILT)
def test_if_none_gives_it_the_row_says_why(as_node: As, spoil: Callable[[MemoryTarget], None]) -> None:
    """Promise 1. It is no failure of the target that it is sent to, nor does it leave a doubt."""
    saved(b"whole", "media1", "media2").unlink()
    for alias in ("media1", "media2"):
        spoil(at(alias))
    row = send()
    assert (row.status, row.error_kind, row.attempts, row.doubt) == ("pending", "local-missing", 1, False)
    assert "media1" in row.error_text
    assert "media2" in row.error_text
    assert at("new").files == {}
    assert not TargetState.objects.filter(failures__gt=0).exists()
    assert not health.down_targets()


def test_what_no_target_has_is_reported_with_its_node(as_node: As) -> None:
    """Promise 1: whose disk it was on is what people need to know; also where an older version of it is here."""
    saved(b"whole").unlink()
    said = "only the node web1 had it, which is gone, and no target has it yet"
    assert "web1" not in send().error_text, "it is here that it is missing"
    Replica.objects.update(node="web9")
    as_node("web2")
    health.note_success("new")
    assert delivery.deliver("new").skipped == ""
    Replica.objects.update(due_at=timezone.now() - timedelta(hours=1))
    row = send()
    assert (row.error_kind, row.error_text, row.status) == ("local-missing", said, "pending")
    Path(default_storage.path("a.txt")).write_bytes(b"older")
    row = send()
    assert (row.error_kind, row.error_text) == ("local-missing", said)
    assert not TargetState.objects.filter(failures__gt=0).exists()


def test_a_file_that_is_written_again_while_it_is_looked_for_elsewhere(as_node: As) -> None:
    """Promise 2: the version that was looked for is none any more."""
    place = saved(b"whole", "media1")
    place.unlink()

    def overwrite(operation: str, file: TargetFile) -> None:
        at("media1").before = None
        default_storage.replace("a.txt", ContentFile(b"newer"))  # type: ignore[attr-defined]
        connection.close()  # this thread's

    at("media1").before = overwrite
    assert send().status == "synced"
    assert at("new").files == {"media/a.txt": b"newer"}
    assert Replica.objects.get(target="media1").status == "pending"


def test_many_files_that_are_not_here_are_one_run(as_node: As) -> None:
    """A whole disk was lost: its backlog drains as any does."""
    for number in range(60):
        default_storage.save(f"{number}.txt", ContentFile(b"%d" % number))
    assert delivery.deliver("media1").put == 60
    for number in range(0, 60, 2):
        Path(default_storage.path(f"{number}.txt")).unlink()
    summary = delivery.deliver("new")
    assert (summary.put, summary.failed) == (60, 0)
    assert at("new").files == {f"media/{n}.txt": b"%d" % n for n in range(60)}


def test_memory_stays_flat_when_a_large_file_comes_from_elsewhere(as_node: As) -> None:
    """Promise 8."""
    size, piece = 64 * 1024 * 1024, bytes(1024 * 1024)
    whole = hashlib.sha256(piece * 64).hexdigest()
    saved(b"whole", "media1").unlink()
    MediaFile.objects.update(size=size, sha256=whole)

    class Endless:
        left = size

        def read(self, count: int = -1, /) -> bytes:
            given = piece[: min(count if count >= 0 else self.left, self.left)]
            self.left -= len(given)
            return given

    @contextmanager
    def opened(file: TargetFile) -> Iterator[Reader]:
        yield Endless()

    got = hashlib.sha256()

    def put(file: TargetFile, content: Any) -> None:
        while data := content.read(64 * 1024):
            got.update(data)

    at("media1").open = opened  # type: ignore[method-assign]
    at("new").put = put  # type: ignore[method-assign]
    tracemalloc.start()
    try:
        assert send().status == "synced"
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
    finally:
        tracemalloc.stop()
    assert got.hexdigest() == whole


# What this write put here may be kept beside its place


def test_bytes_that_are_kept_beside_the_place_are_sent(as_node: As) -> None:
    """Promise 1: something older has come over the file, and no target has the newer."""
    place = saved(b"newer")
    version = MediaFile.objects.get().version
    kept = place.with_name(f".replicator-{version.hex}.new")
    kept.write_bytes(b"newer")
    for here in (b"older", None):
        place.unlink(missing_ok=True)
        if here is not None:
            place.write_bytes(here)
        Replica.objects.at("new").update(status="pending")
        assert send().status == "synced"
        assert at("new").files == {"media/a.txt": b"newer"}
        at("new").files.clear()
    # What another write kept is another version.
    kept.rename(kept.with_name(f".replicator-{'0' * 32}.new"))
    Replica.objects.at("new").update(status="pending")
    assert send().error_kind == "local-missing"


# Over HTTP


def test_a_connection_that_breaks_at_the_source_is_not_the_targets_failure(
    as_node: As, settings: Any, nginx: MediaHost
) -> None:
    """Promise 7: both speak HTTP, and what is said of the one's connection must not be taken for the other's."""

    def cut_off(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 100_000)

    webdav = "replicator.targets.webdav.WebDAVTarget"
    with RawServer(cut_off) as source:
        settings.REPLICATOR = {
            **settings.REPLICATOR,
            "TARGETS": {
                "a-broken": {"BACKEND": webdav, "OPTIONS": {"url": source.url, "read_timeout": 2.0}},
                "new": {"BACKEND": webdav, "OPTIONS": {"url": nginx.url}},
                "well": {"BACKEND": "replicator.testing.MemoryTarget"},
            },
        }
        saved(b"x" * 300_000, "well").unlink()
        Replica.objects.at("a-broken").update(status="synced", version=MediaFile.objects.get().version)
        row = send()
        assert (row.status, row.error_text, row.doubt) == ("synced", "", False)
        assert source.connections
        assert nginx.files()["media/a.txt"] == b"x" * 300_000
        # And alone it is why the file is missing, without a doubt or a failure of the target.
        Replica.objects.at("well").update(version=None, status="pending")
        Replica.objects.at("new").update(version=None, status="pending")
        nginx.wipe()
        row = send()
        assert (row.status, row.error_kind, row.doubt) == ("pending", "local-missing", False)
        assert "a-broken" in row.error_text
        assert nginx.files() == {}
        assert not TargetState.objects.filter(target="new", failures__gt=0).exists()


def test_a_source_is_left_alone_when_nobody_reads_it_to_its_end(as_node: As) -> None:
    """Its connection goes back, or is dropped, however the transfer ended."""
    left: list[str] = []

    class Opened(io.BytesIO):
        def __exit__(self, *_: object) -> None:
            left.append("a.txt")

    def opened(file: TargetFile) -> Any:
        return Opened(b"whole")

    at("media1").open = opened  # type: ignore[method-assign]
    saved(b"whole", "media1").unlink()
    put = at("new").put

    def fail(file: TargetFile, content: Any) -> None:
        content.read(2)
        at("new").put = put  # type: ignore[method-assign]
        raise Unavailable("the connection was lost")

    at("new").put = fail  # type: ignore[method-assign]
    assert send().error_kind == "unavailable"
    assert send().status == "synced"
    assert left == ["a.txt"] * 2


def test_a_transfer_that_starts_again_reads_the_source_again(as_node: As) -> None:
    """MogileFS is sent a file a second time, and hashes larger ones first."""
    saved(b"whole", "media1")
    file = TargetFile("default", "a.txt", prefix="/media/")
    content = Elsewhere(at("media1"), file)
    assert content.read(3) == b"who"
    assert content.seek(0) == 0
    assert content.read() == b"whole"
    content.close()
    at("media1").files.clear()
    with pytest.raises(LocalMissing, match="can't be read from media1: it is not there"):
        content.seek(0)
