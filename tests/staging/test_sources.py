"""What every kind of source does: exact names, whole files, and nothing taken for missing that is not."""

from __future__ import annotations

import gzip
import os
import threading
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage

from replicator.errors import Corrupt, Refused, Unavailable
from replicator.staging import foldersource
from replicator.staging.anysource import AnySource
from replicator.staging.base import Facts, NotCopied, Source
from replicator.staging.checkedstream import CheckedStream
from replicator.staging.foldersource import FolderSource
from replicator.staging.httpsource import HTTPSource
from replicator.staging.inflating import inflated
from replicator.staging.sources import forget_sources, source_of
from replicator.targets.base import TargetFile
from replicator.targets.django_storage import StorageTarget
from tests.s3 import S3

pytest_plugins = ["tests.staging.livesource"]


class Rotated(FileSystemStorage):
    """Keeps files in another form, which is longer."""

    def _open(self, name: str, mode: str = "rb") -> File:
        with super()._open(name, mode) as kept:
            return ContentFile(bytes(255 - byte for byte in kept.read()[8:]), name)


class Unopenable(FileSystemStorage):
    def __init__(self, **options: Any) -> None:
        raise ValueError("amqp://user:secret@host")


@dataclass
class Live:
    """A kind of source, and a way to put files there that it knows nothing of."""

    source: Source
    put: Callable[[str, bytes], None]
    knows_size: bool = True


@pytest.fixture(params=["s3", "s3 below a location", "s3 with gzip", "folder", "http", "any", "own way"])
def live(request: pytest.FixtureRequest, settings: Any, tmp_path: Path) -> Live:
    kind = request.param
    if kind.startswith("s3"):
        s3, bucket = request.getfixturevalue("source_s3"), request.getfixturevalue("source_bucket")
        location = "a live site/é" if "location" in kind else ""
        options = {"gzip": True} if "gzip" in kind else {}
        entry = s3.entry(bucket, location=location, **options)

        def put(name: str, data: bytes) -> None:
            s3.client.put_object(Bucket=bucket, Key=f"{location}/{name}" if location else name, Body=data)

    elif kind == "http":
        nginx = request.getfixturevalue("nginx")
        entry = {"BACKEND": "replicator.storage.HTTPStorage", "OPTIONS": {"base_url": f"{nginx.url}/media/"}}

        def put(name: str, data: bytes) -> None:
            nginx.write(f"media/{name}", data)

    else:
        name = "Rotated" if kind == "own way" else "FileSystemStorage"
        module = "tests.staging.test_sources" if kind == "own way" else "django.core.files.storage"
        entry = {"BACKEND": f"{module}.{name}", "OPTIONS": {"location": tmp_path}}

        def put(name: str, data: bytes) -> None:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"rotated:" + bytes(255 - byte for byte in data) if kind == "own way" else data)

    settings.STORAGES = {**settings.STORAGES, "live": entry}
    source = AnySource("live", FileSystemStorage(tmp_path)) if kind == "any" else source_of("live")
    put("something else", b"else")
    return Live(source, put, knows_size=kind != "own way")


def read(source: Source, name: str, size: int = 65536) -> bytes:
    with source.open(name) as stream:
        return b"".join(iter(lambda: stream.read(size), b""))


def drain(read_some: Callable[[int], bytes], size: int) -> None:
    while read_some(size):
        pass


# The contract.


@pytest.mark.parametrize(
    "name",
    [
        "photo.jpg",
        "2026/01/a b.txt",
        "é/ü ö.txt",
        "e\u0301 in two.txt",
        "日本語/😀.png",
        "a#b?c%d+e&f;g=h.txt",
        "100%25.txt",
        'it\'s "quoted" <b>.txt',
        ".hidden",
        "~tilde$@!*(),:.txt",
        f"{'long' * 60}.txt",
    ],
)
def test_a_file_is_found_under_exactly_its_name(live: Live, name: str) -> None:
    """Nothing is quoted twice, cut at a sign, or made another form of the same letters."""
    data = name.encode()
    live.put(name, data)
    assert read(live.source, name) == data
    facts = live.source.stat(name)
    assert facts is not None
    assert facts.size == (len(data) if live.knows_size else None)


