"""Facts about a copy from its start to its end: what is copied, counted, stopped, resumed and tried again."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from replicator import staging
from replicator.errors import Refused, Unavailable
from replicator.models import CopyChunk, CopyFailure, CopyFile, CopyPart, CopyRun, MediaFile, Replica
from replicator.signals import copy_run_done
from replicator.staging import NotCopied, chunks, planning, streams
from replicator.staging.filters import Filter
from replicator.staging.foldersource import FolderSource
from replicator.storage import ReplicatedStorage
from replicator.storage.seen import Seen
from tests.staging.live import TARGETS, Staging
from tests.staging.shop.models import Letter, Photo

pytestmark = pytest.mark.django_db(transaction=True)


def test_every_file_that_a_row_names_is_copied_and_replicates(site: Staging) -> None:
    names = site.fill(30)
    site.sheet("a", "sheets/ä ö?#.pdf")
    site.write("sheets/ä ö?#.pdf", b"sheet")
    site.write("nobody/names.this", b"no")
    run = site.start()
    site.work()
    run.refresh_from_db()
    assert run.state == CopyRun.State.DONE
    assert run.ended_at is not None
    held = site.held()
    assert held == {name: (site.live / name).read_bytes() for name in [*names, "sheets/ä ö?#.pdf"]}
    assert site.counts(run) == {"copied": 31, "bytes": sum(map(len, held.values()))}
    assert MediaFile.objects.filter(storage="default", deleted=False).count() == 31
    assert Replica.objects.pending().count() == 62


def test_no_row_is_changed(site: Staging, settings: Any) -> None:
    """Promise: dimension fields and other columns stay untouched."""
    site.write("p.png", b"no picture at all")
    Photo._base_manager.bulk_create([Photo(image="p.png", width=7, height=9, public=False)])
    before = list(Photo._base_manager.values())
    with CaptureQueriesContext(connection) as queries:
        run = site.start(only=("shop.Photo",))
        site.work()
    assert site.counts(run)["copied"] == 1
    assert list(Photo._base_manager.values()) == before
    assert not [q for q in queries if "shop_photo" in q["sql"] and q["sql"].startswith(("UPDATE", "INSERT"))]


def test_a_name_is_one_file_however_many_rows_have_it(site: Staging) -> None:
    site.write("default.png", b"default")
    Letter.objects.bulk_create(Letter(scan="default.png") for _ in range(1200))
    site.sheet("a", "default.png")
    run = site.start()
    site.work()
    assert site.counts(run) == {"copied": 1, "bytes": 7}
    assert CopyPart.objects.get(run=run, model="shop.Letter").rows == 1200


def test_what_is_missing_at_the_source_is_recorded_and_not_tried_again(site: Staging) -> None:
    site.fill(3)
    (site.live / "letters/00001.txt").unlink()
    run = site.start()
    site.work()
    run.refresh_from_db()
    assert run.state == CopyRun.State.DONE
    assert site.counts(run)["missing"] == 1
    failure = CopyFailure.objects.get(run=run)
    letter = Letter.objects.get(scan="letters/00001.txt")
    assert (failure.part.model, failure.object_id, failure.field) == ("shop.Letter", str(letter.pk), "scan")
    assert (failure.name, failure.state, failure.due_at) == ("letters/00001.txt", "missing", None)


def test_a_second_run_copies_only_what_is_new(site: Staging) -> None:
    site.fill(3)
    site.start()
    site.work()
    versions = dict(MediaFile.objects.values_list("name", "version"))
    site.fill(2, start=3)
    again = site.start()
    site.work()
    assert site.counts(again)["there"] == 3
    assert site.counts(again)["copied"] == 2
    assert {name: v for name, v in MediaFile.objects.values_list("name", "version") if name in versions} == versions


def test_of_what_is_recorded_nothing_is_asked_for_each_file(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run over all files looks at those of a chunk together."""
    site.fill(5)
    site.start()
    site.work()
    looks: list[int] = []
    look = ReplicatedStorage.look

    def counted(storage: ReplicatedStorage, names: Collection[str]) -> Mapping[str, Seen]:
        looks.append(len(names))
        return look(storage, names)

    monkeypatch.setattr(ReplicatedStorage, "look", counted)
    run = site.start()
    site.work()
    assert site.counts(run) == {"there": 5}
    assert looks == [5]


