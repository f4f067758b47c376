"""What an examination finds by the contract alone, and that nothing of it stays."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import storages

from replicator.errors import Refused, Unavailable
from replicator.targets.base import Content, Entry, Reader, Space, Target, TargetFile
from replicator.targets.django_storage import StorageTarget
from replicator.targets.findings import LARGE, Finding
from replicator.targets.mogilefs import MogileFSTarget
from replicator.testing import MemoryTarget
from tests.mogilefs.cluster import MogileFS
from tests.s3 import S3
from tests.targets.conftest import MakeS3

FINE = {
    *("answers", "write", "delete", "overwrite", "empty file", "new folders", "cut off", "large file", "odd names"),
    *("long names", "speed", "cleaning up"),
}


def examined(target: Target, prefix: str = "/media/", **options: Any) -> dict[str, Finding]:
    """What was found, by what was tried; the worst where that is several things."""
    order = ["fine", "note", "should", "must"]
    found: dict[str, Finding] = {}
    for finding in target.examine(prefix, **options):
        if finding.what not in found or order.index(finding.ok) > order.index(found[finding.what].ok):
            found[finding.what] = finding
    return found


def words(found: dict[str, Finding], ok: str) -> set[str]:
    return {what for what, finding in found.items() if finding.ok == ok}


def test_a_target_that_keeps_the_contract_is_fine() -> None:
    """Each kind is examined, also one that somebody else wrote; it is left as it was found."""
    target = MemoryTarget("memory")
    target.files["media/mine.txt"] = b"mine"
    found = examined(target)
    assert words(found, "fine") >= FINE | {"listing"}
    assert not words(found, "must") | words(found, "should")
    assert not any(finding.advice for finding in found.values())
    assert target.files == {"media/mine.txt": b"mine"}


def test_only_the_scratch_folder_is_touched() -> None:
    """Promise 6: nothing else is written, deleted, or even asked for; and where it is, is said first."""
    target = MemoryTarget("memory")
    findings = target.examine("/media/avatars/")
    place = next(findings).text.partition("replicator-probe-")[2].partition("/")[0]
    assert len(place) == 12
    list(findings)
    paths = {path for operation, path in target.operations if operation not in ("probe", "entries")}
    assert paths
    assert {path.startswith(f"media/avatars/replicator-probe-{place}/") for path in paths} == {True}


def test_each_examination_has_a_folder_of_its_own() -> None:
    """Two people may look at once."""
    target = MemoryTarget("memory")
    assert len({next(target.examine("/")).text for _ in range(5)}) == 5


@pytest.mark.parametrize("stop_at", range(14))
def test_who_stops_leaves_nothing_behind(stop_at: int) -> None:
    """Between any two tries."""
    target = MemoryTarget("memory")
    with closing(target.examine("/media/")) as findings:
        for _ in range(stop_at):
            next(findings)
    assert target.files == {}


@pytest.mark.parametrize("number", range(1, 40, 6))
def test_an_interruption_leaves_nothing_behind(number: int) -> None:
    """Ctrl-C comes while something is under way, and goes on to who asked."""
    target = MemoryTarget("memory")
    left = [number]

    def interrupt(operation: str, file: TargetFile) -> None:
        left[0] -= operation == "put"
        if operation == "put" and left[0] == 0:
            raise KeyboardInterrupt

    # After it took effect: it is there, and nobody was told.
    target.after = interrupt
    with pytest.raises(KeyboardInterrupt):
        list(target.examine("/media/"))
    assert target.files == {}


def test_what_can_not_be_removed_is_named_at_the_end() -> None:
    """In words, with the folder."""

    class Keeps(MemoryTarget):
        def delete(self, file: TargetFile) -> None:
            if "names/" in file.name:
                raise Refused("not this one")
            super().delete(file)

    target = Keeps("memory")
    found = examined(target)
    assert found["cleaning up"].ok == "must"
    folder = next(iter(target.files)).split("/")[1]
    assert folder in found["cleaning up"].text
    assert "not this one" in found["cleaning up"].text
    assert "by hand" in found["cleaning up"].advice


def test_what_can_not_be_removed_is_named_when_somebody_stops() -> None:
    """There is no finding any more to say it with."""
    target = MemoryTarget("memory")
    findings = target.examine("/media/")
    while next(findings).what != "write":
        pass
    target.fail_with = Unavailable("gone")
    with pytest.raises(Unavailable, match=r"/media/replicator-probe-[0-9a-f]{12}/ could not be removed.*gone"):
        findings.close()


def test_a_dead_target_is_not_asked_for_long_to_clean_up() -> None:
    """Each request may take a time-out."""
    target = MemoryTarget("memory")
    findings = target.examine("/media/")
    while next(findings).what != "odd names":
        pass
    target.fail_with = Unavailable("gone")
    target.operations.clear()
    with pytest.raises(Unavailable):
        findings.close()
    assert len(target.operations) == 3


def test_where_nothing_can_be_written_nothing_else_is_tried() -> None:
    """One mistake is not told ten times."""
    target = MemoryTarget("memory")

    def refuse(operation: str, file: TargetFile) -> None:
        if operation == "put":
            raise Refused("read only")

    target.before = refuse
    found = examined(target)
    assert words(found, "must") == {"write"}
    assert found["write"].text == "read only"
    assert found["the rest"].text == "could not be tried"
    assert [operation for operation, _ in target.operations].count("put") == 1


def test_where_nothing_can_be_deleted_little_is_written() -> None:
    """What can't be removed again is not heaped up."""
    target = MemoryTarget("memory")

    def refuse(operation: str, file: TargetFile) -> None:
        if operation == "delete":
            raise Refused("write once")

    target.before = refuse
    found = examined(target)
    assert words(found, "must") == {"delete", "cleaning up"}
    assert len(target.files) == 2


