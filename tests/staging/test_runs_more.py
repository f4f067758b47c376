"""Facts about copies that only a closer look shows: claims, retries, planning, and listings of the source."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import QuerySet
from django.utils import timezone

from replicator import staging
from replicator.errors import Refused, Unavailable
from replicator.models import CopyChunk, CopyFailure, CopyFile, CopyObject, CopyPart, CopyRun
from replicator.staging import NotCopied, chunks, listing, planning, streams
from replicator.staging.base import Facts, Page
from replicator.staging.foldersource import FolderSource
from replicator.staging.names import digest_of
from replicator.staging.sources import source_of
from tests.staging.live import Staging
from tests.staging.parts import Bytes
from tests.staging.shop.models import Letter

pytestmark = pytest.mark.django_db(transaction=True)


def failing(error: Exception) -> Callable[..., Any]:
    def open_(self: FolderSource, name: str) -> Any:
        raise error

    return open_


# Claims


def test_of_two_that_claim_a_chunk_one_gets_it(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fill(1)
    site.start()
    first: list[chunks.Lease | None] = []
    chunk, update = CopyChunk.objects.get().pk, QuerySet.update

    def late(self: Any, **columns: Any) -> int:
        if "lease" in columns and not first:
            first.append(None)
            first[0] = chunks.claim(chunk)
        return update(self, **columns)

    monkeypatch.setattr(QuerySet, "update", late)
    assert chunks.claim(chunk) is None
    assert first[0] is not None


def test_no_chunk_of_a_run_that_does_not_go_on_is_claimed(site: Staging) -> None:
    site.fill(1)
    run = site.start()
    chunk = CopyChunk.objects.get().pk
    staging.pause(run)
    assert chunks.claim(chunk) is None
    CopyRun.objects.update(state="running", due_at=timezone.now() + timedelta(hours=1))
    assert chunks.claim(chunk) is None
    assert staging.sweep() == []
    CopyRun.objects.update(due_at=timezone.now())
    assert chunks.claim(chunk) is not None


def test_who_has_lost_a_chunk_neither_gives_it_back_nor_chooses(site: Staging) -> None:
    site.fill(2)
    run = site.start()
    chunk = CopyChunk.objects.get().pk
    lost = chunks.claim(chunk)
    site.later(run)
    mine = chunks.claim(chunk)
    assert lost is not None
    assert mine is not None
    chunks.give_back(lost)
    assert CopyChunk.objects.get().lease == mine.token
    with pytest.raises(chunks.LeaseLost):
        chunks.choose(lost, lost.files)
    with pytest.raises(chunks.LeaseLost):
        chunks.settle(lost, [], asked=7)
    assert CopyRun.objects.get().asked == 0
    assert {file.state for file in CopyFile.objects.all()} == {"new"}


def test_nobody_is_told_of_a_chunk_that_a_worker_has(site: Staging) -> None:
    site.fill(1)
    run = site.start()
    chunk = CopyChunk.objects.get().pk
    assert chunks.claim(chunk) is not None
    site.messages.clear()
    assert planning.go_on(run.pk) == 0
    site.later(run)
    assert planning.go_on(run.pk) == 1
    assert [message[0] for message in site.messages] == [chunk]


# Failures


def test_a_file_fails_for_good_when_it_has_failed_for_long_enough(
    site: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(1)
    site.configure(RETRY_BASE=60.0, RETRY_CAP=3600.0)
    monkeypatch.setattr(FolderSource, "open", failing(Unavailable("503", retry_after=1000)))
    run = site.start()
    site.work()
    file, now = CopyFile.objects.get(), timezone.now()
    assert file.attempts == 1
    assert file.due_at is not None
    assert file.due_at > now + timedelta(seconds=900), "as the source has asked"
    since = file.failed_at
    site.later(run)
    staging.sweep()
    site.work()
    file.refresh_from_db()
    assert (file.attempts, file.failed_at) == (2, since)
    CopyFile.objects.update(failed_at=now - timedelta(days=8))
    site.later(run)
    staging.sweep()
    site.work()
    file.refresh_from_db()
    assert CopyFile.objects.filter(attempts=3, due_at=None).exists()
    run.refresh_from_db()
    assert (run.state, site.counts(run)) == ("done", {"failed": 1})
    assert staging.requeue(CopyFailure.objects.all()) == 1
    assert CopyFile.objects.filter(attempts=0, failed_at=None).exists()


def test_what_failed_and_was_copied_has_no_error_any_more(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fill(1)
    site.configure(RETRY_BASE=60.0)
    with monkeypatch.context() as patched:
        patched.setattr(FolderSource, "open", failing(Unavailable("503")))
        run = site.start()
        site.work()
    site.later(run)
    staging.sweep()
    site.work()
    file = CopyFile.objects.get()
    assert (file.state, file.error_kind, file.error_text) == ("copied", "", "")


def test_bad_files_among_good_ones_hold_nothing_up(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many in a row do."""
    site.fill(40)
    site.configure(concurrency=1, RETRY_BASE=60.0)
    original = FolderSource.open

    def every_third_fails(self: FolderSource, name: str) -> Any:
        if int(name[-5]) % 3 == 0:
            raise Unavailable("500")
        return original(self, name)

    monkeypatch.setattr(FolderSource, "open", every_third_fails)
    run = site.start()
    site.work()
    run.refresh_from_db()
    assert (run.attempts, run.trouble) == (0, "")
    assert (site.counts(run)["copied"], site.counts(run)["failed"]) == (24, 16)


