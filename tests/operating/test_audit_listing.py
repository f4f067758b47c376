"""What audits make of a target's listing: it may be cut short or somebody else's, and repairs nothing alone."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from replicator.errors import Corrupt, Unavailable
from replicator.ledger import Write, record_held
from replicator.models import AuditFinding, MediaFile, Replica, TargetRun
from replicator.operating import NotStarted, audit
from replicator.operating.audit import listing
from replicator.operating.audit.bits import Bits
from replicator.targets.base import Entry
from tests.operating.audits import BACKEND, Site, asked, at, finish, found, names

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def site(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(settings, tmp_path, monkeypatch)


def lists(alias: str, *entries: Entry | Exception) -> None:
    """Have *alias* list these, whatever it holds; or raise."""

    def listed(prefix: str = "/") -> Iterator[Entry]:
        at(alias).operations.append(("entries", prefix))
        for entry in entries:
            if isinstance(entry, Exception):
                raise entry
            yield entry

    at(alias).entries = listed  # type: ignore[method-assign]


def all_of(count: int) -> list[Entry]:
    return [Entry(name, 15) for name in names(count)]


OLD = datetime.now(UTC) - timedelta(days=3)


def nothing_was_done() -> bool:
    return (
        not Replica.objects.exclude(status="synced").exists() and not AuditFinding.objects.exclude(cure="").exists()
    )


def test_an_empty_listing_repairs_nothing(site: Site) -> None:
    """Even if the files are really gone: that is for a person to say."""
    site.save(*names(40))
    at("media1").files.clear()
    run = site.audit()
    assert run.state == "stopped"
    assert "shows 0 of the 40 files of the storage 'default'" in run.reason
    assert "replicator resync media1" in run.reason
    assert "audit media1 --most 40" in run.reason
    assert nothing_was_done()
    assert site.audit(most=39).state == "stopped"
    assert nothing_was_done()
    run = site.audit(most=40)
    assert (run.state, run.counts["sent"]) == ("done", 40)


def test_a_listing_of_less_than_half_repairs_nothing(site: Site) -> None:
    site.save(*names(40))
    lists("media1", *all_of(19))
    assert site.audit().state == "stopped"
    assert nothing_was_done()


def test_what_a_listing_leaves_out_is_asked_for(site: Site) -> None:
    """One that was cut short without saying so is not believed about what it does not show."""
    site.save(*names(40))
    lists("media1", *all_of(30))
    at("media1").operations.clear()
    run = site.audit()
    assert (run.state, found(run), run.counts) == ("done", [], {"listed": 30, "checked": 40})
    assert len(asked(at("media1"), "stat")) == 10


def test_a_listing_without_sizes_is_not_enough(site: Site) -> None:
    """MogileFS tells only names."""
    site.save(*names(5))
    lists("media1", *(Entry(name) for name in names(5)))
    at("media1").files["media/f/00002.bin"] = b"cut"
    assert found(site.audit()) == [("f/00002.bin", "wrong", "sent")]


def test_a_listing_that_is_refused_ends_the_audit(site: Site) -> None:
    site.save(*names(40))
    del at("media1").files["media/f/00001.bin"]
    lists("media1", *all_of(30), Corrupt("not XML"))
    run = site.audit()
    assert (run.state, run.reason) == ("stopped", "media1 could not be listed: not XML; nothing was repaired")
    assert nothing_was_done()


def test_a_listing_that_fails_is_tried_again_and_then_ends_the_audit(site: Site) -> None:
    """A target that answers its probe and can't be listed would be asked for ever."""
    site.save(*names(40))
    lists("media1", *all_of(30), Unavailable("timed out"))
    run = site.audit()
    assert (run.state, run.trouble) == ("running", "timed out")
    for _ in range(10):
        TargetRun.objects.update(due_at=timezone.now())
        finish(run)
    assert (run.state, asked(at("media1"), "entries")) == ("stopped", ["/media/"] * 5)
    assert run.reason == "media1 could not be listed, 5 times: timed out; nothing was repaired"
    assert nothing_was_done()
    # One that comes to its end at last counts once.
    lists("media1", *all_of(30), Entry("x", 1), Unavailable("timed out"))
    run = site.audit()
    lists("media1", *all_of(40), Entry("x", 1))
    TargetRun.objects.update(due_at=timezone.now())
    finish(run)
    assert (run.state, run.counts) == ("done", {"listed": 41, "unknown": 1, "checked": 40})


def test_a_target_that_is_down_is_not_listed_in_vain(site: Site) -> None:
    """An outage of an hour ends no audit."""
    site.save(*names(3))
    at("media1").fail_with = Unavailable("no answer")
    run = site.audit()
    for _ in range(10):
        TargetRun.objects.update(due_at=timezone.now())
        finish(run)
    assert (run.state, run.attempts) == ("running", 11)
    assert asked(at("media1"), "entries") == []


