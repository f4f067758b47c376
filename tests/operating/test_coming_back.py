"""A target that was out of the settings, or none of a storage's, for a while: what it missed is made up for."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.files.base import ContentFile

from replicator import ledger, operating
from replicator.models import Replica, TargetRun
from replicator.operating.steering import do, plan
from tests.operating.audits import BACKEND, Site, at
from tests.operating.lives import (
    add_empty,
    change_settings,
    days_pass,
    later,
    phase,
    remove_target,
    statuses,
    sweep,
    work,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_delete_that_a_target_missed_is_not_forgotten(site: Site) -> None:
    """Promise 2: a deleted file never comes back, however long the target was out of the settings."""
    before, held = site.settings.REPLICATOR, dict(at("media1").files)
    remove_target(site, "media1")
    sweep()
    site.storage.delete("b.txt")
    site.deliver()
    days_pass()
    ledger.prune()
    site.settings.REPLICATOR = before
    at("media1").files.update(held)
    sweep()
    work(do("backfill", "media1"))
    for _ in range(2):
        site.deliver()
        later()
        sweep()
    site.deliver()
    assert phase("media1") == "active"
    assert set(at("media1").files) == {"media/a.txt"}
    days_pass()
    assert ledger.prune() == 1


def without_media1_for_a_while(site: Site) -> None:
    """A storage has one target less, which another storage goes on to use, and then has it again."""
    storages = site.settings.STORAGES
    other = {"location": str(site.media / "other"), "base_url": "/media/other/", "alias": "other"}

    def one_less() -> None:
        site.settings.STORAGES = {
            **storages,
            "default": {"BACKEND": BACKEND, "OPTIONS": {"targets": ["media2"]}},
            "other": {"BACKEND": BACKEND, "OPTIONS": other},
        }

    def all_again() -> None:
        site.settings.STORAGES = storages

    change_settings(site, one_less)
    sweep()
    site.storage.replace("a.txt", ContentFile(b"newer"))
    site.storage.delete("b.txt")
    site.deliver()
    change_settings(site, all_again)
    sweep()
    assert phase("media1") == "active"


def test_a_storage_that_has_a_target_again_makes_up_for_what_it_missed(site: Site) -> None:
    """Promise 2: overwrites and deletes, too, and not only new files."""
    without_media1_for_a_while(site)
    assert "2 files" in " ".join(plan("backfill", "media1").effect)
    assert work(do("backfill", "media1", options={"dry_run": True})).counts == {"outdated": 2}
    assert statuses("media1") == {"a.txt": "synced", "b.txt": "synced"}
    assert work(do("backfill", "media1")).counts == {"outdated": 2}
    site.deliver()
    assert at("media1").files == {"media/a.txt": b"newer"}
    assert plan("backfill", "media1").effect == ["Nothing: every file that media1 should hold is recorded for it."]


def test_an_audit_finds_what_was_written_and_not_recorded(site: Site) -> None:
    """A web process with old settings may write for as long as it runs."""
    without_media1_for_a_while(site)
    assert site.audit(dry_run=True).counts["outdated"] == 2
    assert statuses("media1") == {"a.txt": "synced", "b.txt": "synced"}
    assert site.audit().counts["outdated"] == 2
    site.deliver()
    assert at("media1").files == {"media/a.txt": b"newer"}


def test_what_was_missed_is_sent_by_who_has_it(site: Site, tmp_path: Path) -> None:
    """Where each node has a disk of its own: the node that wrote it last, which need not be the one before."""
    settings, before = site.settings, site.settings.REPLICATOR

    def as_node(node: str, *targets: str) -> None:
        held = {alias: dict(at(alias).files) for alias in settings.REPLICATOR["TARGETS"]}
        settings.MEDIA_ROOT = str(tmp_path / node)
        Path(settings.MEDIA_ROOT).mkdir(exist_ok=True)
        wanted = {alias: before["TARGETS"][alias] for alias in targets}
        settings.REPLICATOR = {"TARGETS": wanted, "SHARED_MEDIA": False, "NODE": node}
        for alias in targets:
            at(alias).files.update(held.get(alias, {}))

    as_node("web1", "media1")
    site.save("c.txt")
    as_node("web2", "media2")
    sweep()
    site.storage.replace("c.txt", ContentFile(b"newer"))
    as_node("web2", "media1")
    sweep()
    work(do("backfill", "media1"))
    site.deliver()
    assert Replica.objects.get(target="media1", file__name="c.txt").status == "synced"
    assert at("media1").files["media/c.txt"] == b"newer"


def test_no_audit_fills_a_target_that_nobody_has_backfilled(site: Site) -> None:
    """It may be the first of a million; and who has cancelled a backfill did not want it."""
    add_empty(site, "media4")
    operating.audit.nightly({})
    for run in TargetRun.objects.filter(target="media4"):
        assert work(run).counts["lacking"] == 2
    assert statuses("media4") == {}
