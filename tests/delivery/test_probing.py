"""What probes find out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from replicator import delivery, tasks, wake
from replicator.errors import Unavailable
from replicator.models import Replica, TargetState
from replicator.targets import get_target
from replicator.testing import MemoryTarget

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def target(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryTarget:
    settings.MEDIA_ROOT = str(tmp_path)
    settings.REPLICATOR = {
        "TARGETS": {"media1": {"BACKEND": "replicator.testing.MemoryTarget"}},
        "DOWN_AFTER": 3,
    }
    monkeypatch.setattr(wake, "announce", lambda targets: None)
    monkeypatch.setattr(wake, "wake", lambda targets: True)
    target = get_target("media1")
    assert isinstance(target, MemoryTarget)
    return target


def state() -> TargetState:
    return TargetState.objects.get(target="media1")


def test_one_file_is_enough_to_find_out_that_a_target_is_down(target: MemoryTarget) -> None:
    """Promise 7: nobody waits for more uploads, or for the retry schedule, to learn that a host is dead."""
    target.fail_with = Unavailable("media1 refuses connections")
    default_storage.save("a.txt", ContentFile(b"a"))
    delivery.deliver("media1")
    assert (state().state, state().failures) == ("up", 1)
    assert tasks.probe() == {"media1": False}
    assert (state().state, state().failures) == ("up", 2)
    assert tasks.probe() == {"media1": False}
    assert (state().state, state().reason) == ("down", "media1 refuses connections")
    assert Replica.objects.get().attempts == 1, "no more attempts were spent on it"


def test_a_target_that_answers_again_is_no_suspect(target: MemoryTarget) -> None:
    """One failure long ago and one today are not two in a row."""
    target.fail_with = Unavailable("a hiccup")
    default_storage.save("a.txt", ContentFile(b"a"))
    delivery.deliver("media1")
    target.fail_with = None
    assert tasks.probe() == {"media1": True}
    assert state().failures == 0
    assert tasks.probe() == {}
    assert Replica.objects.get().due_at > Replica.objects.get().attempted_at, "a file's own failure keeps its delay"


def test_a_target_that_is_up_again_gets_everything_at_once(target: MemoryTarget) -> None:
    """A host back after an outage is not kept waiting by the retries that failed meanwhile."""
    target.fail_with = Unavailable("gone")
    default_storage.save("a.txt", ContentFile(b"a"))
    delivery.deliver("media1")
    while state().state == "up":
        tasks.probe()
    target.fail_with = None
    assert tasks.probe() == {"media1": True}
    assert delivery.deliver("media1").put == 1
    assert target.files == {"media/a.txt": b"a"}