def test_missing_is_not_a_failure(live: Live) -> None:
    """No row's file that the live site has lost stops a copy."""
    live.put("folder/a.txt", b"a")
    # The Storage API has one word for files and folders.
    folder = [] if isinstance(live.source, AnySource) else ["folder"]
    for name in ("no.txt", "no/such/folder.txt", *folder, "folder/a.txt/b", "folder/A.txt"):
        assert live.source.stat(name) is None, name
        with pytest.raises(FileNotFoundError), live.source.open(name):
            pass


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../up.txt", "a/../../up.txt", "a/../something else", "a//b", "a/"]
)
def test_a_name_outside_is_never_asked_for(live: Live, name: str) -> None:
    """Rows come from a form: what they name is not read from anywhere else."""
    for call in (live.source.stat, live.source.address, lambda name: live.source.open(name).__enter__()):
        with pytest.raises(Refused, match="name"):
            call(name)


def test_stat_and_open_say_the_same(live: Live) -> None:
    """What is compared is what is copied; times are aware."""
    live.put("a.txt", b"some bytes")
    said = live.source.stat("a.txt")
    with live.source.open("a.txt") as stream:
        assert stream.facts == said
    assert said is not None
    assert said.modified is not None
    assert abs(datetime.now(UTC) - said.modified) < timedelta(minutes=1)


def test_any_size_of_read_gives_the_same(live: Live) -> None:
    """In pieces, or all at once; and the end stays the end."""
    data = os.urandom(600_000)
    live.put("a.bin", data)
    assert read(live.source, "a.bin", 7919) == read(live.source, "a.bin", 10_000_000) == data
    with live.source.open("a.bin") as stream:
        assert stream.read(0) == b""
        assert stream.read() == data
        assert stream.read() == stream.read(5) == b""


def test_an_empty_file_is_one(live: Live) -> None:
    """And not a missing one."""
    live.put("empty", b"")
    assert live.source.stat("empty") is not None
    assert read(live.source, "empty") == b""


def test_memory_is_flat(live: Live) -> None:
    """Promise 8, whatever a file's size."""
    if not live.knows_size:
        pytest.skip("this storage of tests itself reads files whole")
    live.put("large.bin", bytes(20_000_000))
    read(live.source, "something else")
    tracemalloc.start()
    try:
        with live.source.open("large.bin") as stream:
            count = sum(len(data) for data in iter(lambda: stream.read(1024 * 1024), b""))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 20_000_000
    assert peak < 5_000_000


def test_a_stream_that_is_left_early_is_let_go(live: Live) -> None:
    """A run that is paused leaves no connection and no file open, and the source goes on."""
    live.put("large.bin", bytes(5_000_000))
    read(live.source, "something else")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with live.source.open("large.bin") as stream:
            assert stream.read(10) == bytes(10)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    assert read(live.source, "something else") == b"else"


def test_several_threads_read_at_once(live: Live) -> None:
    """One instance serves all streams of a worker."""
    contents = {f"{number}.bin": os.urandom(50_000) for number in range(12)}
    for name, data in contents.items():
        live.put(name, data)
    found: dict[str, bytes] = {}

    def work(names: list[str]) -> None:
        for name in names:
            found[name] = read(live.source, name)

    threads = [threading.Thread(target=work, args=(list(contents)[number::4],)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == contents


def test_an_address_is_what_targets_have(live: Live) -> None:
    """That is how a copy onto itself is found out."""
    target = StorageTarget("same", storage="live", base_url="/media/")
    if isinstance(live.source, HTTPSource) or (isinstance(live.source, AnySource) and live.knows_size):
        pytest.skip("targets would take this one for something else")
    name = "é/a b.txt"
    assert target.addresses(TargetFile("default", name, prefix="/media/")) == {live.source.address(name)}
    assert live.source.address(name).endswith(name)


def test_a_source_that_answers_passes_its_check(live: Live) -> None:
    """And can be used after its connections were dropped."""
    live.source.check()
    live.source.close()
    live.source.check()


# A stream that is not what was said.


def stream_of(data: bytes, facts: Facts) -> CheckedStream:
    parts = [data]

    def more(size: int) -> bytes:
        taken, parts[0] = parts[0][:size], parts[0][size:]
        return taken

    return CheckedStream(facts, more, "get a.txt")


@pytest.mark.parametrize("piece", [1, 3, 6, 100, -1])
@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (Facts(7), "7 bytes, and 6 came"),
        (Facts(5), "5 bytes, and more came"),
        (Facts(0), "0 bytes, and 6 came|0 bytes, and more came"),
        (Facts(6, checksums={"md5": "0" * 32}), "other bytes"),
        (Facts(None, checksums={"md5": "0" * 32}), "other bytes"),
        (Facts(6, checksums={"sha256": "0" * 64}), "other bytes"),
    ],
)
def test_what_is_not_what_was_said_is_noticed(facts: Facts, words: str, piece: int) -> None:
    """Before the end is reached: who has read to it has the file. And it is not forgotten."""
    stream = stream_of(b"abcdef", facts)
    came: list[bytes] = []
    with pytest.raises(Corrupt, match=words):
        came.extend(iter(lambda: stream.read(piece), b""))
    assert facts.size is None or len(b"".join(came)) < max(facts.size, 1)
    with pytest.raises(Corrupt):
        drain(stream.read, piece)