def test_what_was_changed_on_the_live_site_is_copied_again(site: Staging) -> None:
    site.fill(2)
    site.start()
    site.work()
    site.write("letters/00001.txt", b"changed since, and longer")
    ahead = time.time() + 60
    os.utime(site.live / "letters/00001.txt", (ahead, ahead))
    run = site.start()
    site.work()
    assert site.counts(run) == {"there": 1, "copied": 1, "bytes": 25}
    assert site.held()["letters/00001.txt"] == b"changed since, and longer"


def test_what_is_newer_here_is_kept_unless_told(site: Staging) -> None:
    site.fill(1)
    past = time.time() - 3600
    os.utime(site.live / "letters/00000.txt", (past, past))
    storages["default"].save("letters/00000.txt", ContentFile(b"made on the staging site"))
    kept = site.start()
    site.work()
    assert site.counts(kept) == {"newer": 1}
    assert site.held()["letters/00000.txt"] == b"made on the staging site"
    told = site.start(overwrite_newer=True)
    site.work()
    assert site.counts(told)["copied"] == 1
    assert site.held()["letters/00000.txt"] == (site.live / "letters/00000.txt").read_bytes()


def test_a_save_while_a_file_is_copied_wins(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 2, and: newer content here is never overwritten."""
    site.fill(1)
    original = FolderSource.open

    def open_late(self: FolderSource, name: str) -> Any:
        if not MediaFile.objects.exists():
            storages["default"].save(name, ContentFile(b"saved just now"))
        return original(self, name)

    monkeypatch.setattr(FolderSource, "open", open_late)
    run = site.start()
    site.work()
    assert site.counts(run) == {"newer": 1}
    assert site.held()["letters/00000.txt"] == b"saved just now"


def test_a_checksum_of_the_source_tells_what_differs(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    """One size, other bytes; the source knows another kind of checksum than the ledger, as S3 does."""
    site.fill(2)
    site.start()
    site.work()
    content = b"LETTER 1 x"
    assert len(content) == len(site.held()["letters/00001.txt"])
    site.write("letters/00001.txt", content)
    ahead = time.time() + 60
    os.utime(site.live / "letters/00001.txt", (ahead, ahead))
    original = FolderSource.stat

    def stat(self: FolderSource, name: str) -> Any:
        facts = original(self, name)
        md5 = hashlib.md5((site.live / name).read_bytes()).hexdigest()
        return facts and replace(facts, checksums={"md5": md5})

    monkeypatch.setattr(FolderSource, "stat", stat)
    by_size = site.start()
    site.work()
    assert site.counts(by_size) == {"there": 2}
    run = site.start(compare="checksum")
    site.work()
    assert site.counts(run) == {"there": 1, "copied": 1, "bytes": 10}
    assert site.held()["letters/00001.txt"] == content


def test_a_dry_run_counts_and_touches_nothing(site: Staging) -> None:
    site.fill(5)
    site.sheet("a", "gone.txt")
    run = site.start(dry_run=True)
    site.work()
    run.refresh_from_db()
    assert run.state == CopyRun.State.DONE
    size = sum(path.stat().st_size for path in site.live.rglob("*.txt"))
    assert site.counts(run) == {"copied": 5, "missing": 1, "bytes": size}
    assert site.held() == {}
    assert not MediaFile.objects.exists()


def test_a_source_that_is_down_holds_the_run_up_and_fails_hardly_a_file(
    site: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(40)
    site.configure(RETRY_BASE=60.0)

    def down(self: FolderSource, name: str) -> Any:
        raise Unavailable("503 Slow Down")

    with monkeypatch.context() as patched:
        patched.setattr(FolderSource, "open", down)
        run = site.start()
        site.work()
        run.refresh_from_db()
    assert (run.state, run.trouble, run.attempts) == ("running", "503 Slow Down", 1)
    assert streams.IN_A_ROW <= site.counts(run)["failed"] < streams.IN_A_ROW + 4, "four are at it at once"
    assert not site.messages
    assert staging.sweep() == [], "it is left alone for a while"
    while run.state == "running":
        site.later(run)
        assert staging.sweep() == [run.pk]
        site.work()
        run.refresh_from_db()
    assert (run.state, run.trouble, run.attempts) == ("done", "", 0)
    assert site.counts(run)["copied"] == 40


def test_one_bad_file_fails_alone_and_is_tried_again(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fill(20)
    site.configure(RETRY_BASE=60.0)
    original = FolderSource.open

    def one_fails(self: FolderSource, name: str) -> Any:
        if name == "letters/00007.txt":
            raise Unavailable("500 Internal Error")
        return original(self, name)

    with monkeypatch.context() as patched:
        patched.setattr(FolderSource, "open", one_fails)
        run = site.start()
        site.work()
    assert site.counts(run)["copied"] == 19
    failure = CopyFailure.objects.get()
    assert (failure.error_kind, failure.error_text, failure.attempts) == ("unavailable", "500 Internal Error", 1)
    assert failure.due_at is not None
    run.refresh_from_db()
    assert (run.trouble, run.attempts) == ("", 0), "the others are not held up"
    assert run.state == CopyRun.State.RUNNING, "one is still to be tried again"
    site.later(run)
    staging.sweep()
    site.work()
    run.refresh_from_db()
    assert run.state == CopyRun.State.DONE
    assert {key: n for key, n in site.counts(run).items() if key != "bytes"} == {"copied": 20}
    assert not CopyFailure.objects.exists()


def test_what_is_refused_waits_for_a_person_and_can_be_requeued(
    site: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(3)
    (site.live / "letters/00002.txt").unlink()
    original = FolderSource.open

    def one_is_refused(self: FolderSource, name: str) -> Any:
        if name == "letters/00001.txt":
            raise Refused("403 Forbidden", status=403)
        return original(self, name)

    with monkeypatch.context() as patched:
        patched.setattr(FolderSource, "open", one_is_refused)
        run = site.start()
        site.work()
    run.refresh_from_db()
    assert run.state == CopyRun.State.DONE
    assert {key: n for key, n in site.counts(run).items() if key != "bytes"} == {
        "copied": 1,
        "failed": 1,
        "missing": 1,
    }
    site.write("letters/00002.txt", b"it is there after all")
    assert staging.requeue(CopyFailure.objects.all()) == 2
    run.refresh_from_db()
    assert run.state == CopyRun.State.RUNNING
    site.work()
    run.refresh_from_db()
    assert run.state == CopyRun.State.DONE
    assert {key: n for key, n in site.counts(run).items() if key != "bytes"} == {"copied": 3}


def test_a_name_that_must_not_be_written_is_a_failure_and_harms_nothing(site: Staging) -> None:
    site.fill(1)
    site.sheet("a", "../../etc/passwd")
    site.sheet("b", "/etc/passwd")
    site.sheet("c", "a/../../b")
    run = site.start()
    site.work()
    run.refresh_from_db()
    assert run.state == CopyRun.State.DONE
    assert site.counts(run)["failed"] == 3
    assert set(CopyFailure.objects.values_list("error_kind", "due_at")) == {("refused", None)}
    assert list(site.held()) == ["letters/00000.txt"]


def test_a_worker_that_dies_leaves_its_chunk_to_another_and_nothing_is_counted_twice(
    site: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SIGKILL does it: files were copied, and nobody noted that."""
    site.fill(50)
    opened: list[str] = []
    original = FolderSource.open

    def counting(self: FolderSource, name: str) -> Any:
        opened.append(name)
        return original(self, name)

    monkeypatch.setattr(FolderSource, "open", counting)

    class Killed(BaseException):
        pass

    def dies(lease: chunks.Lease, results: Any, *, asked: int = 0) -> bool:
        raise Killed

    run = site.start()
    with monkeypatch.context() as patched:
        patched.setattr(chunks, "settle", dies)
        with pytest.raises(Killed):
            site.work()
    assert len(site.held()) > 0
    assert site.counts(run) == {}
    assert staging.copy(CopyChunk.objects.get().pk)["skipped"], "its lease has not ended"
    site.later(run)
    staging.sweep()
    site.work()
    run.refresh_from_db()
    assert run.state == CopyRun.State.DONE
    assert site.counts(run) == {"copied": 50, "bytes": sum(map(len, site.held().values()))}
    assert len(opened) == len(set(opened)) == 50, "none was fetched twice"


def test_a_worker_that_lost_its_chunk_counts_nothing(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fill(10)
    run = site.start()
    (message,) = site.messages
    original = chunks.choose

    def stalled(lease: chunks.Lease, files: Any) -> None:
        original(lease, files)
        site.later(run)
        monkeypatch.setattr(chunks, "choose", original)
        assert staging.copy(message[0])["copied"] == 10

    monkeypatch.setattr(chunks, "choose", stalled)
    assert "taken over" in staging.copy(message[0])["skipped"]
    assert site.counts(run)["copied"] == 10


def test_a_pause_stops_soon_and_a_resume_goes_on(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fill(60)
    site.configure(concurrency=1)
    monkeypatch.setattr(streams, "NOTE_EVERY", 0.01)
    original = FolderSource.open

    def slow(self: FolderSource, name: str) -> Any:
        time.sleep(0.1)
        return original(self, name)

    monkeypatch.setattr(FolderSource, "open", slow)
    run = site.start()
    worker = site.worker([])
    while not site.counts(run):
        time.sleep(0.01)
    assert staging.pause(run)
    worker.join(60)
    assert not worker.is_alive()
    copied = site.counts(run)["copied"]
    assert 0 < copied < 60
    assert staging.sweep() == []
    assert staging.resume(run)
    site.work()
    run.refresh_from_db()
    assert run.state == CopyRun.State.DONE
    assert site.counts(run)["copied"] == 60


def test_a_cancelled_run_ends_for_good(site: Staging) -> None:
    site.fill(1200)
    run = site.start()
    site.work(most=1)
    assert staging.cancel(run)
    assert (run.state, run.ended_at is not None) == ("cancelled", True)
    copied = site.counts(run)["copied"]
    site.messages += [[chunk] for chunk in (1, 2, 3, 4)]
    site.work()
    assert site.counts(run)["copied"] == copied
    assert not staging.resume(run)
    assert not staging.cancel(run)


def test_two_workers_share_a_run(site: Staging) -> None:
    """Chunks go to whoever takes them; each file is copied once."""
    site.fill(2500)
    run = site.start()
    stories: list[dict[str, Any]] = []
    for worker in [site.worker(stories), site.worker(stories)]:
        worker.join()
    staging.sweep()
    site.work()
    run.refresh_from_db()
    assert run.state == CopyRun.State.DONE
    assert site.counts(run)["copied"] == len(site.held()) == 2500


def test_lost_messages_cost_only_time(site: Staging) -> None:
    site.fill(10)
    run = site.start()
    site.messages.clear()
    assert staging.sweep() == [run.pk]
    site.work()
    run.refresh_from_db()
    assert run.state == CopyRun.State.DONE


def test_doubled_and_late_messages_do_nothing(site: Staging) -> None:
    site.fill(10)
    run = site.start()
    first = site.messages[0]
    site.work()
    assert "skipped" in staging.copy(first[0])
    assert site.counts(run)["copied"] == 10


def test_a_signal_says_once_that_it_is_done(site: Staging) -> None:
    told: list[CopyRun] = []

    def note(run: CopyRun, **_: object) -> None:
        told.append(run)

    def fails(**_: object) -> None:
        raise RuntimeError("a receiver's own trouble")

    copy_run_done.connect(fails)
    copy_run_done.connect(note)
    try:
        site.fill(3)
        run = site.start()
        site.work()
        staging.sweep()
    finally:
        copy_run_done.disconnect(note)
        copy_run_done.disconnect(fails)
    assert [(each.pk, each.state) for each in told] == [(run.pk, "done")]


def test_a_model_without_its_table_does_not_keep_the_others(site: Staging) -> None:
    site.fill(2)
    run = site.start(only=("shop.Legacy", "shop.Letter"))
    site.work()
    run.refresh_from_db()
    assert run.state == CopyRun.State.DONE
    assert site.counts(run)["copied"] == 2
    assert CopyPart.objects.get(run=run, model="shop.Legacy").trouble


def test_a_filter_that_the_database_refuses_ends_its_model_only(site: Staging) -> None:
    """A number that no column of its kind can hold passes for one until the database is asked."""
    site.fill(2)
    site.sheet("a", "letters/00000.txt")
    run = site.start(filters=(Filter("shop.Letter", "about_id", str(10**40)),))
    site.work()
    run.refresh_from_db()
    assert run.state == CopyRun.State.DONE
    assert site.counts(run)["copied"] == 1


def test_a_disk_that_is_full_holds_the_run_up(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from replicator.local import Entry

    site.fill(10)

    def full(self: Entry, *_: object) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Entry, "stage", full)
        run = site.start()
        site.work()
        run.refresh_from_db()
    assert "No space left" in run.trouble
    assert site.counts(run) == {}
    assert not CopyFailure.objects.exists()
    site.later(run)
    staging.sweep()
    site.work()
    assert site.counts(run)["copied"] == 10


def test_a_storage_can_have_its_files_elsewhere_on_the_live_site(site: Staging) -> None:
    """As avatars that are in a folder, or a bucket, of their own."""
    other = site.live.parent / "other"
    other.mkdir()
    (other / "a.txt").write_bytes(b"from elsewhere")
    folder = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(other)}}
    site.settings.STORAGES = {**site.settings.STORAGES, "live-others": folder}
    site.settings.REPLICATOR = {
        "TARGETS": TARGETS,
        "STAGING": {"SOURCE": "live", "SOURCES": {"default": "live-others"}},
    }
    site.sheet("a", "a.txt")
    run = site.start()
    site.work()
    assert site.counts(run) == {"copied": 1, "bytes": 14}
    assert site.held() == {"a.txt": b"from elsewhere"}


# What is refused before anything is touched


def test_a_site_that_is_not_marked_as_staging_is_left_alone(site: Staging) -> None:
    """Promise: no live site can be overwritten by a command that was typed in the wrong window."""
    site.settings.REPLICATOR = {"TARGETS": {}}
    with pytest.raises(NotCopied, match=r'REPLICATOR\["STAGING"\] = \{"SOURCE": "live"\}'):
        site.start()
    assert not CopyRun.objects.exists()


def test_only_the_source_that_the_settings_name_is_copied_from(site: Staging) -> None:
    with pytest.raises(NotCopied, match="is 'live'"):
        staging.start("default", staging.Choices(), "")


def test_a_worker_with_other_settings_copies_nothing(site: Staging) -> None:
    """A live site's worker that shares the broker, and the database, by mistake."""
    site.fill(3)
    run = site.start()
    site.settings.REPLICATOR = {"TARGETS": {}}
    for message in list(site.messages):
        staging.copy(message[0])
    assert site.held() == {}
    run.refresh_from_db()
    assert "do not mark it" in run.trouble


def test_the_same_folder_is_refused(site: Staging) -> None:
    link = site.live.parent / "link"
    link.symlink_to(site.media)
    site.settings.STORAGES = {
        **site.settings.STORAGES,
        "live": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(link)}},
    }
    (site.media / "a.txt").write_bytes(b"not empty: that would be refused, too")
    with pytest.raises(NotCopied, match="are one place"):
        site.start()
    assert not CopyRun.objects.exists()


