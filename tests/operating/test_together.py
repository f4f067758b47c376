"""What people do at two targets, or to one twice, comes together: no file is lost, and none comes back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import OperationalError, connections
from django.utils import timezone

from replicator import delivery, ledger, operating, tasks
from replicator.ledger import life
from replicator.models import Replica, TargetRun, TargetState
from replicator.operating import joining, runs
from replicator.operating.steering import NotStarted, do, plan
from tests.operating.audits import BACKEND, MEMORY, Site, at
from tests.operating.lives import (
    add_empty,
    change_settings,
    known_everywhere,
    make_due,
    phase,
    remove_target,
    retire,
    statuses,
    sweep,
    work,
)
from tests.servers import Embedded

pytestmark = pytest.mark.django_db(transaction=True)


def keep_none(site: Site) -> None:
    """Its storage keeps no file here."""
    default = {"BACKEND": BACKEND, "OPTIONS": {"keep_local": False, "min_copies": 1}}
    change_settings(site, lambda: setattr(site.settings, "STORAGES", {**site.settings.STORAGES, "default": default}))
    for name in ("a.txt", "b.txt"):
        (site.media / name).unlink(missing_ok=True)


# One is wiped, another retired


def test_a_target_that_was_wiped_is_no_other_copy(site: Site) -> None:
    """Promise 1: what a resync has not come to yet is not there any more."""
    keep_none(site)
    at("media2").files.clear()
    resync = do("resync", "media2").run
    with pytest.raises(NotStarted, match="2 files are known to be at media1 only"):
        do("retire", "media1", options={"delete": True}, confirm="2")
    assert resync is not None
    work(resync)
    make_due("media2")
    site.deliver()
    assert len(at("media2").files) == 2
    assert plan("retire", "media1").effect


def test_a_resync_that_was_cancelled_says_nothing_of_what_is_there(site: Site) -> None:
    keep_none(site)
    resync = do("resync", "media2").run
    assert resync is not None
    operating.cancel(resync)
    with pytest.raises(NotStarted, match="2 files are known to be at media1 only"):
        do("retire", "media1", options={"delete": True}, confirm="2")


@pytest.mark.parametrize("verb", ["drain", "pause"])
def test_a_wiped_target_is_not_believed_for_want_of_one_to_count_on(site: Site, verb: str) -> None:
    """Promise 1: the other has the file, whatever people want of it just now."""
    keep_none(site)
    do(verb, "media1")
    at("media2").files.clear()
    run = work(do("resync", "media2"))
    assert run.counts == {"sent again": 2}
    do("resume", "media1")
    with pytest.raises(NotStarted, match="2 files are known to be at media1 only"):
        do("retire", "media1", options={"delete": True}, confirm="2")
    make_due("media2")
    site.deliver()
    assert len(at("media2").files) == 2


# Retired, and back at once


def test_what_was_on_its_way_when_a_target_was_retired_undoes_nothing(site: Site) -> None:
    """Promise 2: it is forgotten when it can't take effect any more, and not before."""
    site.storage.replace("a.txt", ContentFile(b"second"))
    at("media1").hold = 1
    delivery.deliver("media1")
    assert Replica.objects.get(target="media1", file__name="a.txt").doubt
    done = do("retire", "media1", confirm="2")
    known_everywhere("media1")
    assert done.run is not None
    operating.work(done.run.pk)
    done.run.refresh_from_db()
    assert (done.run.state, done.run.trouble) == (
        "running",
        "what was sent there without an answer may still arrive",
    )
    with pytest.raises(NotStarted, match="is under way"):
        do("activate", "media1")
    operating.cancel(done.run)
    site.storage.replace("a.txt", ContentFile(b"third"))
    work(do("activate", "media1"))
    make_due("media1")
    site.deliver()
    at("media1").release()
    for _ in range(3):
        make_due("media1")
        site.deliver()
    assert statuses("media1")["a.txt"] == "synced"
    assert at("media1").files["media/a.txt"] == b"third"


def test_what_workers_are_sending_is_not_forgotten(site: Site) -> None:
    site.storage.replace("a.txt", ContentFile(b"second"))
    (claim,) = ledger.claim("media1", 10).claims
    done = do("retire", "media1", confirm="2")
    known_everywhere("media1")
    assert done.run is not None
    operating.work(done.run.pk)
    done.run.refresh_from_db()
    assert done.run.trouble == "workers are just sending there"
    assert Replica.objects.filter(pk=claim.id).exists()


