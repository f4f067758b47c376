"""What the phases of targets mean to who saves: for waits, and for files that can't be sent anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import transaction

from replicator import ledger
from replicator.ledger import Write, life
from replicator.models import Replica
from replicator.operating.steering import do
from replicator.requeueing import send_again
from replicator.waiting import NotSynced
from tests.operating.audits import BACKEND, Site
from tests.operating.lives import add_empty, phase, statuses, sweep, work

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def site(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(settings, tmp_path, monkeypatch)


@pytest.fixture
def waiting(site: Site) -> Site:
    """Its saves wait for a copy."""
    options = {"wait": 2.0, "min_copies": 1}
    site.settings.STORAGES = {**site.settings.STORAGES, "default": {"BACKEND": BACKEND, "OPTIONS": options}}
    return site


@pytest.mark.parametrize("phase", ["draining", "retired", "read-only", "paused"])
def test_a_save_that_waits_says_so_if_no_target_takes_its_file(waiting: Site, phase: str) -> None:
    """It must not pass for one that has its copy; and people see why."""
    for target in ("media1", "media2"):
        assert life.pause(target) if phase == "paused" else life.enter(target, phase)
    leaving = phase in ("draining", "retired")
    reason = "media1 gets no new files: it drains, or is retired" if leaving else f"media1: 1 pending; it is {phase}"
    with pytest.raises(NotSynced, match=reason):
        storages["default"].save("a.txt", ContentFile(b"1"))
    assert Replica.objects.exists() is not leaving
    assert storages["default"].exists("a.txt")


def test_one_that_takes_files_will_do(waiting: Site) -> None:
    life.enter("media1", "draining")
    storages["default"].save("a.txt", ContentFile(b"1"))
    assert statuses("media2") == {"a.txt": "synced"}


def test_what_was_rolled_back_is_not_waited_for_where_all_drain(waiting: Site) -> None:
    for target in ("media1", "media2"):
        life.enter(target, "draining")
    with transaction.atomic():
        point = transaction.savepoint()
        storages["default"].save("a.txt", ContentFile(b"1"))
        transaction.savepoint_rollback(point)


def test_what_no_target_can_be_given_keeps_none_from_joining(site: Site) -> None:
    """Of files that were adopted from a target no hash is known: nobody could say that a copy is right."""
    ledger.record_held([Write("default", "elder.txt", 3)], "media1")
    site.save("a.txt")
    add_empty(site, "media4")
    assert work(do("backfill", "media4")).counts == {"recorded": 1}
    site.deliver()
    sweep()
    assert (phase("media4"), statuses("media4")) == ("active", {"a.txt": "synced"})


def test_what_only_its_target_has_is_not_forgotten_there(site: Site) -> None:
    """Nobody could send it again: it would fail, and its only copy count for nothing."""
    ledger.record_held([Write("default", "elder.txt", 3)], "media1")
    site.save("a.txt", "deleted.txt")
    site.storage.delete("deleted.txt")
    site.deliver()
    done = send_again(Replica.objects.at("media1"))
    assert (done.count, done.kept) == (2, 1)
    assert "1 of files that were adopted" in " ".join(done.notes())
    assert statuses("media1") == {"a.txt": "pending", "deleted.txt": "pending", "elder.txt": "synced"}
