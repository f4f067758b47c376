"""The life of a target on the command line, and in what monitors and ``check`` read."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.checks import run_checks
from django.utils import timezone

from replicator import operating
from replicator.ledger import Write, life, record_new
from replicator.models import MediaFile, NodeState, Replica, TargetRun, TargetState
from replicator.operating.steering import VERBS, do
from tests.operating.audits import MEMORY, Site, at
from tests.operating.lives import add_empty, phase, remove_target, retire, statuses, work
from tests.people.conftest import Output

pytestmark = pytest.mark.django_db(transaction=True)


def meanwhile(monkeypatch: pytest.MonkeyPatch, work: Any) -> None:
    """What happens while a command that follows a run waits for its next look."""
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=work)
    monkeypatch.setattr("replicator.management.verbs.run_follow.time", clock)


def run_of(kind: str) -> TargetRun:
    return TargetRun.objects.filter(kind=kind).latest("pk")


def test_each_verb_tells_its_story(site: Site, capsys: pytest.CaptureFixture[str], manage: Any) -> None:
    """--help has examples."""
    for verb in (*VERBS, "runs"):
        with pytest.raises(SystemExit):
            manage(verb, "--help")
        assert f"manage.py replicator {verb} " in capsys.readouterr().out


def test_a_target_is_paused_and_resumed(site: Site, manage: Any) -> None:
    done = manage("pause", "media1", "--why", "new disk")
    assert done.out == "media1 is paused. It goes on with: manage.py replicator resume media1\n"
    assert "new disk" in TargetState.objects.get(pk="media1").note
    out = manage("status").out
    assert ["media1", "up", "active,", "paused"] in [line.split()[:4] for line in out.splitlines()]
    assert "new disk" in out
    assert manage("pause", "media1").out == "media1 is paused already.\n"
    assert "goes on" in manage("resume", "media1").out


def test_a_dry_run_of_each_verb_changes_nothing(site: Site, manage: Any) -> None:
    """It says what would be done, and how much that is."""
    add_empty(site, "media4")
    before = list(TargetState.objects.values())
    for verb in set(VERBS) - {"activate", "resume", "audit"}:
        done = manage(verb, "media1", "--dry-run")
        assert "A dry run: nothing was changed." in done.out
    out = manage("backfill", "media4", "--dry-run").out
    assert out.splitlines()[0] == "2 files (30 bytes) are recorded for media4, and sent at once."
    assert manage("retire", "media1", "--dry-run", "--delete").out.splitlines()[1:] == [
        "2 files are DELETED there, and what the ledger knows of them there is removed.",
        'When that is done, remove media1 from REPLICATOR["TARGETS"].',
        "It needs --confirm 2",
        "A dry run: nothing was changed.",
    ]
    assert list(TargetState.objects.values()) == before
    assert not TargetRun.objects.exists()


def test_a_backfill_is_started_and_followed(
    site: Site,
    manage: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_empty(site, "media4")
    assert manage("backfill", "media4").out.startswith("Started backfill")
    operating.cancel(run_of("backfill"))
    # A worker does it meanwhile.
    meanwhile(monkeypatch, lambda _: work(run_of("backfill")))
    done = manage("backfill", "media4", "--follow")
    assert "of media4 is done after " in done.out
    assert " s: 2 files; 2 recorded." in done.out
    assert "Ctrl-C leaves it going" in done.err
    assert set(statuses("media4")) == {"a.txt", "b.txt"}


def test_a_run_that_is_stopped_ends_the_command_with_its_reason(
    site: Site,
    manage: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit code 1: for scripts."""

    def stop(_: float) -> None:
        TargetRun.objects.update(state="stopped", reason="Somebody has to see to it.", ended_at=timezone.now())

    meanwhile(monkeypatch, stop)
    assert "Somebody has to see to it." in manage("resync", "media1", "--follow").error


