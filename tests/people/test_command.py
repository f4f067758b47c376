"""What people see and do on the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from replicator import requeueing, wake
from replicator.errors import Unavailable
from replicator.ledger import health, life
from replicator.models import MediaFile, NodeState, Replica
from replicator.storage import ReplicatedStorage
from replicator.targets import get_target
from tests.people.conftest import Output, Woken, fail, record, record_many
from tests.processes import free_port
from tests.servers import MediaHost

# Workers are woken at the commit, so there must be one.
pytestmark = pytest.mark.django_db(transaction=True)
Manage = Callable[..., Output]


# status


def test_status_says_how_each_target_stands(site: ReplicatedStorage, manage: Manage) -> None:
    first = record("a.txt")
    record("b.txt")
    first.replicas.filter(target="media1").update(
        status=Replica.Status.SYNCED, since=timezone.now() - timedelta(days=9)
    )
    Replica.objects.at("media2").update(since=timezone.now() - timedelta(minutes=12))
    for target in ("media1", "media2"):
        life.enter(target, "active")
    health.note_success("media1")
    health.note_failures("media2", 5, "connection refused")
    health.mark_down("media2", "connection refused")
    done = manage("status")
    assert done.error == ""
    lines = done.out.splitlines()
    assert lines[0].split() == ["target", "state", "phase", "pending", "failed", "lag", "last", "success"]
    assert lines[1].split() == ["media1", "up", "active", "1", "0", "0", "s", "0", "s", "ago"]
    assert lines[2].split() == ["media2", "down", "active", "2", "0", "12", "min", "never"]
    assert lines[3] == "media2: down for 0 s: connection refused"
    assert ["default", site.location, "media1,", "media2"] in [line.split() for line in lines]
    assert ["avatars", f"{site.location}/avatars", "media1"] in [line.split() for line in lines]


def test_status_lists_the_newest_failures_and_exits_with_1(site: ReplicatedStorage, manage: Manage) -> None:
    for n in range(3):
        file = record(f"{n}.txt")
        file.replicas.at("media1").update(since=timezone.now() - timedelta(hours=n))  # type: ignore[attr-defined]
    fail(Replica.objects.at("media1"))
    done = manage("status", "--failures", "2")
    assert done.error == '3 replicas failed. When the cause is cured: "manage.py replicator requeue".'
    newest = Replica.objects.at("media1").get(file__name="0.txt")
    assert "The newest of 3 that failed:" in done.out
    assert f"  {newest.pk}  default: 0.txt at media1\n      refused (HTTP 403): 403 Forbidden" in done.out
    assert "default: 1.txt at media1" in done.out
    assert "default: 2.txt" not in done.out
    assert manage("status", "--target", "media2").error == ""


def test_status_for_monitors_is_json(site: ReplicatedStorage, manage: Manage) -> None:
    record("a.txt")
    fail(Replica.objects.at("media1"))
    done = manage("status", "--json")
    assert done.error.startswith("1 replica failed")
    facts = json.loads(done.out)
    assert (facts["pending"], facts["failed"]) == (1, 1)
    one, two = facts["targets"]
    assert {key: one[key] for key in ("target", "state", "pending", "failed", "backlog", "configured")} == {
        "target": "media1",
        "state": "up",
        "pending": 0,
        "failed": 1,
        "backlog": 1,
        "configured": True,
    }
    assert 0 <= two["lag"] < 60
    assert two["last_success_at"] is None
    assert facts["failures"][0]["name"] == "a.txt"
    assert facts["storages"][1] == {
        "storage": "avatars",
        "location": f"{site.location}/avatars",
        "targets": ["media1"],
    }


def test_status_tells_of_a_target_that_was_removed(site: ReplicatedStorage, manage: Manage) -> None:
    """What is pending there goes nowhere, and nobody else would say so."""
    record("a.txt", targets=("media1", "old"))
    done = manage("status")
    assert ["old", "gone", "-", "1", "0"] in [line.split()[:5] for line in done.out.splitlines()]
    assert 'old: not in REPLICATOR["TARGETS"] any more: nothing is delivered there.' in done.out


def test_status_of_a_target_that_fails_now_and_then(site: ReplicatedStorage, manage: Manage) -> None:
    health.note_failures("media1", 1, "502 Bad Gateway")
    assert "media1: failed last time: 502 Bad Gateway" in manage("status").out
    health.note_success("media1")
    assert "502" not in manage("status").out


def own_disks(settings: Any, **more: Any) -> None:
    settings.REPLICATOR = {**settings.REPLICATOR, "SHARED_MEDIA": False, "NODE": "web1", **more}


def test_status_lists_the_nodes(site: ReplicatedStorage, settings: Any, manage: Manage) -> None:
    """Whose workers are at work, what waits for each, and what may be lost with one."""
    own_disks(settings)
    record("a.txt")
    for name in ("one.txt", "two.txt", "kept.txt", "deleted.txt", "again.txt"):
        record(name)
    rows = Replica.objects.exclude(file__name="a.txt")
    rows.update(node="web3")
    kept = Replica.objects.filter(target="media1", file__name="kept.txt")
    kept.update(status="synced", version=MediaFile.objects.get(name="kept.txt").version)
    # What a target has of an older version is not what the node's disk had.
    Replica.objects.filter(target="media1", file__name="again.txt").update(status="synced", version=uuid4())
    MediaFile.objects.filter(name="deleted.txt").update(deleted=True)
    NodeState.objects.create(node="web2", seen_at=timezone.now() - timedelta(seconds=20))
    NodeState.objects.create(node="web3", seen_at=timezone.now() - timedelta(hours=5))
    done = manage("status")
    lines = done.out.splitlines()
    start = lines.index("node  state  pending  last seen")
    assert [line.split() for line in lines[start + 1 : start + 4]] == [
        ["web1", "up", "2", "never"],
        ["web2", "up", "0", "20", "s", "ago"],
        ["web3", "gone", "8", "5.0", "h", "ago"],
    ]
    assert lines[start + 4 :] == [
        "web1: start workers there that take from the queue replicator.web1 (-Q).",
        "web3: 3 files that only its disk has, and no target yet, such as default: one.txt",
    ]
    facts = json.loads(manage("status", "--json").out)["nodes"]
    assert [(n["node"], n["gone"], n["pending"], n["nowhere"], n["example"]) for n in facts] == [
        ("web1", False, 2, 0, ""),
        ("web2", False, 0, 0, ""),
        ("web3", True, 8, 3, "default: one.txt"),
    ]
    assert facts[0]["seen_at"] is None
    assert datetime.fromisoformat(facts[2]["seen_at"]) < timezone.now() - timedelta(hours=4)


def test_what_only_a_lost_disk_had_stays_in_the_status_when_it_failed(
    site: ReplicatedStorage, settings: Any, manage: Manage
) -> None:
    """Promise 1: too old to be tried again, it is still reported as what it is."""
    own_disks(settings)
    record("a.txt")
    Replica.objects.update(node="web3")
    fail(Replica.objects.all(), kind="local-missing", text="only the node web3 had it", status=None)
    NodeState.objects.create(node="web3", seen_at=timezone.now() - timedelta(hours=5))
    said = manage("status").out
    assert "web3: 1 file that only its disk has, and no target yet, such as default: a.txt" in said


def test_status_says_nothing_of_nodes_where_the_disk_is_shared(
    site: ReplicatedStorage, settings: Any, manage: Manage
) -> None:
    NodeState.objects.create(node="web2", seen_at=timezone.now())
    record("a.txt")
    assert "node  state" not in manage("status").out
    assert json.loads(manage("status", "--json").out)["nodes"] == []
    own_disks(settings)
    assert "node  state" in manage("status").out


def test_status_without_anything_to_do(site: ReplicatedStorage, settings: Any, manage: Manage) -> None:
    settings.REPLICATOR = {}
    settings.STORAGES = {"default": {"BACKEND": "django.core.files.storage.FileSystemStorage"}}
    done = manage("status")
    assert 'REPLICATOR["TARGETS"] is empty: nothing replicates.' in done.out
    assert "STORAGES has no ReplicatedStorage: nothing replicates." in done.out
    assert done.error == ""


def test_status_counts_nothing_that_is_synced(site: ReplicatedStorage, manage: Manage) -> None:
    """It costs what the backlog costs, not what ten million synced rows cost."""
    record_many(20_000, status="synced")
    record("a.txt")
    fail(Replica.objects.at("media2"))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        manage("status")
    explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    looked_at = [q["sql"] for q in queries if 'FROM "replicator_replica"' in q["sql"]]
    assert len(looked_at) == 3  # pending, failed, and the failures of one target
    for sql in looked_at:
        with connection.cursor() as cursor:
            cursor.execute(f"{explain} {sql}")
            plan = "\n".join(str(row[-1]) for row in cursor.fetchall())
        assert "replicator_due" in plan or "replicator_failed" in plan, plan


# requeue


def test_requeue_takes_all_that_failed(site: ReplicatedStorage, manage: Manage, woken: Woken) -> None:
    record("a.txt")
    record("b.txt")
    record("c.txt")
    fail(Replica.objects.filter(file__name__in=["a.txt", "b.txt"]))
    woken.clear()
    done = manage("requeue")
    assert done.out == "Requeued 4 replicas (media1: 2, media2: 2).\n"
    assert not Replica.objects.failed().exists()
    assert woken == ["media1", "media2"]
    assert manage("requeue").out == "Nothing to do: no such replica has failed.\n"
    assert manage("requeue", "9" * 30).out == "Nothing to do: no such replica has failed.\n"
    assert woken == ["media1", "media2"]


@pytest.mark.parametrize(
    ("args", "left"),
    [
        (["--target", "media1"], {("a.txt", "media2"), ("me.png", "media2")}),
        (["--storage", "avatars"], {("a.txt", "media1"), ("a.txt", "media2")}),
        (["--error", "corrupt"], {("a.txt", "media2"), ("me.png", "media1"), ("me.png", "media2")}),
        (
            ["--target", "media1", "--storage", "default"],
            {("a.txt", "media2"), ("me.png", "media1"), ("me.png", "media2")},
        ),
        (["--target", "media1", "--target", "media2"], set()),
    ],
)
def test_requeue_can_be_narrowed(
    site: ReplicatedStorage, manage: Manage, args: list[str], left: set[tuple[str, str]]
) -> None:
    record("a.txt")
    record("me.png", "avatars")
    fail(Replica.objects.all())
    fail(Replica.objects.filter(file__name="a.txt", target="media1"), kind="corrupt")
    manage("requeue", *args)
    assert set(Replica.objects.failed().values_list("file__name", "target")) == left


def test_requeue_takes_ids(site: ReplicatedStorage, manage: Manage) -> None:
    one, two = record("a.txt").replicas.order_by("target")
    fail(Replica.objects.filter(pk=one.pk))
    done = manage("requeue", str(one.pk), str(two.pk), "424242")
    assert "Requeued 1 replica (media1: 1)." in done.out
    assert "2 of the ids had not failed, or are unknown." in done.out


def test_requeue_at_a_target_that_is_down_says_so(site: ReplicatedStorage, manage: Manage) -> None:
    record("a.txt", targets=("media1", "old"))
    fail(Replica.objects.all())
    health.mark_down("media1", "connection refused")
    done = manage("requeue")
    assert "media1 is down: it gets its files when it answers again." in done.err
    assert 'old is not in REPLICATOR["TARGETS"] any more: nothing is delivered there.' in done.err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["requeue", "--target", "media3"], """REPLICATOR["TARGETS"] has no 'media3'. Did you mean 'media"""),
        (["requeue", "--storage", "avatar"], "STORAGES has no ReplicatedStorage 'avatar'. Did you mean 'avatars'?"),
        (["requeue", "--error", "refuse"], "There is no error 'refuse'. Did you mean 'refused'?"),
        (["status", "--target", "medai1"], """REPLICATOR["TARGETS"] has no 'medai1'. Did you mean 'media1'?"""),
        (["status", "--target", "x"], """REPLICATOR["TARGETS"] has no 'x'. Known: media1, media2."""),
        (["probe", "medai1"], """REPLICATOR["TARGETS"] has no 'medai1'. Did you mean 'media1'?"""),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(
    site: ReplicatedStorage, manage: Manage, args: list[str], message: str
) -> None:
    assert manage(*args).error.startswith(message)


