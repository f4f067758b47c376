"""What Django storages hold, listed: folders, the Storage API, S3."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, InMemoryStorage, Storage, storages

from replicator.errors import Corrupt, Refused, TargetError, Unavailable
from replicator.targets import ability, folderstack
from replicator.targets.base import Entry
from replicator.targets.django_storage import StorageTarget
from tests.processes import free_port
from tests.s3 import S3, Proxy, hang, refuse
from tests.targets.conftest import SOON, MakeS3, put

Configure = Callable[..., StorageTarget]
FOLDER = "django.core.files.storage.FileSystemStorage"


class Unlistable(InMemoryStorage):
    """As those that know files only by their names."""

    listdir = Storage.listdir


class Failing(InMemoryStorage):
    """Its listing breaks off in one of the folders."""

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        if path.endswith("bad"):
            raise ConnectionResetError
        return super().listdir(path)


class Odd(InMemoryStorage):
    """Lists as stores without folders may."""

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        return {"media": (["a/", ""], ["", "x.txt"]), "media/a": ([], ["y.txt"])}[path]


class Endless(InMemoryStorage):
    """Each folder has one more inside."""

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        return ["more"], ["x.txt"]


class OwnWay(FileSystemStorage):
    """Saves in a way of its own: only its own listing is asked."""

    def _save(self, name: str, content: Any) -> str:
        return super()._save(name, content)  # type: ignore[misc,no-any-return]


@pytest.fixture
def configure(settings: Any, tmp_path: Path) -> Configure:
    """A target that keeps its files in a storage of a class."""

    def configured(backend: str = FOLDER, target: dict[str, Any] | None = None) -> StorageTarget:
        options = {"location": str(tmp_path / "copies")} if backend in (FOLDER, f"{__name__}.OwnWay") else {}
        settings.STORAGES = {**settings.STORAGES, "copies": {"BACKEND": backend, "OPTIONS": options}}
        return StorageTarget("backup", storage="copies", **(target or {}))

    return configured


def names(target: StorageTarget, prefix: str = "/media/") -> list[str]:
    return sorted(entry.name for entry in target.entries(prefix))


# Folders.


def test_a_folder_tells_names_sizes_and_times(configure: Configure, tmp_path: Path) -> None:
    """Byte by byte where a name is no text; an empty file is one."""
    at = configure()
    assert at.can_list()
    assert names(at) == []
    folder = tmp_path / "copies/media/d\udcff"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"four")
    (folder / "empty").touch()
    os.utime(folder / "a.txt", (1_700_000_000, 1_700_000_000))
    found = {entry.name: entry for entry in at.entries("/media/")}
    assert found["d\udcff/a.txt"] == Entry("d\udcff/a.txt", 4, datetime.fromtimestamp(1_700_000_000, tz=UTC))
    assert found["d\udcff/empty"].size == 0
    assert len(found) == 2
    assert names(at, "/") == ["media/d\udcff/a.txt", "media/d\udcff/empty"]


def test_links_are_what_they_lead_to(configure: Configure, tmp_path: Path) -> None:
    """As ``stat`` has them; one that leads nowhere is nothing, one that leads back is not gone through again."""
    at, media = configure(), tmp_path / "copies/media"
    media.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/b.txt").write_bytes(b"22")
    (media / "a.txt").write_bytes(b"1")
    (media / "file").symlink_to("a.txt")
    (media / "folder").symlink_to(tmp_path / "elsewhere")
    (media / "nowhere").symlink_to("nothing")
    (media / "itself").symlink_to("itself")
    (media / "back").symlink_to(".")
    (tmp_path / "elsewhere/up").symlink_to(media)
    found = {entry.name: entry.size for entry in at.entries("/media/")}
    assert found == {"a.txt": 1, "file": 1, "folder/b.txt": 2}


def test_a_folder_that_can_not_be_read_is_an_error(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else all that is in it would look missing. One that went meanwhile is empty."""
    at = configure()
    for name in ("a", "b"):
        (tmp_path / "copies/media" / name).mkdir(parents=True)
        (tmp_path / "copies/media" / name / "x.txt").touch()
    scandir, raised = os.scandir, PermissionError(13, "Permission denied")

    def failing(path: str) -> Any:
        if path.endswith("/b"):
            raise raised
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(Refused, match="the owner and the mode"):
        names(at)
    raised = OSError(5, "Input/output error")  # type: ignore[assignment]
    with pytest.raises(Unavailable, match="Input/output error"):
        names(at)
    raised = FileNotFoundError(2, "gone")  # type: ignore[assignment]
    assert names(at) == ["a/x.txt"]


def test_a_file_in_the_folders_place_is_not_below_it(configure: Configure, tmp_path: Path) -> None:
    """There is nothing that could be listed."""
    at = configure()
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies/media").touch()
    assert names(at) == []


def test_only_what_belongs_to_the_target_is_told(configure: Configure, tmp_path: Path) -> None:
    """Its prefix, and the storage's base_url, stay out of the names."""
    at = configure(target={"prefix": "copies of it/", "base_url": "/media/"})
    put(at, b"x", "a.txt")
    (tmp_path / "copies/other.txt").touch()
    assert (tmp_path / "copies/copies of it/a.txt").is_file()
    assert names(at, "/media/") == ["a.txt"]
    with pytest.raises(Refused, match="base_url"):
        names(at, "/elsewhere/")


# The Storage API.


