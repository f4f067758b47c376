"""Audits of a target: what is missing or wrong there is found, and sent again."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import connection
from django.utils import timezone

from replicator.errors import Refused, Unavailable
from replicator.ledger import life
from replicator.models import AuditFinding, MediaFile, Replica, TargetRun
from replicator.operating import NotStarted, audit, runs
from replicator.targets.base import TargetFile
from tests.operating.audits import Site, asked, at, finish, found, names

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def site(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(settings, tmp_path, monkeypatch)


def cannot_list(alias: str) -> None:
    at(alias).can_list = lambda: False  # type: ignore[method-assign]


def test_a_target_that_holds_what_it_should_has_no_findings(site: Site) -> None:
    """And is asked for no file: its listing is enough."""
    site.save(*names(30))
    at("media1").operations.clear()
    run = site.audit()
    assert (run.state, run.done, run.total, found(run)) == ("done", 30, 30, [])
    assert run.counts == {"listed": 30, "checked": 30}
    assert asked(at("media1"), "stat", "open", "put", "delete") == []
    assert run.seen is None


def test_what_is_missing_or_of_another_size_is_sent_again(site: Site) -> None:
    """Promise 1: also after somebody was at the host's disk."""
    site.save(*names(30))
    del at("media1").files["media/f/00003.bin"]
    at("media1").files["media/f/00007.bin"] = b"cut"
    at("media1").operations.clear()
    run = site.audit()
    assert found(run) == [("f/00003.bin", "missing", "sent"), ("f/00007.bin", "wrong", "sent")]
    assert AuditFinding.objects.get(what="wrong").text == "it has 3 bytes instead of 15"
    assert run.counts == {"listed": 29, "checked": 30, "missing": 1, "wrong": 1, "sent": 2}
    assert set(asked(at("media1"), "stat")) == {"media/f/00003.bin", "media/f/00007.bin"}
    assert site.announced[-1:] == ["media1"]
    site.deliver()
    assert sorted(asked(at("media1"), "put")) == ["media/f/00003.bin", "media/f/00007.bin"]
    assert set(at("media1").files.values()) == {b"as it should be"}
    assert found(site.audit()) == []


@pytest.mark.parametrize("lists", [True, False])
def test_other_bytes_of_the_same_length_are_found_by_reading_them(site: Site, *, lists: bool) -> None:
    """Bit rot, which no listing shows."""
    site.save(*names(30))
    at("media1").files["media/f/00003.bin"] = b"not as it was!!"
    if not lists:
        cannot_list("media1")
    assert lists is (found(site.audit(level="size")) == [])  # this target knows checksums, where it is asked
    site.deliver()
    at("media1").files["media/f/00003.bin"] = b"not as it was!!"
    run = site.audit(level="content")
    assert found(run) == [("f/00003.bin", "wrong", "sent")]
    assert len(set(asked(at("media1"), "open"))) == 30
    site.deliver()
    assert at("media1").files["media/f/00003.bin"] == b"as it should be"


def test_a_target_that_cannot_list_is_asked_for_each_file(site: Site) -> None:
    cannot_list("media1")
    site.save(*names(30))
    del at("media1").files["media/f/00003.bin"]
    at("media1").operations.clear()
    run = site.audit()
    assert found(run) == [("f/00003.bin", "missing", "sent")]
    assert len(set(asked(at("media1"), "stat"))) == 30
    assert asked(at("media1"), "entries") == []


@pytest.mark.parametrize("how", ["dry run", "no repair"])
def test_it_changes_nothing_if_it_is_to_report_only(site: Site, how: str) -> None:
    site.save(*names(30))
    for name in names(25):
        del at("media1").files[f"media/{name}"]
    cannot_list("media1")
    run = site.audit(dry_run=True) if how == "dry run" else site.audit(repair=False)
    assert run.state == "done"
    assert found(run) == [(name, "missing", "") for name in names(25)]
    assert not Replica.objects.exclude(status="synced").exists()