def test_unknown_files_are_reported_and_stay(site: Site) -> None:
    """Promise 6."""
    site.save(*names(3))
    at("media1").files["media/by-hand.txt"] = b"by hand"
    at("media1").files["other/place.txt"] = b"none of this storage's"
    run = site.audit()
    assert found(run) == [("by-hand.txt", "unknown", "")]
    assert AuditFinding.objects.get().text == "7 bytes"
    assert run.counts == {"listed": 4, "unknown": 1, "checked": 3}
    site.deliver()
    assert len(at("media1").files) == 5


def test_what_is_another_storages_is_no_finding_of_this_one(site: Site, settings: Any) -> None:
    """Whether that storage has this target or not."""
    folder = str(site.media / "avatars")
    options = {"alias": "avatars", "location": folder, "base_url": "/media/avatars/", "targets": ["media2"]}
    settings.STORAGES = {**settings.STORAGES, "avatars": {"BACKEND": BACKEND, "OPTIONS": options}}
    site.save("a.txt")
    at("media1").files["media/avatars/b.png"] = b"here by mistake"
    at("media2").files["media/avatars/c.png"] = b"unknown"
    assert found(site.audit("media1")) == []
    run = site.audit("media2")
    assert list(AuditFinding.objects.filter(run=run).values_list("storage", "name")) == [("avatars", "c.png")]
    run = site.audit("media2", storages=["default"])
    assert found(run) == []


def test_names_that_can_never_be_sent_are_reported(site: Site) -> None:
    """In a way that every database takes."""
    site.save("a.txt")
    at("media1").files.clear()
    odd = ["a/../b", "back\\slash", "caf\udce9", ".replicator-0.new", "x" * 1025, "nul\0"]
    lists("media1", Entry("a.txt", 15), *(Entry(name, 1, OLD) for name in odd))
    run = site.audit(delete_unknown=True, older_than=1, repair=True)
    assert run.counts["unknown"] == len(odd)
    rows = AuditFinding.objects.filter(run=run, what="unknown")
    assert set(rows.values_list("cure", flat=True)) == {"failed"}
    assert rows.filter(name="caf\\udce9").exists()
    assert rows.filter(name="nul\\x00").exists()
    assert MediaFile.objects.count() == 1


