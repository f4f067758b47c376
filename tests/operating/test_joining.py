"""Targets that join: met by the sweep, backfilled, resynced, and active by themselves."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from replicator import operating, tasks
from replicator.ledger import Write, counters, life, record_new
from replicator.models import MediaFile, Replica, TargetRun, TargetState
from replicator.operating import progress
from replicator.operating.progress import joining_of, progress_of
from replicator.operating.steering import NotStarted, do, plan
from tests.operating.audits import Site, at
from tests.operating.lives import add_empty, later, phase, remove_target, retire, state, statuses, sweep, work

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def site(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    # Counts are believed for a while where they take long.
    monkeypatch.setattr(progress, "_BELIEVED", 0.0)
    return Site(settings, tmp_path, monkeypatch)


def test_the_targets_of_a_fresh_site_are_active_after_the_first_sweep(site: Site) -> None:
    """Nobody has to start anything."""
    TargetState.objects.all().delete()
    sweep()
    assert {s.target: s.phase for s in TargetState.objects.all()} == {"media1": "active", "media2": "active"}


def test_a_target_added_to_a_site_with_files_joins_until_it_has_all(site: Site) -> None:
    """Promise 1: every target comes to hold what it should."""
    site.save("a.txt", "b.txt")
    site.save("deleted.txt")
    site.storage.delete("deleted.txt")
    add_empty(site, "media4")
    assert phase("media4") == "joining"
    assert statuses("media4") == {}
    assert plan("backfill", "media4").effect == ["2 files (30 bytes) are recorded for media4, and sent at once."]
    done = do("backfill", "media4", who="anna")
    assert work(done).counts == {"recorded": 2}
    assert "media4" in site.announced
    sweep()
    assert phase("media4") == "joining"
    site.deliver()
    sweep()
    assert phase("media4") == "active"
    assert set(at("media4").files) == {"media/a.txt", "media/b.txt"}


def test_a_storage_with_wrong_settings_keeps_no_file_waiting(
    site: Site, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Promise 1: retries and lost messages wait for the sweep, which goes on; and the log says what is wrong."""
    options = {"alias": "wrong", "location": str(site.media / "wrong"), "targets": ["media9"]}
    wrong = {"BACKEND": "replicator.storage.ReplicatedStorage", "OPTIONS": options}
    settings.STORAGES = {**settings.STORAGES, "wrong": wrong}
    TargetState.objects.filter(pk="media2").update(phase="joining")
    woken: list[str] = []
    monkeypatch.setattr("replicator.wake.wake", lambda targets, *_: woken.extend(targets))
    site.storage.save("a.txt", ContentFile(b"1"))
    assert tasks.sweep() == ["media1", "media2"]
    assert woken == ["media1", "media2"]
    assert "target can't be active" in caplog.text
    assert phase("media2") == "joining"
    assert counters.SWEPT_AT in counters.read()[""]


def test_a_file_that_is_saved_while_a_target_joins_is_sent_there(site: Site) -> None:
    site.save("a.txt")
    add_empty(site, "media4")
    site.save("b.txt")
    assert list(at("media4").files) == ["media/b.txt"]


def test_a_backfill_finds_what_processes_with_old_settings_have_saved_meanwhile(site: Site) -> None:
    """The second look: their writes are not recorded for the new target."""
    site.save("a.txt")
    add_empty(site, "media4")
    run = do("backfill", "media4").run
    assert run is not None
    # Its worker has just walked the files that there were when it began.
    newest = MediaFile.objects.latest("pk").pk
    TargetRun.objects.filter(pk=run.pk).update(total=1, last=newest, position=newest)
    record_new([Write("default", "late.txt", 1, "0" * 64)], ["media1", "media2"])
    assert work(run).counts["recorded"] == 2
    assert set(statuses("media4")) == {"a.txt", "late.txt"}


def test_what_was_saved_with_old_settings_after_the_backfill_is_recorded_before_it_is_active(site: Site) -> None:
    """Else it would be active without that file."""
    site.save("a.txt")
    add_empty(site, "media4")
    work(do("backfill", "media4"))
    record_new([Write("default", "late.txt", 1, "0" * 64)], ["media1", "media2"])
    site.deliver()
    sweep()
    assert phase("media4") == "joining"
    assert "late.txt" in statuses("media4")


def test_a_backfill_of_a_target_that_has_all_does_nothing(site: Site) -> None:
    site.save("a.txt")
    before = list(Replica.objects.order_by("pk").values())
    run = work(do("backfill", "media1"))
    assert run.counts == {}
    assert list(Replica.objects.order_by("pk").values()) == before
    assert "Nothing" in plan("backfill", "media1").effect[0]