def test_files_without_a_row_for_the_target_get_one(site: Site) -> None:
    """As a backfill does: a row may be lacking for a target that was added and never filled."""
    site.save(*names(3))
    Replica.objects.filter(target="media1", file__name="f/00001.bin").delete()
    at("media1").files.clear()
    run = site.audit(dry_run=True)
    assert run.counts["lacking"] == 1
    run = site.audit()
    assert run.counts["recorded"] == 1
    assert Replica.objects.get(target="media1", file__name="f/00001.bin").status == "pending"
    life.enter("media1", "draining")
    Replica.objects.filter(target="media1", file__name="f/00001.bin").delete()
    assert "recorded" not in site.audit().counts


def test_a_deleted_file_that_is_still_there_is_deleted_again(site: Site) -> None:
    """Promise 2: a deleted file never comes back, also when somebody restores an old backup on the host."""
    site.save(*names(3))
    site.storage.delete("f/00001.bin")
    site.deliver()
    at("media1").files["media/f/00001.bin"] = b"from a backup"
    at("media2").files["media/f/00001.bin"] = b"from a backup"
    run = site.audit()
    assert found(run) == [("f/00001.bin", "wrong", "sent")]
    assert AuditFinding.objects.get().text == "it was deleted, and is still there"
    site.deliver()
    assert sorted(at("media1").files) == ["media/f/00000.bin", "media/f/00002.bin"]
    assert "media/f/00001.bin" in at("media2").files


def test_a_write_that_comes_meanwhile_is_no_finding(site: Site) -> None:
    """Promise 2: nor is it undone."""
    site.save(*names(3))
    cannot_list("media1")
    written: list[str] = []

    def overwrite(operation: str, file: TargetFile) -> None:
        if operation == "stat" and file.name == "f/00001.bin" and not written:
            written.append(file.name)
            at("media1").files.pop("media/f/00001.bin")
            site.storage.replace(file.name, ContentFile(b"new"))
            connection.close()  # this thread's

    at("media1").before = overwrite
    at("media1").concurrency = 1
    run = site.audit()
    assert (run.state, written, found(run), run.counts) == ("done", ["f/00001.bin"], [], {"checked": 3})
    site.deliver()
    assert at("media1").files["media/f/00001.bin"] == b"new"


def test_what_was_missing_for_a_moment_is_no_finding(site: Site) -> None:
    """A host may have been in the middle of replacing it."""
    site.save(*names(3))
    cannot_list("media1")
    gone = at("media1").files.pop("media/f/00001.bin")
    at("media1").concurrency = 1

    def come_back(operation: str, file: TargetFile) -> None:
        if file.name == "f/00002.bin":
            at("media1").files["media/f/00001.bin"] = gone

    at("media1").before = come_back
    run = site.audit()
    assert (run.state, found(run)) == ("done", [])


def test_trouble_just_before_a_repair_does_not_lose_it(site: Site) -> None:
    """The target was asked, and goes down before it is asked once more."""
    site.save(*names(30))
    at("media1").concurrency = 1
    gone = "f/00003.bin"
    del at("media1").files[f"media/{gone}"]

    def go_down(operation: str, file: TargetFile) -> None:
        if asked(at("media1"), "stat").count(f"media/{gone}") == 2:
            at("media1").fail_with = Unavailable("no answer")

    at("media1").before = go_down
    run = site.audit()
    assert (run.state, run.trouble, found(run)) == ("running", "no answer", [])
    at("media1").before = at("media1").fail_with = None
    TargetRun.objects.update(due_at=timezone.now())
    finish(run)
    assert (run.state, found(run), run.counts["checked"]) == ("done", [(gone, "missing", "sent")], 30)


def test_one_that_is_most_likely_wiped_or_unmounted_is_not_filled_without_a_word(site: Site) -> None:
    """An empty folder where a file system was mounted answers 404 to everything, and takes every PUT."""
    site.save(*names(60))
    cannot_list("media1")
    for name in names(40):
        del at("media1").files[f"media/{name}"]
    run = site.audit()
    assert run.state == "stopped"
    assert "40 of the 60 files" in run.reason
    assert "resync media1" in run.reason
    assert "--most 100" in run.reason
    assert not Replica.objects.exclude(status="synced").exists()
    assert found(run) == [(name, "missing", "") for name in names(40)]
    run = site.audit(most=40)
    assert run.state == "done"
    assert Replica.objects.filter(target="media1", status="pending").count() == 40


