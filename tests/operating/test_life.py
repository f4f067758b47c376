"""What people want of targets: the phases of their lives, and what each of them means for files."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile

from replicator import delivery
from replicator.ledger import life
from replicator.models import Replica, TargetState
from replicator.operating import steering
from replicator.operating.steering import NotStarted, do, plan, possible
from tests.operating.audits import Site, at
from tests.operating.lives import (
    add_empty,
    add_target,
    later,
    phase,
    remove_target,
    retire,
    state,
    statuses,
    sweep,
    work,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def site(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(settings, tmp_path, monkeypatch)


def test_a_paused_target_is_sent_nothing_and_gets_all_when_it_is_resumed(site: Site) -> None:
    """Promise 1: what people stop waits; it is not lost."""
    done = do("pause", "media1", who="anna", why="new disk")
    assert done.changed
    assert state("media1").note == "paused by anna: new disk"
    site.save("a.txt")
    assert at("media1").files == {}
    assert "media/a.txt" in at("media2").files
    assert do("resume", "media1").changed
    site.deliver()
    assert at("media1").files == at("media2").files


def test_what_goes_by_itself_does_not_undo_what_people_have_just_done(site: Site) -> None:
    """The sweep that finds a target joined may have looked before somebody had it drain."""
    do("drain", "media1")
    assert not life.enter("media1", "active", only_from=["joining"])
    assert phase("media1") == "draining"


def test_a_read_only_target_keeps_what_it_has_and_gets_the_rest_when_it_is_activated(site: Site) -> None:
    """New files, overwrites and deletes wait; each arrives."""
    site.save("kept.txt", "deleted.txt")
    do("read-only", "media1")
    before = dict(at("media1").files)
    site.storage.replace("kept.txt", ContentFile(b"new"))
    site.storage.delete("deleted.txt")
    site.save("more.txt")
    assert at("media1").files == before
    assert do("activate", "media1").changed
    assert phase("media1") == "active"
    site.deliver()
    assert at("media1").files == {"media/kept.txt": b"new", "media/more.txt": b"as it should be"}


def test_a_read_only_target_is_read_what_it_has_confirmed(site: Site) -> None:
    """Delivery elsewhere may take the bytes from it."""
    site.save("a.txt")
    do("read-only", "media1")
    do("pause", "media2")
    assert "media1" not in life.unreadable()
    assert "media2" in life.unreadable()


def test_a_draining_target_gets_overwrites_and_deletes_of_what_it_has_and_no_new_file(site: Site) -> None:
    """What it shows is right as long as it is asked; what is new is not its business."""
    site.save("kept.txt", "deleted.txt")
    do("drain", "media1", who="anna")
    site.storage.replace("kept.txt", ContentFile(b"new"))
    site.storage.delete("deleted.txt")
    site.save("more.txt")
    assert at("media1").files == {"media/kept.txt": b"new"}
    assert set(statuses("media1")) == {"kept.txt", "deleted.txt"}
    assert "media/more.txt" in at("media2").files


def test_a_draining_target_that_is_activated_gets_what_it_missed(site: Site) -> None:
    """Its new files were not recorded: they are backfilled."""
    site.save("old.txt")
    do("drain", "media1")
    site.save("new.txt")
    done = do("activate", "media1")
    assert phase("media1") == "joining"
    work(done)
    site.deliver()
    later()
    sweep()
    assert phase("media1") == "active"
    assert at("media1").files == at("media2").files


def test_a_retired_target_gets_nothing_and_is_asked_nothing(site: Site) -> None:
    """And what it holds stays there, unless people ask for the opposite (promise 6)."""
    site.save("a.txt", "b.txt")
    held = dict(at("media1").files)
    run = retire("media1")
    assert (run.state, run.counts) == ("done", {"removed": 2})
    assert statuses("media1") == {}
    site.storage.delete("a.txt")
    site.save("c.txt")
    assert at("media1").files == held
    assert statuses("media1") == {}
    assert "media1" in life.unreadable()


def test_what_is_on_its_way_when_a_target_is_retired_is_not_sent(site: Site) -> None:
    """A worker in mid-turn looks."""
    site.save("a.txt")
    site.storage.replace("a.txt", ContentFile(b"new"))
    do("retire", "media1", confirm="1")
    assert delivery.deliver("media1").skipped == "retired"
    assert at("media1").files == {"media/a.txt": b"as it should be"}


@pytest.mark.parametrize(
    ("where", "verbs"),
    [
        ({"phase": "joining"}, ["pause", "drain", "retire", "backfill", "resync", "audit"]),
        ({"phase": "active"}, ["pause", "read-only", "drain", "retire", "backfill", "resync", "audit"]),
        ({"phase": "read-only"}, ["pause", "activate", "drain", "retire", "backfill", "audit"]),
        ({"phase": "draining"}, ["pause", "activate", "retire", "audit"]),
        ({"phase": "retired"}, ["activate", "retire"]),
        ({"phase": "active", "paused": True}, ["resume", "read-only", "drain", "retire", "backfill", "resync"]),
        ({"target": "gone"}, ["retire"]),
    ],
)
def test_only_verbs_that_make_sense_are_offered(site: Site, where: dict[str, Any], verbs: list[str]) -> None:
    """For buttons: what is not offered is refused too."""
    target = TargetState(**{"target": "media1", **where})
    assert possible(target) == verbs
    target.save()
    for verb in set(steering.VERBS) - set(verbs) - {"pause", "resume"}:
        with suppress(NotStarted):
            assert not do(verb, target.target, confirm="0").changed


def test_asking_twice_changes_nothing_and_says_so(site: Site) -> None:
    for verb, said in [
        ("pause", "paused already"),
        ("resume", "not paused"),
        ("read-only", "read-only already"),
        ("activate", "active already"),
        ("drain", "draining already"),
    ]:
        do(verb, "media1")
        done = do(verb, "media1")
        assert not done.changed
        assert said in done.text


def test_a_plan_changes_nothing(site: Site) -> None:
    """--dry-run, and what the admin asks before."""
    site.save("a.txt")
    before = list(TargetState.objects.values()), list(Replica.objects.values())
    for verb in steering.VERBS:
        for alias in ("media1", "media2"):
            assert plan(verb, alias).effect
    assert (list(TargetState.objects.values()), list(Replica.objects.values())) == before


def test_an_unknown_target_is_refused_with_the_nearest(site: Site) -> None:
    with pytest.raises(NotStarted, match="Did you mean 'media1'"):
        do("pause", "media11")
    remove_target(site, "media1")
    with pytest.raises(NotStarted, match="not in REPLICATOR"):
        do("pause", "media1")


def test_a_target_that_no_sweep_has_seen_can_be_paused(site: Site) -> None:
    """Before the first file is sent there."""
    add_target(site, "media4")
    assert do("pause", "media4").changed
    site.save("a.txt")
    assert at("media4").files == {}


def test_a_joining_target_can_be_drained_and_its_backfill_ends(site: Site) -> None:
    """No new files are to be recorded any more."""
    site.save("a.txt")
    add_empty(site, "media4")
    run = do("backfill", "media4").run
    assert run is not None
    assert "cancelled" in do("drain", "media4").text
    assert work(run).state == "cancelled"
    assert statuses("media4") == {}


@pytest.mark.parametrize("verb", ["drain", "read-only"])
def test_who_activates_a_paused_target_is_told_that_nothing_is_sent(site: Site, verb: str) -> None:
    """Else it would join for ever, and nobody knew why."""
    do(verb, "media1")
    do("pause", "media1")
    assert plan("activate", "media1").effect[-1].endswith("manage.py replicator resume media1")
    assert do("activate", "media1").text.endswith("manage.py replicator resume media1")