def test_a_broker_that_refuses_is_said(
    site: ReplicatedStorage, manage: Manage, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """People's work goes on without a broker: the ledger has it, and the sweep finds it."""
    record("a.txt")
    fail(Replica.objects.all())
    monkeypatch.undo()  # the real wake, and a broker that nobody listens at
    settings.REPLICATOR = {**settings.REPLICATOR, "ANNOUNCE_TIMEOUT": 0.2}
    app = Celery("nobody", broker=f"redis://127.0.0.1:{free_port()}/0", set_as_current=False)
    monkeypatch.setattr(wake, "current_app", app)
    wake._forget_producer()
    try:
        done = manage("requeue")
    finally:
        wake._forget_producer()
        monkeypatch.setattr(wake, "_leave_alone_until", 0.0)
        app.close()
    assert "Requeued 2 replicas" in done.out
    assert "The broker can't be reached: the next sweep that runs will wake the workers." in done.err


def test_workers_are_woken_when_the_requeuing_commits(site: ReplicatedStorage, woken: Woken) -> None:
    """One that looks before the commit would find nothing."""
    record("a.txt")
    fail(Replica.objects.all())
    woken.clear()
    with transaction.atomic():
        requeueing.requeue(Replica.objects.all())
        assert woken == []
    assert woken == ["media1", "media2"]


# probe


def test_a_probe_marks_up_what_answers(site: ReplicatedStorage, manage: Manage, woken: Woken) -> None:
    health.mark_down("media1", "connection refused")
    get_target("media2").fail_with = Unavailable("connection refused")  # type: ignore[attr-defined]
    woken.clear()
    done = manage("probe")
    assert done.out == "media1: answers; it was down, and is up now\nmedia2: no answer: connection refused\n"
    assert done.error == "1 target did not answer."
    assert not health.is_down("media1")
    assert woken == ["media1"]
    assert manage("probe", "media1").out.startswith("media1: answers\n")


def test_a_probe_says_whether_a_target_is_this_nodes_media_root(
    settings: Any, tmp_path: Path, embedded: MediaHost, manage: Manage
) -> None:
    """What is saved here is called synced there at once: a URL that leads elsewhere would show late."""
    webdav = "replicator.targets.webdav.WebDAVTarget"
    targets = {node: {"BACKEND": webdav, "OPTIONS": {"url": embedded.url, "node": node}} for node in ("web1", "web2")}
    own_disks(settings, TARGETS=targets)
    settings.MEDIA_ROOT = str(embedded.root / "media")
    assert manage("probe").out == "web1: answers\nweb2: answers\n"
    assert not embedded.files(), "nothing stays behind"
    settings.MEDIA_ROOT = str(tmp_path)
    done = manage("probe")
    assert done.out.splitlines() == [
        "web1: answers",
        "web1: it is not the media root of the storage 'default': "
        f"a file that was just put into {tmp_path} is not there",
        "web2: answers",
    ]
    assert done.error.startswith('Correct the url, or the option "node": ')
    assert list(tmp_path.iterdir()) == []
    assert manage("probe", "web2").error == "", "that is another one's"
    (tmp_path / "file").touch()
    settings.MEDIA_ROOT = str(tmp_path / "file")
    assert f"no file can be put into {tmp_path}/file: " in manage("probe", "web1").out
    embedded.stop()
    assert "it is not" not in manage("probe").out
    own_disks(settings, SHARED_MEDIA=True)
    embedded.start()
    assert manage("probe").error == ""


# the command itself


def test_every_verb_has_help_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("status", "requeue", "adopt", "reclass", "probe"):
        with pytest.raises(SystemExit) as ended:
            call_command("replicator", verb, "--help")
        assert ended.value.code == 0
        assert f"manage.py replicator {verb}" in capsys.readouterr().out


def test_an_unknown_verb_is_an_error_that_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"invalid choice: 'statsu' \(choose from .*status.*requeue.*adopt"):
        call_command("replicator", "statsu")
    with pytest.raises(CommandError, match="the following arguments are required: verb"):
        call_command("replicator")