def test_as_many_findings_are_kept_as_people_read_and_all_are_counted(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do they take the room of what is missing."""
    monkeypatch.setattr("replicator.operating.audit.findings.MOST", 10)
    site.save(*names(40))
    lists("media1", *all_of(40)[:35], *(Entry(f"u{number}", 1) for number in range(700)))
    for name in names(40)[35:]:
        del at("media1").files[f"media/{name}"]
    run = site.audit()
    assert (run.counts["unknown"], run.counts["missing"]) == (700, 5)
    assert AuditFinding.objects.filter(run=run, what="unknown").count() == 10
    assert AuditFinding.objects.filter(run=run, what="missing").count() == 5


# Removing what is unknown


def removing(site: Site, *entries: Entry, **options: Any) -> TargetRun:
    for entry in entries:
        at("media1").files[f"media/{entry.name}"] = b"?"
    lists("media1", *entries)
    return site.audit(delete_unknown=True, **options)


def test_unknown_files_are_removed_if_a_person_says_so(site: Site) -> None:
    """By a tombstone at that target alone: whatever else happens to the name wins."""
    at("media2").files["media/old.txt"] = b"?"
    run = removing(site, Entry("old.txt", 1, OLD), Entry("older.txt", 1, OLD))
    assert (run.state, run.counts) == ("done", {"listed": 2, "unknown": 2, "removable": 2, "deleted": 2})
    assert found(run) == [("old.txt", "unknown", "deleted"), ("older.txt", "unknown", "deleted")]
    assert site.announced[-1:] == ["media1"]
    assert list(Replica.objects.values_list("target", "status")) == [("media1", "pending")] * 2
    site.deliver()
    assert at("media1").files == {}
    assert at("media2").files == {"media/old.txt": b"?"}


@pytest.mark.parametrize("options", [{"repair": False}, {"dry_run": True}])
def test_none_is_removed_if_it_is_to_report_only(site: Site, options: dict[str, bool]) -> None:
    run = removing(site, Entry("old.txt", 1, OLD), **options)
    assert (run.state, run.counts["removable"]) == ("done", 1)
    assert not MediaFile.objects.exists()


def test_what_is_young_or_of_unknown_age_stays(site: Site) -> None:
    """Somebody may be about to adopt it."""
    young = Entry("young.txt", 1, datetime.now(UTC) - timedelta(hours=23))
    run = removing(site, young, Entry("ageless.txt", 1))
    assert [cure for _, _, cure in found(run)] == ["failed", "failed"]
    texts = " ".join(AuditFinding.objects.values_list("text", flat=True))
    assert "younger than 1 days" in texts
    assert "does not say how old" in texts
    assert not MediaFile.objects.exists()
    run = removing(site, young, older_than=0.5)
    assert run.counts["deleted"] == 1


def test_what_is_on_this_disk_too_stays(site: Site) -> None:
    """A tombstone would hide a file that was never recorded from the site that has it."""
    (site.media / "mine.txt").write_bytes(b"never adopted")
    run = removing(site, Entry("mine.txt", 1, OLD))
    assert found(run) == [("mine.txt", "unknown", "failed")]
    assert "replicator adopt" in AuditFinding.objects.get().text
    assert not MediaFile.objects.exists()


def test_many_are_not_removed_without_their_number(site: Site) -> None:
    """A brake: a listing of another storage's folder looks like this."""
    many = [Entry(f"u{number}", 1, OLD) for number in range(25)]
    run = removing(site, *many)
    assert run.state == "stopped"
    assert "--delete-unknown --confirm 25" in run.reason
    assert not MediaFile.objects.exists()
    assert removing(site, *many, confirm=24).state == "stopped"
    run = removing(site, *many, confirm=25)
    assert (run.state, run.counts["deleted"]) == ("done", 25)


def test_a_save_that_takes_the_name_meanwhile_wins(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 2, and 6: what was just saved is not deleted."""
    from replicator.operating.audit import removing as module

    real = module.ledger.record_new

    def save_first(writes: Any, targets: Any) -> int:
        site.save("old.txt", data=b"saved just now")
        return real(writes, targets)

    monkeypatch.setattr(module.ledger, "record_new", save_first)
    run = removing(site, Entry("old.txt", 1, OLD))
    site.deliver()
    assert found(run) == [("old.txt", "unknown", "failed")]
    assert at("media1").files == {"media/old.txt": b"saved just now"}
    assert (site.media / "old.txt").read_bytes() == b"saved just now"


@pytest.mark.parametrize("is_named", [True, False])
def test_what_another_storage_has_in_the_same_place_stays(
    site: Site, settings: Any, tmp_path: Path, *, is_named: bool
) -> None:
    """Promise 1: of one with the same URLs and other targets by now; or of one that STORAGES names otherwise now."""
    if is_named:
        other = {"targets": ["media2"], "location": str(tmp_path / "other"), "base_url": site.storage.base_url}
        settings.STORAGES = {
            **settings.STORAGES,
            "default": {"BACKEND": BACKEND, "OPTIONS": {"targets": ["media1"]}},
            "other": {"BACKEND": BACKEND, "OPTIONS": other},
        }
    record_held([Write("other", "theirs.txt", 1)], "media1")
    run = removing(site, Entry("theirs.txt", 1, OLD), Entry("nobody's.txt", 1, OLD))
    site.deliver()
    assert found(run) == [("nobody's.txt", "unknown", "deleted"), ("theirs.txt", "unknown", "failed")]
    assert set(at("media1").files) == {"media/theirs.txt"}


def test_it_is_refused_where_files_may_not_have_been_recorded(site: Site, settings: Any) -> None:
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": "replicator.storage.MogileFSStorage", "OPTIONS": {"targets": ["media1"]}},
    }
    with pytest.raises(NotStarted, match="adopt --storage default --from media1"):
        audit.begin("media1", {"delete_unknown": True})
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": BACKEND}}
    settings.REPLICATOR = {**settings.REPLICATOR, "SHARED_MEDIA": False, "NODE": "web1"}
    with pytest.raises(NotStarted, match="adopt, on each node"):
        audit.begin("media1", {"delete_unknown": True})
    settings.REPLICATOR = {**settings.REPLICATOR, "SHARED_MEDIA": True}
    at("media1").can_list = lambda: False  # type: ignore[method-assign]
    with pytest.raises(NotStarted, match="can't list"):
        audit.begin("media1", {"delete_unknown": True})
    with pytest.raises(NotStarted, match="local disk"):
        audit.begin("", {"delete_unknown": True})


# Memory


def test_memory_stays_flat_whatever_is_listed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 8: a bit for each file, and a batch of names."""
    now = timezone.now() - timedelta(minutes=1)
    count = 20_000
    files = MediaFile.objects.bulk_create(
        (
            MediaFile(
                storage="default", name=f"many/{number}", version=uuid4(), size=1, created_at=now, updated_at=now
            )
            for number in range(count)
        ),
        batch_size=2000,
    )
    Replica.objects.bulk_create(
        (
            Replica(
                file=file,
                target="media1",
                status="synced",
                version=file.version,
                since=now,
                due_at=now,
                synced_at=now,
            )
            for file in files
        ),
        batch_size=2000,
    )
    del files
    monkeypatch.setattr(listing, "_NOTE_AFTER", 0.5)

    def listed(prefix: str = "/") -> Iterator[Entry]:
        return (Entry(f"many/{number}", 1) for number in range(count))

    at("media1").entries = listed  # type: ignore[method-assign]
    run = audit.begin("media1", {})
    tracemalloc.start()
    try:
        finish(run)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (run.state, run.done, run.counts) == ("done", count, {"listed": count, "checked": count})
    assert peak < 4 * 1024 * 1024
    assert len(bytes(Bits(count))) < 2_600


def test_bits_hold_what_is_in_their_range() -> None:
    bits = Bits(20)
    for number in (0, 7, 8, 20, 900):
        bits.add(number)
    again = Bits(20, bytes(bits))
    assert [number for number in range(1000) if number in again] == [0, 7, 8, 20]
    assert list(bytes(Bits(0))) == [0]
