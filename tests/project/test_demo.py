"""``make demo``: ends with every host agreeing, or fails and says why; leaves nothing."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from project.demo.checking import Findings, check_bucket, check_folder, check_host, digest_of
from project.demo.mogile import check_mogilefs
from project.demo.samples import LONGEST
from project.demo.saving import Place, place_of
from project.demo.shapes import EACH, Shapes, copies_at_hosts
from tests.mogilefs.cluster import MogileFS
from tests.project.running import clean_environment
from tests.s3 import S3
from tests.servers import CHECKOUT, Embedded

#: Alone on two cores a tour takes one minute or two; beside others it may take its time.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A short TMPDIR for the demo: sockets are in it."""
    with tempfile.TemporaryDirectory(prefix="repl-", dir="/tmp") as folder:
        yield Path(folder)


def demo(temporary: Path, *arguments: str, timeout: float = 800) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "project.demo", *arguments],
        env={**clean_environment(), "TMPDIR": str(temporary)},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def mentions(folder: Path) -> list[str]:
    """Command lines of running processes that name *folder* in their arguments or environment."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                if str(folder).encode() in (process / "environ").read_bytes() + (process / "cmdline").read_bytes():
                    found.append((process / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
    return found


def test_the_tour_ends_with_every_host_agreeing_and_leaves_nothing(temporary: Path, tmp_path: Path) -> None:
    """Promises 1 and 2, from outside: a killed host, a worker killed in mid-transfer, a MogileFS that fails in every
    way, and every byte arrives."""
    for number in range(30):
        (tmp_path / f"{number}.bin").write_bytes(os.urandom(number * 100))
    (tmp_path / "a b#?%ü.txt").write_text("odd")
    (tmp_path / "link").symlink_to(tmp_path / "1.bin")
    done = demo(temporary, str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "31 files" in done.stdout
    assert "1 (symbolic link)" in done.stdout
    assert "of 67,108,864 bytes" in done.stdout or "of 134,217,728 bytes" in done.stdout
    table = done.stdout.partition("\nhost ")[2].partition("\n\n")[0].splitlines()[2:]
    rows = {row[0]: row[1:] for row in map(str.split, table)}
    assert {host: row[1:] for host, row in rows.items()} == {
        **{host: ["0", "0", "0", "0", "-"] for host in ("media1", "media2", "media3", "second", "s3")},
        "mogilefs": ["0", "0", "0", "0", "0"],
    }
    checked = {host: int(row[0]) for host, row in rows.items()}
    assert checked["mogilefs"] >= 31 + 1, "the files, and the large one"
    assert checked["media1"] == checked["media2"] == checked["media3"]
    static = re.search(r"(\d+) static files at each host", done.stdout)
    assert static is not None
    assert int(static[1]) > 200, "those of the admin, under both of their names, and the manifest"
    shapes = 4 * 3 * EACH + 1
    assert checked["media1"] == checked["mogilefs"] - 7 + shapes + int(static[1]), (
        "a quarter of the files is thumbs, which only MogileFS has; four shapes are at the hosts, and a lonely file"
    )
    assert checked["second"] == 2 * 3 * EACH, "private files and assets"
    assert checked["s3"] == 3 * EACH
    for words in ("answered; 403 for", "none is here", "returned with two copies", "links answered with the right"):
        assert words in done.stdout
    assert "Every host agrees" in done.stdout
    assert list(temporary.iterdir()) == []
    assert mentions(temporary) == []


def test_the_staging_tour_ends_with_the_live_files_at_every_host_and_leaves_nothing(temporary: Path) -> None:
    """A small one: the copy of a live site's files, while its workers are killed and the live S3 is in trouble."""
    done = demo(temporary, "--staging", "--objects", "400")
    assert done.returncode == 0, done.stdout + done.stderr
    table = done.stdout.partition("\nhost ")[2].partition("\n\n")[0].splitlines()[2:]
    rows = {" ".join(row[:-6]): row[-6:] for row in map(str.split, table)}
    places = ("local disk", "media1", "media2", "media3")
    assert rows == {place: ["404", "0", "0", "0", "0", "-"] for place in places}
    for words in ("400 copied, 4 missing", "400 there, 4 missing", "503 for 4 s", "live S3 are what they were"):
        assert words in done.stdout
    assert done.stdout.count("the worker was killed") == 3
    assert list(temporary.iterdir()) == []
    assert mentions(temporary) == []