def test_a_monitor_gets_the_exit_code(tmp_path: Path) -> None:
    """A real process: 1 and a message on standard error, the table on standard output. No reader, no traceback."""
    (tmp_path / "monitored.py").write_text(
        "from tests.settings import *\n"
        f"DATABASES = {{'default': {{'ENGINE': 'django.db.backends.sqlite3', 'NAME': '{tmp_path}/db'}}}}\n"
        f"MEDIA_ROOT = '{tmp_path}'\n"
        "REPLICATOR = {'TARGETS': {'media1': {'BACKEND': 'replicator.testing.MemoryTarget'}}}\n"
    )
    code = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "monitored"
import django; django.setup()
from django.core.management import call_command, execute_from_command_line
call_command("migrate", verbosity=0)
from tests.people.conftest import fail, record
from replicator.models import Replica
record("a.txt", targets=("media1",)); fail(Replica.objects.all())
execute_from_command_line(["manage.py", "replicator", "status", "--skip-checks"])
"""
    checkout = str(Path(__file__).parents[2])
    environment = {"PYTHONPATH": f"{tmp_path}:{checkout}", "PATH": "", "DJANGO_SETTINGS_MODULE": "monitored"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1, done.stderr
    assert "1 replica failed" in done.stderr
    assert "default: a.txt at media1" in done.stdout
    for unbuffered in ("", "1"):  # as behind | head
        reader, writer = os.pipe()
        os.close(reader)
        try:
            cut = subprocess.run(
                [sys.executable, "-m", "django", "replicator", "status", "--skip-checks"],
                env={**environment, "PYTHONUNBUFFERED": unbuffered},
                stdout=writer,
                stderr=subprocess.PIPE,
                text=True,
                timeout=120,
            )
        finally:
            os.close(writer)
        assert (cut.returncode, cut.stderr) == (128 + signal.SIGPIPE, "")
