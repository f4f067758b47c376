"""Facts about the storage as any caller of Django's Storage API sees it."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import django
import pytest
from django.core.exceptions import SuspiciousFileOperation
from django.core.files import File
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import InMemoryUploadedFile, SimpleUploadedFile, TemporaryUploadedFile
from django.utils import timezone

from replicator.models import MediaFile, Replica
from replicator.storage import ReplicatedStorage
from tests.storage.conftest import contents, everything

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_saved_file_can_be_asked_everything(storage: ReplicatedStorage, media_root: Path) -> None:
    """The whole reading side of Django's Storage API."""
    name = storage.save("a/b c.txt", ContentFile(b"hello"))
    assert name == "a/b c.txt"
    with storage.open(name) as file:
        assert file.read() == b"hello"
    assert storage.exists(name)
    assert storage.size(name) == 5
    assert storage.url(name) == "/media/a/b%20c.txt"
    assert storage.path(name) == str(media_root / "a/b c.txt")
    assert storage.listdir("") == (["a"], [])
    assert storage.listdir("a") == ([], ["b c.txt"])
    for when in (storage.get_accessed_time, storage.get_created_time, storage.get_modified_time):
        at = when(name)
        assert isinstance(at, datetime)
        assert abs((timezone.now() - at).total_seconds()) < 60
    assert storage.get_valid_name("a b?.txt") == "a_b.txt"
    assert storage.generate_filename("x/a b?.txt") == "x/a_b.txt"


def test_what_was_never_saved_does_not_exist(storage: ReplicatedStorage) -> None:
    assert not storage.exists("a.txt")
    with pytest.raises(FileNotFoundError):
        storage.open("a.txt")
    storage.delete("a.txt")
    assert not storage.exists("a.txt")


def test_the_ledger_knows_what_was_saved(storage: ReplicatedStorage) -> None:
    """Promise 1 begins here: size and hash are those of the bytes, and each target has a pending replica."""
    data = os.urandom(300_000)
    storage.save("photo.jpg", ContentFile(data))
    row = MediaFile.objects.get()
    assert (row.storage, row.name, row.size, row.deleted) == ("default", "photo.jpg", 300_000, False)
    assert row.sha256 == hashlib.sha256(data).hexdigest()
    assert row.content_type == "image/jpeg"
    assert sorted(row.replicas.values_list("target", "status")) == [("media1", "pending"), ("media2", "pending")]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(lambda: ContentFile("größe"), id="text"),
        pytest.param(lambda: ContentFile("größe".encode()), id="bytes"),
        pytest.param(lambda: SimpleUploadedFile("x.txt", "größe".encode()), id="SimpleUploadedFile"),
        pytest.param(lambda: _in_memory("größe".encode()), id="InMemoryUploadedFile"),
        pytest.param(lambda: _temporary("größe".encode()), id="TemporaryUploadedFile"),
    ],
)
def test_every_kind_of_content_is_saved_as_its_bytes(
    storage: ReplicatedStorage, media_root: Path, content: Callable[[], File[Any]]
) -> None:
    with content() as file:
        storage.save("x.txt", file)
    assert everything(media_root) == {"x.txt": "größe".encode()}
    assert MediaFile.objects.get().sha256 == hashlib.sha256("größe".encode()).hexdigest()


def _in_memory(data: bytes) -> InMemoryUploadedFile:
    raw = ContentFile(data)
    return InMemoryUploadedFile(raw, "file", "x.txt", "text/plain", len(data), None)


def _temporary(data: bytes) -> TemporaryUploadedFile:
    file = TemporaryUploadedFile("x.txt", "text/plain", len(data), None)
    file.write(data)
    file.flush()
    return file


def test_a_plain_binary_file_is_saved_from_its_beginning(storage: ReplicatedStorage, tmp_path: Path) -> None:
    """Someone has read it already: to look at its header, say."""
    (tmp_path / "source").write_bytes(b"0123456789")
    with (tmp_path / "source").open("rb") as raw:
        raw.read(4)
        storage.save("x.bin", raw)
    assert (storage.size("x.bin"), MediaFile.objects.get().size) == (10, 10)


def test_an_empty_file_is_a_file(storage: ReplicatedStorage) -> None:
    storage.save("empty", ContentFile(b""))
    assert storage.exists("empty")
    assert storage.size("empty") == 0
    assert MediaFile.objects.get().sha256 == hashlib.sha256(b"").hexdigest()


def test_a_file_without_a_name_takes_its_contents(storage: ReplicatedStorage) -> None:
    assert storage.save(None, ContentFile(b"1", name="own.txt")) == "own.txt"


def test_a_taken_name_gives_another_one(storage: ReplicatedStorage) -> None:
    first = storage.save("a.txt", ContentFile(b"1"))
    second = storage.save("a.txt", ContentFile(b"2"))
    assert first == "a.txt"
    assert second != first
    assert second.startswith("a_")
    assert second.endswith(".txt")
    assert [contents(storage, name) for name in (first, second)] == [b"1", b"2"]


