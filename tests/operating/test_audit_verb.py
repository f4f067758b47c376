"""``manage.py replicator audit``, and "verify now"."""

from __future__ import annotations

import getpass
import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from replicator import operating, tasks
from replicator.errors import Unavailable
from replicator.ledger import life
from replicator.models import AuditFinding, Replica, TargetRun
from replicator.operating import audit
from replicator.operating.audit import reporting
from tests.operating.audits import Site, at, names

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def site(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    site = Site(settings, tmp_path, monkeypatch)
    site.save(*names(30))
    return site


def manage(*args: str) -> tuple[str, str, str]:
    """What it wrote, and the message of its error (exit code 1)."""
    out, err, error = io.StringIO(), io.StringIO(), ""
    try:
        call_command("replicator", "audit", *args, stdout=out, stderr=err)
    except CommandError as raised:
        error = str(raised)
    return out.getvalue(), err.getvalue(), error


def test_a_sound_site_says_so(site: Site) -> None:
    """No worker is needed with --here."""
    out, err, error = manage("--here")
    lines = out.splitlines()
    assert lines[0].split()[:5] == ["run", "place", "state", "checked", "missing"]
    assert [line.split()[1] for line in lines[1:]] == ["media1", "media2", "local"]
    assert (err, error) == ("", "")


def test_what_was_found_is_listed_and_is_the_exit_code(site: Site) -> None:
    del at("media1").files["media/f/00003.bin"]
    at("media2").files["media/by-hand.txt"] = b"?"
    (site.media / "f/00005.bin").unlink()
    out, _err, error = manage("--here")
    assert "default: f/00003.bin: missing, sent again" in out
    assert "default: f/00005.bin: missing, restored" in out
    assert "default: by-hand.txt: unknown to the ledger (1 bytes)" in out
    assert error == "3 files found that should not be so."
    assert manage("--report")[0].count("missing, sent again") == 1
    number = str(TargetRun.objects.get(target="media1").pk)
    assert manage("--report", number)[2] == "1 file found that should not be so."
    out, _, error = manage("--report", "--json", "media1", "--local")
    facts = json.loads(out)
    assert facts["found"] == 2
    assert [run["findings"][0]["cure"] for run in facts["runs"]] == ["restored", "sent"]
    assert {run["target"] for run in facts["runs"]} == {"", "media1"}
    site.deliver()
    assert manage("media1", "--local", "--here")[2] == ""


def test_without_here_workers_do_it(site: Site) -> None:
    out, err, error = manage("media1", "--level", "content", "--sample", "50", "--files-per-second", "9")
    run = TargetRun.objects.get()
    assert out == f"Started audit {run.pk} of media1. What it finds: manage.py replicator audit --report {run.pk}\n"
    assert run.options == {"level": "content", "sample": 50.0, "files_per_second": 9.0}
    assert (run.state, run.done, run.started_by) == ("running", 0, getpass.getuser())
    out, err, error = manage("media1", "media2")
    assert "media1: audit" in err
    assert "runs --cancel" in err
    assert error == "1 audit could not be started: see above."
    assert TargetRun.objects.filter(target="media2").exists()
    out, err, error = manage("media2", "--json")
    assert "under way" in error


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["meida1"], "Did you mean 'media1'"),
        (["media1", "--sample", "0"], "write a number from"),
        (["media1", "--storage", "x"], "No storage 'x'"),
        (["--report", "99"], "There is no audit 99. Start one"),
        (["--local", "--delete-unknown"], "Nothing is ever removed from the local disk"),
        (["--local", "--node", "web9"], "All nodes share one disk"),
        (["media1", "--node", "web9"], "add --local"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_write(site: Site, args: list[str], says: str) -> None:
    assert says in manage(*args)[2]


def test_one_that_was_stopped_says_why(site: Site) -> None:
    at("media1").files.clear()
    out, _, error = manage("media1", "--here")
    assert "resync media1" in out
    assert error.endswith("of media1 was stopped.")


def test_a_dry_run_changes_nothing(site: Site) -> None:
    at("media1").files.clear()
    del at("media2").files["media/f/00003.bin"]
    out, _, error = manage("media2", "--here", "--dry-run")
    assert "done (dry run)" in out
    assert "f/00003.bin: missing\n" in out
    assert error
    assert not Replica.objects.exclude(status="synced").exists()


def test_the_task_works_at_a_run_and_begins_all_each_night(site: Site) -> None:
    run = audit.begin("media1", {})
    assert tasks.audit.apply([run.pk, "audit media1"]).get()["state"] == "done"
    life.pause("media2")
    assert set(tasks.audit.apply(kwargs={"level": "content", "sample": 1}).get()) == {
        "media1",
        "media2",
        "the local disk",
    }
    run = TargetRun.objects.get(target="", kind="audit")
    assert (run.started_by, run.options) == ("beat", {"level": "content", "sample": 1})


def test_the_last_audit_of_each_place_is_found(site: Site) -> None:
    for _ in range(2):
        manage("--here")
    assert [(run.target, run.pk) for run in reporting.last_of()] == [
        (target, TargetRun.objects.filter(target=target).order_by("-pk")[0].pk) for target in ("", "media1", "media2")
    ]


# Verify now


def ids(*found: str, target: str = "media1") -> list[int]:
    return [Replica.objects.get(target=target, file__name=name).pk for name in found]


def test_a_few_replicas_are_looked_at_while_somebody_waits(site: Site) -> None:
    del at("media1").files["media/f/00001.bin"]
    at("media1").files["media/f/00002.bin"] = b"cut"
    chosen = ids("f/00000.bin", "f/00001.bin", "f/00002.bin") + ids("f/00001.bin", target="media2")
    found = audit.verify(chosen)
    assert [(each.name, each.target, each.what) for each in found] == [
        ("f/00000.bin", "media1", ""),
        ("f/00001.bin", "media1", "missing"),
        ("f/00002.bin", "media1", "wrong"),
        ("f/00001.bin", "media2", ""),
    ]
    assert not Replica.objects.exclude(status="synced").exists()
    found = audit.verify(chosen, repair=True)
    assert [each.sent for each in found] == [False, True, True, False]
    assert Replica.objects.filter(status="pending").count() == 2
    assert site.announced[-1:] == ["media1"]
    assert [each.what for each in audit.verify(chosen)] == ["", "unasked", "unasked", ""]
    site.deliver()
    assert {each.what for each in audit.verify(chosen, "content")} == {""}


def test_verifying_never_raises_for_what_a_target_is(site: Site) -> None:
    chosen = ids(*names(3))
    at("media1").fail_with = Unavailable("timed out")
    assert {(each.what, each.text) for each in audit.verify(chosen)} == {("unasked", "timed out")}
    at("media1").fail_with = None
    life.pause("media1")
    assert {each.what for each in audit.verify(chosen, repair=True)} == {"unasked"}
    site.settings.REPLICATOR = {"TARGETS": {}}
    life.resume("media1")
    assert {each.what for each in audit.verify(chosen)} == {"unasked"}
    assert len(audit.verify(Replica.objects.values_list("pk", flat=True))) == 50


def test_findings_of_a_run_show_which_are_missing_first(site: Site) -> None:
    run = operating.start("audit", "media1")
    for what in ("unknown", "missing", "wrong", "unreadable"):
        AuditFinding.objects.create(run=run, storage="default", name=what, what=what)
    assert [each.what for each in reporting.findings_of(run)] == ["missing", "unreadable", "wrong", "unknown"]
