"""What is under a name while others write it, and a write over it that loses nothing newer."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.db import transaction

from replicator import delivery, wake
from replicator.models import MediaFile
from replicator.storage import ReplicatedStorage, replicated
from replicator.storage.transactions import LocalChange
from tests.storage.conftest import everything

pytestmark = pytest.mark.django_db(transaction=True)


def roll_back_an_overwrite(storage: ReplicatedStorage) -> None:
    with transaction.atomic():
        storage.replace("a.txt", ContentFile(b"rolled back"))
        transaction.set_rollback(True)


def test_a_file_that_is_only_at_targets_is_seen_behind_an_overwrite_that_is_not_committed(
    make_storage: Callable[..., ReplicatedStorage], monkeypatch: pytest.MonkeyPatch, media_root: Path
) -> None:
    """Promise 1: a copy that took it for missing would write over what targets hold, and the ledger says."""
    monkeypatch.setattr(wake, "wake", lambda *_: True)
    storage = make_storage(keep_local=False)
    storage.save("a.txt", ContentFile(b"newer"))
    for target in ("media1", "media2"):
        delivery.deliver(target)
    assert everything(media_root) == {}
    roll_back_an_overwrite(storage)
    seen = storage.look(["a.txt"])["a.txt"]
    assert seen.file is not None
    assert (seen.file.size, seen.file.version) == (5, MediaFile.objects.get().version)


def test_what_a_rolled_back_write_has_hidden_is_seen(storage: ReplicatedStorage, media_root: Path) -> None:
    """Promise 1: of a file that was never recorded, too: tidy puts it back, unless somebody takes it for missing."""
    media_root.mkdir()
    (media_root / "a.txt").write_bytes(b"a person's")
    roll_back_an_overwrite(storage)
    seen = storage.look(["a.txt"])["a.txt"]
    assert seen.file is not None
    assert seen.file.size == len(b"a person's")
    assert seen.version is None


def test_a_committed_write_whose_traces_are_still_there_is_what_is_seen(
    storage: ReplicatedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 1: its process was killed after the commit, or it keeps them for a while."""
    storage.save("a.txt", ContentFile(b"old"))
    monkeypatch.setattr(LocalChange, "finish", lambda _: None)
    storage.replace("a.txt", ContentFile(b"newer"))
    seen = storage.look(["a.txt"])["a.txt"]
    assert seen.file is not None
    assert (seen.file.size, seen.file.version) == (5, MediaFile.objects.get().version)


def test_a_write_that_comes_too_late_leaves_its_callers_transaction_as_it_was(
    storage: ReplicatedStorage, media_root: Path
) -> None:
    """What it had recorded before it found the place taken is not there, and all else is."""
    seen = storage.look(["a.txt"])["a.txt"]
    media_root.mkdir()
    (media_root / "a.txt").write_bytes(b"a person's")
    with transaction.atomic():
        storage.save("b.txt", ContentFile(b"1"))
        assert not storage.replace_seen("a.txt", ContentFile(b"copied"), seen)
    assert MediaFile.objects.values_list("name", flat=True).get() == "b.txt"
    assert everything(media_root) == {"a.txt": b"a person's", "b.txt": b"1"}


def test_what_was_replaced_comes_back_if_the_database_goes_away_before_the_commit(
    storage: ReplicatedStorage, media_root: Path, tidy_now: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 3: it was shown already, and its traces are all that knows what was there before."""
    storage.save("a.txt", ContentFile(b"old"))
    seen = storage.look(["a.txt"])["a.txt"]

    def fail(*_: object) -> None:
        raise ConnectionError("the database went away")

    with monkeypatch.context() as patch:
        patch.setattr(replicated, "on_commit", fail)
        with pytest.raises(ConnectionError):
            storage.replace_seen("a.txt", ContentFile(b"copied"), seen)
    assert (media_root / "a.txt").read_bytes() == b"copied"
    tidy_now()
    assert everything(media_root) == {"a.txt": b"old"}


def test_what_a_person_has_written_into_the_file_is_not_written_over(
    storage: ReplicatedStorage, media_root: Path
) -> None:
    """As many bytes as before, and no new file: only its time tells."""
    storage.save("a.txt", ContentFile(b"old"))
    seen = storage.look(["a.txt"])["a.txt"]
    place = media_root / "a.txt"
    with place.open("r+b") as file:
        file.write(b"new")
    os.utime(place, ns=(0, place.stat().st_mtime_ns + 1))
    assert not storage.replace_seen("a.txt", ContentFile(b"copied"), seen)
    assert everything(media_root) == {"a.txt": b"new"}
