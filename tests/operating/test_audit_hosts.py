"""Audits of every kind of target, after somebody was at its files."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest
from django.core.files.base import ContentFile
from django.utils import timezone

from replicator.models import AuditFinding, MediaFile, Replica
from replicator.targets import get_target
from replicator.targets.base import TargetFile
from tests.mogilefs.cluster import MogileFS
from tests.operating.audits import Site, found
from tests.servers import Lighttpd, MediaHost

pytestmark = pytest.mark.django_db(transaction=True)


class Place(Protocol):
    """Where a target's files are, looked into behind its back."""

    entry: dict[str, Any]
    """In REPLICATOR["TARGETS"]."""
    storages: dict[str, Any]
    lists_sizes: bool

    def put(self, name: str, data: bytes) -> None: ...

    def remove(self, name: str) -> None: ...

    def held(self) -> dict[str, bytes]: ...


class Folder:
    """Of a media host, or of a storage."""

    storages: dict[str, Any] = {}
    lists_sizes = True

    def __init__(self, root: Path, entry: dict[str, Any], host: MediaHost | None = None) -> None:
        self.root, self.entry, self.host = root, entry, host

    def put(self, name: str, data: bytes) -> None:
        path = self.root / name
        if self.host is not None and not path.parent.is_relative_to(self.root / "media"):
            raise ValueError(name)
        path.write_bytes(data)

    def remove(self, name: str) -> None:
        (self.root / name).unlink()

    def held(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()
        }


class Bucket:
    lists_sizes = True

    def __init__(self, s3: Any) -> None:
        self.s3, self.name = s3, s3.new_bucket()
        self.storages = {"copies": s3.entry(self.name)}
        self.entry = {"BACKEND": "replicator.targets.django_storage.StorageTarget", "OPTIONS": {"storage": "copies"}}

    def put(self, name: str, data: bytes) -> None:
        self.s3.client.put_object(Bucket=self.name, Key=name, Body=data)

    def remove(self, name: str) -> None:
        self.s3.client.delete_object(Bucket=self.name, Key=name)

    def held(self) -> dict[str, bytes]:
        held: dict[str, bytes] = self.s3.held(self.name)
        return held


class Mogile:
    storages: dict[str, Any] = {}
    lists_sizes = False

    def __init__(self, server: MogileFS) -> None:
        self.server = server
        options = {"domain": server.domain, "trackers": server.trackers, "base_url": "/"}
        self.entry = {"BACKEND": "replicator.targets.mogilefs.MogileFSTarget", "OPTIONS": options}

    def put(self, name: str, data: bytes) -> None:
        from replicator.testing import BytesContent

        if len(self.server.files().get(name, b"")) == len(data):
            self.server.wait_until_quiet()
            for path in self.server.copies(name):
                path.write_bytes(data)
            return
        file = TargetFile("default", name, "/", len(data), hashlib.sha256(data).hexdigest())
        get_target("media1").put(file, BytesContent(data))

    def remove(self, name: str) -> None:
        get_target("media1").delete(TargetFile("default", name, "/"))

    def held(self) -> dict[str, bytes]:
        return self.server.files()


@pytest.fixture(scope="module")
def _mogilefs() -> Iterator[MogileFS]:
    with MogileFS() as server:
        yield server


@pytest.fixture(scope="module")
def _s3() -> Iterator[Any]:
    pytest.importorskip("boto3")
    from tests.s3 import S3

    with S3() as server:
        yield server


WEBDAV = "replicator.targets.webdav.WebDAVTarget"