def test_a_sweep_that_is_late_removes_nothing_of_a_target_that_is_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 1: it read that the target is retired just before somebody activated it."""
    retire("media1")
    real = joining.retiring.has_late

    def activate_first(target: str) -> bool:
        monkeypatch.undo()
        work(do("activate", "media1"))
        return real(target)

    monkeypatch.setattr(joining.retiring, "has_late", activate_first)
    joining.sweep()
    assert phase("media1") == "joining"
    assert statuses("media1") == {"a.txt": "pending", "b.txt": "pending"}


def test_no_target_is_back_while_a_delete_that_waited_is_on_its_way(site: Site) -> None:
    """Promise 2: the retirement had waited for long, since people had paused the target."""
    done = do("retire", "media1", options={"delete": True}, confirm="2")
    known_everywhere("media1")
    assert done.run is not None
    life.states().filter(pk="media1").update(paused=True)
    operating.work(done.run.pk)
    life.states().filter(pk="media1").update(paused=False)
    now = timezone.now()
    TargetRun.objects.update(worked_at=now - timedelta(hours=1), due_at=now - timedelta(seconds=1))
    said: list[str] = []

    def activate(operation: str, file: Any) -> None:
        if operation == "delete" and not said:
            said.append("")
            operating.cancel(TargetRun.objects.get(kind="retire"))
            with pytest.raises(NotStarted) as refused:
                do("activate", "media1")
            said.append(str(refused.value))
            connections.close_all()  # this is a thread

    at("media1").concurrency = 1
    at("media1").before = activate
    operating.work(done.run.pk)
    assert "A DELETE that was sent to media1 may still take effect" in said[-1]


# Deleting


@pytest.fixture
def host() -> Iterator[Embedded]:
    with Embedded() as host:
        yield host


def test_the_disk_of_this_site_is_not_emptied(settings: Any, host: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 1: no setting says that a media host is this machine, where the file here is its copy, too."""
    webdav = {"BACKEND": "replicator.targets.webdav.WebDAVTarget", "OPTIONS": {"url": host.url}}
    site = Site(settings, host.root, monkeypatch, {"media1": webdav, "media2": MEMORY})
    site.save("a.txt", "b.txt")
    done = do("retire", "media1", options={"delete": True}, confirm="2")
    known_everywhere("media1")
    run = work(done)
    assert run.state == "stopped"
    assert "in the folder of its storage 'default'" in run.reason
    assert host.files() == {"media/a.txt": b"as it should be", "media/b.txt": b"as it should be"}
    assert retire("media1").state == "done"
    assert len(host.files()) == 2


# A sweep


def test_a_look_at_the_ledger_that_fails_keeps_no_other_target_from_its_files(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 7: the sweep is what sends again, and it comes first."""
    add_empty(site, "media4")
    site.storage.save("c.txt", ContentFile(b"c"))
    joining._rests.clear()

    def fail(*_: object) -> Any:
        raise OperationalError("canceling statement due to statement timeout")

    monkeypatch.setattr(joining.backfilling, "lacking", fail)
    woken: list[str] = []
    monkeypatch.setattr("replicator.wake.wake", lambda targets, node=None: woken.extend(targets))
    with pytest.raises(OperationalError):
        tasks.sweep()
    assert {"media1", "media2"} <= set(woken)


# Two people at once


def test_what_another_has_done_meanwhile_is_not_undone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """One retires it while the other makes it read-only."""
    from replicator.operating import wishes

    def retire_first(self: object) -> None:
        monkeypatch.undo()
        do("retire", "media1", confirm="2")

    monkeypatch.setattr(wishes.ReadOnly, "check", retire_first)
    with pytest.raises(NotStarted, match="retired by now"):
        do("read-only", "media1")
    assert phase("media1") == "retired"


# Reports


def test_what_says_how_a_target_stands_is_kept(site: Site) -> None:
    """A retirement may have been long ago when its target leaves the settings."""
    retire("media1")
    resync = do("resync", "media2").run
    assert resync is not None
    operating.cancel(resync)
    TargetRun.objects.update(ended_at=timezone.now() - timedelta(days=100))
    TargetState.objects.update(phase_since=timezone.now() - timedelta(days=100))
    runs.prune()
    remove_target(site, "media1")
    sweep()
    assert not TargetState.objects.filter(pk="media1").exists()
    assert phase("media2") == "joining"
