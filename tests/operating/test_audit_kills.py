"""Audits that are killed at any instant, and audits of a site that goes on writing."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import connection, connections
from django.utils import timezone

from replicator import operating
from replicator.models import AuditFinding, MediaFile, Replica, TargetRun
from replicator.operating import audit, restoring
from replicator.operating.audit import listing
from replicator.operating.work import Held
from replicator.targets.base import Entry
from tests.operating.audits import Site, at, finish, found, names
from tests.storage.conftest import everything

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def site(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr("replicator.operating.audit.checking._ROWS", 10)
    monkeypatch.setattr("replicator.operating.audit.checking._FILES", 3)
    monkeypatch.setattr("replicator.operating.audit.local._FILES", 10)
    monkeypatch.setattr("replicator.operating.audit.target.batch_size", lambda: 15)
    return Site(settings, tmp_path, monkeypatch, ORPHAN_GRACE=0)


class Reaper:
    """Kills its process with SIGKILL at the so manieth moment: before a part is noted, in the middle of that, after
    it; before and after a file is put in its place."""

    def __init__(self, moment: int) -> None:
        self.left = moment
        noting, put = Held.noting, restoring._put
        reaper = self

        @contextmanager
        def killed_noting(held: Held, **columns: Any) -> Iterator[Counter[str]]:
            reaper.moment()
            with noting(held, **columns) as counts:
                yield counts
                reaper.moment()
            reaper.moment()

        def killed_put(*args: Any) -> bool:
            reaper.moment()
            done = put(*args)
            reaper.moment()
            return done

        Held.noting = killed_noting  # type: ignore[method-assign]
        restoring._put = killed_put

    def moment(self) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)


def killed_at(run: TargetRun, moment: int) -> bool:
    """Work at *run* in a process that is killed then; whether it was, or came to the end before."""
    # A socket must not have two owners.
    connections.close_all()
    pid = os.fork()
    if not pid:
        try:
            Reaper(moment)
            operating.work(run.pk)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 1
    # Its lease ends.
    TargetRun.objects.filter(pk=run.pk).update(lease_until=timezone.now())
    return os.WIFSIGNALED(status)


def settled() -> None:
    """What was confirmed was so a while ago."""
    Replica.objects.update(synced_at=timezone.now() - timedelta(seconds=5))
    MediaFile.objects.update(updated_at=timezone.now() - timedelta(seconds=5))


def each_moment(begin: Callable[[], TargetRun]) -> Iterator[TargetRun]:
    """A run for each moment at which it can be killed, which was killed then, and brought to its end."""
    moment = 0
    while True:
        moment += 1
        settled()
        run = begin()
        killed = killed_at(run, moment)
        finish(run)
        yield run
        if not killed:
            break
    assert moment > 15


def test_an_audit_of_a_target_goes_on_after_a_kill(site: Site) -> None:
    """Promise 1: each finding once, each repair done, in whichever part it is killed."""
    site.save(*names(20))
    lost = {names(20)[3], names(20)[17]}

    def begin() -> TargetRun:
        for name in lost:
            at("media1").files.pop(f"media/{name}", None)
        at("media1").files["media/by-hand.txt"] = b"?"
        return audit.begin("media1", {})

    for run in each_moment(begin):
        assert run.state == "done", run.trouble
        assert found(run) == [
            ("by-hand.txt", "unknown", ""),
            *((name, "missing", "sent") for name in sorted(lost)),
        ]
        assert run.counts == {"listed": 19, "unknown": 1, "checked": 20, "missing": 2, "sent": 2}
        assert set(Replica.objects.exclude(status="synced").values_list("file__name", flat=True)) == lost
        site.deliver()
        assert len(at("media1").files) == 21


def test_removing_what_is_unknown_goes_on_after_a_kill(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 6: and what was to stay stays."""
    site.save(*names(5))
    long_ago = timezone.now() - timedelta(days=3)
    real = at("media1").entries

    def dated(prefix: str = "/") -> Iterator[Entry]:
        for entry in real(prefix):
            young = entry.name == "young.txt"
            yield Entry(entry.name, entry.size, timezone.now() if young else long_ago)

    monkeypatch.setattr(at("media1"), "entries", dated)

    def begin() -> TargetRun:
        MediaFile.objects.filter(name="old.txt").delete()
        for name in ("old.txt", "young.txt"):
            at("media1").files[f"media/{name}"] = b"?"
        return audit.begin("media1", {"delete_unknown": True})

    for run in each_moment(begin):
        assert (run.state, found(run)) == (
            "done",
            [("old.txt", "unknown", "deleted"), ("young.txt", "unknown", "failed")],
        )
        assert run.counts["deleted"] == 1
        site.deliver()
        assert sorted(at("media1").files) == sorted([*(f"media/{name}" for name in names(5)), "media/young.txt"])