def test_a_tour_that_takes_too_long_says_where_it_was_and_keeps_its_logs(temporary: Path) -> None:
    """Bounded: with a clear message, and still nothing left running."""
    done = demo(temporary, "--limit", "3")
    assert done.returncode == 1
    assert "The 3 seconds are over (--limit), and" in done.stderr
    assert "Traceback" not in done.stderr
    (kept,) = temporary.iterdir()
    assert str(kept) in done.stdout
    assert (kept / "worker.log").exists()
    assert mentions(temporary) == []


def test_a_folder_that_is_none_is_said(temporary: Path, tmp_path: Path) -> None:
    """Bad input gets an error that says what to write instead."""
    for wanted in (tmp_path / "nowhere", tmp_path):
        done = demo(temporary, str(wanted))
        assert done.returncode == 1
        assert "write make demo FILES=" in done.stderr
        assert "Traceback" not in done.stderr


def test_the_check_from_outside_finds_whatever_is_wrong(embedded: Embedded, tmp_path: Path) -> None:
    """The demo's own judge can say no: a wrong byte, a missing, a resurrected and a strange file are each found."""
    contents = {"right #1.txt": b"right", "wrong.txt": b"was", "missing.txt": b"gone"}
    expected = {}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        expected[name] = digest_of(tmp_path / name)
    embedded.write("media/right #1.txt", b"right")
    embedded.write("media/wrong.txt", b"is!")
    embedded.write("media/back again.txt", b"deleted")
    embedded.write("media/strange.txt", b"?")
    embedded.write("outside.txt", b"?")

    def judge(expected: dict[str, str], deleted: list[str]) -> Findings:
        return check_host("media1", embedded.url, embedded.root, "/media/", expected, deleted, lambda: None)

    found = judge(expected, ["back again.txt", "really gone.txt"])
    assert (found.wrong, found.missing, found.resurrected) == (["wrong.txt"], ["missing.txt"], ["back again.txt"])
    assert found.unexpected == [str(embedded.root / "outside.txt"), "strange.txt"]
    assert found.checked == 5
    assert not found.is_right

    embedded.wipe()
    embedded.write("media/right #1.txt", b"right")
    assert judge({"right #1.txt": expected["right #1.txt"]}, ["really gone.txt"]).is_right