def test_a_dry_run_counts_and_records_nothing(site: Site) -> None:
    site.save("a.txt", "b.txt")
    add_empty(site, "media4")
    run = work(do("backfill", "media4", options={"dry_run": True}))
    assert (run.counts, run.done, statuses("media4")) == ({"recorded": 2}, 2, {})
    sweep()
    assert phase("media4") == "joining"
    run = work(do("resync", "media1", options={"dry_run": True}))
    assert (run.counts, phase("media1")) == ({"sent again": 2}, "active")
    assert set(statuses("media1").values()) == {"synced"}


def test_a_target_that_joins_says_what_to_do(site: Site) -> None:
    site.save("a.txt")
    add_empty(site, "media4")
    joining = joining_of("media4", state("media4").phase_since)
    assert (joining.total, joining.left, joining.share) == (1, 1, 0.0)
    assert joining.command == "manage.py replicator backfill media4"
    with pytest.raises(NotStarted, match="replicator backfill media4"):
        do("activate", "media4")
    work(do("backfill", "media4"))
    joining = joining_of("media4", state("media4").phase_since)
    assert (joining.left, joining.command) == (1, "")
    site.deliver()
    assert joining_of("media4", state("media4").phase_since).share == 1.0


def test_a_wiped_host_gets_everything_again(site: Site) -> None:
    """Whatever it had confirmed is not so any more; deletes need nothing."""
    site.save("a.txt", "b.txt", "c.txt")
    site.storage.replace("b.txt", ContentFile(b"pending when it happens"))
    site.storage.delete("c.txt")
    at("media1").files.clear()
    Replica.objects.filter(target="media1", file__name="a.txt").update(status="failed")
    done = do("resync", "media1", who="anna", why="new disk")
    assert phase("media1") == "joining"
    run = work(done)
    assert run.counts["sent again"] == 3
    site.deliver()
    sweep()
    assert phase("media1") == "active"
    assert (
        at("media1").files
        == at("media2").files
        == {
            "media/a.txt": b"as it should be",
            "media/b.txt": b"pending when it happens",
        }
    )


def test_a_resync_shows_how_much_is_left(site: Site) -> None:
    """Of the files; each is looked at twice."""
    site.save("a.txt", "b.txt")
    run = do("resync", "media1").run
    joining = joining_of("media1", state("media1").phase_since)
    assert (joining.total, joining.left) == (2, 2)
    work(run)
    joining = joining_of("media1", state("media1").phase_since)
    assert (joining.total, joining.left, joining.share) == (2, 2, 0.0)
    site.deliver()
    assert joining_of("media1", state("media1").phase_since).left == 0


def test_nothing_is_read_from_a_wiped_host_that_it_has_not_got_again(site: Site) -> None:
    site.save("a.txt")
    work(do("resync", "media1"))
    assert not Replica.objects.at("media1").current().exists()


def test_a_resync_that_was_cancelled_leaves_the_target_joining(site: Site) -> None:
    """Half of what it confirmed is still believed: somebody has to see to it."""
    site.save("a.txt")
    run = do("resync", "media1").run
    assert run is not None
    operating.cancel(run)
    sweep()
    assert phase("media1") == "joining"
    joining = joining_of("media1", state("media1").phase_since)
    assert joining.command == "manage.py replicator resync media1"


def test_a_failed_replica_does_not_keep_a_target_from_being_active(site: Site) -> None:
    """Its row says why not; the others have arrived."""
    site.save("a.txt", "b.txt")
    add_empty(site, "media4")
    work(do("backfill", "media4"))
    Replica.objects.filter(target="media4", file__name="a.txt").update(status="failed")
    site.deliver()
    sweep()
    assert phase("media4") == "active"


def test_two_runs_at_one_target_are_refused(site: Site) -> None:
    site.save("a.txt")
    run = do("resync", "media1").run
    assert run is not None
    with pytest.raises(NotStarted, match=rf"runs --cancel {run.pk}"):
        do("backfill", "media1")


def test_a_target_that_comes_back_from_retirement_gets_everything(site: Site) -> None:
    """Also what was overwritten and deleted while it was away, of what its retirement had left in the ledger."""
    site.save("kept.txt", "new.txt", "deleted.txt")
    do("retire", "media1", confirm="3")
    for run in TargetRun.objects.all():
        operating.cancel(run)
    site.storage.replace("new.txt", ContentFile(b"new"))
    site.storage.delete("deleted.txt")
    site.save("more.txt")
    done = do("activate", "media1")
    assert phase("media1") == "joining"
    work(done)
    site.deliver()
    later()
    sweep()
    assert phase("media1") == "active"
    assert at("media1").files == at("media2").files


def believing(phase: str) -> None:
    """As a process that read the phases a moment before they changed: its saves go by that for a minute."""
    life._known.phases = {"media1": phase}
    life._known.read_at = time.monotonic()


