"""Taking a target out for good: what is refused, what is deleted, and what stays."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from replicator import ledger, operating
from replicator.errors import Refused, Unavailable
from replicator.ledger import Write, life, record_held, record_new
from replicator.models import MediaFile, Replica, TargetRun
from replicator.operating.steering import NotStarted, do, plan
from tests.operating.audits import MEMORY, Site, asked, at
from tests.operating.lives import known_everywhere, phase, remove_target, retire, statuses, work

pytestmark = pytest.mark.django_db(transaction=True)


def test_only_what_the_ledger_names_is_deleted(site: Site) -> None:
    """Promise 6; and the other targets keep everything."""
    at("media1").files["media/unknown.txt"] = b"somebody else's"
    run = retire("media1", delete=True)
    assert (run.state, run.counts) == ("done", {"removed": 2, "deleted": 2})
    assert at("media1").files == {"media/unknown.txt": b"somebody else's"}
    assert set(at("media2").files) == {"media/a.txt", "media/b.txt"}
    assert statuses("media1") == {}
    assert site.media.joinpath("a.txt").read_bytes() == b"as it should be"


def test_without_being_asked_nothing_is_deleted(site: Site) -> None:
    """Not one DELETE is sent."""
    retire("media1")
    assert asked(at("media1"), "delete") == []
    assert set(at("media1").files) == {"media/a.txt", "media/b.txt"}


def test_more_than_a_tenth_needs_its_number(site: Site) -> None:
    """The brake: a slip of the hand takes no host out."""
    assert plan("retire", "media1").confirm == "2"
    with pytest.raises(NotStarted, match="--confirm 2"):
        do("retire", "media1")
    with pytest.raises(NotStarted, match="'20' is not their number"):
        do("retire", "media1", confirm="20")
    assert phase("media1") == "active"
    assert do("retire", "media1", confirm="2").changed
    assert phase("media1") == "retired"


def test_little_goes_without_a_word(site: Site) -> None:
    record_new([Write("default", f"{n}.txt", 1, "0" * 64) for n in range(18)], ["media2"])
    assert plan("retire", "media1").confirm == ""


def test_a_dry_run_counts_and_changes_nothing(site: Site) -> None:
    done = do("retire", "media1", options={"delete": True, "dry_run": True})
    run = work(done)
    assert run.counts == {"removed": 2}
    assert phase("media1") == "active"
    assert asked(at("media1"), "delete") == []
    assert set(statuses("media1")) == {"a.txt", "b.txt"}


def test_the_only_copy_of_a_file_is_not_given_up(site: Site) -> None:
    """Promise 1: nothing is lost. Such files were adopted from the target, or their storage keeps none here."""
    record_held([Write("default", "adopted.txt", 7)], "media1")
    with pytest.raises(NotStarted, match=r"1 file is known to be at media1 only, such as default: adopted\.txt"):
        do("retire", "media1", confirm="3")
    assert phase("media1") == "active"


def test_a_file_that_another_target_has_is_no_only_copy(site: Site) -> None:
    record_held([Write("default", "adopted.txt", 7)], "media1")
    file = MediaFile.objects.get(name="adopted.txt")
    now = timezone.now()
    Replica.objects.create(file=file, target="media2", since=now, due_at=now, status="synced", version=file.version)
    assert retire("media1").state == "done"


def test_a_target_that_is_paused_or_drains_is_no_other_copy(site: Site) -> None:
    record_held([Write("default", "adopted.txt", 7)], "media1")
    file = MediaFile.objects.get(name="adopted.txt")
    now = timezone.now()
    Replica.objects.create(file=file, target="media2", since=now, due_at=now, status="synced", version=file.version)
    for verb in ("pause", "drain"):
        do(verb, "media2")
        with pytest.raises(NotStarted, match="1 file is known to be at media1 only"):
            do("retire", "media1", confirm="3")
        do("resume", "media2")


def test_a_spool_that_still_has_the_file_is_a_copy(site: Site) -> None:
    """Until it is released."""
    site.settings.STORAGES = {
        **site.settings.STORAGES,
        "default": {
            "BACKEND": "replicator.storage.ReplicatedStorage",
            "OPTIONS": {"keep_local": False, "min_copies": 1},
        },
    }
    Replica.objects.filter(target="media2").update(status="pending", version=None)
    assert site.media.joinpath("a.txt").exists()
    assert plan("retire", "media1").effect
    site.media.joinpath("a.txt").unlink()
    with pytest.raises(NotStarted, match=r"1 file is known to be at media1 only, such as default: a\.txt"):
        plan("retire", "media1")


def test_what_turns_out_to_be_the_only_copy_stays(site: Site) -> None:
    """The disk lost it, or the other target did, after the retirement began."""
    done = do("retire", "media1", options={"delete": True}, confirm="2")
    known_everywhere("media1")
    Replica.objects.filter(target="media2", file__name="a.txt").update(status="pending", version=None)
    site.media.joinpath("a.txt").unlink()
    run = work(done)
    assert run.state == "stopped"
    assert "only copy that is known of 1 of them, such as default: a.txt" in run.reason
    assert set(at("media1").files) == {"media/a.txt"}
    assert set(statuses("media1")) == {"a.txt"}


def test_files_of_a_target_out_of_the_settings_cant_be_deleted_but_forgotten(site: Site) -> None:
    remove_target(site, "media1")
    with pytest.raises(NotStarted, match="nobody knows where its files are"):
        do("retire", "media1", options={"delete": True}, confirm="2")
    assert retire("media1").counts == {"removed": 2}


def test_two_targets_in_one_place_keep_what_is_there(settings: Any, site: Site, tmp_path: Path) -> None:
    """Promise 6: deleting at one would hit the other."""
    webdav = {"BACKEND": "replicator.targets.webdav.WebDAVTarget", "OPTIONS": {"url": "http://127.0.0.1:9"}}
    settings.REPLICATOR = {"TARGETS": {"media1": webdav, "media2": MEMORY, "same": webdav}}
    with pytest.raises(NotStarted, match="same has its files in the same place"):
        do("retire", "media1", options={"delete": True}, confirm="2")


def test_the_media_root_of_a_node_keeps_its_files(settings: Any, site: Site) -> None:
    own = {**MEMORY, "OPTIONS": {"node": "web1"}}
    settings.REPLICATOR = {
        "TARGETS": {"media1": own, "media2": MEMORY},
        "SHARED_MEDIA": False,
        "NODE": "web1",
    }
    MediaFile.objects.update(node="web1")
    with pytest.raises(NotStarted, match="media root of a node"):
        do("retire", "media1", options={"delete": True}, confirm="2")


def test_nothing_is_deleted_at_a_paused_target(site: Site) -> None:
    do("pause", "media1")
    with pytest.raises(NotStarted, match="is paused"):
        do("retire", "media1", options={"delete": True}, confirm="2")


def test_deleting_waits_for_workers_that_do_not_know_yet(site: Site) -> None:
    """They believe what they read for some seconds."""
    run = do("retire", "media1", options={"delete": True}, confirm="2").run
    assert run is not None
    operating.work(run.pk)
    run.refresh_from_db()
    assert run.state == "running"
    assert "may not know yet" in run.trouble
    assert run.due_at > timezone.now() + timedelta(seconds=5)
    assert asked(at("media1"), "delete") == []


def test_a_late_put_does_not_bring_back_what_was_deleted(site: Site) -> None:
    """Promise 2: what has a lease is waited for, and then the doubt window."""
    with site.storage.open("a.txt", "wb") as file:
        file.write(b"new")
    (claim,) = ledger.claim("media1", 10).claims
    run = do("retire", "media1", options={"delete": True}, confirm="2").run
    assert run is not None
    known_everywhere("media1")
    said = []
    for _ in range(3):
        operating.work(run.pk)
        run.refresh_from_db()
        said.append(run.trouble)
        assert asked(at("media1"), "delete") == []
        # Its worker is killed, and its lease ends.
        Replica.objects.filter(pk=claim.id).update(lease_until=timezone.now() - timedelta(seconds=1))
        TargetRun.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    assert said == [
        "workers are just sending there",
        "what was sent there without an answer may still arrive",
        "what was sent there without an answer may still arrive",
    ]
    run.options["quiet_at"] = (timezone.now() - timedelta(seconds=1)).isoformat()
    run.save(update_fields=["options"])
    assert work(run).state == "done"
    assert at("media1").files == {}


def test_an_unavailable_target_holds_the_deletes_up_and_keeps_the_rows(site: Site) -> None:
    """Each row goes when its file is known to be gone, never before."""
    target = at("media1")
    target.fail_with = Unavailable("connection refused")
    run = do("retire", "media1", options={"delete": True}, confirm="2").run
    assert run is not None
    known_everywhere("media1")
    operating.work(run.pk)
    run.refresh_from_db()
    assert (run.state, run.trouble, run.attempts) == ("running", "connection refused", 1)
    assert len(statuses("media1")) == 2
    target.fail_with = None
    assert work(run).state == "done"
    assert target.files == {}


def test_a_file_that_is_refused_stays_known_and_the_others_go(site: Site) -> None:
    def refuse(operation: str, file: Any) -> None:
        if operation == "delete" and file.name == "a.txt":
            raise Refused("403 Forbidden")

    at("media1").before = refuse
    run = retire("media1", delete=True)
    assert run.state == "stopped"
    assert "1 of its files could not be deleted: 403 Forbidden" in run.reason
    assert set(statuses("media1")) == {"a.txt"}
    assert set(at("media1").files) == {"media/a.txt"}
    at("media1").before = None
    assert retire("media1", delete=True).state == "done"
    assert at("media1").files == {}


def test_several_files_are_deleted_at_once(settings: Any, site: Site) -> None:
    """As many as the target's concurrency."""
    site.save(*(f"more/{n}.txt" for n in range(20)))
    busy, most, lock = 0, 0, threading.Lock()
    meet = threading.Event()

    def count(operation: str, file: Any) -> None:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
            if most >= 8:
                meet.set()
        meet.wait(5)

    def uncount(operation: str, file: Any) -> None:
        nonlocal busy
        with lock:
            busy -= 1

    at("media1").before, at("media1").after = count, uncount
    assert retire("media1", delete=True).state == "done"
    assert most == 8