def test_a_host_is_retired_with_all_it_holds(site: Site, manage: Any) -> None:
    assert "--confirm 2" in manage("retire", "media1", "--delete").error
    assert phase("media1") == "active"
    assert "media1 is retired." in manage("retire", "media1", "--delete", "--confirm", "2").out
    life.states().update(phase_since=timezone.now() - timedelta(minutes=1))
    assert work(run_of("retire")).state == "done"
    assert at("media1").files == {}


def test_runs_are_listed_and_steered(site: Site, manage: Any) -> None:
    assert "There is none" in manage("runs").out
    run = do("resync", "media1", who="anna").run
    assert run is not None
    (line,) = [line for line in manage("runs").out.splitlines() if "resync" in line]
    assert line.split()[:5] == [str(run.pk), "resync", "media1", "running", "0"]
    assert f"Paused resync {run.pk} of media1" in manage("runs", "--pause", str(run.pk)).out
    assert operating.work(run.pk) == {"skipped": "busy, or not running"}
    assert "is paused" in manage("runs", "--pause", str(run.pk)).out
    assert "goes on" in manage("runs", "--resume", str(run.pk)).out
    assert work(run).state == "done"
    assert "Nothing to do" in manage("runs", "--cancel", str(run.pk)).out
    (found,) = json.loads(manage("runs", "--json").out)
    assert (found["id"], found["share"], found["counts"]) == (run.pk, 1.0, {"sent again": 2})
    assert "The last ones" in manage("runs", "--follow", "4711").error


def test_runs_are_listed_where_times_are_local(settings: Any, site: Site, manage: Any) -> None:
    """With USE_TZ = False, which a check warns of, all the same."""
    settings.USE_TZ = False
    retire("media1", delete=True)
    assert "media1  done" in manage("runs", "--ended", str(10**30)).out
    assert "may still take effect" in manage("activate", "media1").error


def test_a_run_can_be_cancelled(site: Site, manage: Any) -> None:
    run = do("resync", "media1").run
    assert run is not None
    assert f"Cancelled resync {run.pk}" in manage("runs", "--cancel", str(run.pk)).out
    assert work(run).state == "cancelled"


def test_status_tells_of_runs_and_of_what_joins(site: Site, manage: Any) -> None:
    """With what to do, as long as nobody has done it."""
    add_empty(site, "media4")
    said = manage("status").out
    assert "media4: joins, 0 %: 2 files of 2 left. Have them recorded: manage.py replicator backfill media4" in said
    run = do("backfill", "media4").run
    assert run is not None
    assert f"backfill {run.pk} of media4" in manage("status").out
    facts = json.loads(manage("status", "--json").out)
    assert [each["id"] for each in facts["runs"]] == [run.pk]
    assert facts["joining"]["media4"]["left"] == 2
    assert {t["target"]: t["phase"] for t in facts["targets"]}["media4"] == "joining"


def warnings() -> dict[str, str]:
    return {str(m.id): f"{m.msg} {m.hint}" for m in run_checks(tags=["database"], databases=["default"])}


def test_check_says_what_to_do_for_a_target_that_lacks_files(site: Site) -> None:
    """``migrate`` says it, and ``check --database default``."""
    assert warnings() == {}
    add_empty(site, "media4")
    assert "manage.py replicator backfill media4" in warnings()["replicator.W051"]
    assert run_checks(tags=["database"]) == []
    work(do("backfill", "media4"))
    assert warnings() == {}


def test_check_says_that_a_retired_target_can_leave_the_settings(site: Site) -> None:
    retire("media1")
    assert "which is retired" in warnings()["replicator.W052"]
    remove_target(site, "media1")
    assert warnings() == {}


def test_a_retirement_that_has_not_come_to_its_end_keeps_its_target_in_the_settings(site: Site, manage: Any) -> None:
    """Without them nobody can delete there, nor bring back what only it has."""
    run = do("retire", "media1", confirm="2").run
    assert run is not None
    assert warnings()["replicator.W052"].endswith(f"Let {run} end first: manage.py replicator runs --follow {run.pk}")
    operating.cancel(run)
    assert warnings()["replicator.W052"].endswith("Again: manage.py replicator retire media1")
    assert "Again: manage.py replicator retire media1" in manage("status").out
    retire("media1")
    assert "Remove it from the settings" in warnings()["replicator.W052"]
    assert "Again" not in manage("status").out


