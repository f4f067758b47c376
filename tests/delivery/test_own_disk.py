"""A media root that is a target: this process writes it, and so do other nodes' deliveries. On a real media host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import transaction
from django.utils import timezone

from replicator import delivery, ledger, local, wake
from replicator.delivery.send import send
from replicator.ledger import Claim, Outcome, life
from replicator.local import Entry
from replicator.models import MediaFile, Replica
from replicator.storage import ReplicatedStorage
from replicator.storage.outdated import remove_outdated
from replicator.targets import get_target
from replicator.testing import MemoryTarget
from tests.servers import Embedded, MediaHost

pytestmark = pytest.mark.django_db(transaction=True)

WEBDAV = "replicator.targets.webdav.WebDAVTarget"


class Disks:
    """Two nodes in one process, each with its media root. That of web1 is a real host: the target of that name."""

    def __init__(self, settings: Any, folder: Path, host: MediaHost) -> None:
        self.settings, self.host = settings, host
        self.roots = {"web1": host.root / "media", "web2": folder / "web2"}
        for root in self.roots.values():
            root.mkdir(parents=True, exist_ok=True)
        host.own(self.roots["web1"])
        self.become("web1")

    def become(self, node: str) -> ReplicatedStorage:
        """From here on this process is that node; its storage."""
        self.settings.MEDIA_ROOT = str(self.roots[node])
        self.settings.REPLICATOR = {
            "SHARED_MEDIA": False,
            "NODE": node,
            "TARGETS": {
                "web1": {"BACKEND": WEBDAV, "OPTIONS": {"url": self.host.url, "node": "web1"}},
                "media1": {"BACKEND": "replicator.testing.MemoryTarget"},
            },
            "RETRY_BASE": 60,
            "DOUBT_WINDOW": 60,
            "ORPHAN_GRACE": 0.0,
            "TOMBSTONE_AGE": 0.0,
        }
        storage = storages["default"]
        assert isinstance(storage, ReplicatedStorage)
        assert storage.location == str(self.roots[node])
        return storage

    @contextmanager
    def being(self, node: str) -> Iterator[ReplicatedStorage]:
        """That node, for the length of the block."""
        before = self.settings.REPLICATOR["NODE"]
        try:
            yield self.become(node)
        finally:
            self.become(before)

    def save(self, node: str, data: bytes, name: str = "a.txt") -> None:
        with self.being(node) as storage:
            storage.replace(name, ContentFile(data))

    def delete(self, node: str, name: str = "a.txt") -> None:
        with self.being(node) as storage:
            storage.delete(name)

    def claim(self, node: str) -> Claim:
        """What a worker of this node has in hand for web1."""
        with self.being(node):
            [claim] = ledger.claim("web1", 10).claims
        return claim

    def land(self, node: str, claim: Claim, *, settle: bool = True) -> None:
        """What that worker was sending takes effect."""
        with self.being(node):
            outcome = send(get_target("web1"), claim)
            assert outcome.error is None
            if settle:
                assert ledger.settle(claim.lease, [Outcome(claim)]) == []

    def deliver(self, node: str, target: str = "web1") -> None:
        with self.being(node):
            delivery.deliver(target)

    def tidy(self, node: str) -> int:
        with self.being(node) as storage:
            return storage.tidy() + remove_outdated()

    def on_disk(self, name: str = "a.txt") -> bytes | None:
        """What web1 has, and shows."""
        place = self.roots["web1"] / name
        here = place.read_bytes() if place.exists() else None
        assert self.host.files().get(f"media/{name}") == here
        return here

    def traces(self) -> int:
        return sum(map(len, local.traces(str(self.roots["web1"])).values()))

    def settle_down(self) -> None:
        """What beat and workers do, until nothing is left to do."""
        for _ in range(4):
            Replica.objects.pending().update(due_at=timezone.now())
            for node in self.roots:
                self.tidy(node)
                for target in ("web1", "media1"):
                    with self.being(node):
                        if target == "web1" or isinstance(get_target(target), MemoryTarget):
                            delivery.deliver(target)
        assert not Replica.objects.backlog().exists(), list(Replica.objects.values())
        assert not self.traces()


@pytest.fixture
def disks(settings: Any, tmp_path: Path, embedded: Embedded, monkeypatch: pytest.MonkeyPatch) -> Disks:
    return _disks(settings, tmp_path, embedded, monkeypatch)


@pytest.fixture
def disks_of_each(settings: Any, tmp_path: Path, media_host: MediaHost, monkeypatch: pytest.MonkeyPatch) -> Disks:
    """The same with each kind of media host."""
    return _disks(settings, tmp_path, media_host, monkeypatch)


def _disks(settings: Any, folder: Path, host: MediaHost, monkeypatch: pytest.MonkeyPatch) -> Disks:
    monkeypatch.setattr(wake, "announce", lambda targets: None)
    monkeypatch.setattr(wake, "wake", lambda targets, node=None: True)
    return Disks(settings, folder, host)


def row() -> Replica:
    return Replica.objects.get(target="web1")


def test_a_file_that_is_saved_here_is_here_and_shown_at_once(disks: Disks) -> None:
    disks.save("web1", b"first")
    assert (row().status, disks.on_disk(), disks.traces()) == ("synced", b"first", 0)
    disks.save("web2", b"second")
    assert row().status == "pending"
    disks.deliver("web2")
    assert (row().status, disks.on_disk()) == ("synced", b"second")
    disks.delete("web2")
    disks.deliver("web2")
    assert (row().status, disks.on_disk()) == ("synced", None)
    disks.settle_down()
    assert ledger.prune() == 1


def disturbed(disks: Disks) -> Claim:
    """web1 has written "newer" while web2 was sending "older" to it."""
    disks.save("web2", b"older")
    claim = disks.claim("web2")
    disks.save("web1", b"newer")
    assert (row().status, row().lease, disks.on_disk()) == ("pending", claim.lease.token, b"newer")
    assert disks.traces() == 1, "what was written is kept"
    return claim


def everything_has(disks: Disks, data: bytes | None) -> None:
    disks.settle_down()
    assert disks.on_disk() == data
    assert row().version == MediaFile.objects.get().version
    with disks.being("web1") as storage:
        assert storage.exists("a.txt") is (data is not None)
        if data is not None:
            with storage.open("a.txt") as file:
                assert file.read() == data


@pytest.mark.parametrize("then", ["deliver", "deliver to the other", "tidy"])
def test_an_older_version_that_lands_over_a_newer_one_loses_nothing(disks: Disks, then: str) -> None:
    """Promises 1 and 2: the bytes were kept beside it, whoever comes first for them."""
    claim = disturbed(disks)
    disks.land("web2", claim)
    assert (row().status, disks.on_disk()) == ("pending", b"older")
    if then == "deliver":
        disks.deliver("web1")
        assert (row().status, disks.on_disk()) == ("synced", b"newer")
    elif then == "deliver to the other":
        disks.deliver("web1", "media1")
        assert Replica.objects.get(target="media1").status == "synced"
    else:
        assert disks.tidy("web1") == 1
        assert (disks.on_disk(), disks.traces()) == (b"newer", 0)
    everything_has(disks, b"newer")


def test_while_it_drains_what_is_written_here_is_lost_no_more_than_else(disks: Disks) -> None:
    """Promise 1: it is this node's own disk as before, whatever people want of it as a target."""
    disks.save("web2", b"older")
    claim = disks.claim("web2")
    life.enter("web1", "draining")
    disks.save("web1", b"newer")
    disks.land("web2", claim)
    assert (row().status, disks.on_disk()) == ("pending", b"older")
    everything_has(disks, b"newer")
    disks.save("web1", b"newest")
    assert row().status == "synced", "there is nothing to send to it"
    disks.save("web2", b"new to it", "b.txt")
    assert not Replica.objects.filter(target="web1", file__name="b.txt").exists()


