"""Facts about saves and deletes inside the caller's transaction: on commit, on rollback, and after it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from replicator import delivery, tasks, wake
from replicator.models import MediaFile, Replica
from replicator.storage import ReplicatedStorage
from tests.storage.conftest import TARGETS, contents, everything

pytestmark = pytest.mark.django_db(transaction=True)


class Rollback(Exception):
    """Ends a block, and what it did."""


def rolled_back(*steps: Callable[[], object]) -> None:
    """Do *steps* in one transaction, and roll it back."""
    with pytest.raises(Rollback), transaction.atomic():  # noqa: PT012  # the steps are the test's
        for step in steps:
            step()
        raise Rollback


def write(storage: ReplicatedStorage, name: str, data: bytes) -> None:
    with storage.open(name, "wb") as file:
        file.write(data)


# On commit


def test_a_save_is_announced_when_its_transaction_commits(
    storage: ReplicatedStorage, announced: list[list[str]]
) -> None:
    with transaction.atomic():
        storage.save("a.txt", ContentFile(b"1"))
        assert MediaFile.objects.count() == 1
        assert announced == []
    assert announced == [["media1", "media2"]]


def test_many_writes_of_one_transaction_share_their_wake_ups(
    storage: ReplicatedStorage, announced: list[list[str]]
) -> None:
    with transaction.atomic():
        for n in range(20):
            storage.save(f"{n}.txt", ContentFile(b"1"))
        storage.delete("3.txt")
        with transaction.atomic():
            storage.save("inner.txt", ContentFile(b"1"))
    assert announced == [["media1", "media2"]]


def test_storages_with_different_targets_share_one_announcement(
    storage: ReplicatedStorage, settings: Any, tmp_path: Path, announced: list[list[str]]
) -> None:
    options = {"alias": "other", "location": str(tmp_path / "other"), "base_url": "/other/", "targets": ["media2"]}
    backend = "replicator.storage.ReplicatedStorage"
    settings.STORAGES = {**settings.STORAGES, "other": {"BACKEND": backend, "OPTIONS": options}}
    with transaction.atomic():
        storages["other"].save("a.txt", ContentFile(b"1"))
        storages["default"].save("a.txt", ContentFile(b"1"))
    assert announced == [["media1", "media2"]]
    storages["other"].save("b.txt", ContentFile(b"1"))
    assert announced[1:] == [["media2"]]


@pytest.mark.parametrize("targets", [1, 10])
@pytest.mark.parametrize("in_transaction", [False, True])
@pytest.mark.parametrize("keep_local", [False, True])
def test_a_save_takes_three_statements_whatever_the_number_of_targets(
    make_storage: Callable[..., ReplicatedStorage], targets: int, *, in_transaction: bool, keep_local: bool
) -> None:
    """Promise 4, and the budget of the design."""
    backend = TARGETS["media1"]
    storage = make_storage({"TARGETS": {f"media{n}": backend for n in range(targets)}}, keep_local=keep_local)
    storage.save("first.txt", ContentFile(b"1"))
    # On a connection that has made savepoints, a commit looks whether the write has come true.
    connection.clean_savepoints()
    with CaptureQueriesContext(connection) as queries:
        if in_transaction:
            with transaction.atomic():
                storage.save("a.txt", ContentFile(b"1"))
        else:
            storage.save("a.txt", ContentFile(b"1"))
    noise = ("BEGIN", "COMMIT", "PRAGMA")
    statements = [q["sql"] for q in queries.captured_queries if not q["sql"].startswith(noise)]
    assert len(statements) <= 3, statements
    assert Replica.objects.filter(file__name="a.txt").count() == targets


@pytest.mark.parametrize("verb", ["save", "overwrite", "delete"])
def test_no_trace_is_left_after_a_commit(storage: ReplicatedStorage, media_root: Path, verb: str) -> None:
    storage.save("a.txt", ContentFile(b"1"))
    with transaction.atomic():
        if verb == "save":
            storage.save("b.txt", ContentFile(b"2"))
        elif verb == "overwrite":
            write(storage, "a.txt", b"2")
        else:
            storage.delete("a.txt")
        # Hidden from listings while they are there.
        assert (media_root / ".replicator").is_dir()
        assert not any(name.startswith(".") for names in storage.listdir("") for name in names)
    left = {"save": {"a.txt": b"1", "b.txt": b"2"}, "overwrite": {"a.txt": b"2"}, "delete": {}}
    assert everything(media_root) == left[verb]


def test_a_deleted_file_is_unreachable_but_kept_until_the_commit(
    storage: ReplicatedStorage, media_root: Path
) -> None:
    storage.save("a.txt", ContentFile(b"1"))
    with transaction.atomic():
        storage.delete("a.txt")
        assert not storage.exists("a.txt")
        assert (media_root / "a.txt").exists()
    assert everything(media_root) == {}


def test_delete_and_save_of_one_name_in_one_transaction_keeps_the_name(
    storage: ReplicatedStorage, media_root: Path
) -> None:
    storage.save("a.txt", ContentFile(b"1"))
    with transaction.atomic():
        storage.delete("a.txt")
        assert storage.save("a.txt", ContentFile(b"22")) == "a.txt"
        assert storage.exists("a.txt")
        # It is taken again.
        assert storage.save("a.txt", ContentFile(b"3")) != "a.txt"
    assert contents(storage, "a.txt") == b"22"
    row = MediaFile.objects.get(name="a.txt")
    assert (row.deleted, row.size) == (False, 2)
    assert len(everything(media_root)) == 2


def test_save_and_delete_of_one_name_in_one_transaction_leaves_nothing(
    storage: ReplicatedStorage, media_root: Path
) -> None:
    with transaction.atomic():
        storage.save("a.txt", ContentFile(b"1"))
        storage.delete("a.txt")
        storage.save("a.txt", ContentFile(b"2"))
        storage.delete("a.txt")
    assert everything(media_root) == {}
    assert MediaFile.objects.get().deleted


# After a rollback


def test_a_rolled_back_save_leaves_no_row_and_no_wake_up(
    storage: ReplicatedStorage, announced: list[list[str]]
) -> None:
    """Promise 3."""
    rolled_back(lambda: storage.save("a.txt", ContentFile(b"1")))
    assert (MediaFile.objects.count(), Replica.objects.count(), announced) == (0, 0, [])


def test_the_orphan_of_a_rolled_back_save_goes_after_the_grace_period_and_not_before(
    make_storage: Callable[..., ReplicatedStorage], media_root: Path
) -> None:
    """Promise 3, on this machine: a transaction that is still open must not lose its file."""
    storage = make_storage({"ORPHAN_GRACE": 2.0})
    rolled_back(lambda: storage.save("d/a.txt", ContentFile(b"1")))
    assert storage.tidy() == 0
    assert (media_root / "d/a.txt").exists()
    time.sleep(2.1)
    assert storage.tidy() == 1
    assert everything(media_root) == {}
    assert storage.tidy() == 0


def test_a_rolled_back_overwrite_puts_the_old_bytes_back(
    storage: ReplicatedStorage, media_root: Path, tidy_now: Callable[[], int]
) -> None:
    storage.save("a.txt", ContentFile(b"old"))
    rolled_back(lambda: write(storage, "a.txt", b"new"), lambda: write(storage, "a.txt", b"newer"))
    tidy_now()
    assert everything(media_root) == {"a.txt": b"old"}


def test_a_rolled_back_overwrite_of_equal_size_puts_the_old_bytes_back(
    storage: ReplicatedStorage, media_root: Path, tidy_now: Callable[[], int]
) -> None:
    storage.save("a.txt", ContentFile(b"old"))
    rolled_back(lambda: write(storage, "a.txt", b"new"))
    tidy_now()
    assert everything(media_root) == {"a.txt": b"old"}


def test_a_rolled_back_delete_leaves_the_file(
    storage: ReplicatedStorage, media_root: Path, tidy_now: Callable[[], int]
) -> None:
    storage.save("a.txt", ContentFile(b"1"))
    rolled_back(lambda: storage.delete("a.txt"))
    assert contents(storage, "a.txt") == b"1"
    assert storage.exists("a.txt")
    tidy_now()
    assert everything(media_root) == {"a.txt": b"1"}


def test_a_rolled_back_delete_and_save_puts_the_old_bytes_back(
    storage: ReplicatedStorage, media_root: Path, tidy_now: Callable[[], int]
) -> None:
    storage.save("a.txt", ContentFile(b"old"))
    rolled_back(lambda: storage.delete("a.txt"), lambda: storage.save("a.txt", ContentFile(b"new")))
    tidy_now()
    assert everything(media_root) == {"a.txt": b"old"}
    assert not MediaFile.objects.get().deleted


def test_rollbacks_before_and_after_a_commit_leave_what_was_committed(
    storage: ReplicatedStorage, media_root: Path, tidy_now: Callable[[], int]
) -> None:
    write(storage, "a.txt", b"first")
    rolled_back(lambda: write(storage, "a.txt", b"rolled back 1"))
    write(storage, "a.txt", b"second")
    rolled_back(lambda: write(storage, "a.txt", b"rolled back 2"), lambda: storage.delete("a.txt"))
    rolled_back(lambda: storage.delete("a.txt"), lambda: write(storage, "a.txt", b"rolled back 3"))
    tidy_now()
    assert everything(media_root) == {"a.txt": b"second"}


def test_a_rolled_back_overwrite_of_a_file_from_elsewhere_gives_it_back(
    storage: ReplicatedStorage, media_root: Path, tidy_now: Callable[[], int]
) -> None:
    """A site that has not yet adopted its files must not lose one to a rollback."""
    media_root.mkdir()
    (media_root / "a.txt").write_bytes(b"from elsewhere")
    rolled_back(lambda: write(storage, "a.txt", b"1"), lambda: write(storage, "a.txt", b"22"))
    rolled_back(lambda: write(storage, "a.txt", b"333"))
    tidy_now()
    assert everything(media_root) == {"a.txt": b"from elsewhere"}


def test_a_rolled_back_overwrite_of_a_file_changed_by_hand_gives_that_back(
    storage: ReplicatedStorage, media_root: Path, tidy_now: Callable[[], int]
) -> None:
    """The ledger's own bytes are nowhere here; what was there before the overwrite is the last copy of something."""
    write(storage, "a.txt", b"recorded")
    (media_root / "a.txt").unlink()
    (media_root / "a.txt").write_bytes(b"put there by hand")
    rolled_back(lambda: write(storage, "a.txt", b"rolled back"))
    tidy_now()
    assert everything(media_root) == {"a.txt": b"put there by hand"}


