"""What probes find out."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from replicator import delivery, tasks
from replicator.errors import Unavailable
from replicator.models import Replica, TargetState
from replicator.targets import get_target
from replicator.testing import MemoryTarget

pytestmark = pytest.mark.django_db(transaction=True)


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


def test_an_answered_probe_does_not_end_a_row_of_failures(target: MemoryTarget) -> None:
    """A host may answer probes and hang on every PUT: only a file that arrives shows that it is well."""
    target.fail_with = Unavailable("a hiccup")
    default_storage.save("a.txt", ContentFile(b"a"))
    delivery.deliver("media1")
    target.fail_with = None
    assert tasks.probe() == {"media1": True}
    assert (state().state, state().failures) == ("up", 1)
    replica = Replica.objects.get()
    assert replica.attempted_at is not None
    assert replica.due_at > replica.attempted_at, "a file's own failure keeps its delay"
    default_storage.save("b.txt", ContentFile(b"b"))
    delivery.deliver("media1")
    assert state().failures == 0
    assert tasks.probe() == {}


def test_a_target_that_fails_files_but_answers_probes_gets_no_more_of_them(target: MemoryTarget) -> None:
    """Promise 7: a worker that found enough failures in a row leaves; what waited goes back, no attempt spent."""

    def hang(operation: str, file: object) -> None:
        if operation == "put":
            raise Unavailable("no answer", doubt=True)

    target.before, target.lag = hang, 0.1
    # So few at once that most of them wait for their turn when it is found out, however slow this machine is.
    target.concurrency = 2
    for number in range(200):
        default_storage.save(f"{number}.txt", ContentFile(b"1"))
    summary = delivery.deliver("media1")
    assert summary.failed < 150
    assert Replica.objects.filter(lease=None, attempts=0, status="pending").count() == 200 - summary.failed


def test_a_defect_in_one_targets_probe_harms_no_other(target: MemoryTarget, settings: Any) -> None:
    """Promise 7; nor does its run lose what became of the files."""
    settings.REPLICATOR = {
        "TARGETS": {alias: {"BACKEND": "replicator.testing.MemoryTarget"} for alias in ("broken", "media1")},
        "DOWN_AFTER": 1,
    }
    broken, well = get_target("broken"), get_target("media1")
    assert isinstance(broken, MemoryTarget)
    assert isinstance(well, MemoryTarget)
    default_storage.save("a.txt", ContentFile(b"a"))
    broken.before = lambda *_: (_ for _ in ()).throw(Unavailable("no answer"))
    broken.fail_with = RuntimeError("https://me:secret@host")
    well.fail_with = Unavailable("gone")
    for alias in ("broken", "media1"):
        delivery.deliver(alias)
    assert list(Replica.objects.order_by("target").values_list("target", "attempts", "lease")) == [
        ("broken", 1, None),
        ("media1", 1, None),
    ]
    well.fail_with = None
    assert tasks.probe() == {"broken": False, "media1": True}
    assert TargetState.objects.get(target="broken").reason == "a defect in the target's probe: RuntimeError"


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
