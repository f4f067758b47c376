"""Facts about copies when transactions meet: on PostgreSQL they overlap, on SQLite one waits for the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from replicator import staging
from replicator.models import CopyChunk, CopyFailure, CopyFile, CopyPart, CopyRun
from replicator.staging import Choices, NotCopied, chunks, planning, runs
from tests.staging.live import Staging

pytestmark = pytest.mark.django_db(transaction=True)


def together(*works: Callable[[], object], apart: float = 0.2) -> list[Any]:
    """Begun one after the other, so many seconds apart; what each returned, or raised."""
    answers: list[Any] = [None] * len(works)

    def run(at: int) -> None:
        time.sleep(at * apart)
        try:
            answers[at] = works[at]()
        except Exception as error:
            answers[at] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return answers


def slowly(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, *, before: float = 0, after: float = 0) -> None:
    original = getattr(where, name)

    def slow(*arguments: Any, **others: Any) -> Any:
        time.sleep(before)
        answer = original(*arguments, **others)
        time.sleep(after)
        return answer

    monkeypatch.setattr(where, name, slow)


def test_two_who_requeue_the_same_count_it_once(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a second click does."""
    site.fill(3)
    for path in site.live.glob("letters/*"):
        path.unlink()
    site.write("other", b"so that the folder is not empty")
    run = site.start()
    site.work()
    assert site.counts(run) == {"missing": 3}
    monkeypatch.setattr(planning, "go_on", lambda run: 0)
    slowly(monkeypatch, chunks, "add", before=0.5)
    together(*[lambda: staging.requeue(CopyFailure.objects.all())] * 2)
    assert site.counts(run) == {"failed": 3}


def test_what_is_missing_while_others_are_requeued_is_counted(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fill(2)
    for path in site.live.glob("letters/*"):
        path.unlink()
    site.write("other", b"so that the folder is not empty")
    run = site.start()
    (message,) = site.messages
    lease = chunks.claim(message[0])
    assert lease is not None
    one, other = lease.files
    chunks.settle(lease, [chunks.Result(one, CopyFile.State.MISSING)])
    monkeypatch.setattr(planning, "go_on", lambda run: 0)
    slowly(monkeypatch, runs, "Counter", after=2.0)
    # The first must have looked when the second begins.
    together(
        lambda: staging.requeue(CopyFailure.objects.all()),
        lambda: chunks.settle(lease, [chunks.Result(other, CopyFile.State.MISSING)]),
        apart=1.0,
    )
    assert site.counts(run) == {"missing": 1, "failed": 1}
    assert sorted(CopyFile.objects.values_list("state", flat=True)) == ["failed", "missing"]


def test_a_cancel_and_a_worker_that_notes_do_not_wait_for_each_other(
    site: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(2)
    run = site.start()
    (message,) = site.messages
    lease = chunks.claim(message[0])
    assert lease is not None
    slowly(monkeypatch, chunks, "_hold", after=0.5)
    slowly(monkeypatch, runs, "_move", after=0.5)
    noted, cancelled = together(lambda: chunks.settle(lease, [], asked=1), lambda: staging.cancel(run))
    assert cancelled is True
    assert noted in (True, False) or isinstance(noted, chunks.LeaseLost)
    assert not CopyChunk.objects.exists()


def test_rows_and_retries_that_are_planned_at_once_do_not_wait_for_each_other(
    site: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.fill(2)
    run = site.start()
    CopyChunk.objects.all().delete()
    part = CopyPart.objects.get(model="shop.Letter")
    past = timezone.now() - timedelta(minutes=1)
    CopyFile.objects.update(state="failed", due_at=past, failed_at=past)
    CopyPart.objects.filter(pk=part.pk).update(failed=2, walked=False)
    site.fill(2, start=2)
    part.refresh_from_db()
    slowly(monkeypatch, planning, "_label", after=0.3)
    slowly(monkeypatch, planning, "_insert", after=0.5)
    slowly(monkeypatch, chunks, "add", before=0.2)
    answers = together(lambda: planning._plan_rows(run, part), lambda: planning._plan_retry(run))
    assert answers == [True, True]
    assert sorted(CopyChunk.objects.values_list("kind", flat=True)) == ["retry", "rows"]
    assert site.counts(run) == {}


def test_two_who_start_at_once_start_one(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fill(1)
    site.start()
    site.work()
    slowly(monkeypatch, Choices, "as_json", after=0.5)
    answers = together(site.start, site.start)
    assert sum(isinstance(answer, CopyRun) for answer in answers) == 1
    assert sum(isinstance(answer, NotCopied) for answer in answers) == 1


def test_two_who_finish_a_run_say_so_once(site: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fill(1)
    run = site.start()
    with monkeypatch.context() as patched:
        patched.setattr(planning, "finish", lambda run: False)
        site.work()
    slowly(monkeypatch, planning, "_locked", before=0.3)
    assert sorted(map(bool, together(*[lambda: planning.finish(run)] * 2, apart=0))) == [False, True]
