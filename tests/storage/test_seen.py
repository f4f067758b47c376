"""What is under a name while others write it, and a write over it that loses nothing newer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.db import transaction

from replicator import delivery, wake
from replicator.models import MediaFile
from replicator.storage import ReplicatedStorage
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