class _Names(MemoryTarget):
    """Keeps other names than it is given."""

    def __init__(self, change: Callable[[str], str]) -> None:
        super().__init__("memory")
        self._change = change

    def _begin(self, operation: str, file: TargetFile) -> str:
        return super()._begin(operation, replace(file, name=self._change(file.name)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (str.lower, "names that differ only in upper and lower case are one file"),
        (lambda name: unicodedata.normalize("NFD", name), "only in how an accent is written are one file"),
        (lambda name: name.replace("a#b", "50%"), "the names 'a#b.txt' and '50%.txt' are one file"),
    ],
)
def test_names_that_become_one_are_found(change: Callable[[str], str], says: str) -> None:
    """Promise 2: the last write of one file must not be another's content (APFS, NTFS)."""
    found = examined(_Names(change))
    assert found["odd names"].ok == "must"
    assert says in found["odd names"].text
    assert found["odd names"].advice


def test_a_server_that_runs_what_it_is_sent_is_found() -> None:
    """Anybody who may upload a file could then do anything there."""

    class Runs(MemoryTarget):
        @contextmanager
        def open(self, file: TargetFile) -> Iterator[Reader]:
            with super().open(file) as reader:
                data = reader.read()
                yield io.BytesIO(data.replace(b"<?php echo 6 * 7; ?>", b"42") if file.name.endswith(".php") else data)

    found = examined(Runs("memory"))
    assert found["odd names"].ok == "must"
    assert "runs what was uploaded" in found["odd names"].text
    assert "PHP" in found["odd names"].advice


def test_refused_names_are_listed() -> None:
    """With what they were answered; the others are fine."""
    target = MemoryTarget("memory")

    def refuse(operation: str, file: TargetFile) -> None:
        if operation == "put" and "?" in file.name:
            raise Refused("400 to PUT")

    target.before = refuse
    found = examined(target)
    assert found["odd names"].ok == "should"
    assert "20 of 21 odd names are taken; these are not: 'a?b.txt' (400 to PUT)" in found["odd names"].text


def test_a_target_that_shows_a_part_is_found() -> None:
    """Promise 5."""

    class Shows(MemoryTarget):
        def put(self, file: TargetFile, content: Content) -> None:
            path = self._begin("put", file)
            self.files[path] = b""
            while data := content.read(64 * 1024):
                self.files[path] += data

    found = examined(Shows("memory"))
    assert words(found, "must") == {"cut off"}
    assert "in the place of the old file" in found["cut off"].text