def test_the_check_of_a_folder_finds_whatever_is_wrong(tmp_path: Path) -> None:
    """As above, of the second disk."""
    digest = hashlib.sha256(b"right").hexdigest()
    for name, content in {"a/right": b"right", "wrong": b"x", "back again": b"x", "strange": b"x"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    expected = dict.fromkeys(("a/right", "wrong", "missing"), digest)
    found = check_folder("second", tmp_path, expected, ["back again", "gone"], lambda: None)
    assert (found.wrong, found.missing) == (["wrong"], ["missing"])
    assert (found.resurrected, found.unexpected) == (["back again"], ["strange"])
    assert found.checked == 5
    assert not found.is_right


def test_the_check_of_a_bucket_finds_whatever_is_wrong() -> None:
    """As above; odd names, and more objects than a page lists."""
    digest = hashlib.sha256(b"right").hexdigest()
    with S3() as s3:
        bucket = s3.new_bucket()
        names = ["a b#?%ü+.txt", *(f"many/{number}" for number in range(1001)), "wrong", "back again"]
        for name in names:
            s3.client.put_object(Bucket=bucket, Key=name, Body=b"x" if name == "wrong" else b"right")
        expected = dict.fromkeys([*names[:-1], "missing"], digest)
        del expected["many/1000"]
        found = check_bucket(s3.url, bucket, expected, ["back again", "gone"], lambda: None)
    assert (found.wrong, found.missing) == (["wrong"], ["missing"])
    assert (found.resurrected, found.unexpected) == (["back again"], ["many/1000"])
    assert not found.is_right


def test_the_tour_notices_links_that_anybody_may_change_and_bytes_that_are_others(embedded: Embedded) -> None:
    """A site that looks at no signature, and a media host with another version, are each said to be wrong."""
    storages = {alias: Linking(embedded.url, alias) for alias in ("private", "cdn")}
    right = hashlib.sha256(b"it").hexdigest()
    saving: Any = SimpleNamespace(storages=storages, saved={}, digest=lambda _: right, returned=0, raised=0)
    for alias in storages:
        for name in ("one", "two"):
            saving.saved[Place(alias, name)] = b"it"
            embedded.write(f"{alias}/{name}", b"it")

    def judge() -> Shapes:
        shapes = Shapes(SimpleNamespace(url=embedded.url, has_s3=False), saving, lambda condition, what: None)  # type: ignore[arg-type]
        shapes.ask_private()
        shapes.ask_cdn()
        return shapes

    shapes = judge()
    assert len(shapes.wrong) == 8, "four changes of each link"
    assert all("a private link that was changed: 200 instead of 403" in problem for problem in shapes.wrong)
    assert "2 links answered; 403 for 0 changed" in shapes.report()
    assert "nothing was right of the kind 'refused'" in shapes.wrong
    embedded.write("cdn/one", b"IT")
    embedded.write("private/two", b"IT")
    problems = [problem for problem in judge().wrong if "changed" not in problem]
    assert len(problems) == 2
    assert all("other bytes than were saved" in problem for problem in problems)
    assert copies_at_hosts(OneHost(embedded.url), "cdn/two", right) == 3  # type: ignore[arg-type]
    assert copies_at_hosts(OneHost(embedded.url), "cdn/one", right) == 0  # type: ignore[arg-type]


class Linking:
    """A storage that signs nothing that anybody looks at."""

    def __init__(self, url: str, alias: str) -> None:
        self._start = f"{url}/cdn/" if alias == "cdn" else "/private/"

    def url(self, name: str) -> str:
        return f"{self._start}{name}?expires=1&signature=Abc"


class OneHost:
    """A site whose media hosts are all one."""

    def __init__(self, url: str) -> None:
        self._url = url

    def host_url(self, host: str) -> str:
        return self._url


def test_the_check_of_mogilefs_finds_whatever_is_wrong() -> None:
    """As above: also a class or a number of copies that should be another, a dead copy, and keys beyond a page."""
    digests = {
        name: hashlib.sha256(name.encode()).hexdigest() for name in ("a b.txt", "avatars/ü.png", "thumbs/#.png")
    }

    def judge(expected: dict[str, str], deleted: list[str]) -> Findings:
        return check_mogilefs(mogilefs.tracker, mogilefs.domain, expected, deleted, lambda: None)

    with MogileFS() as mogilefs:
        for name, kind in zip(digests, ("", "avatar", "thumb"), strict=True):
            mogilefs.put_behind_back(name, name.encode(), kind)
        mogilefs.wait_until_quiet()
        right = judge(digests, ["gone.txt"])
        assert right.is_right, right
        assert right.checked == 4

        digests["missing.txt"] = digests["avatars/wrong.png"] = digests["avatars/one.png"] = digests["a b.txt"]
        mogilefs.put_behind_back("avatars/wrong.png", b"other", "avatar")
        mogilefs.put_behind_back("back again.txt", b"deleted")
        for number in range(1001):
            mogilefs.put_behind_back(f"strange/{number:04}", b"", "thumb")
        mogilefs.wait_until_quiet(120)
        mogilefs.pause_background()
        mogilefs.put_behind_back("avatars/one.png", b"a b.txt", "avatar")
        mogilefs.put_behind_back("thumbs/#.png", b"thumbs/#.png", "")
        dead = mogilefs.copies("avatars/ü.png")[0]
        dead.unlink()
        found = judge(digests, ["back again.txt", "gone.txt"])
    assert not found.is_right
    assert (found.missing, found.resurrected) == (["missing.txt"], ["back again.txt"])
    assert found.wrong == ["avatars/ü.png", "avatars/wrong.png"]
    assert found.unexpected == [f"strange/{number:04}" for number in range(1001)]
    assert found.misfiled == ["thumbs/#.png", "avatars/one.png"]


def test_no_two_storages_of_the_tour_share_a_path_and_no_key_is_too_long() -> None:
    """A folder of somebody's may have any names: those of the other storages' folders, and long ones."""
    assert [place_of("photo.jpg", number).storage for number in range(4)] == [
        "default",
        "avatars",
        "default",
        "thumbs",
    ]
    assert place_of("avatars/me.png", 0).path == "avatars/me.png"
    assert place_of("avatars/me.png", 0).storage == "avatars"
    assert place_of("cdn/logo.svg", 0) == Place("cdn", "logo.svg")
    assert place_of("private/letter.txt", 0) == Place("default", "private/letter.txt"), "not a folder of the media"
    assert place_of("x" * LONGEST, 1).path == "x" * LONGEST