def test_an_older_version_that_lands_over_a_copy_from_elsewhere_loses_nothing(disks: Disks) -> None:
    """Promises 1 and 2: as any write, it is kept while something older may come."""
    disks.save("web2", b"older")
    claim = disks.claim("web2")
    with disks.being("web1") as storage:
        seen = storage.look(["a.txt"])["a.txt"]
        assert storage.replace_seen("a.txt", ContentFile(b"copied"), seen)
    assert disks.traces() == 1, "what was written is kept"
    disks.land("web2", claim)
    assert (row().status, disks.on_disk()) == ("pending", b"older")
    everything_has(disks, b"copied")


def test_each_kind_of_host_leaves_what_is_kept_as_it_is(disks_of_each: Disks) -> None:
    """Promise 1: what is kept is a link to what it replaces. A server that wrote into the file would spoil both."""
    disks = disks_of_each
    claim = disturbed(disks)
    disks.land("web2", claim)
    assert disks.on_disk() == b"older"
    disks.deliver("web1")
    assert (row().status, disks.on_disk()) == ("synced", b"newer")
    everything_has(disks, b"newer")


def test_an_older_version_that_lands_without_an_answer_loses_nothing(disks: Disks) -> None:
    """Promise 2: its worker was killed, and it lands when the newer version was delivered already."""
    claim = disturbed(disks)
    Replica.objects.update(lease_until=timezone.now())
    disks.deliver("web1")
    assert row().provisional
    disks.land("web2", claim, settle=False)
    assert disks.on_disk() == b"older"
    everything_has(disks, b"newer")


