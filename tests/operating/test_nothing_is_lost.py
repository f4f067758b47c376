"""What people do with targets in trouble, in the order in which messages tell them to: no file is lost by it."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from replicator import operating
from replicator.ledger import Write, record_held
from replicator.models import AuditFinding, MediaFile, Replica, TargetRun
from replicator.operating import audit
from replicator.operating.progress import joining_of
from replicator.operating.steering import NotStarted, do, plan
from tests.operating.audits import MEMORY, Site, at, found
from tests.operating.lives import (
    add_empty,
    add_target,
    known_everywhere,
    later,
    make_due,
    phase,
    remove_target,
    state,
    statuses,
    sweep,
    work,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_only_copies_survive_the_way_back_from_a_stopped_retirement(site: Site) -> None:
    """Promise 1: a retirement that stopped says to bring the target back and let others get what only it has."""
    done = do("retire", "media1", options={"delete": True}, confirm="2")
    known_everywhere("media1")
    Replica.objects.filter(target="media2", file__name="a.txt").update(status="pending", version=None)
    site.media.joinpath("a.txt").unlink()
    assert work(done).state == "stopped"
    TargetRun.objects.update(worked_at=None)
    work(do("activate", "media1"))
    make_due("media2")
    site.deliver()
    assert at("media2").files["media/a.txt"] == b"as it should be"
    assert statuses("media1")["a.txt"] == "synced"


def test_a_resync_leaves_what_only_the_target_has(site: Site) -> None:
    """Adopted from it: no other has it, so there is nothing to send, and what is known of it is all there is."""
    record_held([Write("default", "adopted.txt", 3)], "media1")
    at("media1").files["media/adopted.txt"] = b"abc"
    run = work(do("resync", "media1"))
    site.deliver()
    assert run.state == "done"
    assert statuses("media1") == {"a.txt": "synced", "b.txt": "synced", "adopted.txt": "synced"}
    with pytest.raises(NotStarted, match="adopted"):
        do("retire", "media1", options={"delete": True}, confirm="3")


def test_a_resync_leaves_what_nobody_can_send_though_two_targets_have_it(site: Site) -> None:
    """Without a hash no copy could prove itself."""
    for target in ("media1", "media2"):
        record_held([Write("default", "adopted.txt", 3)], target)
    file = MediaFile.objects.get(name="adopted.txt")
    now = timezone.now()
    facts = {"since": now, "due_at": now, "status": "synced", "version": file.version}
    Replica.objects.update_or_create(file=file, target="media2", defaults=facts)
    assert work(do("resync", "media1")).counts == {"sent again": 2, "kept": 1}
    assert statuses("media1")["adopted.txt"] == "synced"


def test_an_audit_does_not_forget_the_only_copy_for_its_size(site: Site) -> None:
    """It was changed there, by somebody else: nobody can send it again, so the ledger goes on to know of it."""
    record_held([Write("default", "adopted.txt", 3)], "media1")
    at("media1").files["media/adopted.txt"] = b"five."
    run = site.audit("media1")
    assert found(run) == [("adopted.txt", "wrong", "failed")]
    assert "Save it anew" in AuditFinding.objects.get(run=run).text
    replica = Replica.objects.get(file__name="adopted.txt")
    (verified,) = audit.verify([replica.pk], repair=True)
    assert (verified.what, verified.sent) == ("wrong", False)
    assert "Save it anew" in verified.text
    with pytest.raises(NotStarted, match="adopted"):
        do("retire", "media1", options={"delete": True}, confirm="3")


def test_a_backfill_that_was_cancelled_is_not_done_by_the_sweep(site: Site) -> None:
    """Whoever cancelled it did not want the files there."""
    add_empty(site, "media4")
    run = do("backfill", "media4").run
    assert run is not None
    operating.cancel(run)
    sweep()
    assert statuses("media4") == {}
    assert phase("media4") == "joining"


def test_a_read_only_target_that_was_out_of_the_settings_makes_up_for_what_it_missed(site: Site) -> None:
    """Promise 1: it is not simply active again."""
    do("read-only", "media1")
    remove_target(site, "media1")
    sweep()
    site.save("new.txt")
    with site.storage.open("a.txt", "wb") as file:
        file.write(b"newer")
    add_target(site, "media1")
    sweep()
    assert "1 file that media1 lacks are recorded" in plan("activate", "media1").effect[0]
    work(do("activate", "media1"))
    assert phase("media1") == "joining"
    for _ in range(3):
        later()
        sweep()
        make_due("media1")
        site.deliver()
    assert at("media1").files["media/new.txt"] == b"as it should be"
    assert at("media1").files["media/a.txt"] == b"newer"
    assert phase("media1") == "active"


def test_no_backfill_makes_up_for_a_resync_that_was_cancelled(site: Site) -> None:
    """It finds what was never recorded; not what is still believed to be there."""
    run = do("resync", "media1").run
    assert run is not None
    operating.cancel(run)
    at("media1").files.clear()
    work(do("backfill", "media1"))
    later()
    sweep()
    assert phase("media1") == "joining"
    joining = joining_of("media1", state("media1").phase_since)
    assert joining.command == "manage.py replicator resync media1"
    work(do("resync", "media1"))
    later()
    make_due("media1")
    site.deliver()
    sweep()
    assert phase("media1") == "active"
    assert set(at("media1").files) == {"media/a.txt", "media/b.txt"}


def test_who_drains_in_the_middle_of_a_resync_gets_the_rest_of_it_on_the_way_back(site: Site) -> None:
    """A backfill would leave what is still believed to be there."""
    run = do("resync", "media1").run
    assert f"Resync {run.pk} of media1 is cancelled." in plan("drain", "media1").effect if run else False
    do("drain", "media1")
    at("media1").files.clear()
    work(do("activate", "media1"))
    make_due("media1")
    site.deliver()
    assert set(at("media1").files) == {"media/a.txt", "media/b.txt"}


@pytest.mark.parametrize("number", ["²", "-2", "2.0", "1e1", "٣"])
def test_what_is_no_number_confirms_nothing(site: Site, number: str) -> None:
    with pytest.raises(NotStarted, match="not their number"):
        do("retire", "media1", confirm=number)
    assert phase("media1") == "active"


@pytest.mark.parametrize("verb", ["pause", "read-only", "drain"])
def test_a_dry_run_of_what_is_done_at_once_changes_nothing(site: Site, verb: str) -> None:
    done = do(verb, "media1", options={"dry_run": True})
    assert not done.changed
    assert done.text == " ".join(plan(verb, "media1").effect)
    assert (phase("media1"), state("media1").paused) == ("active", False)


def test_a_dry_run_of_a_return_changes_nothing(site: Site) -> None:
    do("drain", "media1")
    assert not do("activate", "media1", options={"dry_run": True}).changed
    assert phase("media1") == "draining"
    assert not TargetRun.objects.exists()


def test_what_belongs_to_a_storage_that_is_gone_is_refused_before_the_target_is_retired(site: Site) -> None:
    """Nobody knows where its local files are; a retirement that stops at it could not be brought back."""
    MediaFile.objects.filter(name="a.txt").update(storage="gone")
    Replica.objects.filter(target="media2").delete()
    with pytest.raises(NotStarted, match=r"such as gone: a\.txt"):
        do("retire", "media1", confirm="2")
    assert phase("media1") == "active"


@pytest.mark.parametrize("status", ["pending", "failed"])
def test_an_only_copy_that_waits_for_another_class_is_not_given_up(site: Site, status: str) -> None:
    """``reclass`` makes its row due, and the bytes are still there, and nowhere else."""
    record_held([Write("default", "adopted.txt", 3)], "media1")
    Replica.objects.filter(target="media1", file__name="adopted.txt").update(status=status)
    with pytest.raises(NotStarted, match="adopted"):
        do("retire", "media1", options={"delete": True}, confirm="3")


def test_another_target_that_waits_for_another_class_has_the_file(site: Site) -> None:
    """Else no target could be retired while one is given other classes."""
    record_held([Write("default", "adopted.txt", 3)], "media1")
    record_held([Write("default", "adopted.txt", 3)], "media2")
    file = MediaFile.objects.get(name="adopted.txt")
    Replica.objects.filter(target="media2").delete()
    now = timezone.now()
    facts = {"file": file, "target": "media2", "since": now, "due_at": now, "version": file.version}
    Replica.objects.create(**facts, status="pending")
    assert plan("retire", "media1").effect
    Replica.objects.filter(target="media2").update(doubt=True)
    with pytest.raises(NotStarted, match="adopted"):
        plan("retire", "media1")


def test_files_inside_the_place_of_another_target_are_not_deleted(settings: Any, site: Site) -> None:
    """Promise 6: what is "media/x" in the outer one is "x" in the inner one. No matter which of them is retired."""

    def webdav(url: str) -> dict[str, Any]:
        return {"BACKEND": "replicator.targets.webdav.WebDAVTarget", "OPTIONS": {"url": url}}

    outer, inner = webdav("http://127.0.0.1:9"), webdav("http://127.0.0.1:9/media")
    for one, other in ((outer, inner), (inner, outer)):
        settings.REPLICATOR = {"TARGETS": {"media1": one, "media2": MEMORY, "near": other}}
        with pytest.raises(NotStarted, match="near has its files in the same place"):
            do("retire", "media1", options={"delete": True}, confirm="2")
