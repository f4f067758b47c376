"""Facts about ``manage.py replicator copy-media``: what people write, and what they are told."""

from __future__ import annotations

import getpass
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError, connections
from django.utils import timezone

from replicator import staging, wake
from replicator.management.verbs import copy_follow
from replicator.models import CopyFile, CopyRun
from replicator.staging import Choices
from replicator.staging.filters import Filter
from replicator.staging.progress import ModelProgress, progress_of
from tests.people import conftest as people
from tests.staging.live import Staging
from tests.staging.shop.models import Letter

pytestmark = pytest.mark.django_db(transaction=True)

manage = people.manage
Manage = Callable[..., people.Output]
COPY = "manage.py replicator copy-media"
LETTERS = ("copy-media", "--from", "live", "--only", "shop.Letter")


@pytest.fixture(autouse=True)
def quick(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is empty might not be mounted."""
    site.write("nobody/names.this", b"no")
    monkeypatch.setattr(copy_follow, "_EVERY", 0.05)


@contextmanager
def worker(site: Staging) -> Iterator[None]:
    """One that takes the messages, and the sweep."""
    over = threading.Event()

    def work() -> None:
        try:
            while not over.wait(0.05):
                site.work()
                staging.sweep()
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def later(do: Callable[[], object], seconds: float = 0.4) -> Iterator[None]:
    """Somebody else, elsewhere."""

    def act() -> None:
        try:
            do()
        finally:
            connections.close_all()

    timer = threading.Timer(seconds, act)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def table(out: str) -> dict[str, list[str]]:
    """The lines of the table of models, by their first cell; cells are two spaces apart."""
    return {cells[0]: cells[1:] for line in out.splitlines() if len(cells := re.split(r"  +", line.strip())) > 2}


# Starting


def test_a_copy_is_started_and_left_to_the_workers(site: Staging, manage: Manage) -> None:
    site.fill(3)
    done = manage(*LETTERS)
    run = CopyRun.objects.get()
    assert done.error == done.err == ""
    assert done.out.splitlines() == [
        f"Started copy {run.pk} from live. Workers do it; watch: {COPY} --run {run.pk} --follow",
        "Only shop.Letter. Files that are here with the same size are left alone.",
    ]
    assert (run.state, run.source, run.started_by) == ("running", "live", getpass.getuser())
    assert site.messages
    assert not site.held()


def test_every_choice_is_taken(site: Staging, manage: Manage) -> None:
    done = manage(
        *("copy-media", "--from", "live", "--only", "shop.letter", "--only", "shop.Photo.image", "--sample", "5%"),
        *("--filter", "shop.Photo:created__gte=2026-01-01T00:00:00Z", "--filter", "shop.Photo:title=a=b"),
        *("--since", "2026-02-03T04:05:06Z", "--max-size", "20M", "--checksum", "--newest-first"),
        *("--overwrite-newer", "--json"),
    )
    assert done.error == ""
    run = CopyRun.objects.get()
    assert Choices.from_json(run.choices) == Choices(
        only=("shop.Letter", "shop.Photo.image"),
        filters=(
            Filter("shop.Photo", "created__gte", "2026-01-01T00:00:00+00:00"),
            Filter("shop.Photo", "title", "a=b"),
        ),
        since=datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC),
        sample=5.0,
        max_size=20 * 1024**2,
        compare="checksum",
        newest_first=True,
        overwrite_newer=True,
    )
    facts = json.loads(done.out)
    assert (facts["id"], facts["state"]) == (run.pk, "running")


def test_all_copies_what_is_here_too(site: Staging, manage: Manage) -> None:
    manage(*LETTERS, "--all")
    assert Choices.from_json(CopyRun.objects.get().choices).compare == "nothing"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--from", "liv"], """Nothing was started: REPLICATOR["STAGING"]["SOURCE"] is 'live': copy from that"""),
        (["--from", ""], "--from names nothing. Write --from live."),
        (["--only", "shop"], "--only is for a new copy: from where? Write --from live --only …"),
        (["--dry-run"], "--dry-run is for a new copy: from where? Write --from live --dry-run …"),
        (["--follow"], "--follow: which copy? Write --run N --follow, or --from live."),
        (["--pause"], "--pause: which copy? Write --run N --pause"),
        (["--run", "7", "--pause", "--cancel"], "--pause and --cancel at once: write one of them."),
        (["--run", "7", "--pause", "--follow"], "--pause stops the copy: there is nothing to follow. Leave --follow"),
        (["--run", "7"], "There is no copy 7. There was none yet."),
        (["--run", "7", "--sample", "5%"], "--sample is for a new copy: what copy 7 takes was said when it began."),
        (["--from", "live", "--run", "7"], "--from starts a copy, and --run names one that there is: write one of"),
        (
            ["--from", "live", "--all", "--checksum"],
            "--checksum passes over what is here already, and --all does not",
        ),
        (["--from", "live", "--only", "shop.Leter"], "Nothing was started: This site has no model shop.Leter."),
        (["--from", "live", "--sample", "5"], "Nothing was started: '5' is no sample. Write percents, such as 5%"),
        (["--from", "live", "--sample", ""], "Nothing was started: '' is no sample."),
        (["--from", "live", "--max-size", "big"], "Nothing was started: 'big' is no size of a file."),
        (["--from", "live", "--since", "soon"], "Nothing was started: 'soon' is no date."),
        (["--from", "live", "--filter", "shop.Letter"], "Nothing was started: 'shop.Letter' is no filter."),
        (
            ["--from", "live", "--only", "shop.Photo", "--filter", "shop.Letter:id=1"],
            "Nothing was started: shop.Letter:id=1: shop.Letter is not chosen.",
        ),
        (["--from", "live", "--require-read-only"], "Nothing was started: "),
    ],
)
def test_what_makes_no_sense_is_refused(site: Staging, manage: Manage, args: list[str], message: str) -> None:
    """With what to write instead, and nothing started."""
    assert manage("copy-media", *args).error.startswith(message)
    assert not CopyRun.objects.exists()


def test_the_copy_under_way_is_named_where_one_is_missing(site: Staging, manage: Manage) -> None:
    site.fill(1)
    run = site.start()
    assert manage("copy-media", "--cancel").error == f"--cancel: which copy? Write --run {run.pk} --cancel"
    assert f"--run {run.pk} --follow, or" in manage("copy-media", "--follow").error
    assert manage("copy-media", "--run", str(run.pk + 1)).error.endswith(f"The last ones: {run.pk}.")


def test_a_site_that_is_not_for_staging_takes_none(site: Staging, manage: Manage) -> None:
    site.settings.REPLICATOR = {"TARGETS": {}}
    done = manage("copy-media", "--from", "live")
    assert done.error.startswith("Nothing was started: this site's settings do not mark it as one for staging")
    assert "Nothing can be copied: this site's settings do not mark it" in manage("copy-media").out


def test_a_second_copy_waits_for_the_first_to_end(site: Staging, manage: Manage) -> None:
    site.fill(1)
    run = site.start()
    done = manage(*LETTERS)
    assert done.error.startswith(f"Nothing was started: copy {run.pk} is running")
    assert CopyRun.objects.count() == 1


def test_without_a_broker_the_sweep_starts_it(site: Staging, manage: Manage, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fill(1)
    monkeypatch.setattr(wake, "send", lambda task, *messages: False)
    done = manage(*LETTERS)
    assert done.error == ""
    assert done.err == (
        "The broker can't be reached. The copy is recorded: the next sweep that runs will start it.\n"
    )
    run = CopyRun.objects.get()
    assert run.state == "running"
    for action in ("--pause", "--resume"):
        done = manage("copy-media", "--run", str(run.pk), action)
        assert done.err.startswith("The broker can't be reached.") is (action == "--resume")


def test_who_has_no_name_can_start_one(site: Staging, manage: Manage, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container there may be a number only."""

    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr(getpass, "getuser", unknown)
    assert manage(*LETTERS).error == ""
    assert CopyRun.objects.get().started_by == ""


# Following


def test_it_is_followed_until_it_is_done(site: Staging, manage: Manage) -> None:
    """What is missing at the source is said, and is no error."""
    site.fill(20)
    (site.live / "letters/00007.txt").unlink()
    with worker(site):
        done = manage(*LETTERS, "--follow")
    run = CopyRun.objects.get()
    assert done.error == ""
    assert done.err == f"Started copy {run.pk} from live. Ctrl-C leaves it going.\n"
    assert re.match(rf"Copy {run.pk} from live: done\. Started by .* ago, ended after \d+ s\.\n", done.out)
    cells = table(done.out)
    assert cells["model"] == ["rows", "copied", "missing", "size"]
    assert cells["shop.Letter"][:3] == ["20", "19", "1"]
    assert re.search(r"^20 files, 19 copied \(\d+ bytes\), 1 missing at live", done.out, re.MULTILINE)
    row = Letter.objects.get(scan="letters/00007.txt").pk
    assert f"Not copied:\n  shop.Letter {row} scan: letters/00007.txt\n      missing at live\n" in done.out
    assert len(site.held()) == 19


def test_what_failed_for_good_is_an_error(site: Staging, manage: Manage) -> None:
    site.fill(2)
    Letter.objects.bulk_create([Letter(scan="../outside.txt")])
    with worker(site):
        done = manage(*LETTERS, "--follow")
    run = CopyRun.objects.get()
    assert done.error == (
        f"1 file failed, as said above. When the cause is cured: {COPY} --run {run.pk} --requeue --follow"
    )
    assert re.search(r"scan: \.\./outside\.txt\n      refused: ", done.out)
    assert table(done.out)["shop.Letter"][:3] == ["3", "2", "1"]


def test_a_model_that_can_not_be_read_is_an_error(site: Staging, manage: Manage) -> None:
    site.fill(1)
    with worker(site):
        done = manage("copy-media", "--from", "live", "--only", "shop.Legacy", "--only", "shop.Letter", "--follow")
    assert done.error == "shop.Legacy could not be read, as said above: cure that and start another copy."
    assert "shop.Legacy is not copied: " in done.out
    assert table(done.out)["all"][:2] == ["1", "1"]


def test_what_is_wrong_with_a_model_is_told_once(site: Staging, manage: Manage) -> None:
    site.fill(1)
    run = site.start()
    run.parts.filter(model="shop.Sheet").update(trouble="no such table: shop_sheet", walked=True)
    with later(lambda: staging.cancel(CopyRun.objects.get())):
        done = manage("copy-media", "--run", str(run.pk), "--follow")
    assert done.err == "shop.Sheet is not copied: no such table: shop_sheet\n"


def test_one_that_is_cancelled_is_an_error(site: Staging, manage: Manage) -> None:
    site.fill(1)
    run = site.start()
    with later(lambda: staging.cancel(CopyRun.objects.get())):
        done = manage("copy-media", "--run", str(run.pk), "--follow")
    assert done.error == f"Copy {run.pk} was cancelled. What was copied stays."
    assert not site.held()


def test_one_that_is_deleted_is_an_error(site: Staging, manage: Manage) -> None:
    site.fill(1)
    run = site.start()
    with later(lambda: CopyRun.objects.all().delete()):
        done = manage("copy-media", "--run", str(run.pk), "--follow")
    assert done.error == f"Copy {run.pk} is not there any more: somebody has deleted it."


def test_a_dry_run_is_followed_and_counts(site: Staging, manage: Manage) -> None:
    site.fill(5)
    site.write("letters/00000.txt", b"x" * 5000)
    with worker(site):
        done = manage(*LETTERS, "--dry-run")
    assert done.error == ""
    assert not site.held()
    assert "done (dry run)" in done.out
    cells = table(done.out)
    assert cells["model"] == ["rows", "would be copied", "size"]
    assert cells["shop.Letter"] == ["5", "5", "4.9 KiB"]
    assert "5 would be copied (4.9 KiB)" in done.out


def test_a_pause_by_somebody_else_is_told_and_waited_for(site: Staging, manage: Manage) -> None:
    site.fill(2)
    run = site.start()

    def others() -> None:
        staging.pause(CopyRun.objects.get())
        threading.Event().wait(0.4)
        staging.resume(CopyRun.objects.get())
        threading.Event().wait(0.4)
        site.work()

    with later(others):
        done = manage("copy-media", "--run", str(run.pk), "--follow")
    assert done.error == ""
    assert done.err.splitlines() == [f"Paused. It goes on with: {COPY} --run {run.pk} --resume", "Goes on."]


def test_trouble_is_told_once_each_time(site: Staging, manage: Manage) -> None:
    site.fill(2)
    run = site.start()
    due = timezone.now() + timedelta(seconds=60)
    CopyRun.objects.update(trouble="open x: 503 Slow Down", due_at=due, attempts=1)

    def over() -> None:
        CopyRun.objects.update(due_at=timezone.now())
        site.work()

    with later(over):
        done = manage("copy-media", "--run", str(run.pk), "--follow")
    assert done.error == ""
    assert re.fullmatch(r"In trouble: open x: 503 Slow Down; goes on in \d\d s", done.err.splitlines()[0])
    assert len(done.err.splitlines()) <= 2


def test_where_no_worker_takes_anything_it_is_asked_for_one_once(
    site: Staging, manage: Manage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_follow, "_IDLE", 0.3)
    site.fill(2)
    run = site.start()
    with later(site.work, 1.5):
        done = manage("copy-media", "--run", str(run.pk), "--follow")
    assert done.err.splitlines() == [
        "No worker takes chunks: is one running? celery -A … worker; and for retries, celery -A … beat"
    ]


@pytest.mark.parametrize("why", ["paused", "a worker is at it", "the source is in trouble", "retries are to come"])
def test_workers_that_have_no_work_are_not_asked_for(
    site: Staging, manage: Manage, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(copy_follow, "_IDLE", 0.2)
    site.fill(2)
    run = site.start()
    soon = timezone.now() + timedelta(seconds=60)
    if why == "paused":
        staging.pause(run)
    elif why == "a worker is at it":
        run.chunks.update(lease_until=soon)
    elif why == "the source is in trouble":
        CopyRun.objects.update(due_at=soon, trouble="503")
    else:
        (site.live / "letters/00000.txt").unlink()
        site.work()
        CopyFile.objects.filter(run=run, state="missing").update(state="failed", due_at=soon)
        CopyRun.objects.update(state="running", ended_at=None)
    with later(lambda: staging.cancel(CopyRun.objects.get()), 1.0):
        done = manage("copy-media", "--run", str(run.pk), "--follow")
    assert "No worker" not in done.err


def test_without_a_terminal_a_line_comes_now_and_then(
    site: Staging, manage: Manage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_follow, "_SOON", 0.2)
    site.fill(700)
    run = site.start()
    site.work(most=1)

    with later(lambda: staging.cancel(CopyRun.objects.get()), 1.3):
        done = manage("copy-media", "--run", str(run.pk), "--follow")
    lines = done.err.splitlines()
    assert 2 <= len(lines) <= 4
    assert re.fullmatch(
        r"running: 500 files, 500 copied \([\d.]+ KiB\); \d+ files/s, [\w. ]+/s; 71%, about \d+ s left\.", lines[-1]
    )


def test_a_database_that_goes_away_ends_the_following_and_not_the_copy(
    site: Staging, manage: Manage, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(1)
    run = site.start()

    def gone(_: CopyRun) -> None:
        raise OperationalError("server closed the connection unexpectedly\n")

    monkeypatch.setattr(copy_follow, "progress_of", gone)
    assert manage("copy-media", "--run", str(run.pk), "--follow").error == (
        "The database does not answer: server closed the connection unexpectedly. Copy "
        f"{run.pk} goes on as soon as it does. Watch it again: {COPY} --run {run.pk} --follow"
    )


def test_there_are_no_more_bars_than_the_terminal_has_room_for(
    site: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models that are done make room for those that are not; a hundred models are no trouble."""
    monkeypatch.setattr(copy_follow, "_size_of_terminal", lambda: os.terminal_size((100, 7)))
    site.fill(1)
    run = progress_of(site.start())
    none = dict.fromkeys(run.counts, 0)

    def model(number: int, now: int) -> ModelProgress:
        """The models begin one after another; each has two rows, and is done two looks later."""
        rows = 2 if number <= now else 0
        done = 2 if number <= now - 2 else rows // 2
        counts = {**none, "copied": done}
        return ModelProgress(f"shop.M{number}", ["file"], rows, 2, counts, 0, rows > 0, "", rows - done)

    with copy_follow.Bars() as bars:
        for now in range(12):
            bars.show(replace(run, models=[model(number, now) for number in range(10)]))
            last = min(now, 9)
            assert set(bars.labels) == {f"shop.M{number}" for number in range(max(0, last - 2), last + 1)}


# One copy


def test_one_copy_is_shown(site: Staging, manage: Manage) -> None:
    site.fill(700)
    site.sheet("a", "sheets/a.pdf")
    run = site.start()
    site.work(most=1)
    done = manage("copy-media", "--run", str(run.pk))
    assert done.error == ""
    lines = done.out.splitlines()
    assert re.fullmatch(rf"Copy {run.pk} from live: running\. Started by a test \d+ s ago\.", lines[0])
    assert lines[1] == "Only shop.Letter, shop.Sheet. Files that are here with the same size are left alone."
    cells = table(done.out)
    assert cells["shop.Letter"][:2] == ["700", "500"]
    assert cells["shop.Sheet"][:2] == ["1", "0"]
    assert cells["all"][:2] == ["701", "500"]
    assert lines[-1] == f"Watch it: {COPY} --run {run.pk} --follow; stop it with --pause, for good with --cancel."


def test_the_last_failures_are_shown_and_how_to_see_all(site: Staging, manage: Manage) -> None:
    names = site.fill(8)
    for name in names:
        (site.live / name).unlink()
    run = site.start()
    site.work()
    done = manage("copy-media", "--run", str(run.pk))
    how = f"{COPY} --run {run.pk} --failures 8"
    assert f"The last of 8 that could not be copied (all of them: {how}):" in done.out
    assert re.findall(r"scan: letters/0000(\d)", done.out) == ["7", "6", "5", "4", "3"]
    every = manage(*how.removeprefix("manage.py replicator ").split())
    assert len(re.findall(r"scan: letters/", every.out)) == 8
    assert "Not copied:" in every.out


def test_what_is_tried_again_says_when(site: Staging, manage: Manage) -> None:
    site.fill(2)
    (site.live / "letters/00001.txt").unlink()
    run = site.start()
    site.work()
    due = timezone.now() + timedelta(seconds=50)
    CopyRun.objects.update(state="running", ended_at=None)
    CopyFile.objects.filter(run=run, state="missing").update(
        state="failed", due_at=due, attempts=2, error_kind="unavailable", error_text="open x: 503"
    )
    done = manage("copy-media", "--run", str(run.pk))
    assert re.search(r"      unavailable: open x: 503; tried again in \d\d s", done.out)
    assert re.search(r"1 file that failed: tried again by themselves, the next in \d\d s\.", done.out)


def test_scripts_get_json(site: Staging, manage: Manage) -> None:
    site.fill(2)
    (site.live / "letters/00001.txt").unlink()
    run = site.start()
    with worker(site):
        done = manage("copy-media", "--run", str(run.pk), "--follow", "--json")
    assert done.error == ""
    facts = json.loads(done.out)
    assert (facts["id"], facts["state"], facts["counts"]["copied"], facts["share"]) == (run.pk, "done", 1, 1.0)
    (model,) = [model for model in facts["models"] if model["rows"]]
    assert (model["model"], model["counts"]["missing"]) == ("shop.Letter", 1)
    (failure,) = facts["failures"]
    assert {key: failure[key] for key in ("model", "field", "name", "state")} == {
        "model": "shop.Letter",
        "field": "scan",
        "name": "letters/00001.txt",
        "state": "missing",
    }


# Acting on one


def test_a_copy_is_paused_resumed_and_cancelled(site: Staging, manage: Manage) -> None:
    """Each of them once more changes nothing."""
    site.fill(2)
    run = site.start()
    number = str(run.pk)

    def said(action: str) -> str:
        done = manage("copy-media", "--run", number, action)
        assert done.error == done.err == ""
        run.refresh_from_db()
        return f"{run.state}: {done.out.strip()}"

    resume, watch = f"{COPY} --run {number} --resume", f"{COPY} --run {number} --follow"
    assert said("--pause") == f"paused: Paused copy {number}. It goes on with: {resume}"
    assert said("--pause") == f"paused: Copy {number} is paused already."
    site.messages.clear()
    assert said("--resume") == f"running: Copy {number} goes on; watch: {watch}"
    assert site.messages
    assert said("--cancel") == f"cancelled: Cancelled copy {number}. What is copied stays."
    assert said("--cancel") == f"cancelled: Copy {number} is cancelled already."


def test_a_copy_that_waits_for_its_source_goes_on_at_once(site: Staging, manage: Manage) -> None:
    site.fill(1)
    run = site.start()
    CopyRun.objects.update(due_at=timezone.now() + timedelta(hours=1), trouble="503", attempts=9)
    assert "goes on now" in manage("copy-media", "--run", str(run.pk), "--resume").out
    site.work()
    assert site.counts(run)["copied"] == 1


def test_one_that_is_over_can_not_be_acted_on(site: Staging, manage: Manage) -> None:
    run = site.start()
    site.work()
    number = str(run.pk)
    run.refresh_from_db()
    assert run.state == "done"
    for action in ("--pause", "--resume", "--cancel"):
        assert manage("copy-media", "--run", number, action).error == (
            f"Copy {number} is done: there is nothing to {action[2:]}. What failed is tried again with "
            f"{COPY} --run {number} --requeue"
        )
    assert manage("copy-media", "--run", number, "--requeue").out == (
        f"Nothing to do: no file of copy {number} has failed, and none was missing.\n"
    )
    CopyRun.objects.update(state="cancelled")
    for action in ("--pause", "--resume", "--requeue"):
        error = manage("copy-media", "--run", number, action).error
        assert error.startswith(
            f"Copy {number} was cancelled for good. Start a new one, which passes over what is here"
        )


def test_failures_are_requeued(site: Staging, manage: Manage) -> None:
    site.fill(2)
    content = (site.live / "letters/00001.txt").read_bytes()
    (site.live / "letters/00001.txt").unlink()
    run = site.start()
    site.work()
    number = str(run.pk)
    site.write("letters/00001.txt", content)
    with worker(site):
        done = manage("copy-media", "--run", number, "--requeue", "--follow")
    assert done.error == ""
    assert done.out.startswith(f"Requeued 1 file of copy {number}.\n")
    assert site.counts(run)["copied"] == 2
    assert len(site.held()) == 2


def test_the_rate_after_a_requeue_is_that_of_what_is_copied_again(site: Staging, manage: Manage) -> None:
    """What was copied before, in other days perhaps, is none of it."""
    site.fill(60)
    (site.live / "letters/00001.txt").unlink()
    run = site.start()
    site.work()
    CopyRun.objects.update(resumed_at=timezone.now() - timedelta(days=3))
    manage("copy-media", "--run", str(run.pk), "--requeue")
    CopyRun.objects.update(resumed_at=timezone.now() - timedelta(seconds=2))
    facts = json.loads(manage("copy-media", "--run", str(run.pk), "--json").out)
    assert (facts["state"], facts["files_per_second"], facts["bytes_per_second"]) == ("running", 0, 0)


def test_what_is_requeued_while_it_is_paused_waits(site: Staging, manage: Manage) -> None:
    site.fill(2)
    (site.live / "letters/00001.txt").unlink()
    run = site.start()
    site.work()
    CopyRun.objects.update(state="paused", ended_at=None)
    done = manage("copy-media", "--run", str(run.pk), "--requeue")
    assert f"It is paused: {COPY} --run {run.pk} --resume" in done.out


# The list


def test_without_anything_the_copies_are_listed(site: Staging, manage: Manage) -> None:
    """The most recent first, and how to start one."""
    done = manage("copy-media")
    start = f"Start one: {COPY} --from live --follow"
    assert done.out.splitlines() == ["Nothing was ever copied to this site.", start]
    site.fill(600)
    first = site.start()
    site.work()
    second = site.start(dry_run=True)
    site.work(most=1)
    done = manage("copy-media")
    lines = [re.split(r"  +", line.strip()) for line in done.out.splitlines()]
    assert lines[0] == ["copy", "state", "done", "from", "started", "files", "copied", "missing", "failed", "size"]
    assert lines[1][:4] == [str(second.pk), "running (dry run)", "83%", "live"]
    assert lines[1][5] == "500"
    assert lines[2][:3] == [str(first.pk), "done", "live"]
    assert lines[2][4:8] == ["600", "600", "0", "0"]
    assert done.out.splitlines()[-2:] == [f"One of them: {COPY} --run {second.pk}", start]
    facts = json.loads(manage("copy-media", "--json").out)
    assert [run["id"] for run in facts["runs"]] == [second.pk, first.pk]


# Where else they are seen


def test_status_tells_of_a_copy_under_way(site: Staging, manage: Manage) -> None:
    site.fill(700)
    run = site.start()
    site.work(most=1)
    done = manage("status")
    assert f"copy {run.pk} from live: running, 71%, 500 files: {COPY} --run {run.pk}" in done.out
    (copy,) = json.loads(manage("status", "--json").out)["copies"]
    assert (copy["id"], copy["files"], copy["state"]) == (run.pk, 500, "running")
    staging.cancel(run)
    assert "copy-media" not in manage("status").out
    assert json.loads(manage("status", "--json").out)["copies"] == []