def test_a_retirement_that_is_cancelled_sends_no_further_delete(site: Site) -> None:
    """Its worker notices before the next batch; the rest stays known."""
    run = do("retire", "media1", options={"delete": True}, confirm="2").run
    assert run is not None
    known_everywhere("media1")
    operating.cancel(run)
    operating.work(run.pk)
    assert asked(at("media1"), "delete") == []


def test_a_target_is_not_brought_back_while_a_delete_may_be_on_its_way(site: Site) -> None:
    """Promise 2: a late DELETE must not hit what is sent there next."""
    run = do("retire", "media1", options={"delete": True}, confirm="2").run
    assert run is not None
    with pytest.raises(NotStarted, match=f"runs --cancel {run.pk}"):
        do("activate", "media1")
    known_everywhere("media1")
    assert work(run).state == "done"
    with pytest.raises(NotStarted, match="Try again then"):
        do("activate", "media1")
    TargetRun.objects.update(worked_at=timezone.now() - timedelta(minutes=5))
    assert do("activate", "media1").changed


def test_an_audit_or_backfill_under_way_is_cancelled(site: Site) -> None:
    run = do("resync", "media1").run
    assert run is not None
    assert f"Resync {run.pk} of media1 is cancelled" in do("retire", "media1", confirm="2").text
    run.refresh_from_db()
    assert run.state == "cancelled"


def test_tombstones_go_once_a_retired_target_is_gone(site: Site) -> None:
    """They wait for every target; not for one that is no more."""
    do("pause", "media1")
    site.storage.delete("a.txt")
    site.deliver()
    long_ago = timezone.now() - timedelta(days=2)
    MediaFile.objects.filter(deleted=True).update(updated_at=long_ago)
    Replica.objects.filter(target="media2").update(synced_at=long_ago)
    assert ledger.prune() == 0
    retire("media1")
    assert ledger.prune() == 1
    assert life.phase_of("media1") == "retired"