@pytest.fixture(params=["nginx", "lighttpd", "apache", "embedded", "folder", "s3", "mogilefs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    kind = request.param
    if kind == "s3":
        return Bucket(request.getfixturevalue("_s3"))
    if kind == "mogilefs":
        server = request.getfixturevalue("_mogilefs")
        server.control("wipe")
        return Mogile(server)
    if kind == "folder":
        place = Folder(
            tmp_path / "copies",
            {"BACKEND": "replicator.targets.django_storage.StorageTarget", "OPTIONS": {"storage": "copies"}},
        )
        location = {"location": str(place.root)}
        place.storages = {"copies": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": location}}
        return place
    host = request.getfixturevalue(kind)
    return Folder(host.root, {"BACKEND": WEBDAV, "OPTIONS": {"url": host.url}}, host)


@pytest.fixture
def site(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Place) -> Site:
    settings.STORAGES = {**settings.STORAGES, **place.storages}
    site = Site(settings, tmp_path, monkeypatch, {"media1": place.entry}, DOUBT_WINDOW=0.0)
    site.tries = 5
    return site


NAMES = ["a b/ü 100%.txt", "c#d/e?f.txt", *(f"n/{number}.txt" for number in range(10))]


def test_what_somebody_did_to_its_files_is_found_and_repaired(site: Site, place: Place) -> None:
    """What was added stays. Other bytes of the same length show only when they are read."""
    site.save(*NAMES)
    whole = place.held()
    assert len(whole) == 12
    place.put("media/n/1.txt", b"NOT as it was!!")
    place.put("media/n/2.txt", b"cut")
    place.remove("media/n/3.txt")
    place.remove(f"media/{NAMES[0]}")
    place.put("media/n/by hand.txt", b"by hand")
    # lighttpd believes for up to two seconds what it saw of a file: an audit at that very moment finds it well.
    time.sleep(2.1 if isinstance(getattr(place, "host", None), Lighttpd) else 0)
    run = site.audit()
    assert (run.state, run.done) == ("done", 12), (run.reason, run.trouble)
    assert found(run) == [
        (NAMES[0], "missing", "sent"),
        ("n/2.txt", "wrong", "sent"),
        ("n/3.txt", "missing", "sent"),
        ("n/by hand.txt", "unknown", ""),
    ]
    site.deliver()
    run = site.audit(level="content")
    assert found(run) == [("n/1.txt", "wrong", "sent"), ("n/by hand.txt", "unknown", "")], (run.reason, run.trouble)
    site.deliver()
    assert place.held() == {**whole, "media/n/by hand.txt": b"by hand"}
    assert found(site.audit(level="content")) == [("n/by hand.txt", "unknown", "")]


def test_its_listing_is_enough_where_it_tells_sizes(
    site: Site, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million files are not asked for one by one."""
    site.save(*NAMES)
    asked: list[str] = []
    target = get_target("media1")
    real = target.stat
    monkeypatch.setattr(target, "stat", lambda file: asked.append(file.name) or real(file))
    run = site.audit()
    assert (run.state, run.counts["listed"], found(run)) == ("done", 12, [])
    assert sorted(asked) == ([] if place.lists_sizes else sorted(NAMES))


def test_a_wiped_target_is_not_filled_without_a_word(site: Site, place: Place) -> None:
    """Its file system may not be mounted."""
    site.save(*(f"n/{number}.txt" for number in range(25)))
    for name in place.held():
        place.remove(name)
    run = site.audit()
    assert (run.state, "resync media1" in run.reason) == ("stopped", True)
    assert not Replica.objects.exclude(status="synced").exists()


def test_unknown_files_are_removed_only_when_they_are_old_and_a_person_says_so(site: Site, place: Place) -> None:
    """Promise 6. Where nothing tells how old a file is, it stays."""
    site.save(*NAMES)
    place.put("media/n/young.txt", b"young")
    place.put("media/n/old.txt", b"old")
    if isinstance(place, Folder):
        long_ago = time.time() - 3 * 24 * 3600
        os.utime(place.root / "media/n/old.txt", (long_ago, long_ago))
    run = site.audit(delete_unknown=True)
    site.deliver()
    left = {name for name in place.held() if name.endswith(("young.txt", "old.txt"))}
    if isinstance(place, Folder):
        assert left == {"media/n/young.txt"}
        assert found(run) == [("n/old.txt", "unknown", "deleted"), ("n/young.txt", "unknown", "failed")]
    else:
        assert len(left) == 2
        assert [cure for _, _, cure in found(run)] == ["failed", "failed"]
        if isinstance(place, Bucket):
            site.audit(delete_unknown=True, older_than=0)
            site.deliver()
    assert MediaFile.objects.filter(deleted=False).count() == 12


def test_a_lost_disk_is_read_back_from_it(site: Site, place: Place) -> None:
    site.save(*NAMES)
    for name in NAMES[:5]:
        (site.media / name).unlink()
    (site.media / NAMES[6]).write_bytes(b"other bytes :-)")
    run = site.audit("", level="content")
    assert [(what, cure) for _, what, cure in found(run)].count(("missing", "restored")) == 5
    assert run.counts["restored"] == 6
    assert {path.read_bytes() for path in site.media.rglob("*.txt")} == {b"as it should be"}


def test_a_listing_in_the_middle_of_deliveries_finds_nothing(site: Site, place: Place) -> None:
    """What comes and goes while it is listed is no finding."""
    site.save(*NAMES)
    target, real = get_target("media1"), get_target("media1").entries

    def meanwhile(prefix: str = "/") -> Iterator[Any]:
        for number, entry in enumerate(real(prefix)):
            if number == 2:
                site.storage.delete("n/9.txt")
                site.storage.replace("n/8.txt", ContentFile(b"longer than it was before"))
                site.save("n/new.txt")
            yield entry

    target.entries = meanwhile  # type: ignore[method-assign]
    run = site.audit()
    assert (run.state, found(run)) == ("done", [])
    site.deliver()
    assert len(place.held()) == 12


def test_what_is_old_at_the_target_and_young_in_the_ledger_is_no_finding(site: Site, place: Place) -> None:
    """A write that waits is no fault of the target's."""
    site.save(*NAMES)
    site.storage.replace("n/1.txt", ContentFile(b"new"))
    site.storage.delete("n/2.txt")
    Replica.objects.filter(status="pending").update(due_at=timezone.now() + timedelta(hours=1))
    run = site.audit(level="content")
    assert (run.state, found(run)) == ("done", [])
    assert AuditFinding.objects.count() == 0