def test_a_second_run_waits_until_the_first_has_ended(site: Staging) -> None:
    site.fill(1)
    run = site.start()
    with pytest.raises(NotCopied, match=f"--run {run.pk} --cancel"):
        site.start()
    dry = site.start(dry_run=True)
    assert dry.pk != run.pk
    site.work()
    site.start()


def test_what_ended_is_tidied_and_its_failures_stay(site: Staging) -> None:
    site.fill(5)
    (site.live / "letters/00001.txt").unlink()
    run = site.start()
    site.work()
    assert staging.prune() == 0, "it has just ended"
    CopyRun.objects.update(ended_at="2026-01-01T00:00:00Z")
    assert staging.prune() == 4
    assert CopyFile.objects.get().state == "missing"
    assert site.counts(run)["copied"] == 4


def test_planning_reads_ahead_no_further_than_workers_can_take(site: Staging) -> None:
    """Flat memory, and a run that is paused has hardly anything in the air."""
    site.fill(3 * planning.ROWS)
    run = site.start()
    assert CopyChunk.objects.filter(run=run).count() == 2
    assert CopyPart.objects.get(run=run, model="shop.Letter").rows == 2 * planning.ROWS


def test_rows_are_read_by_one_worker_at_a_time(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter without an index may take minutes: the sweeps of that time must not take all workers."""
    site.fill(3)
    reads: list[int] = []
    original = planning.read

    def slow(*args: Any) -> Any:
        reads.append(len(reads))
        if len(reads) == 1:
            planning.go_on(CopyRun.objects.get().pk)
            assert reads == [0], "the sweep that came meanwhile has read, too"
        return original(*args)

    monkeypatch.setattr(planning, "read", slow)
    run = site.start()
    site.work()
    run.refresh_from_db()
    assert (run.state, run.read_until) == ("done", None)
    assert site.counts(run)["copied"] == 3


def test_rows_are_read_again_after_a_worker_that_died_reading(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fill(3)
    run = site.start()
    site.work()
    CopyRun.objects.filter(pk=run.pk).update(state="running", read_until=timezone.now() + timedelta(seconds=60))
    CopyPart.objects.filter(run=run).update(walked=False)
    planning.go_on(run.pk)
    assert CopyPart.objects.filter(run=run, walked=True).count() == 0
    CopyRun.objects.filter(pk=run.pk).update(read_until=timezone.now())
    planning.go_on(run.pk)
    assert CopyPart.objects.filter(run=run, walked=True).count() == 2
