"""``keep_local=False``: the local file goes once enough targets have it and say so, and never before."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.checks import ERROR, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import connection, connections, models, transaction
from django.test.utils import CaptureQueriesContext, isolate_apps
from django.utils import timezone

from replicator import delivery, ledger, wake
from replicator import storage as kinds
from replicator.conf import config
from replicator.delivery import spool as delivered
from replicator.errors import Refused, Unavailable
from replicator.ledger import Outcome, health
from replicator.ledger.holding import hold_unchanged
from replicator.models import MediaFile, Replica
from replicator.storage import ReplicatedStorage, asking, spool
from replicator.storage.outdated import remove_outdated
from replicator.storage.remote import SPOOL
from replicator.storage.transactions import LocalChange
from replicator.targets import get_target
from replicator.targets.base import Stat, TargetFile
from replicator.testing import MemoryTarget
from tests.promises.harness import wait_until
from tests.servers import Lighttpd, MediaHost
from tests.storage.conftest import contents, everything

pytestmark = pytest.mark.django_db(transaction=True)

#: What a storage is given that keeps nothing.
GONE: dict[str, bytes] = {}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is woken, and no target has been silent."""
    monkeypatch.setattr(wake, "wake", lambda *_: True)
    asking._silent.clear()


@pytest.fixture
def storage(make_storage: Callable[..., ReplicatedStorage]) -> ReplicatedStorage:
    return make_storage(keep_local=False)


def memory(alias: str) -> MemoryTarget:
    target = get_target(alias)
    assert isinstance(target, MemoryTarget)
    return target


def deliver(*targets: str) -> None:
    for target in targets or ("media1", "media2"):
        delivery.deliver(target)


def save(storage: ReplicatedStorage, data: bytes, name: str = "folder/a.txt") -> Path:
    """Where the file is, that no target has yet."""
    return Path(storage.path(storage.save(name, ContentFile(data))))


def tidy_at_once(storage: ReplicatedStorage) -> int:
    """As if the grace period were over; the targets stay what they are."""
    vars(config())["orphan_grace"] = 0.0
    return storage.tidy()


# It goes


def test_a_file_goes_when_all_targets_have_it(storage: ReplicatedStorage, media_root: Path) -> None:
    """By the delivery that was the last it waited for; it is read, and listed, as if it were here."""
    place = save(storage, b"hello")
    deliver("media1")
    assert place.read_bytes() == b"hello"
    deliver("media2")
    assert everything(media_root) == GONE
    assert [operation for operation, _ in memory("media1").operations].count("stat") == 1
    assert contents(storage, "folder/a.txt") == b"hello"
    assert storage.exists("folder/a.txt")
    assert storage.size("folder/a.txt") == 5
    assert storage.get_modified_time("folder/a.txt") == MediaFile.objects.get().updated_at
    assert storage.listdir("folder") == ([], ["a.txt"])


def test_a_file_goes_when_min_copies_targets_have_it(
    make_storage: Callable[..., ReplicatedStorage], media_root: Path
) -> None:
    """The other targets get theirs from one that has it."""
    storage = make_storage(keep_local=False, min_copies=1)
    save(storage, b"hello")
    deliver("media1")
    assert everything(media_root) == GONE
    deliver("media2")
    assert memory("media2").files == memory("media1").files == {"media/folder/a.txt": b"hello"}
    assert not Replica.objects.backlog().exists()