def test_an_audit_of_the_disk_goes_on_after_a_kill(site: Site) -> None:
    """Promises 1 and 5: no trace is left for long, and no part of a file is ever in its place."""
    site.save(*names(20))
    whole = everything(site.media)
    lost = {names(20)[3], names(20)[17]}

    def begin() -> TargetRun:
        for name in lost:
            (site.media / name).unlink()
        return audit.begin("", {})

    for run in each_moment(begin):
        assert run.state == "done", run.trouble
        # Who is killed after a file is in its place, and before that is noted, has repaired it unseen.
        assert set(found(run)) <= {(name, "missing", "restored") for name in lost}
        assert run.counts.get("restored", 0) == len(found(run)) >= 1
        assert run.counts["checked"] == 20
        site.storage.tidy()
        assert everything(site.media) == whole


def test_a_listing_that_was_killed_keeps_what_it_saw(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is always killed before its end ends the audit's patience with it, and not the audit."""
    monkeypatch.setattr(listing, "_BATCH", 4)
    monkeypatch.setattr(listing, "_NOTE_AFTER", 0.0)
    site.save(*names(20))
    del at("media1").files[f"media/{names(20)[3]}"]
    parent, real = os.getpid(), at("media1").entries

    def deadly(prefix: str = "/") -> Iterator[Entry]:
        for number, entry in enumerate(real(prefix)):
            if number == 12 and os.getpid() != parent:
                os.kill(os.getpid(), signal.SIGKILL)
            yield entry

    monkeypatch.setattr(at("media1"), "entries", deadly)
    settled()
    run = audit.begin("media1", {})
    for number in range(1, 6):
        assert killed_at(run, 1000)
        run.refresh_from_db()
        assert (run.step, run.position, run.counts["listed"]) == ("listing", number, 12)
        assert sum(byte.bit_count() for byte in bytes(run.seen or b"")) == 12
    assert not killed_at(run, 1000)
    finish(run)
    assert (run.state, found(run)) == ("done", [(names(20)[3], "missing", "sent")])


def test_a_site_that_goes_on_writing_has_no_findings(site: Site) -> None:
    """Promise 2: what is being written is not wrong, and no audit undoes it."""
    site.settings.REPLICATOR = {**site.settings.REPLICATOR, "DOUBT_WINDOW": 0.0}
    at("media1").can_list = lambda: False  # type: ignore[method-assign]
    site.save(*names(12))
    settled()
    over = threading.Event()
    problems: list[BaseException] = []

    def write() -> None:
        chance = random.Random(7)
        try:
            while not over.is_set():
                name = chance.choice(names(12))
                if chance.random() < 0.3:
                    site.storage.delete(name)
                else:
                    site.storage.replace(name, ContentFile(b"x" * chance.randrange(40)))
                if chance.random() < 0.5:
                    site.deliver()
                time.sleep(0.005)
        except BaseException as error:
            problems.append(error)
        finally:
            connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    states = set()
    try:
        end = time.monotonic() + 4
        while time.monotonic() < end:
            for target, level in (("media1", "size"), ("media1", "content"), ("", "content")):
                # Also what was confirmed just now is looked at.
                run = audit.begin(target, {"level": level})
                TargetRun.objects.filter(pk=run.pk).update(started_at=timezone.now() + timedelta(hours=1))
                states.add(finish(run).state)
    finally:
        over.set()
        writer.join()
    assert (problems, states) == ([], {"done"})
    assert list(AuditFinding.objects.values_list("name", "what", "cure")) == []
    site.deliver()
    site.deliver()
    site.storage.tidy()
    wanted = {file.name: file.sha256 for file in MediaFile.objects.filter(deleted=False)}
    assert not Replica.objects.exclude(status="synced").exists()
    assert set(at("media1").files) == {f"media/{name}" for name in wanted}
    assert at("media1").files == at("media2").files
    assert everything(site.media) == {name: at("media1").files[f"media/{name}"] for name in wanted}