@pytest.mark.parametrize("backend", ["django.core.files.storage.InMemoryStorage", f"{__name__}.OwnWay"])
def test_any_storage_is_listed_as_it_lists_itself(
    configure: Configure, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names alone: a size could be a request for each file. However many folders there are."""
    monkeypatch.setattr(folderstack, "KEPT", 3)
    at = configure(backend)
    assert at.can_list()
    assert names(at) == []
    wanted = sorted(f"{number}/{inner}.txt" for number in range(20) for inner in range(2))
    for name in wanted:
        put(at, b"x", name)
    assert names(at) == wanted
    assert {(entry.size, entry.modified) for entry in at.entries("/media/")} == {(None, None)}


def test_a_storage_without_a_listing_says_so(configure: Configure) -> None:
    """It is asked for each file then."""
    at = configure(f"{__name__}.Unlistable")
    assert not at.can_list()
    with pytest.raises(Refused, match="the storage cannot do this"):
        names(at)


def test_a_storage_whose_listing_breaks_off_is_unavailable(configure: Configure) -> None:
    """What came before is not the whole."""
    at = configure(f"{__name__}.Failing")
    for name in ("media/good/x.txt", "media/bad/x.txt"):
        storages["copies"].save(name, ContentFile(b"x"))
    with pytest.raises(Unavailable):
        names(at)


def test_empty_names_are_passed_over(configure: Configure) -> None:
    """Stores without folders have one for the folder itself."""
    assert names(configure(f"{__name__}.Odd")) == ["a/y.txt", "x.txt"]


def test_folders_without_an_end_are_given_up(configure: Configure) -> None:
    """A link that leads back, most likely."""
    with pytest.raises(Refused, match="more than 32 deep"):
        names(configure(f"{__name__}.Endless"))


# S3.


def test_a_bucket_tells_names_sizes_and_times(make_s3: MakeS3, s3: S3, bucket: str) -> None:
    """Only keys below the prefix; those that stand for folders are no files."""
    at = make_s3()
    assert at.can_list()
    assert names(at) == []
    for key, body in (
        ("media/a b#c.txt", b"four"),
        ("media/d/", b""),
        ("media/d/é", b""),
        ("mediax", b""),
        ("x", b""),
    ):
        s3.client.put_object(Bucket=bucket, Key=key, Body=body)
    found = {entry.name: entry for entry in at.entries("/media/")}
    assert {name: entry.size for name, entry in found.items()} == {"a b#c.txt": 4, "d/é": 0}
    modified = found["d/é"].modified
    assert modified is not None
    assert abs((datetime.now(UTC) - modified).total_seconds()) < 600


def test_who_may_not_list_a_bucket_is_told_so(make_s3: MakeS3, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """One may read and write each file without. It is asked once a minute."""
    at = make_s3(proxy.url)
    proxy.trouble = refuse(403, "AccessDenied")
    assert [at.can_list() for _ in range(3)] == [False] * 3
    assert proxy.count("list-type=2") == 1
    with pytest.raises(Refused, match="s3:ListBucket"):
        names(at)
    proxy.trouble = None
    assert not at.can_list()
    monkeypatch.setattr(ability, "BELIEVED", 0.0)
    assert at.can_list()


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [(404, "NoSuchBucket", Refused), (403, "InvalidAccessKeyId", Refused), (503, "SlowDown", Unavailable)],
)
def test_an_error_of_s3_is_no_listing(
    make_s3: MakeS3, proxy: Proxy, status: int, code: str, error: type[TargetError]
) -> None:
    """Nor an answer to whether it lists."""
    at = make_s3(proxy.url)
    proxy.trouble = refuse(status, code)
    for ask in (at.can_list, lambda: names(at)):
        with pytest.raises(error, match=code):
            ask()


def test_an_s3_that_is_gone_or_hangs_is_unavailable(make_s3: MakeS3, proxy: Proxy) -> None:
    """Within the time limits."""
    begun = time.monotonic()
    gone = make_s3(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable):
        names(gone)
    at = make_s3(proxy.url, times=SOON)
    proxy.trouble = hang
    with pytest.raises(Unavailable):
        names(at)
    with pytest.raises(Unavailable):
        at.can_list()
    assert time.monotonic() - begun < 30


def _pages(*pages: str) -> Callable[[bytes, socket.socket], bool]:
    """Answers with these pages, one for each request; then with an error."""
    left = list(pages)

    def trouble(head: bytes, sock: socket.socket) -> bool:
        if not left:
            return refuse(500, "InternalError")(head, sock)
        body = f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{left.pop(0)}</ListBucketResult>'
        sock.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
        return True

    return trouble


def _page(name: str, token: str = "", *, more: bool = True) -> str:
    return (
        f"<Contents><Key>media/{name}</Key><Size>1</Size><LastModified>2026-11-21T14:00:00.000Z</LastModified></Contents>"
        f"<IsTruncated>{str(more).lower()}</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"
    )


def test_pages_are_asked_for_to_the_end(make_s3: MakeS3, proxy: Proxy) -> None:
    """One that fails, repeats itself or has no next one is an error: what came before is not the whole."""
    at = make_s3(proxy.url)
    proxy.trouble = _pages(_page("a", "1"), _page("b", "2"), _page("c", more=False))
    assert names(at) == ["a", "b", "c"]
    assert proxy.count("continuation-token=1") == proxy.count("continuation-token=2") == 1
    proxy.trouble = _pages(_page("a", "1"))
    with pytest.raises(Unavailable, match="500"):
        names(at)
    for pages in ((_page("a"),), (_page("a", "1"), _page("a", "1"))):
        proxy.trouble = _pages(*pages)
        with pytest.raises(Corrupt, match="does not say how to go on"):
            names(at)