def test_a_new_file_of_a_process_that_believes_a_target_to_drain_is_found(site: Site) -> None:
    """Promise 1: it is not active before no process can believe that any more."""
    do("drain", "media1")
    work(do("activate", "media1"))
    site.deliver()
    sweep()
    assert phase("media1") == "joining"
    believing("draining")
    site.storage.save("new.txt", ContentFile(b"new"))
    assert "new.txt" not in statuses("media1")
    life.forget()
    later()
    sweep()
    assert phase("media1") == "joining"
    site.deliver()
    sweep()
    assert phase("media1") == "active"
    assert at("media1").files == at("media2").files


def test_writes_of_a_process_that_believes_a_target_to_be_retired_are_made_up_for(site: Site) -> None:
    """Promise 2: an overwrite and a delete that nobody recorded for it."""
    site.save("a.txt", "b.txt")
    retire("media1")
    work(do("activate", "media1"))
    site.deliver()
    believing("retired")
    site.storage.replace("a.txt", ContentFile(b"new"))
    site.storage.delete("b.txt")
    site.storage.save("new.txt", ContentFile(b"new"))
    life.forget()
    site.deliver()
    assert at("media1").files["media/a.txt"] == b"as it should be"
    for _ in range(2):
        later()
        sweep()
        site.deliver()
    sweep()
    assert phase("media1") == "active"
    assert at("media1").files == {"media/a.txt": b"new", "media/new.txt": b"new"}


def test_a_target_that_left_the_settings_and_comes_back_makes_up_for_what_it_missed(site: Site) -> None:
    """It joins anew."""
    site.save("a.txt", "b.txt")
    before = site.settings.REPLICATOR
    remove_target(site, "media1")
    sweep()
    site.storage.replace("a.txt", ContentFile(b"new"))
    site.storage.delete("b.txt")
    site.storage.save("new.txt", ContentFile(b"new"))
    site.settings.REPLICATOR = before
    sweep()
    assert phase("media1") == "joining"
    assert joining_of("media1", state("media1").phase_since).command == "manage.py replicator backfill media1"
    work(do("backfill", "media1"))
    for _ in range(2):
        site.deliver()
        later()
        sweep()
    site.deliver()
    assert phase("media1") == "active"
    assert at("media1").files == {"media/a.txt": b"new", "media/new.txt": b"new"}


def test_a_target_whose_rows_are_gone_comes_back_too(site: Site) -> None:
    site.save("a.txt", "b.txt")
    retire("media1")
    work(do("activate", "media1"))
    site.deliver()
    later()
    sweep()
    assert phase("media1") == "active"
    assert set(statuses("media1").values()) == {"synced"}


def test_what_processes_record_for_a_retired_target_that_do_not_know_yet_is_removed(site: Site) -> None:
    """A save believes what it read for up to a minute."""
    site.save("a.txt")
    retire("media1")
    now = timezone.now()
    Replica.objects.create(file=MediaFile.objects.get(), target="media1", since=now, due_at=now)
    sweep()
    assert statuses("media1") == {}


def test_a_retired_target_that_the_settings_name_no_more_is_forgotten(site: Site) -> None:
    site.save("a.txt")
    retire("media1")
    remove_target(site, "media1")
    sweep()
    assert TargetState.objects.filter(pk="media1").exists()
    TargetState.objects.filter(pk="media1").update(phase_since=timezone.now() - timedelta(days=2))
    sweep()
    assert not TargetState.objects.filter(pk="media1").exists()


def test_a_sweep_of_targets_that_live_is_one_statement(site: Site) -> None:
    """It comes every 10 seconds, however large the ledger is."""
    site.save("a.txt")
    with CaptureQueriesContext(connection) as queries:
        operating.sweep_targets()
    assert len(queries) == 1


def test_a_large_ledger_is_not_looked_through_at_each_sweep(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a look, this process rests for many times as long as it took."""
    site.save("a.txt")
    add_empty(site, "media4")
    monkeypatch.setattr("replicator.operating.joining._REST", 10**9)
    operating.sweep_targets()
    with CaptureQueriesContext(connection) as queries:
        operating.sweep_targets()
    assert not any("mediafile" in query["sql"] for query in queries)


def test_progress_is_told_in_numbers(site: Site) -> None:
    site.save("a.txt", "b.txt")
    add_empty(site, "media4")
    run = do("backfill", "media4", who="anna").run
    assert run is not None
    told = progress_of(run)
    assert (told.state, told.share, told.eta, told.started_by) == ("running", None, None, "anna")
    TargetRun.objects.filter(pk=run.pk).update(
        total=100, done=25, done_at_resume=5, resumed_at=timezone.now() - timedelta(seconds=10)
    )
    run.refresh_from_db()
    told = progress_of(run)
    assert told.share == 0.25
    assert told.rate == pytest.approx(2.0, rel=0.05)
    assert told.eta == pytest.approx(37.5, rel=0.05)
    assert life.phase_of("media4") == "joining"
