"""Facts about files opened for writing, and about saves that cannot be finished."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import connection, connections

from replicator.models import MediaFile
from replicator.storage import ReplicatedStorage
from tests.processes import RUNNING_AS_ROOT
from tests.storage.conftest import contents, everything

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("mode", "written", "result"),
    [
        ("wb", b"new", b"new"),
        ("w", "größe", "größe".encode()),
        ("ab", b"+", b"old+"),
        ("a", "ü", "oldü".encode()),
        ("rb+", b"N", b"Nld"),
        ("r+", "N", b"Nld"),
        ("wb+", b"new", b"new"),
    ],
)
def test_what_is_written_is_saved_whole_on_close(
    storage: ReplicatedStorage, media_root: Path, mode: str, written: Any, result: bytes
) -> None:
    """Promise 5: until then readers see the old content; then all of the new."""
    storage.save("a.txt", ContentFile(b"old"))
    before = MediaFile.objects.get().version
    file = storage.open("a.txt", mode)
    file.write(written)
    assert (media_root / "a.txt").read_bytes() == b"old"
    assert MediaFile.objects.get().version == before
    file.close()
    assert contents(storage, "a.txt") == result
    assert MediaFile.objects.get().size == len(result)
    version = MediaFile.objects.get().version
    assert version != before
    file.close()
    assert MediaFile.objects.get().version == version, "closed twice is written once"


def test_exclusive_mode_makes_new_files_only(storage: ReplicatedStorage) -> None:
    with storage.open("a.txt", "xb") as file:
        file.write(b"1")
    with pytest.raises(FileExistsError):
        storage.open("a.txt", "x")
    assert contents(storage, "a.txt") == b"1"


def test_reading_and_writing_needs_a_file(storage: ReplicatedStorage) -> None:
    with pytest.raises(FileNotFoundError):
        storage.open("a.txt", "rb+")
    with storage.open("b.txt", "a") as file:
        file.write("from nothing")
    assert contents(storage, "b.txt") == b"from nothing"


@pytest.mark.parametrize("mode", ["wb", "ab", "rb+"])
def test_an_exception_while_writing_saves_nothing(storage: ReplicatedStorage, media_root: Path, mode: str) -> None:
    storage.save("a.txt", ContentFile(b"old"))
    before = MediaFile.objects.get().version
    with pytest.raises(ZeroDivisionError), storage.open("a.txt", mode) as file:  # noqa: PT012
        file.write(b"half")
        raise ZeroDivisionError
    assert everything(media_root) == {"a.txt": b"old"}
    assert MediaFile.objects.get().version == before


def test_what_was_written_can_be_read_before_it_is_saved(storage: ReplicatedStorage) -> None:
    with storage.open("a.txt", "wb+") as file:
        file.write(b"0123")
        file.seek(1)
        assert file.read(2) == b"12"
    assert contents(storage, "a.txt") == b"0123"


# A full disk

SAVE_WITH_A_FULL_DISK = """
import os, resource, signal, sys
import django
django.setup()
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import call_command
from replicator.models import MediaFile
call_command("migrate", verbosity=0)
default_storage.save("small.txt", ContentFile(b"1"))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
LIMIT
for write in (lambda: default_storage.save("large.bin", ContentFile(b"x" * 8_000_000)),
              lambda: default_storage.replace("small.txt", ContentFile(b"x" * 8_000_000))):
    try:
        write()
    except OSError as error:
        print(error.errno, MediaFile.objects.values_list("name", "size").get())
"""


@pytest.mark.parametrize("how", ["a limit on files", "a small file system"])
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, how: str) -> None:
    """Promises 1 and 5: nothing partial here, nothing recorded, the old file as it was."""
    media = tmp_path / "media"
    media.mkdir()
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))"
    if how == "a small file system":
        limit = ""
        mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(media)]
        if not RUNNING_AS_ROOT or subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("mounting is not allowed here")
    try:
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "TEST_MEDIA_ROOT": str(media),
            "TEST_DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}",
        }
        script = SAVE_WITH_A_FULL_DISK.replace("LIMIT", limit)
        command = [sys.executable, "-c", script]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=180)
        assert result.returncode == 0, result.stderr
        full = {"a limit on files": "27", "a small file system": "28"}[how]
        assert result.stdout.splitlines() == [f"{full} ('small.txt', 1)"] * 2, result.stderr
        assert everything(media) == {"small.txt": b"1"}
    finally:
        if not limit:
            subprocess.run(["umount", str(media)], check=True)


def test_a_failing_database_leaves_no_row_and_the_leftover_is_tidied(
    storage: ReplicatedStorage, media_root: Path, tidy_now: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from replicator import ledger

    def fail(*_: object, **__: object) -> bool:
        raise ConnectionError("the database went away")

    storage.save("a.txt", ContentFile(b"old"))
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "record", fail)
        for call in (
            lambda: storage.save("b.txt", ContentFile(b"1")),
            lambda: storage.replace("a.txt", ContentFile(b"new")),
            lambda: storage.delete("a.txt"),
        ):
            with pytest.raises(ConnectionError):
                call()
    tidy_now()
    assert everything(media_root) == {"a.txt": b"old"}
    assert MediaFile.objects.values_list("name", flat=True).get() == "a.txt"


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer: a delete waits for the save")
def test_a_delete_that_ends_while_a_free_name_is_saved_takes_nothing_away(
    storage: ReplicatedStorage, media_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 1: it is shown before its row is there; a delete of the same name, of nothing, came in between."""
    from replicator import ledger

    record = ledger.record

    def delete() -> None:
        try:
            storage.delete("a.txt")
        finally:
            connections.close_all()

    def record_late(*args: Any, only_if_free: bool = False) -> Any:
        if only_if_free:
            thread = Thread(target=delete)
            thread.start()
            thread.join(20)
            assert MediaFile.objects.get().deleted
        return record(*args, only_if_free=only_if_free)

    monkeypatch.setattr(ledger, "record", record_late)
    assert storage.save("a.txt", ContentFile(b"saved")) == "a.txt"
    assert not MediaFile.objects.get().deleted
    assert everything(media_root) == {"a.txt": b"saved"}