def test_an_old_folder_that_is_gone_is_but_a_part(site: Site) -> None:
    """The listing has shown that all the rest is there; where it can't be had, nothing says so."""
    site.save(*names(300))
    for name in names(25):
        del at("media1").files[f"media/{name}"]
    run = site.audit()
    assert (run.state, run.counts["sent"]) == ("done", 25)
    site.deliver()
    for name in names(25):
        del at("media1").files[f"media/{name}"]
    cannot_list("media1")
    assert site.audit().state == "stopped"


def test_a_few_files_are_sent_again_whatever_share_they_are(site: Site) -> None:
    site.save(*names(3))
    at("media1").files.clear()
    run = site.audit()
    assert (run.state, run.counts["sent"]) == ("done", 3)


def test_a_target_in_trouble_is_waited_for(site: Site) -> None:
    """Trouble says nothing of files."""
    site.save(*names(30))
    at("media1").fail_with = Unavailable("no answer")
    run = site.audit()
    assert (run.state, run.trouble, run.attempts, found(run)) == ("running", "no answer", 1, [])
    at("media1").fail_with = None
    TargetRun.objects.update(due_at=timezone.now())
    assert finish(run).state == "done"
    assert Replica.objects.filter(status="synced").count() == 60


def test_a_file_that_cannot_be_read_keeps_no_other_from_being_looked_at(site: Site) -> None:
    """A bad sector: the host answers 500 for one file, and is well otherwise."""
    site.save(*names(5))
    cannot_list("media1")

    def fail(operation: str, file: TargetFile) -> None:
        if file.name == "f/00001.bin":
            raise Unavailable("500 to HEAD")
        if file.name == "f/00002.bin":
            raise Refused("403 to HEAD")
        if file.name == "f/00003.bin":
            raise KeyError("a secret")

    at("media1").before = fail
    del at("media1").files["media/f/00004.bin"]
    run = site.audit()
    assert found(run) == [
        ("f/00001.bin", "unreadable", ""),
        ("f/00002.bin", "unreadable", ""),
        ("f/00003.bin", "unreadable", ""),
        ("f/00004.bin", "missing", "sent"),
    ]
    texts = list(AuditFinding.objects.order_by("name").values_list("text", flat=True))
    assert texts == ["500 to HEAD", "403 to HEAD", "a defect in the target's code: KeyError", ""]
    assert run.counts["unreadable"] == 3


def test_many_files_in_trouble_are_the_targets(site: Site) -> None:
    """Whatever its probe says."""
    site.save(*names(50))
    cannot_list("media1")

    def fail(operation: str, file: TargetFile) -> None:
        raise Unavailable("500 to HEAD")

    at("media1").before = fail
    run = site.audit()
    assert (run.state, run.trouble, found(run)) == ("running", "500 to HEAD", [])


def test_one_that_is_paused_meanwhile_is_not_asked(site: Site) -> None:
    site.save(*names(5))
    run = audit.begin("media1", {})
    life.pause("media1")
    at("media1").operations.clear()
    finish(run)
    assert (run.state, run.trouble) == ("running", "it is paused")
    assert at("media1").operations == []
    life.resume("media1")
    life.enter("media1", "retired")
    TargetRun.objects.update(due_at=timezone.now())
    assert finish(run).state == "stopped"


def test_a_sample_looks_at_a_part_chosen_by_chance(site: Site) -> None:
    """The same part when it goes on after a kill, another one in the next run."""
    site.save(*names(400))
    parts = []
    for _ in range(2):
        at("media1").operations.clear()
        run = site.audit(sample=25.0)
        assert (run.state, run.total) == ("done", 100)
        assert 60 < run.done < 140
        assert run.counts == {"checked": run.done}
        assert asked(at("media1"), "entries") == []
        parts.append(set(asked(at("media1"), "stat")))
        assert len(parts[-1]) == run.done
    assert parts[0] != parts[1]