def test_what_is_kept_stays_until_nothing_older_can_land(disks: Disks) -> None:
    """Promise 1: a large file takes longer than any transaction, and the clean-up comes meanwhile."""
    claim = disturbed(disks)
    assert disks.tidy("web1") == 0
    assert disks.traces() == 1
    disks.land("web2", claim, settle=False)
    assert disks.tidy("web1") == 0, "its answer is still to come"
    Replica.objects.update(doubt=True, lease=None, lease_until=None)
    assert disks.tidy("web1") == 0, "or it was not heard"
    everything_has(disks, b"newer")


def test_the_clean_up_puts_nothing_old_over_what_is_being_sent(disks: Disks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 2: a rolled back write's traces say what was there before; and meanwhile another node has sent more."""
    disks.save("web1", b"first")
    disks.settle_down()
    with disks.being("web1") as storage, transaction.atomic():
        storage.replace("a.txt", ContentFile(b"rolled back"))
        transaction.set_rollback(True)
    assert disks.on_disk() == b"rolled back"
    disks.save("web2", b"newer")
    claim = disks.claim("web2")
    real = local._holds

    def while_it_looks(path: str, wanted: local.Digest) -> bool:
        found = real(path, wanted)
        monkeypatch.setattr(local, "_holds", real)
        disks.land("web2", claim, settle=False)
        return found

    monkeypatch.setattr(local, "_holds", while_it_looks)
    assert disks.tidy("web1") == 0
    monkeypatch.setattr(local, "_holds", real)
    disks.land("web2", claim)
    assert (row().status, disks.on_disk()) == ("synced", b"newer")
    everything_has(disks, b"newer")


@pytest.mark.parametrize("last", ["delete", "older"])
def test_what_lands_while_a_name_is_taken_again_loses_nothing(
    disks: Disks, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    """Promise 1: a free name's file is put in place before it is recorded. What was sent there before lands, and is
    settled, just in between: so that the ledger sees nothing on its way, and calls the file synced at once."""
    disks.save("web2", b"first")
    if last == "delete":
        disks.delete("web2")
        claim = disks.claim("web2")
    else:
        claim = disks.claim("web2")
        disks.delete("web2")
        # Its worker had it open.
        (disks.roots["web2"] / "a.txt").write_bytes(b"first")
    real = Entry.put_in_free_place

    def put(entry: Entry) -> None:
        real(entry)
        monkeypatch.setattr(Entry, "put_in_free_place", real)
        disks.land("web2", claim)
        assert disks.on_disk() == (None if last == "delete" else b"first")

    monkeypatch.setattr(Entry, "put_in_free_place", put)
    with disks.being("web1") as storage:
        assert storage.save("a.txt", ContentFile(b"second")) == "a.txt"
    assert disks.on_disk() == b"second"
    everything_has(disks, b"second")


def test_a_name_that_is_taken_again_while_its_delete_is_under_way(disks: Disks) -> None:
    """Promise 1: the DELETE lands on the new file, whose bytes are kept."""
    disks.save("web2", b"first")
    disks.deliver("web2")
    disks.delete("web2")
    claim = disks.claim("web2")
    disks.land("web2", claim, settle=False)
    with disks.being("web1") as storage:
        assert storage.save("a.txt", ContentFile(b"second")) == "a.txt"
    assert row().status == "pending"
    disks.land("web2", claim)
    assert disks.on_disk() is None
    disks.deliver("web1")
    assert (row().status, disks.on_disk()) == ("synced", b"second")
    everything_has(disks, b"second")


def test_several_writes_here_while_an_older_one_is_under_way(disks: Disks) -> None:
    """Each of them is kept, and the last is what counts; also if it is a delete."""
    claim = disturbed(disks)
    disks.save("web1", b"newest")
    assert disks.traces() == 2
    disks.land("web2", claim)
    everything_has(disks, b"newest")
    disks.save("web2", b"older")
    claim = disks.claim("web2")
    disks.save("web1", b"newer")
    disks.delete("web1")
    assert disks.on_disk() is None
    disks.land("web2", claim)
    assert disks.on_disk() == b"older"
    everything_has(disks, None)


def test_a_later_write_of_another_node_outlives_what_is_kept_here(disks: Disks) -> None:
    """Promise 2: the clean-up restores the ledger's version, not its own."""
    claim = disturbed(disks)
    disks.land("web2", claim)
    disks.save("web2", b"newest")
    disks.tidy("web1")
    everything_has(disks, b"newest")


def test_a_rollback_here_is_undone_here(disks: Disks) -> None:
    """Promise 3, as far as a disk that browsers read can keep it: until the clean-up."""
    disks.save("web1", b"first")
    with disks.being("web1") as storage, transaction.atomic():
        storage.replace("a.txt", ContentFile(b"rolled back"))
        transaction.set_rollback(True)
    assert row().status == "synced"
    assert row().version == MediaFile.objects.get().version
    assert disks.tidy("web1") == 1
    everything_has(disks, b"first")


# Disks that are no target


def test_what_another_node_wrote_or_deleted_goes_from_a_disk_that_is_no_target(disks: Disks) -> None:
    """web2's is none: what it has goes with the clean-up, and not before it may."""
    place = disks.roots["web2"] / "a.txt"
    disks.save("web2", b"first")
    disks.save("web1", b"second")
    with disks.being("web2") as storage:
        assert place.read_bytes() == b"first"
        with storage.open("a.txt") as file:
            assert file.read() == b"second", "an older version is never read"
    assert disks.tidy("web1") == 0
    assert disks.on_disk() == b"second"
    assert disks.tidy("web2") == 1
    assert not place.exists()
    assert MediaFile.objects.get().outdated_at == ""
    # What it writes itself stays, whatever was noted before.
    disks.save("web2", b"third")
    disks.save("web1", b"fourth")
    disks.save("web2", b"fifth")
    assert MediaFile.objects.get().outdated_at == ",web2,"
    assert disks.tidy("web2") == 0
    assert (place.read_bytes(), MediaFile.objects.get().outdated_at) == (b"fifth", "")
    disks.delete("web1")
    assert disks.tidy("web2") == 1
    assert not place.exists()


def test_what_this_node_wrote_last_stays_whatever_it_looks_like(disks: Disks) -> None:
    """Promise 6: it may be all that there is of it, and somebody has a reason to have changed it."""
    place = disks.roots["web2"] / "a.txt"
    disks.save("web2", b"first")
    disks.save("web1", b"second")
    disks.save("web2", b"third")
    place.write_bytes(b"changed by hand")
    assert MediaFile.objects.get().outdated_at == ",web2,"
    assert disks.tidy("web2") == 0
    assert place.read_bytes() == b"changed by hand"
    assert MediaFile.objects.get().outdated_at == ""


def test_an_empty_file_that_another_node_has_deleted_goes_too(disks: Disks) -> None:
    """Promise 2: a tombstone has no size, and is no empty file."""
    disks.save("web2", b"")
    disks.delete("web1")
    assert disks.tidy("web2") == 1
    assert not (disks.roots["web2"] / "a.txt").exists()


def test_a_file_that_is_just_being_saved_under_a_deleted_name_stays(
    disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 1: it is in its place before it is recorded, and the ledger says still that it was deleted."""
    disks.save("web2", b"first")
    disks.delete("web1")
    (disks.roots["web2"] / "a.txt").unlink()
    real = Entry.put_in_free_place

    def put(entry: Entry) -> None:
        real(entry)
        assert remove_outdated() == 0

    monkeypatch.setattr(Entry, "put_in_free_place", put)
    with disks.being("web2") as storage:
        assert storage.save("a.txt", ContentFile(b"second")) == "a.txt"
    assert (disks.roots["web2"] / "a.txt").read_bytes() == b"second"


def test_the_same_bytes_stay_where_they_are(disks: Disks) -> None:
    """An overwrite with what was there: nothing is out of date."""
    disks.save("web2", b"same")
    disks.save("web1", b"same")
    assert disks.tidy("web2") == 0
    assert (disks.roots["web2"] / "a.txt").read_bytes() == b"same"
    assert MediaFile.objects.get().outdated_at == ""


def test_a_file_that_another_node_has_deleted_can_not_come_back(disks: Disks) -> None:
    """Promise 2: it is on this disk still, and the ledger has forgotten it only when it is not."""
    disks.save("web2", b"first")
    disks.deliver("web2")
    disks.delete("web1")
    for node in ("web1", "web2"):
        disks.deliver(node)
        disks.deliver(node, "media1")
    assert not Replica.objects.backlog().exists()
    assert ledger.prune() == 0
    with disks.being("web2") as storage:
        assert not storage.exists("a.txt")
        with pytest.raises(FileNotFoundError):
            storage.open("a.txt")
    disks.tidy("web2")
    assert ledger.prune() == 1
    assert not (disks.roots["web2"] / "a.txt").exists()


def test_a_disk_that_became_a_target_keeps_what_is_being_sent_to_it(
    disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was noted while it was none is left to the delivery that is under way."""
    disks.save("web1", b"first")
    disks.save("web2", b"second")
    MediaFile.objects.update(outdated_at=",web1,")
    claim = disks.claim("web2")
    assert disks.tidy("web1") == 0
    assert disks.on_disk() == b"first"
    disks.land("web2", claim)
    assert disks.tidy("web1") == 0
    assert disks.on_disk() == b"second"
    assert MediaFile.objects.get().outdated_at == ""