def test_a_delivery_that_is_quicker_than_the_saver_releases_too(
    storage: ReplicatedStorage, media_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The save's own traces are no reason to wait: it is committed."""
    changes: list[LocalChange] = []
    with monkeypatch.context() as patch:
        patch.setattr(LocalChange, "finish", lambda self: changes.append(self))
        place = save(storage, b"hello")
    deliver()
    assert not place.exists()
    changes.pop().finish()
    assert everything(media_root) == GONE


def test_an_empty_file_goes_too(storage: ReplicatedStorage, media_root: Path) -> None:
    save(storage, b"")
    deliver()
    assert everything(media_root) == GONE
    assert contents(storage, "folder/a.txt") == b""


def test_a_target_that_answers_slowly_keeps_no_other_waiting(
    make_storage: Callable[..., ReplicatedStorage], media_root: Path
) -> None:
    """Promise 7: what it says is asked for each file, but not while another target has a backlog."""
    storage = make_storage({"BATCH_SIZE": 10}, keep_local=False)
    for number in range(200):
        save(storage, b"hello", f"{number}.txt")
    deliver("media1")
    memory("media1").lag = 0.4
    begun = time.monotonic()
    deliver("media2")
    # Asked after each batch: 16 seconds.
    assert time.monotonic() - begun < 11
    assert not Replica.objects.backlog().exists()
    memory("media1").lag = 0
    assert storage.tidy() > 100
    assert everything(media_root) == GONE


def test_one_that_can_not_be_removed_keeps_no_other(
    storage: ReplicatedStorage, media_root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In a folder that the worker's user may not write to."""
    for name in ("a.txt", "b.txt", "c.txt"):
        save(storage, b"hello", name)
    unlink = Path.unlink

    def refuse(path: Path, *args: Any, **kwargs: Any) -> None:
        if path.name == "b.txt":
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, *args, **kwargs)

    monkeypatch.setattr(Path, "unlink", refuse)
    deliver()
    assert everything(media_root) == {"b.txt": b"hello"}
    assert storage.tidy() == 0
    assert "local file can't be removed" in [record.message for record in caplog.records]


def test_many_files_go_together(storage: ReplicatedStorage, media_root: Path) -> None:
    """In a few statements, whatever their number: a backlog is drained at its usual pace."""
    for number in range(40):
        save(storage, b"%d" % number, f"{number}.txt")
    deliver("media1")
    names = [f"{number}.txt" for number in range(40)]
    Replica.objects.update(status="synced", version=models.Subquery(_version_of_its_file()))
    memory("media2").files.update(memory("media1").files)
    with CaptureQueriesContext(connection) as queries:
        assert storage.release(names) == 40
    statements = [q["sql"] for q in queries.captured_queries if not q["sql"].startswith(("BEGIN", "COMMIT"))]
    assert len(statements) <= 4, statements
    assert everything(media_root) == GONE


def _version_of_its_file() -> Any:
    return MediaFile.objects.filter(pk=models.OuterRef("file")).values("version")


def test_a_file_goes_when_s3_has_it(
    make_storage: Callable[..., ReplicatedStorage], media_root: Path, settings: Any, s3: Any
) -> None:
    """Which says so with a checksum of its own; and it comes back, in pieces."""
    data = os.urandom(2 * SPOOL)
    settings.STORAGES = {**settings.STORAGES, "s3": s3.entry(bucket := s3.new_bucket())}
    entry = {"BACKEND": "replicator.targets.django_storage.StorageTarget", "OPTIONS": {"storage": "s3"}}
    storage = make_storage({"TARGETS": {"s3": entry}}, keep_local=False)
    save(storage, data)
    deliver("s3")
    assert everything(media_root) == GONE
    assert s3.held(bucket) == {"media/folder/a.txt": data}
    assert contents(storage, "folder/a.txt") == data
    storage.delete("folder/a.txt")
    deliver("s3")
    assert s3.held(bucket) == {}


def test_a_save_that_waits_for_its_copies_leaves_nothing_here(
    make_storage: Callable[..., ReplicatedStorage], media_root: Path
) -> None:
    """Delivered, and released, by the process that saves."""
    storage = make_storage(keep_local=False, wait=10.0)
    save(storage, b"hello")
    assert everything(media_root) == GONE
    assert contents(storage, "folder/a.txt") == b"hello"


def test_a_file_that_is_kept_is_kept(make_storage: Callable[..., ReplicatedStorage], media_root: Path) -> None:
    """The default: nobody asks targets, nothing is removed."""
    storage = make_storage()
    save(storage, b"1")
    deliver()
    assert storage.release(["folder/a.txt"]) == storage.tidy() == 0
    assert everything(media_root) == {"folder/a.txt": b"1"}
    assert "stat" not in [operation for operation, _ in memory("media1").operations]


def test_folders_stay(storage: ReplicatedStorage, media_root: Path) -> None:
    """A save may be about to write into one."""
    save(storage, b"1")
    deliver()
    assert (media_root / "folder").is_dir()
    save(storage, b"2", "folder/b.txt")


def test_who_has_the_file_open_goes_on_reading_it(storage: ReplicatedStorage) -> None:
    save(storage, b"0123456789")
    with storage.open("folder/a.txt") as file:
        assert file.read(3) == b"012"
        deliver()
        assert not Path(storage.path("folder/a.txt")).exists()
        assert file.read() == b"3456789"
        file.seek(0)
        assert file.read() == b"0123456789"


# Never before


def test_it_stays_while_one_target_lacks_it(storage: ReplicatedStorage) -> None:
    """Never before: one of two is not enough, whatever else asks for the release."""
    place = save(storage, b"1")
    memory("media2").fail_with = Unavailable("full")
    deliver()
    assert storage.release(["folder/a.txt"]) == storage.tidy() == 0
    assert place.exists()


def test_it_stays_while_a_success_is_in_doubt(storage: ReplicatedStorage) -> None:
    """Never before: what was sent earlier may still undo it."""
    place = save(storage, b"1")
    deliver("media1")
    memory("media2").lose_answer = 1
    deliver("media2")
    Replica.objects.update(due_at=timezone.now())
    deliver("media2")
    assert Replica.objects.get(target="media2").provisional
    assert storage.release(["folder/a.txt"]) == storage.tidy() == 0
    assert place.exists()


@pytest.mark.parametrize("held", [None, b"", b"12345", b"123456", b"tellow"])
def test_it_stays_if_a_target_says_that_it_has_something_else(
    storage: ReplicatedStorage, held: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Never before: absent, another size, another checksum. That is told; the ledger stays as it is."""
    place = save(storage, b"hello")

    def spoil(operation: str, file: TargetFile) -> None:
        if operation == "stat":
            memory("media1").files.pop("media/folder/a.txt", None)
            if held is not None:
                memory("media1").files["media/folder/a.txt"] = held

    memory("media1").before = spoil
    deliver()
    assert place.read_bytes() == b"hello"
    [record] = [record for record in caplog.records if record.message == "target lacks what the ledger says"]
    assert (record.target, record.file) == ("media1", "folder/a.txt")  # type: ignore[attr-defined]  # its extra
    assert not Replica.objects.backlog().exists()
    memory("media1").before = None
    memory("media1").files["media/folder/a.txt"] = b"hello"
    assert storage.tidy() == 1
    assert not place.exists()


@pytest.mark.parametrize("error", [Unavailable("full"), Refused("no"), RuntimeError("a defect")])
def test_it_stays_if_a_target_gives_no_answer(storage: ReplicatedStorage, error: Exception) -> None:
    """Never before: no answer is none; and it hurts no delivery."""
    place = save(storage, b"hello")

    def fail(operation: str, _: TargetFile) -> None:
        if operation == "stat":
            raise error

    memory("media1").before = fail
    deliver()
    assert not Replica.objects.backlog().exists()
    assert place.exists()
    memory("media1").before = None
    asking._silent.clear()
    assert storage.tidy() == 1


def test_it_stays_if_it_is_overwritten_while_targets_are_asked(
    storage: ReplicatedStorage, caplog: pytest.LogCaptureFixture
) -> None:
    """Never before: the version moved on during stat. That a target has the new one already is no alarm."""
    place = save(storage, b"old")
    deliver("media1")
    overwritten = threading.Event()

    def overwrite() -> None:
        storage.replace("folder/a.txt", ContentFile(b"new"))
        memory("media1").files["media/folder/a.txt"] = b"new"
        connections.close_all()
        overwritten.set()

    def wait(operation: str, _: TargetFile) -> None:
        if operation == "stat":
            threading.Thread(target=overwrite).start()
            assert overwritten.wait(10)

    memory("media1").before = wait
    deliver("media2")
    memory("media1").before = None
    assert place.read_bytes() == b"new"
    assert contents(storage, "folder/a.txt") == b"new"
    assert "target lacks what the ledger says" not in caplog.messages
    Replica.objects.update(due_at=timezone.now())
    deliver()
    assert not place.exists()
    assert contents(storage, "folder/a.txt") == b"new"


def test_only_names_that_have_not_moved_on_are_held(storage: ReplicatedStorage) -> None:
    """Never before: between the question and the removal another node may have written."""
    for name in ("a.txt", "b.txt", "c.txt"):
        save(storage, b"1", name)
    versions = dict(MediaFile.objects.values_list("name", "version"))
    storage.replace("b.txt", ContentFile(b"2"))
    storage.delete("c.txt")
    with hold_unchanged("default", {**versions, "never.txt": uuid4()}) as names:
        assert names == ["a.txt"]


def test_it_stays_while_an_overwrite_is_not_committed(storage: ReplicatedStorage, media_root: Path) -> None:
    """Never before: what is here is the other transaction's, and on its way."""
    place = save(storage, b"old")
    deliver("media1")
    memory("media2").files["media/folder/a.txt"] = b"old"
    version = MediaFile.objects.get().version
    Replica.objects.filter(target="media2").update(status="synced", version=version)
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer: a release waits for the other transaction")
    released: list[int] = []

    def release() -> None:
        released.append(storage.release(["folder/a.txt"]))
        connections.close_all()

    with transaction.atomic():
        storage.replace("folder/a.txt", ContentFile(b"new"))
        thread = threading.Thread(target=release)
        thread.start()
        thread.join(10)
        assert place.read_bytes() == b"new"
    assert released == [0]
    assert place.read_bytes() == b"new"


def test_it_stays_if_what_is_here_is_no_version_of_it(storage: ReplicatedStorage) -> None:
    """Promise 6: somebody has put it there; no target has it."""
    place = save(storage, b"hello")
    deliver("media1")
    place.write_bytes(b"by hand")
    version = MediaFile.objects.get().version
    memory("media2").files["media/folder/a.txt"] = b"hello"
    Replica.objects.filter(target="media2").update(status="synced", version=version)
    assert storage.release(["folder/a.txt"]) == storage.tidy() == 0
    assert place.read_bytes() == b"by hand"
    # Who reads gets what the ledger names.
    assert contents(storage, "folder/a.txt") == b"hello"


def test_it_stays_if_it_changes_while_targets_are_asked(
    storage: ReplicatedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 6: what is removed is what was looked at."""
    place = save(storage, b"hello")
    confirmed = spool._confirmed

    def change(*arguments: Any) -> Any:
        found = confirmed(*arguments)
        assert found
        place.write_bytes(b"by hand")
        return found

    monkeypatch.setattr(spool, "_confirmed", change)
    deliver()
    assert place.read_bytes() == b"by hand"


@pytest.mark.parametrize("replica", [{"status": "pending"}, {"status": "failed"}, {"version": uuid4()}])
def test_it_stays_unless_replicas_are_synced_with_its_version(
    storage: ReplicatedStorage, monkeypatch: pytest.MonkeyPatch, replica: dict[str, Any]
) -> None:
    """Never before: whatever the target says, which may have an older one of the same size."""
    place = save(storage, b"hello")
    with monkeypatch.context() as patch:
        patch.setattr(delivered, "release", lambda _: None)
        deliver()
    row = Replica.objects.filter(target="media2")
    before = row.values("status", "version").get()
    row.update(**replica)
    assert storage.release(["folder/a.txt"]) == storage.tidy() == 0
    assert place.exists()
    row.update(**before)
    assert storage.release(["folder/a.txt"]) == 1


@pytest.mark.parametrize("held", [None, b"hell"])
def test_it_stays_if_a_media_host_has_lost_it(
    make_storage: Callable[..., ReplicatedStorage],
    media_host: MediaHost,
    monkeypatch: pytest.MonkeyPatch,
    held: bytes | None,
) -> None:
    """Never before: real servers, which know a size and no checksum."""
    entry = {"BACKEND": "replicator.targets.webdav.WebDAVTarget", "OPTIONS": {"url": media_host.url}}
    storage = make_storage({"TARGETS": {"host": entry}}, keep_local=False)
    place = save(storage, b"hello")
    with monkeypatch.context() as patch:
        patch.setattr(delivered, "release", lambda _: None)
        deliver("host")
    (media_host.root / "media/folder/a.txt").unlink()
    if held is not None:
        media_host.write("media/folder/a.txt", held)
    if isinstance(media_host, Lighttpd):
        time.sleep(3)  # it remembers what it has seen, where nobody told it of a change
    assert storage.tidy() == 0
    assert place.exists()
    media_host.write("media/folder/a.txt", b"hello")
    wait_until(lambda: storage.tidy() == 1)
    assert not place.exists()
    assert contents(storage, "folder/a.txt") == b"hello"


@pytest.mark.parametrize("media_host", ["nginx", "embedded"], indirect=True)
def test_it_stays_if_a_media_host_serves_this_very_folder(
    make_storage: Callable[..., ReplicatedStorage], media_host: MediaHost, caplog: pytest.LogCaptureFixture
) -> None:
    """Never before: what that host has is the local file, whatever it says; also if another target has the file."""
    entry = {"BACKEND": "replicator.targets.webdav.WebDAVTarget", "OPTIONS": {"url": media_host.url}}
    storage = make_storage(
        {"TARGETS": {"host": entry, "media1": {"BACKEND": "replicator.testing.MemoryTarget"}}},
        location=str(media_host.root / "media"),
        keep_local=False,
        min_copies=1,
    )
    save(storage, b"hello")
    deliver("host")
    assert everything(media_host.root / "media") == {"folder/a.txt": b"hello"}
    deliver("media1")
    assert storage.tidy() == 0
    assert everything(media_host.root / "media") == {"folder/a.txt": b"hello"}
    assert [record.message for record in caplog.records].count("target shows files of this disk: they stay") == 1
    assert contents(storage, "folder/a.txt") == b"hello"


def test_a_file_whose_name_is_that_of_a_folder_is_deleted(storage: ReplicatedStorage, media_root: Path) -> None:
    """Promise 2: a bucket holds both, "a" and "a/b.txt"; here there is but the folder."""
    save(storage, b"1", "a")
    deliver()
    save(storage, b"2", "a/b.txt")
    deliver()
    storage.delete("a")
    deliver()
    assert memory("media1").files == memory("media2").files == {"media/a/b.txt": b"2"}
    assert not storage.exists("a")
    with pytest.raises(FileNotFoundError):
        storage.open("a")
    assert contents(storage, "a/b.txt") == b"2"
    storage.delete("a/b.txt")
    deliver()
    tidy_at_once(storage)
    assert everything(media_root) == GONE
    storage.delete("a")
    assert not (media_root / "a").exists()


def test_it_stays_if_it_is_a_link(storage: ReplicatedStorage, tmp_path: Path) -> None:
    """Promise 6: a person's."""
    place = save(storage, b"hello")
    deliver("media1")
    (tmp_path / "elsewhere").write_bytes(b"hello")
    place.unlink()
    place.symlink_to(tmp_path / "elsewhere")
    deliver("media2")
    assert place.is_symlink()


def test_a_file_the_ledger_does_not_know_stays(storage: ReplicatedStorage, media_root: Path) -> None:
    """Promise 6: it may be of a transaction that is not committed."""
    (media_root / "folder").mkdir(parents=True)
    (media_root / "folder/own.txt").write_bytes(b"own")
    assert storage.release(["folder/own.txt"]) == storage.tidy() == 0
    assert contents(storage, "folder/own.txt") == b"own"
    assert (storage.exists("folder/own.txt"), storage.size("folder/own.txt")) == (True, 3)


def test_it_stays_if_its_hash_is_not_known(
    storage: ReplicatedStorage, media_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 6: of some adopted files nobody can say whether what is here is the same."""
    monkeypatch.setattr(MemoryTarget, "stat", lambda *_: Stat(5))
    ledger.record_held([ledger.Write("default", "a.txt", 5)], "media1")
    file = MediaFile.objects.get()
    Replica.objects.create(
        file=file, target="media2", version=file.version, status="synced", since=timezone.now(), due_at=timezone.now()
    )
    media_root.mkdir()
    (media_root / "a.txt").write_bytes(b"hello")
    for alias in ("media1", "media2"):
        memory(alias).files["media/a.txt"] = b"hello"
    assert storage.release(["a.txt"]) == storage.tidy() == 0
    assert contents(storage, "a.txt") == b"hello"


def test_without_targets_nothing_goes(make_storage: Callable[..., ReplicatedStorage], media_root: Path) -> None:
    """Never before: of no targets, all have it."""
    storage = make_storage({"TARGETS": {}}, keep_local=False)
    save(storage, b"1")
    assert storage.release(["folder/a.txt"]) == storage.tidy() == 0
    assert everything(media_root) == {"folder/a.txt": b"1"}


def test_what_is_this_nodes_own_target_stays(make_storage: Callable[..., ReplicatedStorage]) -> None:
    """Never before: the file here is that target's copy."""
    storage = make_storage(keep_local=False, min_copies=1, targets=["media1"])
    place = save(storage, b"1")
    deliver("media1")
    assert not place.exists()
    place.write_bytes(b"1")
    vars(config())["home"] = frozenset(["media1"])
    assert storage.release(["folder/a.txt"]) == storage.tidy() == 0
    assert place.exists()


# Transactions


def test_a_write_is_read_back_in_its_own_transaction(storage: ReplicatedStorage, media_root: Path) -> None:
    """Of a file that is not here any more."""
    save(storage, b"old")
    deliver()
    with transaction.atomic():
        storage.replace("folder/a.txt", ContentFile(b"newer"))
        assert contents(storage, "folder/a.txt") == b"newer"
        assert storage.size("folder/a.txt") == 5
    deliver()
    assert everything(media_root) == GONE
    assert contents(storage, "folder/a.txt") == b"newer"


def test_after_a_rollback_the_file_is_read_from_a_target_again(storage: ReplicatedStorage, media_root: Path) -> None:
    """Promise 3: at once; and tidy empties the place."""
    save(storage, b"old")
    deliver()
    with transaction.atomic():
        storage.replace("folder/a.txt", ContentFile(b"new"))
        transaction.set_rollback(True)
    assert contents(storage, "folder/a.txt") == b"old"
    assert storage.size("folder/a.txt") == 3
    tidy_at_once(storage)
    assert everything(media_root) == GONE
    assert contents(storage, "folder/a.txt") == b"old"


def test_after_a_rollback_a_file_that_no_target_has_yet_is_read_here(
    storage: ReplicatedStorage, media_root: Path
) -> None:
    """Promises 1 and 3: what the rolled back write replaced was put aside."""
    place = save(storage, b"old")
    with transaction.atomic():
        storage.replace("folder/a.txt", ContentFile(b"new"))
        transaction.set_rollback(True)
    assert contents(storage, "folder/a.txt") == b"old"
    tidy_at_once(storage)
    assert place.read_bytes() == b"old"
    deliver()
    assert everything(media_root) == GONE


def test_traces_of_a_rolled_back_write_keep_the_file_until_they_are_gone(
    storage: ReplicatedStorage, media_root: Path
) -> None:
    """A release would not know whose file it removes; after tidy it does."""
    place = save(storage, b"old")
    with transaction.atomic():
        storage.replace("folder/a.txt", ContentFile(b"old"))
        transaction.set_rollback(True)
    deliver()
    assert place.exists()
    tidy_at_once(storage)
    assert everything(media_root) == GONE
    assert contents(storage, "folder/a.txt") == b"old"


def test_a_delete_that_is_rolled_back_was_none(storage: ReplicatedStorage) -> None:
    """Promise 3: of a released file, and of one that is still here."""
    save(storage, b"released")
    deliver()
    save(storage, b"here", "b.txt")
    with transaction.atomic():
        for name in ("folder/a.txt", "b.txt"):
            storage.delete(name)
            assert not storage.exists(name)
            with pytest.raises(FileNotFoundError):
                storage.open(name)
        transaction.set_rollback(True)
    tidy_at_once(storage)
    assert contents(storage, "folder/a.txt") == b"released"
    assert contents(storage, "b.txt") == b"here"


# Delete, overwrite, save


@pytest.mark.parametrize("released", [False, True])
def test_a_deleted_file_is_gone_everywhere(storage: ReplicatedStorage, media_root: Path, *, released: bool) -> None:
    """While it was spooled, and when it had gone."""
    save(storage, b"1")
    if released:
        deliver()
    storage.delete("folder/a.txt")
    assert not storage.exists("folder/a.txt")
    assert storage.listdir("folder") == ([], [])
    deliver()
    assert everything(media_root) == GONE
    assert memory("media1").files == memory("media2").files == {}
    with pytest.raises(FileNotFoundError):
        storage.open("folder/a.txt")
    assert storage.save("folder/a.txt", ContentFile(b"again")) == "folder/a.txt"
    deliver()
    assert contents(storage, "folder/a.txt") == b"again"


def test_a_file_that_is_overwritten_while_it_is_spooled_stays_until_targets_have_the_new_one(
    storage: ReplicatedStorage, media_root: Path
) -> None:
    """Promise 2."""
    place = save(storage, b"old")
    deliver("media1")
    storage.replace("folder/a.txt", ContentFile(b"new"))
    deliver("media2")
    assert place.read_bytes() == b"new"
    deliver("media1")
    assert everything(media_root) == GONE
    assert contents(storage, "folder/a.txt") == b"new"


def test_a_released_name_is_taken(storage: ReplicatedStorage) -> None:
    """Another save of it gets another one, as ever."""
    save(storage, b"1")
    deliver()
    other = storage.save("folder/a.txt", ContentFile(b"2"))
    assert other != "folder/a.txt"
    deliver()
    assert [contents(storage, name) for name in ("folder/a.txt", other)] == [b"1", b"2"]


def test_appending_and_exclusive_creation_know_a_released_file(storage: ReplicatedStorage) -> None:
    """Modes "a", "r+" and "x"."""
    save(storage, b"1")
    deliver()
    with storage.open("folder/a.txt", "ab") as file:
        file.write(b"2")
    deliver()
    with storage.open("folder/a.txt", "r+b") as file:
        file.write(b"x")
    deliver()
    assert contents(storage, "folder/a.txt") == b"x2"
    with pytest.raises(FileExistsError):
        storage.open("folder/a.txt", "xb")


@isolate_apps("tests")
def test_a_field_reads_a_released_file(storage: ReplicatedStorage) -> None:
    """What models do: size, open, lines, chunks, save under the same field."""

    class Letter(models.Model):  # noqa: DJ008  # nobody prints it
        text = models.FileField(storage=storage, upload_to="letters")

        class Meta:
            app_label = "tests"
            managed = False

    letter = Letter()
    letter.text.save("a.txt", ContentFile(b"one\ntwo\n"), save=False)
    deliver()
    letter = Letter(text="letters/a.txt")
    assert letter.text.size == 8
    assert list(letter.text) == [b"one\n", b"two\n"]
    letter.text.close()
    with letter.text.open("rb") as file:
        assert b"".join(file.chunks()) == b"one\ntwo\n"
        assert file.size == 8
    with letter.text.open("wb") as file:
        file.write(b"three\n")
    deliver()
    assert Letter(text="letters/a.txt").text.read() == b"three\n"
    letter.text.delete(save=False)
    assert not storage.exists("letters/a.txt")


def test_the_way_back_that_is_documented_brings_the_files_back(
    make_storage: Callable[..., ReplicatedStorage], media_root: Path, settings: Any, tmp_path: Path
) -> None:
    """All that the ledger names, and no other."""
    targets: Any = {
        "disk": {"BACKEND": "replicator.targets.django_storage.StorageTarget", "OPTIONS": {"storage": "x"}}
    }
    disk = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(tmp_path / "disk")}}
    settings.STORAGES = {**settings.STORAGES, "x": disk}
    storage = make_storage({"TARGETS": targets}, keep_local=False)
    for name in ("a.txt", "b/c.txt", "gone.txt", "here.txt"):
        save(storage, name.encode(), name)
    deliver("disk")
    storage.delete("gone.txt")
    storage.replace("here.txt", ContentFile(b"newer"))
    assert everything(media_root) == {"here.txt": b"newer"}
    make_storage({"TARGETS": targets})
    page = (Path(__file__).parents[2] / "docs/no-local-copy.md").read_text()
    exec(re.findall(r"```python\n# in manage.py shell\n(.*?)```", page, re.DOTALL)[0], {})
    assert everything(media_root) == {"a.txt": b"a.txt", "b/c.txt": b"b/c.txt", "here.txt": b"newer"}


# Listing


def test_folders_are_listed_from_the_ledger(storage: ReplicatedStorage, media_root: Path) -> None:
    """United with what is here; in two statements, whatever is in them."""
    for name in ("a/1.txt", "a/b/2.txt", "a/b/c/3.txt", "A/4.txt", "a_/5.txt", "a%/6.txt", "ä b/7.txt", "8.txt"):
        save(storage, b"1", name)
    deliver()
    save(storage, b"1", "a/here.txt")
    storage.delete("a/b/2.txt")
    (media_root / "a/own").mkdir()

    def listed(path: str) -> tuple[list[str], list[str]]:
        folders, files = storage.listdir(path)
        return sorted(folders), sorted(files)

    with CaptureQueriesContext(connection) as queries:
        assert listed("a") == (["b", "own"], ["1.txt", "here.txt"])
    assert len(queries) == 2
    assert listed("a/") == listed("./a//") == listed("a")
    assert listed("a/b") == (["c"], [])
    assert listed("a/b/c") == ([], ["3.txt"])
    assert listed("A") == ([], ["4.txt"])
    assert listed("") == listed(".") == (["A", "a", "a%", "a_", "ä b"], ["8.txt"])
    assert listed("ä b") == ([], ["7.txt"])
    assert listed("a_") == ([], ["5.txt"])
    for missing in ("nowhere", "8", "a/1.txt/b", "a/B"):
        with pytest.raises((FileNotFoundError, NotADirectoryError)):
            storage.listdir(missing)


def test_a_storage_of_which_nothing_is_here_is_listed(storage: ReplicatedStorage, media_root: Path) -> None:
    """A new node, or a new disk."""
    save(storage, b"1", "a/1.txt")
    save(storage, b"1", "2.txt")
    deliver()
    (media_root / "a").rmdir()
    (media_root / ".replicator").rmdir()
    media_root.rmdir()
    assert storage.listdir("") == (["a"], ["2.txt"])
    assert storage.listdir("a") == ([], ["1.txt"])
    with pytest.raises(FileNotFoundError):
        storage.listdir("b")
    storage.delete("a/1.txt")
    assert storage.listdir("") == ([], ["2.txt"])


# What kills and silence leave


def test_tidy_releases_what_a_killed_worker_has_not(
    storage: ReplicatedStorage, media_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between settling and releasing: the ledger has it, the file is here."""
    save(storage, b"1", "deep/in/a.txt")
    with monkeypatch.context() as patch:
        patch.setattr(delivered, "release", lambda _: None)
        deliver()
    assert everything(media_root) == {"deep/in/a.txt": b"1"}
    assert storage.tidy() == 1
    assert everything(media_root) == GONE


def test_an_older_version_goes_when_it_is_old_enough(storage: ReplicatedStorage, media_root: Path) -> None:
    """A node whose file another one has overwritten; not before no transaction can be about to use it."""
    place = save(storage, b"old")
    storage.replace("folder/a.txt", ContentFile(b"new"))
    deliver()
    place.write_bytes(b"old")
    assert storage.tidy() == 0
    # What came after the write is none of its past.
    assert tidy_at_once(storage) == 0
    time.sleep(0.01)
    MediaFile.objects.update(updated_at=timezone.now())
    vars(config())["orphan_grace"] = 3600.0
    assert storage.tidy() == 0
    assert tidy_at_once(storage) == 1
    assert everything(media_root) == GONE
    assert contents(storage, "folder/a.txt") == b"new"


def test_what_was_deleted_by_another_node_goes_when_it_is_old_enough(
    storage: ReplicatedStorage, media_root: Path
) -> None:
    """Not while a save of the name could be about to commit."""
    place = save(storage, b"1")
    storage.delete("folder/a.txt")
    place.write_bytes(b"1")
    assert not storage.exists("folder/a.txt")
    assert storage.listdir("folder") == ([], [])
    assert tidy_at_once(storage) == 0
    time.sleep(0.01)
    MediaFile.objects.update(updated_at=timezone.now())
    vars(config())["orphan_grace"] = 3600.0
    assert storage.tidy() == 0
    vars(config())["orphan_grace"] = 0.0
    (media_root / ".replicator" / ("0" * 32)).symlink_to("folder/a.txt")
    assert spool.tidy(storage) == 0
    (media_root / ".replicator" / ("0" * 32)).unlink()
    assert storage.tidy() == 1
    assert everything(media_root) == GONE


def test_a_save_over_a_tombstone_that_is_not_committed_stays(
    storage: ReplicatedStorage, media_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 1: between the link and the record only the journal knows of it."""
    save(storage, b"1")
    storage.delete("folder/a.txt")
    vars(config())["orphan_grace"] = 0.0
    tidied: list[int] = []
    record = ledger.record

    def tidy_first(*arguments: Any, **options: Any) -> Any:
        MediaFile.objects.update(updated_at=timezone.now())
        tidied.append(spool.tidy(storage))
        return record(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "record", tidy_first)
        save(storage, b"again")
    assert tidied == [0]
    assert everything(media_root) == {"folder/a.txt": b"again"}
    deliver()
    assert contents(storage, "folder/a.txt") == b"again"


def test_a_hanging_target_is_waited_for_once_and_not_for_long(
    make_storage: Callable[..., ReplicatedStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 7: it holds up neither the other files nor the delivery."""
    storage = make_storage(keep_local=False, min_copies=1)
    monkeypatch.setattr(spool, "PATIENCE", 2.0)
    monkeypatch.setattr(asking, "SILENT_AFTER", 1.6)
    places = [save(storage, b"1", f"{number}.txt") for number in range(3)]
    release = threading.Event()

    def hang(operation: str, _: TargetFile) -> None:
        if operation == "stat":
            release.wait(60)

    memory("media1").before = hang
    try:
        start = time.monotonic()
        deliver("media1")
        assert 1.6 < time.monotonic() - start < 20
        assert all(place.exists() for place in places)
        start = time.monotonic()
        deliver("media2")
        assert time.monotonic() - start < 1.6
        assert not any(place.exists() for place in places)
    finally:
        release.set()


def test_a_target_that_refuses_connections_is_asked_a_few_times_only(
    make_storage: Callable[..., ReplicatedStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not once for each of thousands of files."""
    storage = make_storage(keep_local=False, targets=["media1"])
    names = [storage.save(f"{number}.txt", ContentFile(b"1")) for number in range(100)]
    with monkeypatch.context() as patch:
        patch.setattr(delivered, "release", lambda _: None)
        deliver("media1")
    asked: list[str] = []

    def refuse(_: MemoryTarget, file: TargetFile) -> None:
        asked.append(file.name)
        raise Unavailable("connection refused")

    monkeypatch.setattr(MemoryTarget, "stat", refuse)
    assert storage.release(names) == storage.release(names) == 0
    assert 1 <= len(asked) <= memory("media1").concurrency


def test_a_slow_target_is_not_silent(
    make_storage: Callable[..., ReplicatedStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers, and has more questions than there is time for: the next time they go on."""
    storage = make_storage(keep_local=False, targets=["media1"])
    names = [storage.save(f"{number}.txt", ContentFile(b"1")) for number in range(60)]
    with monkeypatch.context() as patch:
        patch.setattr(delivered, "release", lambda _: None)
        deliver("media1")
    monkeypatch.setattr(spool, "PATIENCE", 2.0)
    monkeypatch.setattr(asking, "SILENT_AFTER", 1.6)
    memory("media1").lag = 0.4
    first = storage.release(names)
    assert 0 < first < 60
    assert storage.release(names) > 0


def test_more_files_than_there_is_time_for_pause_no_target(
    storage: ReplicatedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a large file that takes long to be hashed keep the others."""
    names = [storage.save(f"{number}.txt", ContentFile(b"1")) for number in range(6)]
    with monkeypatch.context() as patch:
        patch.setattr(delivered, "release", lambda _: None)
        deliver()
    monkeypatch.setattr(spool, "_BATCH", 2)
    hashed = spool._old_or_same

    def slowly(*arguments: Any) -> Any:
        time.sleep(0.3)
        return hashed(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(spool, "_old_or_same", slowly)
        patch.setattr(spool, "PATIENCE", 0.2)
        assert storage.release(names) == 0
    assert asking._silent == {}
    assert storage.release(names) == 6


def test_one_silent_target_of_many_is_not_waited_for_when_the_others_are_enough(
    make_storage: Callable[..., ReplicatedStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = make_storage(keep_local=False, min_copies=1)
    monkeypatch.setattr(spool, "PATIENCE", 20.0)
    place = save(storage, b"1")
    with monkeypatch.context() as patch:
        patch.setattr(delivered, "release", lambda _: None)
        deliver()
    release = threading.Event()
    memory("media1").before = lambda *_: release.wait(20)  # type: ignore[assignment]  # nobody reads its answer
    try:
        start = time.monotonic()
        assert storage.release(["folder/a.txt"]) == 1
        assert time.monotonic() - start < 15
    finally:
        release.set()
    assert not place.exists()


def test_a_target_that_is_down_is_not_asked(
    make_storage: Callable[..., ReplicatedStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 7; what it holds may be what the file waits for."""
    storage = make_storage(keep_local=False)
    place = save(storage, b"1")
    with monkeypatch.context() as patch:
        patch.setattr(delivered, "release", lambda _: None)
        deliver()
    health.mark_down("media1", "as told")
    assert storage.tidy() == 0
    assert "stat" not in [operation for operation, _ in memory("media1").operations]
    assert place.exists()
    health.mark_up("media1")
    assert storage.tidy() == 1


def test_whatever_fails_hurts_no_delivery(
    storage: ReplicatedStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Promise 1: the targets have the file; the rest is left to tidy."""
    place = save(storage, b"1")

    def fail(*_: Any, **__: Any) -> int:
        raise RuntimeError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(spool, "release", fail)
        deliver()
    assert not Replica.objects.backlog().exists()
    assert place.exists()
    assert "local files not released" in caplog.messages
    assert storage.tidy() == 1


def test_outcomes_of_storages_that_keep_theirs_cost_nothing(make_storage: Callable[..., ReplicatedStorage]) -> None:
    """No statement, no request."""
    make_storage().save("a.txt", ContentFile(b"1"))
    batch = ledger.claim("media1", 10)
    with CaptureQueriesContext(connection) as queries:
        delivered.release([Outcome(claim) for claim in batch.claims])
    assert queries.captured_queries == []


def test_what_a_removed_storage_had_is_nobodys_business(
    make_storage: Callable[..., ReplicatedStorage], settings: Any
) -> None:
    """An alias that is gone, or is another kind of storage now."""
    make_storage(keep_local=False).save("a.txt", ContentFile(b"1"))
    batch = ledger.claim("media1", 10)
    for entry in ({}, {"default": {"BACKEND": "django.core.files.storage.InMemoryStorage"}}):
        settings.STORAGES = {"staticfiles": settings.STORAGES["staticfiles"], **entry}
        delivered.release([Outcome(claim) for claim in batch.claims])


def test_tidy_looks_only_into_its_own_folders(
    make_storage: Callable[..., ReplicatedStorage], settings: Any, media_root: Path
) -> None:
    """Another storage's folder inside is that one's."""
    make_storage(keep_local=False)
    avatars = {"alias": "avatars", "location": str(media_root / "avatars"), "base_url": "/media/avatars/"}
    settings.STORAGES = {
        **settings.STORAGES,
        "avatars": {"BACKEND": "replicator.storage.ReplicatedStorage", "OPTIONS": avatars},
    }
    outer, inner = storages["default"], storages["avatars"]
    assert isinstance(outer, ReplicatedStorage)
    inner.save("a.txt", ContentFile(b"1"))
    outer.save("b.txt", ContentFile(b"1"))
    for name in (".replicator-x", "replicator-asks-x"):
        (media_root / name).write_bytes(b"")
    assert list(spool._names(outer)) == ["b.txt"]
    assert (media_root / "avatars/a.txt").exists()


def test_what_another_node_deleted_is_not_removed_under_a_save(
    make_storage: Callable[..., ReplicatedStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 1, where nodes have disks of their own, and keep their files: as above."""
    storage = make_storage({"SHARED_MEDIA": False, "NODE": "web1"})
    save(storage, b"1")
    storage.delete("folder/a.txt")
    MediaFile.objects.update(node="web2", outdated_at=",web1,")
    record = ledger.record
    removed: list[int] = []

    def tidy_first(*arguments: Any, **options: Any) -> Any:
        removed.append(remove_outdated())
        return record(*arguments, **options)

    monkeypatch.setattr(ledger, "record", tidy_first)
    place = save(storage, b"again")
    assert removed == [0]
    assert place.read_bytes() == b"again"


# Checks


@pytest.mark.parametrize(
    ("replicator", "options", "id_", "words"),
    [
        ({"TARGETS": {}}, {}, "E045", ["has no target that could keep its files", 'REPLICATOR["TARGETS"]']),
        ({}, {"targets": []}, "E045", ["has no target that could keep its files", '"keep_local": False']),
        ({}, {"min_copies": 3}, "E005", ["min_copies of 3, and has 2 targets"]),
        ({}, {"keep_local": "no"}, "E005", ["keep_local is 'no': write True or False"]),
        ({}, {"targets": ["media1"], "min_copies": 1}, "", []),
        ({}, {}, "", []),
    ],
)
def test_files_that_could_never_go_are_an_error_with_a_cure(
    make_storage: Callable[..., ReplicatedStorage],
    settings: Any,
    replicator: dict[str, Any],
    options: dict[str, Any],
    id_: str,
    words: list[str],
) -> None:
    try:
        make_storage(replicator, **{"keep_local": False, **options})
    except TypeError:
        assert id_ == "E005"
    serious = [message for message in run_checks(tags=["replicator"]) if message.level >= ERROR]
    assert [message.id for message in serious] == [f"replicator.{id_}"] * bool(id_)
    for word in words:
        assert word in f"{serious[0].msg} {serious[0].hint}"


def test_a_target_that_is_this_nodes_own_disk_is_an_error(make_storage: Callable[..., ReplicatedStorage]) -> None:
    """Its copy is the local file."""
    webdav = "replicator.targets.webdav.WebDAVTarget"
    web = {
        f"web{n}": {"BACKEND": webdav, "OPTIONS": {"url": f"http://10.0.0.{n}", "node": f"web{n}"}} for n in (1, 2)
    }
    site = {"TARGETS": web, "NODE": "web2", "SHARED_MEDIA": False}
    make_storage(site, keep_local=False)
    [message] = [message for message in run_checks(tags=["replicator"]) if message.level >= ERROR]
    assert message.id == "replicator.E045"
    assert "'web2' is this node's own media root" in message.msg
    assert "without 'web2'" in str(message.hint)
    make_storage({**site, "NODE": "front"}, keep_local=False)
    assert not [message for message in run_checks(tags=["replicator"]) if message.level >= ERROR]


@pytest.mark.parametrize("kind", ["ReplicatedStaticFilesStorage", "ReplicatedManifestStaticFilesStorage"])
def test_static_files_stay(kind: str, tmp_path: Path) -> None:
    """collectstatic compares with what is here."""
    with pytest.raises(ImproperlyConfigured, match="keep_local is for media"):
        getattr(kinds, kind)(location=str(tmp_path), keep_local=False)