def test_a_rolled_back_delete_of_a_file_from_elsewhere_leaves_it(
    storage: ReplicatedStorage, media_root: Path, tidy_now: Callable[[], int]
) -> None:
    media_root.mkdir()
    (media_root / "a.txt").write_bytes(b"from elsewhere")
    rolled_back(lambda: storage.delete("a.txt"))
    rolled_back(lambda: storage.delete("a.txt"), lambda: storage.save("a.txt", ContentFile(b"1")))
    tidy_now()
    assert everything(media_root) == {"a.txt": b"from elsewhere"}


def test_a_deleted_file_does_not_come_back_with_an_overwrite_rolled_back_after_it(
    storage: ReplicatedStorage, media_root: Path, tidy_now: Callable[[], int]
) -> None:
    """Promise 2, on this machine: what the overwrites hid is gone, and is no file from elsewhere."""
    storage.save("a.txt", ContentFile(b"old"))
    rolled_back(lambda: write(storage, "a.txt", b"1"))
    storage.delete("a.txt")
    rolled_back(lambda: write(storage, "a.txt", b"22"))
    tidy_now()
    assert everything(media_root) == {}


def test_a_deleted_file_does_not_come_back_with_an_overwrite_rolled_back_during_the_commit(
    storage: ReplicatedStorage, media_root: Path, tidy_now: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 2: another process comes between the commit of a delete and the removal of the local file."""
    storage.save("a.txt", ContentFile(b"old"))
    with monkeypatch.context() as patch:
        patch.setattr(wake, "announce", lambda _: rolled_back(lambda: write(storage, "a.txt", b"new")))
        storage.delete("a.txt")
    tidy_now()
    assert everything(media_root) == {}


def test_a_rollback_waits_for_the_younger_one_of_the_same_name(
    make_storage: Callable[..., ReplicatedStorage], media_root: Path
) -> None:
    """Tidy comes between two rolled back overwrites: the older one's leftovers are what the younger one hides."""
    storage = make_storage({"ORPHAN_GRACE": 2.0})
    media_root.mkdir()
    (media_root / "a.txt").write_bytes(b"from elsewhere")
    rolled_back(lambda: write(storage, "a.txt", b"1"))
    time.sleep(2.1)
    rolled_back(lambda: write(storage, "a.txt", b"22"))
    storage.tidy()
    time.sleep(2.1)
    storage.tidy()
    assert everything(media_root) == {"a.txt": b"from elsewhere"}


def test_tidy_removes_nothing_that_came_from_elsewhere(
    storage: ReplicatedStorage, media_root: Path, tidy_now: Callable[[], int]
) -> None:
    """Promise 6, on this machine: rsync and people put files there too."""
    rolled_back(lambda: storage.save("a.txt", ContentFile(b"1")), lambda: storage.save("b.txt", ContentFile(b"1")))
    (media_root / "a.txt").unlink()
    (media_root / "a.txt").write_bytes(b"rsync")
    (media_root / "c.txt").write_bytes(b"rsync")
    tidy_now()
    assert everything(media_root) == {"a.txt": b"rsync", "c.txt": b"rsync"}


def test_one_leftover_that_cannot_be_tidied_does_not_keep_the_others(
    storage: ReplicatedStorage, media_root: Path, tidy_now: Callable[[], int]
) -> None:
    rolled_back(lambda: storage.save("d/a.txt", ContentFile(b"1")))
    rolled_back(*[lambda n=n: storage.save(f"{n}.txt", ContentFile(b"1")) for n in range(5)])
    # A folder where the leftover's trace is: no clean-up can unlink it.
    trace = next((media_root / "d").glob(".replicator-*.new"))
    trace.unlink()
    trace.mkdir()
    tidy_now()
    assert [name for name in everything(media_root) if name.endswith(".txt") and "/" not in name] == []
    tasks.prune()


# Savepoints


def test_a_savepoint_rolled_back_takes_its_save_with_it(
    storage: ReplicatedStorage, media_root: Path, tidy_now: Callable[[], int], announced: list[list[str]]
) -> None:
    with transaction.atomic():
        rolled_back(lambda: storage.save("inner.txt", ContentFile(b"1")))
        storage.save("outer.txt", ContentFile(b"1"))
    assert announced == [["media1", "media2"]]
    assert MediaFile.objects.values_list("name", flat=True).get() == "outer.txt"
    tidy_now()
    assert everything(media_root) == {"outer.txt": b"1"}


def test_a_save_after_a_rolled_back_savepoint_is_announced(
    storage: ReplicatedStorage, announced: list[list[str]]
) -> None:
    """The announcement of the inner block goes with it; the outer one needs its own."""
    with transaction.atomic():
        storage.save("before.txt", ContentFile(b"1"))
        rolled_back(lambda: storage.save("inner.txt", ContentFile(b"1")))
    with transaction.atomic():
        rolled_back(lambda: storage.save("inner.txt", ContentFile(b"1")))
        storage.save("after.txt", ContentFile(b"1"))
    assert announced == [["media1", "media2"]] * 2


def test_a_delete_in_a_rolled_back_savepoint_does_not_free_the_name(
    storage: ReplicatedStorage, media_root: Path, tidy_now: Callable[[], int]
) -> None:
    storage.save("a.txt", ContentFile(b"1"))
    with transaction.atomic():
        rolled_back(lambda: storage.delete("a.txt"))
        assert storage.exists("a.txt")
        assert storage.save("a.txt", ContentFile(b"2")) != "a.txt"
    tidy_now()
    assert contents(storage, "a.txt") == b"1"
    assert len(everything(media_root)) == 2


def test_an_overwrite_in_a_rolled_back_savepoint_gives_way_to_the_outer_one(
    storage: ReplicatedStorage, media_root: Path, tidy_now: Callable[[], int]
) -> None:
    storage.save("a.txt", ContentFile(b"old"))
    with transaction.atomic():
        write(storage, "a.txt", b"outer")
        rolled_back(lambda: write(storage, "a.txt", b"inner"))
    tidy_now()
    assert everything(media_root) == {"a.txt": b"outer"}


def test_a_savepoint_made_by_hand_and_rolled_back_loses_no_bytes(
    storage: ReplicatedStorage, media_root: Path, tidy_now: Callable[[], int]
) -> None:
    """Django runs on_commit functions that were registered after such a savepoint: they must look before they act."""
    storage.save("a.txt", ContentFile(b"old"))
    with transaction.atomic():
        savepoint = transaction.savepoint()
        write(storage, "a.txt", b"new")
        storage.save("b.txt", ContentFile(b"1"))
        transaction.savepoint_rollback(savepoint)
    tidy_now()
    assert everything(media_root) == {"a.txt": b"old"}


def test_a_delete_after_a_savepoint_made_by_hand_frees_no_name_when_rolled_back(storage: ReplicatedStorage) -> None:
    storage.save("a.txt", ContentFile(b"old"))
    with transaction.atomic():
        savepoint = transaction.savepoint()
        storage.delete("a.txt")
        transaction.savepoint_rollback(savepoint)
        assert storage.exists("a.txt")
        assert storage.save("a.txt", ContentFile(b"new")) != "a.txt"
    assert contents(storage, "a.txt") == b"old"


# ATOMIC_REQUESTS


def test_a_request_that_fails_leaves_no_trace(
    storage: ReplicatedStorage,
    media_root: Path,
    tidy_now: Callable[[], int],
    settings: Any,
    announced: list[list[str]],
) -> None:
    """Promise 3, as sites meet it: one transaction for each request."""
    storage.save("old.txt", ContentFile(b"old"))
    announced.clear()
    settings.ROOT_URLCONF = "tests.storage.urls"
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    try:
        client = Client(raise_request_exception=False)
        assert client.get("/save/?name=good.txt").status_code == 200
        assert announced == [["media1", "media2"]]
        assert client.get("/save/?name=bad.txt&fail=1").status_code == 500
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = False
    assert announced == [["media1", "media2"]]
    tidy_now()
    assert everything(media_root) == {"good.txt": b"from a request", "old.txt": b"old"}
    assert set(MediaFile.objects.values_list("name", flat=True)) == {"good.txt", "old.txt"}


def test_a_deleted_file_stays_away_when_its_tombstone_and_its_traces_go_at_once(
    make_storage: Callable[..., ReplicatedStorage], media_root: Path
) -> None:
    """Promise 2: after a day without beat. Without a tombstone, the traces are those of a file to be put back."""
    storage = make_storage({"ORPHAN_GRACE": 0, "TOMBSTONE_AGE": 0})
    storage.save("a.txt", ContentFile(b"old"))
    with transaction.atomic():
        storage.delete("a.txt")
        rolled_back(lambda: storage.replace("a.txt", ContentFile(b"rolled back")))
    for target in TARGETS:
        delivery.deliver(target)
    assert tasks.prune()["tombstones"] == 1
    assert everything(media_root) == {}