def test_several_workers_that_meet_one_trouble_hold_the_run_up_once(site: Staging) -> None:
    site.fill(1)
    site.configure(RETRY_BASE=60.0)
    run = site.start()
    for trouble in ("503", "what the next one says", "and the next"):
        chunks.hold_up(CopyRun(pk=run.pk, attempts=0), trouble, retry_after=1000)
    run.refresh_from_db()
    assert (run.attempts, run.trouble) == (1, "503")
    assert run.due_at > timezone.now() + timedelta(seconds=900), "as the source has asked"
    chunks.hold_up_no_more(run)
    run.refresh_from_db()
    assert (run.attempts, run.trouble) == (0, "")


def test_a_run_that_ends_has_no_trouble(site: Staging) -> None:
    site.fill(1)
    run = site.start()
    lease = chunks.claim(CopyChunk.objects.get().pk)
    assert lease is not None
    chunks.settle(lease, [chunks.Result(lease.files[0], CopyFile.State.THERE)])
    chunks.give_back(lease)
    CopyRun.objects.update(trouble="the database was away")
    planning.go_on(run.pk)
    run.refresh_from_db()
    assert (run.state, run.trouble) == ("done", "")


def test_a_run_ends_only_when_nothing_is_left(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever another planner has done since somebody looked."""
    site.fill(1)
    run = site.start()
    CopyChunk.objects.all().delete()
    CopyPart.objects.filter(model="shop.Sheet").update(walked=False)
    assert not planning.finish(run), "rows are left"
    CopyPart.objects.update(walked=True)
    original = planning._locked

    def planned_before(locked: CopyRun) -> CopyRun:
        CopyChunk.objects.create(run=run)
        return original(locked)

    with monkeypatch.context() as patched:
        patched.setattr(planning, "_locked", planned_before)
        assert not planning.finish(run), "somebody has just planned a chunk"
    CopyChunk.objects.all().delete()
    assert planning.finish(run)


def test_failures_of_a_cancelled_run_are_not_requeued(site: Staging) -> None:
    site.fill(3)
    (site.live / "letters/00000.txt").unlink()
    run = site.start()
    (message,) = site.messages
    lease = chunks.claim(message[0])
    assert lease is not None
    chunks.settle(lease, [chunks.Result(lease.files[0], CopyFile.State.MISSING)])
    staging.cancel(run)
    assert staging.requeue(CopyFailure.objects.all()) == 0
    assert site.counts(run) == {"missing": 1}


def test_a_turn_ends_in_time_and_the_next_goes_on(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fill(40)
    site.configure(concurrency=1, RUN_SECONDS=0.2)
    original = FolderSource.open

    def slow(self: FolderSource, name: str) -> Any:
        time.sleep(0.02)
        return original(self, name)

    monkeypatch.setattr(FolderSource, "open", slow)
    run = site.start()
    stories = site.work()
    assert len(stories) > 2
    assert site.counts(run)["copied"] == 40


def test_a_file_that_comes_slowly_is_left_when_the_run_is_paused(
    site: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is neither failed nor half there, and begins anew afterwards."""
    site.fill(1)
    monkeypatch.setattr(streams, "NOTE_EVERY", 0.05)

    class Endless(Bytes):
        def read(self, size: int = -1, /) -> bytes:
            time.sleep(0.02)
            return b"x"

    class Opened:
        def __init__(self) -> None:
            self.stream = Endless(b"", says_size=False)

        def __enter__(self) -> Endless:
            return self.stream

        def __exit__(self, *_: object) -> None:
            pass

    run = site.start()
    with monkeypatch.context() as patched:
        patched.setattr(FolderSource, "open", lambda self, name: Opened())
        worker = site.worker([])
        time.sleep(0.5)
        assert staging.pause(run)
        worker.join(60)
        assert not worker.is_alive()
    assert site.counts(run) == {}
    assert "letters/00000.txt" not in site.held()
    staging.resume(run)
    site.work()
    assert site.counts(run)["copied"] == 1


# Planning


def test_of_two_that_plan_the_same_rows_one_does(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fill(5)
    with monkeypatch.context() as patched:
        patched.setattr(planning, "plan", lambda run: None)
        run = site.start(only=("shop.Letter",))
    part = CopyPart.objects.get()
    monkeypatch.setattr(planning, "ROWS", 2)
    for _ in range(2):
        planning._plan_rows(run, part)
    assert CopyPart.objects.get().rows == 2
    assert CopyChunk.objects.count() == 1


def test_rows_that_name_nothing_new_need_no_worker(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fill(20)
    Letter.objects.bulk_create([Letter(scan="letters/00000.txt") for _ in range(100)])
    site.sheet("a", "../bad")
    monkeypatch.setattr(planning, "ROWS", 20)
    run = site.start()
    assert [story["copied"] for story in site.work()] == [20]
    run.refresh_from_db()
    assert (run.state, site.counts(run)["failed"]) == ("done", 1)


def test_failures_are_planned_once_and_only_while_the_run_goes_on(
    site: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(2)
    site.configure(RETRY_BASE=60.0)
    with monkeypatch.context() as patched:
        patched.setattr(FolderSource, "open", failing(Unavailable("503")))
        run = site.start()
        site.work()
    assert not planning._plan_retry(run), "it is not time"
    site.later(run)
    staging.pause(CopyRun.objects.get())
    assert not planning._plan_retry(run), "somebody has just paused it"
    CopyRun.objects.update(state="running")
    planned: list[bool | None] = []
    original = planning._locked

    def planned_before(locked: CopyRun) -> CopyRun:
        if not planned:
            planned.append(None)
            planned[0] = planning._plan_retry(run)
        return original(locked)

    monkeypatch.setattr(planning, "_locked", planned_before)
    assert not planning._plan_retry(run), "somebody else has"
    assert planned == [True]
    assert CopyChunk.objects.get().kind == "retry"
    assert site.counts(run) == {}


def test_a_sample_walks_all_rows_and_counts_them(site: Staging) -> None:
    site.fill(300)
    run = site.start(sample=10.0)
    site.work()
    run.refresh_from_db()
    part = CopyPart.objects.get(run=run, model="shop.Letter")
    assert (run.state, part.rows, part.total) == ("done", 300, 300)
    assert 0 < site.counts(run)["copied"] < 100


def test_the_sweep_of_a_site_that_is_not_staging_plans_nothing(site: Staging) -> None:
    site.fill(1)
    run = site.start()
    site.settings.REPLICATOR = {"TARGETS": {}}
    site.messages.clear()
    assert staging.sweep() == []
    assert not site.messages
    assert run.state == "running"


def test_what_is_still_needed_is_not_tidied(site: Staging) -> None:
    site.fill(3)
    run = site.start()
    staging.pause(run)
    CopyRun.objects.update(ended_at="2026-01-01T00:00:00Z")
    assert staging.prune() == 0
    assert CopyFile.objects.count() == 3


def test_a_source_that_does_not_answer_starts_no_run(site: Staging) -> None:
    """A folder of which the file system is not mounted, say: each file of it would be missing."""
    with pytest.raises(NotCopied, match="is empty"):
        site.start()
    site.fill(1)
    with pytest.raises(NotCopied, match="can be written"):
        site.start(require_read_only=True)
    assert not CopyRun.objects.exists()


# Listings


class Listed:
    """A site whose source can be listed, seven files a page, and is once ten of its files were asked for."""

    def __init__(self, site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site = site
        self.pages: list[str] = []
        self.asked: list[str] = []
        stat = FolderSource.stat

        def page(source: FolderSource, after: str) -> Page:
            self.pages.append(after)
            names = sorted(str(path.relative_to(site.live)) for path in site.live.rglob("*") if path.is_file())
            names = [name for name in names if name > after][:7]
            return Page([(name, stat(source, name) or Facts()) for name in names], names[-1] if names[6:] else "")

        def asking(source: FolderSource, name: str) -> Facts | None:
            self.asked.append(name)
            return stat(source, name)

        monkeypatch.setattr(FolderSource, "can_list", True)
        monkeypatch.setattr(FolderSource, "page", page)
        monkeypatch.setattr(FolderSource, "stat", asking)
        monkeypatch.setattr(listing, "ASK", 10)
        monkeypatch.setattr(listing, "PAGE", 7)
        monkeypatch.setattr(listing, "PAGE_COSTS", 1)
        monkeypatch.setattr(planning, "ROWS", 20)

    def second_run(self, **choices: Any) -> CopyRun:
        """All is here; the run that this returns has been worked on."""
        self.site.start()
        self.site.work()
        self.pages.clear()
        self.asked.clear()
        run = self.site.start(**choices)
        self.site.work()
        run.refresh_from_db()
        assert run.state == "done"
        return run


@pytest.fixture
def listed(site: Staging, monkeypatch: pytest.MonkeyPatch) -> Listed:
    return Listed(site, monkeypatch)


def test_a_source_is_listed_once_where_that_is_cheaper(listed: Listed) -> None:
    listed.site.fill(100)
    run = listed.second_run()
    assert (run.listing, run.listed) == ("complete", 100)
    assert len(listed.pages) == len(set(listed.pages)) == 15
    assert run.asked == len(listed.asked) == 40, "what was planned before"
    assert listed.site.counts(run) == {"there": 100}
    assert CopyObject.objects.count() == 100
    CopyRun.objects.update(ended_at="2026-01-01T00:00:00Z")
    staging.prune()
    assert not CopyObject.objects.exists()


def test_nothing_is_listed_for_a_few_files_nor_where_nothing_is_asked(listed: Listed) -> None:
    listed.site.fill(45)
    run = listed.second_run()
    assert (run.listing, listed.pages) == ("none", [])
    listed.site.fill(100, start=100)
    first = listed.site.start()
    listed.site.work()
    first.refresh_from_db()
    assert listed.site.counts(first)["copied"] == 100


def test_new_files_are_not_asked_for_and_nothing_is_listed(listed: Listed) -> None:
    listed.site.fill(100)
    run = listed.site.start()
    listed.site.work()
    run.refresh_from_db()
    assert (run.listing, listed.pages, run.asked) == ("none", [], 0)


def test_a_listing_is_given_up_where_the_source_has_far_more(listed: Listed) -> None:
    listed.site.fill(100)
    for n in range(1000):
        listed.site.write(f"a/{n}", b"nobody names it")
    run = listed.second_run()
    assert run.listing == "given up"
    assert 30 < len(listed.pages) < 70, "there are 40 or 60 left then"
    assert not CopyObject.objects.exists()
    assert listed.site.counts(run) == {"there": 100}


def test_a_source_that_refuses_to_be_listed_is_asked(listed: Listed, monkeypatch: pytest.MonkeyPatch) -> None:
    def page(source: FolderSource, after: str) -> Page:
        listed.pages.append(after)
        raise Refused("403")

    monkeypatch.setattr(FolderSource, "page", page)
    listed.site.fill(100)
    run = listed.second_run()
    assert (run.listing, len(listed.pages), run.trouble) == ("given up", 1, "")
    assert listed.site.counts(run) == {"there": 100}


def test_where_checksums_decide_nothing_is_listed(listed: Listed) -> None:
    """No listing has them."""
    listed.site.fill(100)
    run = listed.second_run(compare="checksum")
    assert (run.listing, run.asked) == ("none", 100)


def test_who_lost_a_listing_notes_no_page(listed: Listed) -> None:
    listed.site.fill(20)
    run = listed.site.start()
    listing.begin(run)
    CopyChunk.objects.all().delete()
    planning.plan(run.pk)
    chunk = CopyChunk.objects.get(kind="listing")
    assert not planning._plan_listing(CopyRun.objects.get()), "one at a time"
    lost = chunks.claim(chunk.pk)
    listed.site.later(run)
    assert chunks.claim(chunk.pk) is not None
    assert lost is not None
    with pytest.raises(chunks.LeaseLost):
        listing.list_on(lost, source_of("live"))
    assert not CopyObject.objects.exists()
    assert CopyRun.objects.get().listed == 0


def test_files_of_another_source_are_not_looked_up_in_the_listing(listed: Listed) -> None:
    site = listed.site
    other = site.live.parent / "other"
    for n, path in enumerate(["letters/00000.txt", "letters/00001.txt"]):
        (other / path).parent.mkdir(parents=True, exist_ok=True)
        (other / path).write_bytes(b"another size, elsewhere" * n)
    folder = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(other)}}
    site.settings.STORAGES = {**site.settings.STORAGES, "live-others": folder}
    site.fill(2)
    site.start()
    site.work()
    site.configure()
    sources = {"SOURCE": "live", "SOURCES": {"default": "live-others"}}
    site.settings.REPLICATOR = {**site.settings.REPLICATOR, "STAGING": sources}
    run = site.start(overwrite_newer=True)
    for name, content in site.held().items():
        CopyObject.objects.create(run=run, digest=digest_of(name), size=len(content), modified=timezone.now())
    CopyRun.objects.update(listing="complete")
    site.work()
    assert site.counts(run)["copied"] == 2