def test_it_goes_no_faster_than_it_is_told(site: Site) -> None:
    site.save(*names(12), data=b"x" * 600)
    begun = timezone.now()
    site.audit(level="content", files_per_second=10)
    assert timezone.now() - begun >= timedelta(seconds=1)
    begun = timezone.now()
    site.audit(level="content", bytes_per_second=6000)
    assert timezone.now() - begun >= timedelta(seconds=1)


def test_a_file_without_a_hash_is_compared_by_size_and_counted(site: Site) -> None:
    """Of what was adopted from a target, no hash is known: so nobody could send it again."""
    site.save(*names(3))
    MediaFile.objects.filter(name="f/00001.bin").update(sha256="")
    at("media1").files["media/f/00001.bin"] = b"not as it was!!"
    run = site.audit(level="content")
    assert (found(run), run.counts["unhashed"]) == ([], 1)
    at("media1").files["media/f/00001.bin"] = b"cut"
    assert found(site.audit(level="content")) == [("f/00001.bin", "wrong", "failed")]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"levle": "size"}, "Did you mean 'level'?"),
        ({"level": "deep"}, '"content"'),
        ({"sample": 0}, "from 0.0001 to 100"),
        ({"sample": True}, "from 0.0001 to 100"),
        ({"repair": "yes"}, "true or false"),
        ({"most": 1.5}, "a whole number"),
        ({"bytes_per_second": 3}, "from 1024"),
        ({"storages": "default"}, "a list of aliases"),
        ({"storages": ["defualt"]}, "Did you mean 'default'?"),
        ({"delete_unknown": True, "sample": 5}, "leave out one"),
    ],
)
def test_options_that_are_none_are_refused(site: Site, options: dict[str, Any], says: str) -> None:
    with pytest.raises(NotStarted, match=says):
        audit.begin("media1", options)
    with pytest.raises(NotStarted, match=says):
        audit.effect("media1", options)


def test_a_target_that_cannot_be_asked_is_not_begun_with(site: Site) -> None:
    with pytest.raises(NotStarted, match="Did you mean 'media1'"):
        audit.begin("meida1", {})
    life.pause("media1")
    with pytest.raises(NotStarted, match="replicator resume media1"):
        audit.begin("media1", {})
    life.resume("media1")
    life.enter("media1", "retired")
    with pytest.raises(NotStarted, match="is retired"):
        audit.begin("media1", {})
    audit.begin("media2", {})
    with pytest.raises(NotStarted, match=r"audit .* of media2 is under way"):
        audit.begin("media2", {})


def test_a_pause_is_heeded_in_the_middle(site: Site) -> None:
    """Within the file that it is at."""
    site.save(*names(30))
    cannot_list("media1")
    run = audit.begin("media1", {})

    def pause(operation: str, file: TargetFile) -> None:
        runs.pause(run)
        connection.close()  # this thread's

    at("media1").before = pause
    finish(run)
    assert (run.state, run.done) == ("paused", 0)
    at("media1").before = None
    runs.resume(run)
    assert finish(run).state == "done"


def test_what_it_will_do_is_said_before(site: Site) -> None:
    site.save(*names(3))
    said = " ".join(audit.effect("media1", {"level": "content"}))
    assert "3 files are read" in said
    assert "sent again" in said
    assert "stay" in said
    assert "reported. Nothing" in " ".join(audit.effect("media1", {"repair": False}))
    assert "read back from a target" in " ".join(audit.effect("", {}))


def test_each_night_all_that_can_be_asked_are_audited(site: Site) -> None:
    """And the local disk."""
    site.save(*names(3))
    life.pause("media2")
    done = audit.nightly({})
    assert done["media2"] == "not started: it is paused"
    assert {run.target for run in TargetRun.objects.filter(kind="audit")} == {"media1", ""}
    assert done["media1"].startswith("run ")
    assert done["the local disk"].startswith("run ")
    assert "under way" in audit.nightly({})["media1"]