def test_the_end_is_looked_for_before_the_last_bytes_go_out() -> None:
    """A destination that stops at the size it was told has a whole file, or an error."""
    stream = stream_of(b"abcdef", Facts(6, checksums={"md5": "0" * 32}))
    assert stream.read(5) == b"abcde"
    with pytest.raises(Corrupt):
        stream.read(1)


@pytest.mark.parametrize("damage", ["cut", "mangled", "no gzip"])
def test_gzip_that_is_broken_is_noticed(damage: str) -> None:
    """Nobody knows its size beforehand."""
    data = gzip.compress(os.urandom(200_000))
    data = {"cut": data[:-9], "mangled": data[:500] + b"?" + data[501:], "no gzip": b"plain"}[damage]
    read_some = inflated(stream_of(data, Facts()).read, "get a.css")
    with pytest.raises(Corrupt, match="gzip"):
        drain(read_some, 4096)


# A folder.


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> FolderSource:
    (tmp_path / "a.txt").write_bytes(b"first")
    entry = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": tmp_path}}
    settings.STORAGES = {**settings.STORAGES, "live": entry}
    source = source_of("live")
    assert isinstance(source, FolderSource)
    return source


def more(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def less(path: Path) -> None:
    os.truncate(path, 600_000)


def others(path: Path) -> None:
    time.sleep(0.02)
    with path.open("r+b") as file:
        file.seek(900_000)
        file.write(b"others")


@pytest.mark.parametrize("change", [more, less, others])
def test_a_file_that_is_written_to_meanwhile_is_not_taken(
    folder: FolderSource, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """Half of one content and half of another is neither."""
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(1_000_000))
    with folder.open("a.bin") as stream:
        stream.read(10)
        change(path)
        with pytest.raises(Corrupt, match="written"):
            drain(stream.read, 100_000)


def test_links_lead_where_they_lead_django(folder: FolderSource, tmp_path: Path, tmp_path_factory: Any) -> None:
    """Media folders that were moved to another disk."""
    other = tmp_path_factory.mktemp("other disk")
    (other / "b.txt").write_bytes(b"second")
    (tmp_path / "moved").symlink_to(other)
    assert read(folder, "moved/b.txt") == b"second"
    assert folder.address("moved/b.txt") == f"folder {other}/b.txt"


def test_a_pipe_is_no_file(folder: FolderSource, tmp_path: Path) -> None:
    """It would be waited for, for ever."""
    os.mkfifo(tmp_path / "pipe")
    assert folder.stat("pipe") is None
    with pytest.raises(FileNotFoundError), folder.open("pipe"):
        pass


@pytest.mark.parametrize("left", ["nothing", "a folder"])
def test_a_file_system_that_is_not_mounted_makes_nothing_missing(
    folder: FolderSource, tmp_path: Path, left: str
) -> None:
    """Missing files are not asked for again: all of them would be lost to the run."""
    (tmp_path / "a.txt").unlink()
    if left == "nothing":
        tmp_path.rmdir()
    for call in (folder.check, lambda: folder.stat("a.txt"), lambda: folder.open("a.txt").__enter__()):
        with pytest.raises(Unavailable, match="not there" if left == "nothing" else "mounted"):
            call()


def as_nobody(work: Callable[[], str]) -> str:
    """What *work* returns or raises in a process whose user owns nothing."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            try:
                said = work()
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
            os.write(writing, said.encode())
        finally:
            os._exit(0)
    os.close(writing)
    said = os.read(reading, 65536).decode()
    os.close(reading)
    os.waitpid(child, 0)
    return said


def proof(source: Source) -> str:
    source.prove_read_only()
    return "proved"


@pytest.fixture
def theirs(tmp_path_factory: pytest.TempPathFactory, settings: Any) -> Any:
    """A folder that others may read, and its source."""
    root = tmp_path_factory.mktemp("live")
    for above in (root, *root.parents):
        if above.stat().st_uid == os.geteuid() and above != Path("/"):
            above.chmod(0o755)
    (root / "deep" / "er").mkdir(parents=True)
    (root / "deep" / "a.txt").write_bytes(b"a")
    for path in (root, *root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    entry = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": root}}
    settings.STORAGES = {**settings.STORAGES, "live": entry}
    yield root, source_of("live")
    root.chmod(0o755)


def test_a_folder_that_nobody_here_may_write_to_is_read_only(theirs: tuple[Path, Source]) -> None:
    """By its modes, without trying."""
    assert as_nobody(lambda: proof(theirs[1])) == "proved"


@pytest.mark.parametrize("where", ["deep", "deep/er", "deep/a.txt"])
def test_one_place_that_can_be_written_is_enough_to_doubt(theirs: tuple[Path, Source], where: str) -> None:
    """It is named, and what to do."""
    root, source = theirs
    (root / where).chmod(0o777)
    said = as_nobody(lambda: proof(source))
    assert said.startswith("NotCopied")
    assert f"{root / where} can be written" in said
    assert "Mount it read-only" in said


def test_what_lies_behind_a_link_is_looked_at(theirs: tuple[Path, Source], tmp_path_factory: Any) -> None:
    """Saving follows it, too."""
    root, source = theirs
    open_to_all = tmp_path_factory.mktemp("open")
    (open_to_all / "in").mkdir()
    (open_to_all / "in").chmod(0o777)
    open_to_all.chmod(0o555)
    root.chmod(0o755)
    (root / "link").symlink_to(open_to_all)
    root.chmod(0o555)
    assert "link/in can be written" in as_nobody(lambda: proof(source))


@pytest.mark.skipif(os.geteuid() != 0, reason="for root, all modes are one")
def test_root_is_told_that_it_may_write(theirs: tuple[Path, Source]) -> None:
    """Modes prove nothing of it."""
    with pytest.raises(NotCopied, match="root, who may write anywhere"):
        theirs[1].prove_read_only()


def test_a_file_system_that_is_mounted_read_only_is(theirs: tuple[Path, Source], monkeypatch: Any) -> None:
    """Also of root, and without looking at what is in it."""

    class Mounted:
        f_flag = os.ST_RDONLY

    monkeypatch.setattr(os, "statvfs", lambda path: Mounted)
    theirs[1].prove_read_only()


@pytest.mark.parametrize("kind", ["hidden", "too large"])
def test_what_can_not_be_looked_at_proves_nothing(theirs: tuple[Path, Source], monkeypatch: Any, kind: str) -> None:
    """A folder that may be entered, and not listed; one that takes too long."""
    root, source = theirs
    if kind == "hidden":
        (root / "deep").chmod(0o111)
    else:
        monkeypatch.setattr(foldersource, "LOOK_SECONDS", -1)
    said = as_nobody(lambda: proof(source))
    assert said.startswith("NotCopied: Whether STORAGES['live'] takes writes can't be told")
    assert "Mount it read-only" in said


def test_a_folder_that_no_one_may_enter_hides_nothing(theirs: tuple[Path, Source]) -> None:
    """As lost+found: nothing can be written below it."""
    (theirs[0] / "deep").chmod(0o000)
    assert as_nobody(lambda: proof(theirs[1])) == "proved"
    (theirs[0] / "deep").chmod(0o555)


def test_looking_for_what_can_be_written_leaves_nothing(theirs: tuple[Path, Source]) -> None:
    """Not even another time."""
    root, source = theirs
    before = {path: path.lstat().st_mtime_ns for path in (root, *root.rglob("*"))}
    as_nobody(lambda: proof(source))
    with suppress(NotCopied):
        source.prove_read_only()
    assert {path: path.lstat().st_mtime_ns for path in (root, *root.rglob("*"))} == before


# Any storage.


class Frail(FileSystemStorage):
    """Knows half of the Storage API, and breaks."""

    error: Exception | None = None

    def size(self, name: str) -> int:
        raise NotImplementedError

    def get_modified_time(self, name: str) -> datetime:
        raise NotImplementedError

    def _open(self, name: str, mode: str = "rb") -> Any:
        return Broken(self.error) if self.error else super()._open(name, mode)


class Broken(File):
    def __init__(self, error: Exception) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self.error = error

    def read(self, num_bytes: int | None = None) -> bytes:
        raise self.error

    def close(self) -> None:
        pass


def test_what_a_storage_does_not_tell_is_unknown(tmp_path: Path) -> None:
    """Half of the Storage API is enough to read."""
    (tmp_path / "a.txt").write_bytes(b"first")
    source = AnySource("live", Frail(tmp_path))
    assert source.stat("a.txt") == Facts()
    assert read(source, "a.txt") == b"first"


def test_a_storage_that_breaks_off_is_unavailable(tmp_path: Path) -> None:
    """Whatever its library calls it; what it says may hold a password."""
    (tmp_path / "a.txt").write_bytes(b"first")
    storage = Frail(tmp_path)
    storage.error = EOFError("ftp://user:secret@host")
    with pytest.raises(Unavailable, match=r"^open a\.txt: EOFError$"):
        read(AnySource("live", storage), "a.txt")


def test_times_without_a_zone_are_the_sites(tmp_path: Path, settings: Any) -> None:
    """Storages give such times where USE_TZ is off."""
    settings.USE_TZ = False
    (tmp_path / "a.txt").write_bytes(b"first")
    os.utime(tmp_path / "a.txt", (0, 1_000_000_000))
    facts = AnySource("live", FileSystemStorage(tmp_path)).stat("a.txt")
    assert facts is not None
    assert facts.modified == datetime.fromtimestamp(1_000_000_000, UTC)


def test_any_storage_cannot_prove_that_it_is_read_only(tmp_path: Path) -> None:
    """What can't be told is not assumed."""
    with pytest.raises(NotCopied, match=r"STORAGES\['live'\] takes writes can't be told"):
        AnySource("live", FileSystemStorage(tmp_path)).prove_read_only()


# By alias.


def entry(**options: Any) -> dict[str, Any]:
    return {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": options}


@pytest.mark.parametrize(
    ("alias", "given", "words"),
    [
        ("lvie", entry(), r"'lvie', which STORAGES does not have. Did you mean 'live'\?"),
        ("default", entry(), "which replicates: name one that reads the live site's files"),
        ("live", entry(locatoin="/"), "'locatoin'"),
        ("live", {"BACKEND": "no.such.Storage"}, r"STORAGES\['live'\] can't be made: .*no.such"),
        ("live", {"BACKEND": "tests.staging.test_sources.Unopenable"}, r"can't be made: ValueError$"),
        ("live", {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {}}, 'Write "bucket_name"'),
        (
            "live",
            {
                "BACKEND": "storages.backends.s3.S3Storage",
                "OPTIONS": {"bucket_name": "b", "endpoint_url": "https://me:secret@s3"},
            },
            "access_key and secret_key",
        ),
    ],
)
def test_a_source_that_can_not_be_is_refused(settings: Any, alias: str, given: dict[str, Any], words: str) -> None:
    """Before a run begins, with what to write instead; no secret is quoted."""
    settings.STORAGES = {**settings.STORAGES, "live": given}
    with pytest.raises(NotCopied, match=words) as caught:
        source_of(alias)
    assert "secret@" not in str(caught.value)


def test_a_class_of_its_own_way_is_asked_through_the_storage_api(settings: Any, tmp_path: Path) -> None:
    """What it does to files is undone as it does it itself."""
    (tmp_path / "a.txt").write_bytes(b"rotated:" + bytes(255 - byte for byte in b"first"))
    given = {"BACKEND": "tests.staging.test_sources.Rotated", "OPTIONS": {"location": tmp_path}}
    settings.STORAGES = {**settings.STORAGES, "live": given}
    assert isinstance(source_of("live"), AnySource)
    assert read(source_of("live"), "a.txt") == b"first"


def test_a_process_has_one_of_each(folder: FolderSource) -> None:
    """Its connections are kept; another's settings make another."""
    assert source_of("live") is folder
    forget_sources()
    assert source_of("live") is not folder


def test_a_fork_has_its_own(source_s3: S3, source_bucket: str, settings: Any) -> None:
    """Connections must not cross it: answers would meet the wrong process."""
    settings.STORAGES = {**settings.STORAGES, "live": source_s3.entry(source_bucket)}
    source_s3.client.put_object(Bucket=source_bucket, Key="a.txt", Body=b"first")
    before = source_of("live")
    assert read(before, "a.txt") == b"first"
    said = as_nobody(lambda: f"{source_of('live') is before} {read(source_of('live'), 'a.txt')!r}")
    assert said == "False b'first'"
    assert source_of("live") is before
    assert read(before, "a.txt") == b"first"
