"""Audits of the local disk: what is missing or wrong is read back from a target that has it."""

from __future__ import annotations

import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import transaction
from django.utils import timezone

from replicator.errors import Unavailable
from replicator.ledger import life, nodes
from replicator.models import AuditFinding, MediaFile, NodeState, Replica, TargetRun
from replicator.operating import NotStarted, audit, restoring
from replicator.operating.restoring import NotRestored, restore
from replicator.targets.base import TargetFile
from tests.operating.audits import BACKEND, MEMORY, Site, at, finish, found, names
from tests.storage.conftest import everything

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def site(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(settings, tmp_path, monkeypatch)


def file_of(name: str) -> MediaFile:
    return MediaFile.objects.get(name=name)


def why_not(site: Site, name: str) -> str:
    with pytest.raises(NotRestored) as raised:
        restore(site.storage, file_of(name))
    return str(raised.value)


def test_a_sound_disk_has_no_findings(site: Site) -> None:
    site.save(*names(30))
    before = everything(site.media)
    for level in ("size", "content"):
        run = site.audit("", level=level)
        assert (run.state, run.done, run.total, found(run), run.counts) == ("done", 30, 30, [], {"checked": 30})
    assert everything(site.media) == before


def test_what_is_missing_or_of_another_size_is_restored(site: Site) -> None:
    """Promise 1: the disk that files arrive at is one of the places that may lose them."""
    site.save(*names(30))
    before = everything(site.media)
    (site.media / "f/00003.bin").unlink()
    (site.media / "f/00007.bin").write_bytes(b"cut")
    run = site.audit("")
    assert found(run) == [("f/00003.bin", "missing", "restored"), ("f/00007.bin", "wrong", "restored")]
    assert run.counts == {"checked": 30, "missing": 1, "wrong": 1, "restored": 2}
    assert everything(site.media) == before
    assert not Replica.objects.exclude(status="synced").exists()


def test_other_bytes_of_the_same_length_are_found_by_reading_them(site: Site) -> None:
    site.save(*names(3))
    (site.media / "f/00001.bin").write_bytes(b"not as it was!!")
    assert found(site.audit("")) == []
    assert found(site.audit("", level="content")) == [("f/00001.bin", "wrong", "restored")]
    assert (site.media / "f/00001.bin").read_bytes() == b"as it should be"


def test_folders_and_permissions_are_made_as_for_a_save(site: Site, settings: Any) -> None:
    modes = {"file_permissions_mode": 0o640, "directory_permissions_mode": 0o750}
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": BACKEND, "OPTIONS": modes}}
    site.save("a/b/c.txt", "d.txt")
    (site.media / "a/b/c.txt").unlink()
    (site.media / "a/b").rmdir()
    (site.media / "a").rmdir()
    assert site.audit("").counts["restored"] == 1
    assert stat.S_IMODE((site.media / "a/b/c.txt").stat().st_mode) == 0o640
    assert stat.S_IMODE((site.media / "a/b").stat().st_mode) == 0o750


@pytest.mark.parametrize("how", [{"dry_run": True}, {"repair": False}])
def test_it_changes_nothing_if_it_is_to_report_only(site: Site, how: dict[str, bool]) -> None:
    site.save(*names(30))
    for name in names(25):
        (site.media / name).unlink()
    before = everything(site.media)
    run = site.audit("", **how)
    assert (run.state, run.counts["missing"]) == ("done", 25)
    assert everything(site.media) == before


@pytest.mark.parametrize("how", ["gone", "empty", "only a journal"])
def test_a_disk_that_is_not_mounted_is_not_filled(site: Site, how: str) -> None:
    """What is put below a mount point is hidden as soon as it is mounted."""
    site.save(*names(3))
    site.media.rename(site.media.with_name("elsewhere"))
    if how != "gone":
        site.media.mkdir()
    if how == "only a journal":
        (site.media / ".replicator").mkdir()
    run = site.audit("")
    assert run.state == "stopped"
    assert "is it mounted?" in run.reason
    assert "--local --most 3" in run.reason
    assert not site.media.exists() or not list(site.media.glob("f*"))
    if how != "gone":
        run = site.audit("", most=3)
        assert (run.state, run.counts["restored"]) == ("done", 3)


def test_many_are_not_restored_without_a_word(site: Site) -> None:
    site.save(*names(60))
    for name in names(40):
        (site.media / name).unlink()
    run = site.audit("")
    assert run.state == "stopped"
    assert "40 of the 60" in run.reason
    assert run.counts["missing"] == 40
    assert len(everything(site.media / "f")) == 20
    assert site.audit("", most=40).counts["restored"] == 40


def test_only_the_recorded_bytes_are_put_in_place(site: Site) -> None:
    """From whichever target has them; or none are."""
    site.save("a.txt", "keep.txt")
    (site.media / "a.txt").write_bytes(b"wrong")
    at("media1").files["media/a.txt"] = b"not as it was!!"
    assert found(site.audit("")) == [("a.txt", "wrong", "restored")]
    for spoil in (b"not as it was!!", b"cut", b"longer than it should be"):
        (site.media / "a.txt").write_bytes(b"wrong")
        at("media1").files["media/a.txt"] = at("media2").files["media/a.txt"] = spoil
        run = site.audit("")
        assert found(run) == [("a.txt", "wrong", "failed")]
        text = AuditFinding.objects.get(run=run).text
        assert text.startswith("it has 5 bytes instead of 15; media1: what it has is not what was recorded; media2:")
        assert everything(site.media) == {"a.txt": b"wrong", "keep.txt": b"as it should be"}


def test_why_none_could_be_had_is_said(site: Site) -> None:
    site.save("a.txt", "keep.txt")
    (site.media / "a.txt").unlink()
    del at("media1").files["media/a.txt"]
    at("media2").fail_with = Unavailable("timed out")
    assert why_not(site, "a.txt") == "media1: it is not there; media2: timed out"
    for target in ("media1", "media2"):
        life.pause(target)
    assert why_not(site, "a.txt") == "no target that can be read is known to have it as it should be"
    MediaFile.objects.update(sha256="")
    assert why_not(site, "a.txt").startswith("no hash")
    MediaFile.objects.update(sha256="0" * 64)
    (site.media / "a.txt").symlink_to("keep.txt")
    assert "a link or a folder" in why_not(site, "a.txt")
    (site.media / "a.txt").unlink()
    (site.media / "a.txt").mkdir()
    run = site.audit("")
    assert ("a.txt", "wrong", "failed") in found(run)
    assert (site.media / "a.txt").is_dir()


def during(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have *act* done once, when the bytes are here and not yet in place."""
    real, acted = restoring._put, []

    def put(*args: Any) -> bool:
        if not acted:
            acted.append(act())
        return real(*args)

    monkeypatch.setattr(restoring, "_put", put)


@pytest.mark.parametrize("was", ["missing", "wrong"])
def test_a_save_that_comes_meanwhile_wins(site: Site, monkeypatch: pytest.MonkeyPatch, was: str) -> None:
    """Promise 2, on this disk."""
    site.save("a.txt", "keep.txt")
    (site.media / "a.txt").unlink()
    if was == "wrong":
        (site.media / "a.txt").write_bytes(b"wrong")
    during(monkeypatch, lambda: site.storage.replace("a.txt", ContentFile(b"new")))
    run = site.audit("")
    assert (run.state, found(run)) == ("done", [])
    assert everything(site.media) == {"a.txt": b"new", "keep.txt": b"as it should be"}


def test_a_delete_that_comes_meanwhile_wins(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deleted file never comes back."""
    site.save("a.txt", "keep.txt")
    (site.media / "a.txt").write_bytes(b"wrong")
    during(monkeypatch, lambda: site.storage.delete("a.txt"))
    run = site.audit("")
    assert (run.state, found(run)) == ("done", [])
    assert everything(site.media) == {"keep.txt": b"as it should be"}


@pytest.mark.parametrize("was", ["missing", "wrong"])
def test_what_somebody_puts_there_meanwhile_stays(site: Site, monkeypatch: pytest.MonkeyPatch, was: str) -> None:
    """A person may be restoring it from a backup at this moment."""
    site.save("a.txt", "keep.txt")
    (site.media / "a.txt").unlink()
    if was == "wrong":
        (site.media / "a.txt").write_bytes(b"wrong")
    during(monkeypatch, lambda: (site.media / "a.txt").write_bytes(b"by hand"))
    run = site.audit("")
    assert (run.state, found(run)) == ("done", [])
    assert everything(site.media) == {"a.txt": b"by hand", "keep.txt": b"as it should be"}


def test_a_write_that_is_not_committed_is_left_alone(site: Site) -> None:
    """Promise 3: what it replaced is put back by tidy, should it be rolled back."""
    site.save("a.txt", "keep.txt")
    run = None
    with transaction.atomic():
        site.storage.replace("a.txt", ContentFile(b"not committed"))
        place, traces = (site.media / "a.txt").read_bytes(), len(everything(site.media))
        transaction.set_rollback(True)
    assert place == b"not committed"
    run = site.audit("")
    assert (run.state, found(run)) == ("done", [])
    assert (site.media / "a.txt").read_bytes() == b"not committed"
    assert len(everything(site.media)) == traces
    site.settings.REPLICATOR = {**site.settings.REPLICATOR, "ORPHAN_GRACE": 0}
    site.storage.tidy()
    assert everything(site.media) == {"a.txt": b"as it should be", "keep.txt": b"as it should be"}


def test_what_a_kill_leaves_is_finished_by_tidy(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 1 and 5: whole or not at all."""

    class Killed(BaseException):
        pass

    def die(*_: Any) -> bool:
        raise Killed

    site.save("a.txt", "keep.txt")
    (site.media / "a.txt").unlink()
    monkeypatch.setattr(restoring, "_put", die)
    with pytest.raises(Killed):
        restore(site.storage, file_of("a.txt"))
    assert not (site.media / "a.txt").exists()
    site.settings.REPLICATOR = {**site.settings.REPLICATOR, "ORPHAN_GRACE": 0}
    site.storage.tidy()
    assert everything(site.media) == {"a.txt": b"as it should be", "keep.txt": b"as it should be"}


def test_an_audit_that_was_killed_goes_on_and_counts_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what could not be restored."""
    site.save(*names(5))
    for name in names(4):
        (site.media / name).unlink()
    del at("media1").files["media/f/00000.bin"], at("media2").files["media/f/00000.bin"]
    calls: list[str] = []

    def die(operation: str, file: TargetFile) -> None:
        calls.append(file.name)
        if len(calls) == 2:
            raise SystemExit

    at("media1").before = die
    with pytest.raises(SystemExit):
        site.audit("")
    run = TargetRun.objects.get(kind="audit")
    TargetRun.objects.update(lease_until=timezone.now())
    finish(run)
    assert [cure for _, _, cure in found(run)] == ["failed", "restored", "restored", "restored"]
    assert run.counts == {"checked": 5, "missing": 4, "restored": 3}


def test_a_file_that_could_not_be_sent_for_want_of_it_is_sent(site: Site, settings: Any) -> None:
    """It was lost before the second target had it; a person need not ask again."""
    site.save("a.txt", "keep.txt")
    (site.media / "a.txt").unlink()
    replica = Replica.objects.get(target="media2", file__name="a.txt")
    Replica.objects.filter(pk=replica.pk).update(status="failed", version=None, error_kind="local-missing")
    assert site.audit("").counts["restored"] == 1
    site.deliver()
    replica.refresh_from_db()
    assert replica.status == "synced"


def test_files_that_need_not_be_here_are_not_missed(site: Site, settings: Any) -> None:
    """Those of storages that keep none, and what was adopted from a target."""
    from replicator.ledger import Write, record_held

    folder = str(site.media / "avatars")
    options = {"alias": "avatars", "location": folder, "base_url": "/media/avatars/", "keep_local": False}
    settings.STORAGES = {**settings.STORAGES, "avatars": {"BACKEND": BACKEND, "OPTIONS": options}}
    site.save("a.txt")
    record_held([Write("default", "adopted.txt", 5)], "media1")
    record_held([Write("avatars", "b.txt", 5)], "media1")
    run = site.audit("")
    assert (run.done, found(run)) == (1, [])
    with pytest.raises(NotStarted, match="No storage 'avatars' has a local copy"):
        audit.begin("", {"storages": ["avatars"]})


def test_each_node_has_its_own_disk_audited_for_its_own_files(site: Site, settings: Any) -> None:
    def become(node: str) -> None:
        settings.REPLICATOR = {"TARGETS": {"media1": MEMORY, "media2": MEMORY}, "SHARED_MEDIA": False, "NODE": node}
        nodes.note_seen(node)

    become("web2")
    site.save("two.txt")
    held = {alias: dict(at(alias).files) for alias in ("media1", "media2")}
    become("web1")
    for alias in held:
        at(alias).files = held[alias]
    site.save("one.txt", "keep.txt")
    for name in ("one.txt", "two.txt"):
        (site.media / name).unlink()
    run = site.audit("")
    assert (run.node, found(run)) == ("web1", [("one.txt", "missing", "restored")])
    with pytest.raises(NotStarted, match="Did you mean 'web2'"):
        audit.begin("", {}, node="wbe2")
    run = audit.begin("", {}, node="web2")
    finish(run)
    assert (run.state, run.reason) == (
        "stopped",
        "it is about the disk of the node web2, which this worker has not: start workers there.",
    )
    done = audit.nightly({})
    assert {"the disk of web1", "the disk of web2"} < done.keys()
    NodeState.objects.update(seen_at=timezone.now() - timedelta(days=1))
    TargetRun.objects.all().delete()
    done = audit.nightly({})
    assert (done["the disk of web1"][:3], done["the disk of web2"]) == ("run", "not started: its workers are gone")


def test_nothing_is_changed_while_something_may_come_from_elsewhere(site: Site, settings: Any) -> None:
    """Where this disk is a target's, too: what is on its way there could be undone."""
    home = {**MEMORY, "OPTIONS": {"node": "web1"}}
    settings.REPLICATOR = {"TARGETS": {"media1": MEMORY, "home": home}, "SHARED_MEDIA": False, "NODE": "web1"}
    life.enter("home", "active")
    site.save("a.txt", "keep.txt")
    (site.media / "a.txt").unlink()
    Replica.objects.filter(target="home").update(doubt=True)
    assert restore(site.storage, file_of("a.txt")) is False
    Replica.objects.filter(target="home").update(doubt=False)
    assert restore(site.storage, file_of("a.txt")) is True


def test_a_folder_that_cannot_be_written_is_said(site: Site) -> None:
    site.save("d/a.txt", "keep.txt")
    (site.media / "d/a.txt").unlink()
    (site.media / "d").rmdir()
    (site.media / "d").write_bytes(b"a file")
    run = site.audit("")
    assert found(run) == [("d/a.txt", "missing", "failed")]
    assert "is not a directory" in AuditFinding.objects.get().text
    assert everything(site.media) == {"d": b"a file", "keep.txt": b"as it should be"}
