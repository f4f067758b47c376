"""What deploy scripts are told: that targets hold what was recorded, or what is missing where and why."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from replicator import waiting
from replicator.delivery import deliver
from replicator.ledger import health
from replicator.models import Replica
from replicator.storage import ReplicatedStorage
from replicator.targets import get_target
from replicator.testing import MemoryTarget
from replicator.waiting import Awaited, wait
from tests.people.conftest import Output, fail, record, record_many
from tests.promises.harness import wait_until

pytestmark = pytest.mark.django_db(transaction=True)
Manage = Callable[..., Output]


def later(seconds: float, do: Callable[[], object]) -> threading.Thread:
    """Another process, as far as the database can tell."""

    def run() -> None:
        time.sleep(seconds)
        try:
            do()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def synced(**filters: Any) -> None:
    Replica.objects.filter(**filters).update(status=Replica.Status.SYNCED)


# How it ends


def test_it_ends_well_when_workers_elsewhere_are_done(site: ReplicatedStorage, manage: Manage) -> None:
    """It sends nothing itself."""
    site.save("a.txt", ContentFile(b"1"))
    began = time.monotonic()

    def work() -> None:
        deliver("media1")
        time.sleep(0.3)
        deliver("media2")

    thread = later(0.5, work)
    done = manage("wait", "--timeout", "60")
    thread.join()
    assert done.error == ""
    assert re.fullmatch(r"Synced at media1, media2 after \d+ s\.\n", done.out)
    assert 0.8 < time.monotonic() - began < 60
    assert not Replica.objects.backlog().exists()


def test_there_is_nothing_to_wait_for(site: ReplicatedStorage, manage: Manage) -> None:
    assert manage("wait").error == ""
    site.save("a.txt", ContentFile(b"1"))
    deliver("media1")
    deliver("media2")
    assert manage("wait", "--timeout", "0").error == ""


def test_when_the_time_is_over_it_says_what_is_missing_where_and_why(site: ReplicatedStorage, manage: Manage) -> None:
    for n in range(8):
        record(f"{n}.txt")
    record("z.png", storage="avatars", targets=("media1",))
    synced(target="media1", file__storage="default")
    health.note_failures("media2", 5, "connection refused")
    health.mark_down("media2", "connection refused")
    first = Replica.objects.at("media2").order_by("since").first()
    assert first is not None
    soon = timezone.now() + timedelta(seconds=45)
    Replica.objects.filter(pk=first.pk).update(
        error_kind="unavailable", error_text="503 to PUT", http_status=503, due_at=soon
    )
    began = time.monotonic()
    done = manage("wait", "--timeout", "0.5")
    assert 0.5 <= time.monotonic() - began < 30
    assert re.fullmatch(r"Not synced after \d+ s: 9 replicas missing, as said above\.", done.error)
    lines = done.err.splitlines()
    assert lines[0] == "media1: 1 pending"
    assert re.fullmatch(r"  \d+  avatars: z\.png: not tried yet", lines[1])
    assert lines[2] == "media2: 8 pending; it is down: connection refused"
    assert re.fullmatch(
        rf"  {first.pk}  default: 0\.txt: unavailable \(HTTP 503\): 503 to PUT; tried again in [34]\d s", lines[3]
    )
    assert len(lines) == 3 + 5 + 1
    assert lines[-1] == "  …"


def test_a_failure_ends_it_at_once(site: ReplicatedStorage, manage: Manage) -> None:
    """Only a person can cure it: more time would not."""
    for name in ("a.txt", "b.txt", "c.txt"):
        record(name)
    fail(Replica.objects.at("media2").filter(file__name="b.txt"))
    began = time.monotonic()
    done = manage("wait", "--timeout", "60")
    assert time.monotonic() - began < 30
    assert done.error == ('1 replica failed, as said above. When the cause is cured: "manage.py replicator requeue".')
    failed = Replica.objects.failed().get()
    lines = done.err.splitlines()
    assert lines[4] == "media2: 1 failed, 2 pending"
    assert lines[5] == f"  {failed.pk}  default: b.txt: refused (HTTP 403): 403 Forbidden"


def test_a_failure_in_the_middle_ends_it_too(site: ReplicatedStorage, manage: Manage) -> None:
    record("a.txt")
    thread = later(0.3, lambda: fail(Replica.objects.at("media1")))
    done = manage("wait", "--timeout", "60")
    thread.join()
    assert done.error.startswith("1 replica failed")


def test_what_is_in_doubt_is_explained(site: ReplicatedStorage, manage: Manage) -> None:
    """A lost answer: the file is there, and may still be overwritten by the request that got none."""
    site.save("a.txt", ContentFile(b"1"))
    target = get_target("media1")
    assert isinstance(target, MemoryTarget)
    target.lose_answer = 1
    deliver("media1")
    Replica.objects.at("media1").update(due_at=timezone.now())
    deliver("media1")
    done = manage("wait", "--target", "media1", "--timeout", "0")
    assert re.search(r"a\.txt: sent, and sent again in \d+ s: an earlier request that got no answer", done.err)


def test_a_target_that_fails_now_and_then_is_named(site: ReplicatedStorage, manage: Manage) -> None:
    record("a.txt", targets=("media1",))
    health.note_failures("media1", 1, "502 Bad Gateway")
    assert "media1: 1 pending; it failed last time: 502 Bad Gateway" in manage("wait", "--timeout", "0").err


# What it waits for


def test_what_is_written_after_it_began_is_not_waited_for(site: ReplicatedStorage, manage: Manage) -> None:
    """A site where people upload all the time would keep every deploy waiting."""
    record("a.txt")

    def go_on() -> None:
        record("b.txt")
        synced(file__name="a.txt")

    thread = later(0.3, go_on)
    done = manage("wait", "--timeout", "60")
    thread.join()
    assert done.error == ""
    assert Replica.objects.pending().count() == 2


def test_one_storage_and_one_target_can_be_waited_for(site: ReplicatedStorage, manage: Manage) -> None:
    record("a.txt")
    record("b.png", storage="avatars", targets=("media1",))
    synced(file__storage="avatars")
    assert manage("wait", "--storage", "avatars", "--timeout", "0").error == ""
    assert manage("wait", "--storage", "default", "--timeout", "0").error != ""
    assert manage("wait", "--storage", "avatars", "--storage", "default", "--timeout", "0").error != ""
    synced(target="media1")
    assert manage("wait", "--target", "media1", "--timeout", "0").error == ""
    assert manage("wait", "--target", "media2", "--timeout", "0").error != ""


def test_deletes_are_waited_for_too(site: ReplicatedStorage, manage: Manage) -> None:
    site.save("a.txt", ContentFile(b"1"))
    deliver("media1")
    deliver("media2")
    site.delete("a.txt")
    assert "2 replicas missing" in manage("wait", "--timeout", "0").error


def test_a_target_that_the_settings_do_not_have_is_not_waited_for(site: ReplicatedStorage, manage: Manage) -> None:
    """Nothing is ever delivered there; ``status`` tells of it."""
    record("a.txt", targets=("old",))
    assert manage("wait", "--timeout", "0").error == ""


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--storage", "avatar"], "STORAGES has no ReplicatedStorage 'avatar'. Did you mean 'avatars'?"),
        (["--target", "media3"], "REPLICATOR[\"TARGETS\"] has no 'media3'. Did you mean 'media2'?"),
        (["--timeout", "-1"], "--timeout -1: write a number of seconds, or 0 to look once."),
        (["--timeout", "nan"], "--timeout nan: write a number of seconds, or 0 to look once."),
    ],
)
def test_bad_arguments_are_refused(site: ReplicatedStorage, manage: Manage, args: list[str], message: str) -> None:
    assert manage("wait", *args).error == message


# What it costs


def test_it_sleeps_between_its_looks(site: ReplicatedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """More and more, and never past its end."""
    record("a.txt")
    naps: list[float] = []
    clock = [1000.0]

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(waiting.time, "sleep", sleep)
    monkeypatch.setattr(waiting.time, "monotonic", lambda: clock[0])
    assert len(wait(Awaited(["media1", "media2"]), 60.0)) == 2
    assert clock[0] == pytest.approx(1060)
    assert min(naps[:-1]) >= 0.1
    assert max(naps) == 2.0
    assert len(naps) < 45


def test_a_slow_look_is_followed_by_a_long_rest(site: ReplicatedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that takes a second to count a backlog is not asked again at once."""
    record("a.txt")
    naps: list[float] = []
    clock = [1000.0]
    left = Awaited.left

    def slow(awaited: Awaited) -> waiting.Left:
        clock[0] += 1.0
        return left(awaited)

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(Awaited, "left", slow)
    monkeypatch.setattr(waiting.time, "sleep", sleep)
    monkeypatch.setattr(waiting.time, "monotonic", lambda: clock[0])
    wait(Awaited(["media1"]), 100.0)
    assert min(naps[:-1]) >= 10