def test_max_length_is_kept(storage: ReplicatedStorage) -> None:
    names = {storage.save("folder/abcdefghijklmnop.txt", ContentFile(b"1"), max_length=24) for _ in range(5)}
    assert len(names) == 5
    assert all(len(name) <= 24 for name in names)


def test_a_max_length_that_leaves_no_name_is_an_error(storage: ReplicatedStorage) -> None:
    storage.save("folder/a.txt", ContentFile(b"1"))
    with pytest.raises(SuspiciousFileOperation, match="max_length"):
        storage.save("folder/a.txt", ContentFile(b"1"), max_length=12)


@pytest.mark.skipif(django.VERSION < (5, 1), reason="Django 4.2 forgets OPTIONS when a test sets STORAGES")
def test_allow_overwrite_keeps_the_name(make_storage: Callable[..., ReplicatedStorage], media_root: Path) -> None:
    storage = make_storage(allow_overwrite=True)
    storage.save("a.txt", ContentFile(b"1"))
    before = MediaFile.objects.get()
    assert storage.save("a.txt", ContentFile(b"22")) == "a.txt"
    after = MediaFile.objects.get()
    assert (after.pk, after.size) == (before.pk, 2)
    assert after.version != before.version
    assert everything(media_root) == {"a.txt": b"22"}


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/passwd", "..", ".", "a/..", "a\0b"])
@pytest.mark.parametrize("verb", ["save", "delete", "open", "write", "exists"])
def test_a_name_that_leaves_the_storage_is_refused(storage: ReplicatedStorage, verb: str, name: str) -> None:
    """Promise 6: nothing is written, deleted or sent outside the root."""

    def write() -> None:
        with storage.open(name, "wb") as file:
            file.write(b"1")

    calls: dict[str, Callable[[], object]] = {
        "save": lambda: storage.save(name, ContentFile(b"1")),
        "delete": lambda: storage.delete(name),
        "open": lambda: storage.open(name),
        "write": write,
        "exists": lambda: storage.exists(name),
    }
    with pytest.raises((SuspiciousFileOperation, ValueError, FileNotFoundError)):
        calls[verb]()
    assert not MediaFile.objects.exists()


def test_an_empty_name_is_refused(storage: ReplicatedStorage) -> None:
    with pytest.raises(ValueError, match="name"):
        storage.delete("")
    with pytest.raises(SuspiciousFileOperation):
        storage.save("", ContentFile(b"1"))


@pytest.mark.parametrize(
    "name",
    [".replicator", ".replicator/x", ".replicator-x.new", "a/.replicator-x", "a/.replicator/b", "replicator-asks-x"],
)
def test_the_storages_own_names_are_refused(storage: ReplicatedStorage, name: str) -> None:
    for call in (lambda: storage.save(name, ContentFile(b"1")), lambda: storage.delete(name)):
        with pytest.raises(SuspiciousFileOperation, match="storage's own"):
            call()


def test_equal_spellings_are_one_file(storage: ReplicatedStorage) -> None:
    """Two rows for one local file would be two truths."""
    storage.save("a/b.txt", ContentFile(b"1"))
    with storage.open("a//./b.txt", "wb") as file:
        file.write(b"2")
    storage.delete("./a/b.txt")
    assert MediaFile.objects.values_list("name", "deleted").get() == ("a/b.txt", True)


def test_a_name_of_255_bytes_is_saved_and_one_of_256_is_an_error(
    storage: ReplicatedStorage, media_root: Path, tidy_now: Callable[[], int]
) -> None:
    assert storage.save("ü" * 127 + "x", ContentFile(b"1")) == "ü" * 127 + "x"
    with pytest.raises(OSError, match="too long"):
        storage.save("ü" * 128, ContentFile(b"1"))
    assert MediaFile.objects.count() == 1
    tidy_now()
    assert list(everything(media_root)) == ["ü" * 127 + "x"]


def test_a_name_that_is_not_unicode_is_refused(storage: ReplicatedStorage) -> None:
    with pytest.raises(SuspiciousFileOperation, match="UTF-8"):
        storage.save("a\udcff.txt", ContentFile(b"1"))


def test_deleting_a_folder_takes_only_an_empty_one(storage: ReplicatedStorage, media_root: Path) -> None:
    """Promise 6: a folder is none of the targets' business, and its files are not deleted with it."""
    storage.save("a/b.txt", ContentFile(b"1"))
    with pytest.raises(OSError, match="not empty"):
        storage.delete("a")
    storage.delete("a/b.txt")
    storage.delete("a")
    assert not (media_root / "a").exists()
    assert MediaFile.objects.values_list("name", flat=True).get() == "a/b.txt"


def test_deleting_below_a_file_harms_nothing(
    storage: ReplicatedStorage, media_root: Path, tidy_now: Callable[[], int]
) -> None:
    storage.save("a.txt", ContentFile(b"1"))
    with pytest.raises(NotADirectoryError):
        storage.delete("a.txt/b")
    tidy_now()
    assert everything(media_root) == {"a.txt": b"1"}
    assert not MediaFile.objects.filter(deleted=True).exists()