def test_plans_are_for_programs_too(site: Site, manage: Any) -> None:
    found = json.loads(manage("retire", "media1", "--dry-run", "--json").out)
    assert (found["verb"], found["target"], found["confirm"], len(found["effect"])) == ("retire", "media1", "2", 3)
    assert not TargetRun.objects.exists()


def test_runs_at_a_target_that_is_none_are_not_simply_none(site: Site, manage: Any) -> None:
    assert "Did you mean 'media1'" in manage("runs", "--target", "media11").error
    retire("media1")
    remove_target(site, "media1")
    assert "retire" in manage("runs", "--target", "media1").out


def test_a_target_of_no_storage_is_not_activated(site: Site, settings: Any, manage: Any) -> None:
    """It would join for ever."""
    do("drain", "media1")
    default = {**settings.STORAGES["default"], "OPTIONS": {"targets": ["media2"]}}
    settings.STORAGES = {**settings.STORAGES, "default": default}
    assert "No storage has the target media1" in manage("activate", "media1").error
    assert phase("media1") == "draining"


@pytest.fixture
def nodes(settings: Any, site: Site) -> Site:
    """Nodes with disks of their own; this is web1, and web3 is gone."""
    settings.REPLICATOR = {
        "TARGETS": {"media1": MEMORY, "media2": MEMORY},
        "SHARED_MEDIA": False,
        "NODE": "web1",
    }
    for node, age in (("web1", 0), ("web2", 10), ("web3", 4000)):
        NodeState.objects.create(node=node, seen_at=timezone.now() - timedelta(seconds=age))
    return site


def test_a_node_that_is_gone_for_good_is_forgotten(nodes: Site, manage: Any) -> None:
    """What waits for it is anybody's, and tombstones wait for its disk no more."""
    MediaFile.objects.filter(name="a.txt").update(outdated_at=",web2,web3,", node="web3")
    MediaFile.objects.filter(name="b.txt").update(outdated_at=",web3,")
    Replica.objects.filter(file__name="a.txt", target="media2").update(node="web3", status="pending")
    said = manage("retire", "--node", "web3", "--dry-run").out
    assert "1 write that wait for web3" in said
    assert "2 files of which its disk has an older version" in said
    assert NodeState.objects.filter(node="web3").exists()
    assert "web3 is forgotten" in manage("retire", "--node", "web3").out
    assert dict(MediaFile.objects.values_list("name", "outdated_at")) == {"a.txt": ",web2,", "b.txt": ""}
    assert not Replica.objects.filter(node="web3").exists()
    assert not NodeState.objects.filter(node="web3").exists()


def test_a_node_that_is_at_work_is_not_forgotten(nodes: Site, manage: Any) -> None:
    assert "Stop its workers first" in manage("retire", "--node", "web2").error
    assert "Stop its workers first" in manage("retire", "--node", "web1").error
    assert "Known: web1, web2, web3" in manage("retire", "--node", "web4").error


def test_files_that_only_the_lost_disk_had_must_be_given_up_in_words(nodes: Site, manage: Any) -> None:
    """Promise 1: nobody loses them by a slip of the hand."""
    record_new([Write("default", "lost.txt", 1, "0" * 64)], ["media1", "media2"])
    MediaFile.objects.filter(name="lost.txt").update(node="web3")
    assert "LOST: 1 file that only its disk has" in manage("retire", "--node", "web3", "--dry-run").out
    assert "--confirm 1" in manage("retire", "--node", "web3").error
    assert NodeState.objects.filter(node="web3").exists()
    assert isinstance(manage("retire", "--node", "web3", "--confirm", "1"), Output)
    assert not NodeState.objects.filter(node="web3").exists()
