"""Facts about copies when people, workers, planners and the source get in each other's way."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

import pytest
from django.db import transaction
from django.db.models import QuerySet

from replicator import staging
from replicator.errors import Unavailable
from replicator.models import CopyChunk, CopyFailure, CopyFile, CopyRun, MediaFile
from replicator.staging import NotCopied, chunks, filefields, listing, planning, runs, walking
from replicator.staging.base import Facts, Page
from replicator.staging.foldersource import FolderSource
from replicator.staging.replicateddestination import ReplicatedDestination
from tests.staging.live import Staging

pytestmark = pytest.mark.django_db(transaction=True)


def files_only(counts: dict[str, int]) -> dict[str, int]:
    return {key: n for key, n in counts.items() if key != "bytes"}


@pytest.fixture
def listed(site: Staging, monkeypatch: pytest.MonkeyPatch) -> Staging:
    """A source that can be listed, and is as soon as ten of its files were asked for."""

    def page(self: FolderSource, after: str) -> Page:
        names = sorted(str(path.relative_to(site.live)) for path in site.live.rglob("*") if path.is_file())
        names = [name for name in names if name > after][:7]
        files = [(name, replace(self.stat(name) or Facts(), checksums={})) for name in names]
        return Page(files, names[-1] if len(names) == 7 else "")

    monkeypatch.setattr(FolderSource, "can_list", True)
    monkeypatch.setattr(FolderSource, "page", page)
    monkeypatch.setattr(listing, "ASK", 10)
    monkeypatch.setattr(listing, "PAGE_COSTS", 0)
    monkeypatch.setattr(planning, "ROWS", 20)
    return site


def test_a_dry_run_of_a_source_that_was_listed_touches_nothing(listed: Staging) -> None:
    listed.fill(100)
    run = listed.start(dry_run=True)
    listed.work()
    run.refresh_from_db()
    assert (run.state, run.listing) == ("done", "complete")
    assert listed.counts(run)["copied"] == 100
    assert listed.held() == {}
    assert not MediaFile.objects.exists()


def test_a_dry_run_records_nothing_of_what_is_on_this_disk(site: Staging) -> None:
    site.fill(2)
    (site.media / "letters").mkdir()
    content = (site.live / "letters/00000.txt").read_bytes()
    (site.media / "letters/00000.txt").write_bytes(content)
    run = site.start(dry_run=True)
    site.work()
    assert files_only(site.counts(run)) == {"there": 1, "copied": 1}
    assert not MediaFile.objects.exists()
    run = site.start()
    site.work()
    assert files_only(site.counts(run)) == {"there": 1, "copied": 1}
    assert MediaFile.objects.count() == 2


def test_a_refused_name_that_is_requeued_fails_again_and_keeps_nobody(site: Staging) -> None:
    site.fill(3)
    (site.live / "letters/00002.txt").unlink()
    site.sheet("a", "../../etc/passwd")
    run = site.start()
    site.work()
    assert files_only(site.counts(run)) == {"copied": 2, "failed": 1, "missing": 1}
    site.write("letters/00002.txt", b"it is there after all")
    assert staging.requeue(CopyFailure.objects.all()) == 2
    site.work()
    run.refresh_from_db()
    assert (run.state, run.trouble) == ("done", "")
    assert files_only(site.counts(run)) == {"copied": 3, "failed": 1}


def test_files_of_a_model_that_a_deploy_removed_fail_and_the_others_are_copied(
    site: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(5)
    site.write("sheet.pdf", b"sheet")
    site.sheet("a", "sheet.pdf")
    run = site.start()
    assert staging.pause(run)
    site.messages.clear()
    original = filefields.file_fields
    monkeypatch.setattr(
        filefields, "file_fields", lambda: [each for each in original() if each.label != "shop.Letter"]
    )
    staging.resume(run)
    site.work()
    run.refresh_from_db()
    assert (run.state, run.trouble) == ("done", "")
    assert files_only(site.counts(run)) == {"copied": 1, "failed": 5}
    assert "no model shop.Letter" in CopyFailure.objects.all()[0].error_text


def test_all_that_is_here_is_copied_again_also_after_a_kill(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fill(20)
    site.start()
    site.work()
    ahead = time.time() + 60
    for n in range(20):
        path = site.live / f"letters/{n:05}.txt"
        path.write_bytes(b"L" + path.read_bytes()[1:])
        os.utime(path, (ahead, ahead))

    class Killed(BaseException):
        pass

    original = chunks.choose

    def dies(lease: chunks.Lease, files: Any) -> None:
        original(lease, files)
        raise Killed

    run = site.start(compare="nothing")
    with monkeypatch.context() as patched:
        patched.setattr(chunks, "choose", dies)
        with pytest.raises(Killed):
            site.work()
    site.later(run)
    staging.sweep()
    site.work()
    assert site.held() == {f"letters/{n:05}.txt": (site.live / f"letters/{n:05}.txt").read_bytes() for n in range(20)}
    assert files_only(site.counts(run)) == {"copied": 20}


def test_a_dry_run_under_way_lets_no_second_copy_in(site: Staging) -> None:
    site.fill(1)
    site.start(dry_run=True)
    run = site.start()
    with pytest.raises(NotCopied, match=f"--run {run.pk} --cancel"):
        site.start()


def test_what_a_source_says_may_have_any_character(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fill(1)

    def odd(self: FolderSource, name: str) -> Any:
        raise Unavailable("503 \0 \udcff")

    monkeypatch.setattr(FolderSource, "open", odd)
    site.start()
    site.work()
    assert CopyFailure.objects.get().error_kind == "unavailable"


def test_a_chunk_whose_files_take_long_to_look_at_stays_one_workers(
    site: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(40)
    site.configure(LEASE_SECONDS=3.0)
    original = ReplicatedDestination.held

    def slow(self: ReplicatedDestination, names: Any) -> Any:
        time.sleep(0.15 * len(names))
        return original(self, names)

    monkeypatch.setattr(ReplicatedDestination, "held", slow)
    run = site.start()
    (message,) = site.messages
    stories: list[Any] = []
    worker = site.worker(stories)
    time.sleep(4.5)
    assert "skipped" in staging.copy(message[0]), "another worker has it"
    worker.join()
    assert stories[0].get("copied") == 40
    assert site.counts(run)["copied"] == 40


def test_a_worker_whose_settings_make_the_places_one_copies_nothing(site: Staging) -> None:
    """As one with the live site's settings, and the mark of staging by mistake."""
    site.fill(3)
    run = site.start()
    inside = site.live / "inside"
    inside.mkdir()
    site.settings.MEDIA_ROOT = str(inside)
    site.work()
    assert list(inside.iterdir()) == []
    run.refresh_from_db()
    assert "are one place, or one is inside the other" in run.trouble