def test_a_look_reads_the_backlog_only(site: ReplicatedStorage) -> None:
    record_many(20_000, status="synced")
    record("a.txt")
    fail(Replica.objects.at("media2"))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    with CaptureQueriesContext(connection) as queries:
        assert len(Awaited(["media1", "media2"]).left()) == 2
    assert len(queries) == 2
    explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    for query in queries:
        with connection.cursor() as cursor:
            cursor.execute(f"{explain} {query['sql']}")
            plan = "\n".join(str(row[-1]) for row in cursor.fetchall())
        assert "replicator_due" in plan or "replicator_failed" in plan, plan


def test_inside_a_transaction_it_is_refused(site: ReplicatedStorage) -> None:
    record("a.txt")
    with transaction.atomic(), pytest.raises(RuntimeError, match="inside a transaction"):
        wait(Awaited(["media1"]), None)


# A real process


SETTINGS = """
from tests.settings import *
from pathlib import Path
HERE = Path(__file__).parent
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": HERE / "db.sqlite3"}}
MEDIA_ROOT = str(HERE / "media")
REPLICATOR = {"TARGETS": {"media1": {"BACKEND": "replicator.testing.MemoryTarget"}}, "ANNOUNCE_TIMEOUT": 0.1}
SILENCED_SYSTEM_CHECKS = ["replicator.W012", "replicator.W013", "replicator.W015"]
"""
SAVE = """
import django; django.setup()
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
default_storage.save("a.txt", ContentFile(b"1"))
"""


def has_open(pid: int, name: str) -> bool:
    """Whether the process has a file of this name open."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            found.append(descriptor.readlink().name)
    return name in found


def test_a_script_sees_the_exit_code(tmp_path: Path) -> None:
    """0: all is there. 1: not. 130: someone pressed Ctrl-C, and nothing is the worse for it."""
    (tmp_path / "wait_settings.py").write_text(SETTINGS)
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "wait_settings",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}",
    }

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    run("-m", "django", "migrate", "-v0").check_returncode()
    waiting_now = ("-m", "django", "replicator", "wait", "--timeout", "0")
    assert run(*waiting_now).returncode == 0
    run("-c", SAVE).check_returncode()
    done = run(*waiting_now)
    assert done.returncode == 1
    assert "media1: 1 pending" in done.stderr
    assert "default: a.txt: not tried yet" in done.stderr
    assert "Traceback" not in done.stderr
    command = [sys.executable, *waiting_now[:-2]]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        # It has looked, and waits.
        wait_until(lambda: has_open(process.pid, "db.sqlite3"))
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.splitlines() == ["Interrupted. What is pending is still being sent."]