def test_a_deleted_file_is_gone_here_and_due_everywhere(storage: ReplicatedStorage, media_root: Path) -> None:
    storage.save("a.txt", ContentFile(b"1"))
    storage.delete("a.txt")
    assert everything(media_root) == {}
    assert not storage.exists("a.txt")
    assert MediaFile.objects.get().deleted
    assert Replica.objects.due().count() == 2


def test_a_name_is_free_again_right_after_a_delete(storage: ReplicatedStorage) -> None:
    storage.save("a.txt", ContentFile(b"1"))
    storage.delete("a.txt")
    assert storage.save("a.txt", ContentFile(b"2")) == "a.txt"
    row = MediaFile.objects.get()
    assert (row.deleted, row.size, contents(storage, "a.txt")) == (False, 1, b"2")


def test_what_never_existed_can_be_deleted_at_the_targets(storage: ReplicatedStorage) -> None:
    """Another node may have it, or a target may hold it from before: a delete is a statement of what should be."""
    storage.delete("nowhere/a.txt")
    assert MediaFile.objects.values_list("name", "deleted").get() == ("nowhere/a.txt", True)


def test_permissions_are_those_of_the_settings(make_storage: Callable[..., ReplicatedStorage], settings: Any) -> None:
    settings.FILE_UPLOAD_PERMISSIONS = 0o640
    settings.FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o750
    storage = make_storage()
    for name, content in {"d/e/mem.txt": ContentFile(b"1"), "d/e/tmp.txt": _temporary(b"1")}.items():
        with content:
            storage.save(name, content)
        assert stat.S_IMODE(Path(storage.path(name)).stat().st_mode) == 0o640
    assert stat.S_IMODE(Path(storage.path("d/e")).stat().st_mode) == 0o750
    with storage.open("d/e/mem.txt", "ab") as file:
        file.write(b"2")
    assert stat.S_IMODE(Path(storage.path("d/e/mem.txt")).stat().st_mode) == 0o640


def test_permissions_without_a_setting_are_the_umasks(
    make_storage: Callable[..., ReplicatedStorage], settings: Any
) -> None:
    settings.FILE_UPLOAD_PERMISSIONS = None
    storage = make_storage()
    before = os.umask(0o027)
    try:
        storage.save("a.txt", ContentFile(b"1"))
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path(storage.path("a.txt")).stat().st_mode) == 0o640


class Dripping(File):  # type: ignore[type-arg]
    """A slow upload: its chunks come one at a time, when the test says so."""

    def __init__(self, chunks: list[bytes], error: Exception | None = None) -> None:
        super().__init__(None, "slow.bin")
        self.parts, self.error = chunks, error
        self.go, self.sent = threading.Semaphore(0), threading.Semaphore(0)

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        for part in self.parts:
            self.go.acquire(timeout=60)
            yield part
            self.sent.release()
        if self.error:
            raise self.error


def test_a_slow_upload_shows_nothing_until_it_is_whole(storage: ReplicatedStorage, media_root: Path) -> None:
    """Promise 5: no partial file is ever visible locally."""
    parts = [bytes([n]) * 100_000 for n in range(5)]
    upload = Dripping(parts)
    storage.save("other.bin", ContentFile(b"1"))
    thread = threading.Thread(target=_in_thread, args=(storage.save, "slow.bin", upload))
    thread.start()
    try:
        for number in range(5):
            assert not storage.exists("slow.bin")
            assert storage.listdir("") == ([], ["other.bin"])
            upload.go.release()
            if number < 4:
                assert upload.sent.acquire(timeout=60)
    finally:
        thread.join()
    assert (media_root / "slow.bin").read_bytes() == b"".join(parts)


def _in_thread(call: Callable[..., object], *arguments: object) -> None:
    from django.db import connection

    try:
        call(*arguments)
    finally:
        connection.close()


def test_an_upload_that_breaks_off_leaves_nothing(storage: ReplicatedStorage, media_root: Path) -> None:
    """Promise 5, and no leftover in the ledger either."""
    upload = Dripping([b"1" * 1000], ConnectionResetError("the browser went away"))
    upload.go.release()
    with pytest.raises(ConnectionResetError):
        storage.save("slow.bin", upload)
    assert everything(media_root) == {}
    assert not MediaFile.objects.exists()


def test_readers_of_an_overwritten_file_see_the_old_or_the_new(
    make_storage: Callable[..., ReplicatedStorage],
) -> None:
    """Promise 5: at no moment is there a mixture, a part, or nothing."""
    storage = make_storage(allow_overwrite=True)
    storage.save("a.bin", ContentFile(b"0" * 50_000))
    seen: set[bytes] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(Path(storage.path("a.bin")).read_bytes())

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for digit in b"123456789":
            storage.save("a.bin", ContentFile(bytes([digit]) * 50_000))
    finally:
        stop.set()
        thread.join()
    assert seen <= {bytes([digit]) * 50_000 for digit in b"0123456789"}


def test_the_default_storage_is_this_one(storage: ReplicatedStorage) -> None:
    assert default_storage.save("a.txt", ContentFile(b"1")) == "a.txt"
    assert MediaFile.objects.get().storage == "default"