def test_other_bytes_are_found() -> None:
    """What is read back is compared, not only counted."""

    class Changes(MemoryTarget):
        @contextmanager
        def open(self, file: TargetFile) -> Iterator[Reader]:
            with super().open(file) as reader:
                data = reader.read()
                yield io.BytesIO(data[:-1] + b"!" if len(data) > 1_000_000 else data)

    found = examined(Changes("memory"))
    assert words(found, "must") == {"large file"}
    assert "what comes back is not what was sent" in found["large file"].text


def test_the_large_file_is_as_large_as_was_asked_for() -> None:
    """Limits lie at other sizes, too: 100 MB at some front ends."""

    class Limited(MemoryTarget):
        def put(self, file: TargetFile, content: Content) -> None:
            if content.size > 3 * 1024 * 1024:
                raise Refused("413")
            super().put(file, content)

    assert LARGE == 2 * 1024 * 1024
    assert examined(Limited("memory"))["large file"].text.startswith("2.0 MiB were written")
    assert examined(Limited("memory"), size=4 * 1024 * 1024)["large file"].ok == "must"


def test_little_room_is_told() -> None:
    """A full disk fails every file."""

    class Full(MemoryTarget):
        def space(self) -> Space | None:
            return Space(free=3 * 1024**3, total=100 * 1024**3)

    assert examined(MemoryTarget("memory"))["free space"].ok == "note"
    found = examined(Full("memory"))["free space"]
    assert (found.ok, found.text) == ("should", "3.0 of 100.0 GiB")


def test_a_listing_that_misses_a_file_is_found() -> None:
    """An audit would send all of them again."""

    class Forgets(MemoryTarget):
        def entries(self, prefix: str = "/") -> Iterator[Entry]:
            return iter(())

    assert examined(Forgets("memory"))["listing"].ok == "must"


def test_a_defect_of_one_try_does_not_end_the_others() -> None:
    """A kind that somebody else wrote may raise anything; its message may hold a password."""

    class Broken(MemoryTarget):
        def can_list(self) -> bool:
            raise RuntimeError("https://me:password@host")

    found = examined(Broken("memory"))
    assert found["listing"].text == "a defect in the target's code: RuntimeError"
    assert found["speed"].ok == "fine"


def test_a_folder_is_fine(settings: Any, tmp_path: Path) -> None:
    """Empty folders go, too."""
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "mine.txt").write_bytes(b"mine")
    backend = "django.core.files.storage.FileSystemStorage"
    settings.STORAGES = {**settings.STORAGES, "copies": {"BACKEND": backend, "OPTIONS": {"location": str(tmp_path)}}}
    found = examined(StorageTarget("backup", storage="copies"))
    assert words(found, "fine") >= FINE
    # This machine's disk may be full.
    assert words(found, "must") | words(found, "should") <= {"free space"}
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["media", "media/mine.txt"]


def test_a_storage_that_is_used_through_the_api_is_fine(settings: Any) -> None:
    """Its folders are removed as well as it can."""
    settings.STORAGES = {**settings.STORAGES, "copies": {"BACKEND": "django.core.files.storage.InMemoryStorage"}}
    target = StorageTarget("backup", storage="copies")
    found = examined(target)
    assert words(found, "fine") >= FINE - {"long names"}
    assert storages["copies"].listdir("media") == ([], [])


def test_s3_is_fine(make_s3: MakeS3, s3: S3, bucket: str) -> None:
    target = make_s3(times={"read_timeout": 10.0})
    found = examined(target)
    assert words(found, "fine") >= FINE, found
    assert not words(found, "must")
    assert s3.held(bucket) == {}
    target.close()


@pytest.fixture(scope="module")
def installation() -> Iterator[MogileFS]:
    with MogileFS() as mogilefs:
        yield mogilefs


def test_mogilefs_is_fine(installation: MogileFS) -> None:
    """It keeps keys of 255 bytes, of which the folder takes some."""
    target = MogileFSTarget(
        "mogilefs", domain=installation.domain, trackers=installation.trackers, base_url="/media/"
    )
    found = examined(target)
    assert words(found, "fine") >= (FINE - {"long names"}) | {"listing"}, found
    assert not words(found, "must")
    assert found["long names"].ok == "should"
    assert list(target.entries("/media/")) == []
    target.close()