def test_what_nobody_expected_holds_the_run_up_and_says_so(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fill(3)
    site.configure(RETRY_BASE=60.0)

    def odd(self: Any, name: str) -> str:
        raise ZeroDivisionError("a storage of somebody's own")

    with monkeypatch.context() as patched:
        patched.setattr(ReplicatedDestination, "address", odd)
        run = site.start()
        run.refresh_from_db()
        assert "a storage of somebody's own" in run.trouble
    site.later(run)
    with monkeypatch.context() as patched:
        patched.setattr(ReplicatedDestination, "held", lambda self, names: 1 / 0)
        staging.sweep()
        site.work()
        run.refresh_from_db()
        assert "division" in run.trouble
    site.later(run)
    staging.sweep()
    site.work()
    run.refresh_from_db()
    assert (run.state, site.counts(run)["copied"]) == ("done", 3)


def test_failures_requeued_while_a_long_tidying_is_at_it_are_kept(
    site: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(6)
    (site.live / "letters/00001.txt").unlink()
    run = site.start()
    site.work()
    CopyRun.objects.update(ended_at="2026-01-01T00:00:00Z")
    monkeypatch.setattr(runs, "_BATCH", 2)
    original = CopyFile._base_manager.using
    asked: list[int] = []

    def using(alias: str) -> Any:
        if not asked:
            asked.append(staging.requeue(CopyFailure.objects.all()))
        return original(alias)

    monkeypatch.setattr(CopyFile._base_manager, "using", using)
    staging.prune()
    site.write("letters/00001.txt", b"it is there after all")
    site.work()
    run.refresh_from_db()
    assert run.state == "done"
    assert files_only(site.counts(run)) == {"copied": 6}


def test_a_run_that_ends_while_failures_are_requeued_goes_on(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fill(2)
    (site.live / "letters/00001.txt").unlink()
    run = site.start()
    original = planning._locked

    def requeued_before(locked: CopyRun) -> CopyRun:
        """Between its look at the files and the end of the run."""
        if CopyFailure.objects.filter(due_at=None).exists():
            site.write("letters/00001.txt", b"it is there after all")
            with monkeypatch.context() as patched:
                patched.setattr(planning, "go_on", lambda run: 0)
                staging.requeue(CopyFailure.objects.all())
        return original(locked)

    monkeypatch.setattr(planning, "_locked", requeued_before)
    site.work()
    staging.sweep()
    site.work()
    run.refresh_from_db()
    assert (run.state, files_only(site.counts(run))) == ("done", {"copied": 2})


def test_nothing_is_planned_once_a_run_is_cancelled(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fill(3)
    original = walking.read

    def late(*arguments: Any) -> Any:
        found = original(*arguments)
        staging.cancel(CopyRun.objects.get())
        return found

    monkeypatch.setattr(planning, "read", late)
    run = site.start()
    assert CopyRun.objects.get().state == "cancelled"
    assert not CopyChunk.objects.filter(run=run).exists()
    assert not CopyFile.objects.exists()


def test_a_chunk_that_goes_while_it_is_taken_is_nobodys(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fill(3)
    site.start()
    (message,) = site.messages
    update = QuerySet.update

    def late(self: Any, **columns: Any) -> int:
        done = update(self, **columns)
        if columns.get("lease"):
            staging.cancel(CopyRun.objects.get())
        return done

    monkeypatch.setattr(QuerySet, "update", late)
    assert "skipped" in staging.copy(message[0])


def test_a_run_that_a_requests_transaction_starts_goes_on_after_it(site: Staging) -> None:
    """As with ATOMIC_REQUESTS: workers see it then, and a model that can't be read does not undo the request."""
    site.fill(2)
    with transaction.atomic():
        run = site.start(only=("shop.Legacy", "shop.Letter"))
        assert not site.messages
    assert site.messages
    site.work()
    run.refresh_from_db()
    assert (run.state, site.counts(run)["copied"]) == ("done", 2)
