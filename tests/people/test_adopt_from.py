"""Adopting from a target: files that were in MogileFS before the replicator was, and nowhere else."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import transaction
from django.test import Client
from django.utils import timezone

from replicator import adoption_from_target, delivery, tasks
from replicator.adoption import Note
from replicator.adoption_from_target import AdoptionFromTarget
from replicator.models import MediaFile, Replica
from replicator.storage import MogileFSStorage, ReplicatedStorage
from replicator.targets import get_target
from replicator.targets.base import Entry, Stat, TargetFile
from replicator.testing import MemoryTarget
from tests.ledger.sessions import Session, postgresql_only
from tests.mogilefs.cluster import MogileFS
from tests.people.conftest import Output, Woken

pytestmark = pytest.mark.django_db(transaction=True)
Manage = Callable[..., Output]
STORAGE = "replicator.storage.MogileFSStorage"


class Vast(MemoryTarget):
    """Says that it has ``count`` files of one byte, all of the class "avatar". Each name that is listed is told."""

    count = 0
    listed: Callable[[int], object] = print

    def entries(self, prefix: str = "/") -> Iterator[Entry]:
        for number in range(self.count):
            self.listed(number)
            yield Entry(f"{prefix.strip('/')}/{number}.txt")

    def stat(self, file: TargetFile) -> Stat | None:
        return Stat(1, {}, "avatar")


class Mute(MemoryTarget):
    """Can't list."""

    def can_list(self) -> bool:
        return False


@pytest.fixture(scope="module")
def installation() -> Iterator[MogileFS]:
    with MogileFS(classes=["avatar:2", "thumb:1"]) as mogilefs:
        yield mogilefs


@pytest.fixture
def mogilefs(installation: MogileFS, settings: Any, tmp_path: Path, woken: Woken) -> Iterator[MogileFS]:
    """A site that keeps its files there and at media1, those of its storage "avatars" only there."""
    installation.wipe()
    media = tmp_path / "media"
    media.mkdir()
    settings.MEDIA_ROOT = str(media)
    options = {"domain": installation.domain, "trackers": installation.trackers, "read_timeout": 20.0}
    settings.REPLICATOR = {
        "DOUBT_WINDOW": 0,
        "ORPHAN_GRACE": 0,
        "TARGETS": {
            "media1": {"BACKEND": "tests.people.test_adopt_from.Mute"},
            "mogilefs": {"BACKEND": "replicator.targets.mogilefs.MogileFSTarget", "OPTIONS": options},
            "vast": {"BACKEND": "tests.people.test_adopt_from.Vast"},
        },
    }
    avatars = {"alias": "avatars", "location": str(media / "avatars"), "base_url": "/media/avatars/"}
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": STORAGE, "OPTIONS": {"targets": ["media1", "mogilefs"]}},
        "avatars": {"BACKEND": STORAGE, "OPTIONS": {**avatars, "targets": ["mogilefs"], "mogile_class": "avatar"}},
        "vast": {
            "BACKEND": STORAGE,
            "OPTIONS": {"alias": "vast", "location": str(tmp_path / "v"), "base_url": "/v/", "targets": ["vast"]},
        },
    }
    target: Any = get_target("mogilefs")
    yield installation
    target.close()


@pytest.fixture
def storage(mogilefs: MogileFS) -> MogileFSStorage:
    found = storages["default"]
    assert isinstance(found, MogileFSStorage)
    return found


@pytest.fixture
def vast(mogilefs: MogileFS, monkeypatch: pytest.MonkeyPatch) -> type[Vast]:
    monkeypatch.setattr(Vast, "listed", lambda self, number: None)
    return Vast


def adopt(alias: str = "default", source: str = "mogilefs", **options: Any) -> tuple[AdoptionFromTarget, list[Note]]:
    notes: list[Note] = []
    storage: Any = storages[alias]
    run = AdoptionFromTarget(storage, tell=notes.append, source=source, **options)
    run.run()
    return run, notes


def recorded() -> set[tuple[str, str]]:
    return set(MediaFile.objects.values_list("storage", "name"))


def deliver(alias: str = "mogilefs") -> None:
    """Until nothing is due; what waits for its next try does not wait."""
    for _ in range(3):
        Replica.objects.pending().update(due_at=timezone.now() - timedelta(seconds=1))
        delivery.deliver(alias)


def read(storage: ReplicatedStorage, name: str) -> bytes:
    with storage.open(name) as file:
        data = file.read()
    assert isinstance(data, bytes)
    return data


def test_files_that_only_mogilefs_has_are_the_storages_from_then_on(
    mogilefs: MogileFS, storage: MogileFSStorage, manage: Manage, woken: Woken
) -> None:
    """As the ancestors' files are: with size and class, opened from there, not overwritten, deleted there."""
    old = {"a.txt": b"one", "deep/ü b#c.png": b"three", "empty": b""}
    mogilefs.put_behind_back("a.txt", old["a.txt"], "thumb")
    mogilefs.put_behind_back("deep/ü b#c.png", old["deep/ü b#c.png"], "avatar")
    mogilefs.put_behind_back("empty", b"")
    assert not storage.exists("a.txt")
    before = timezone.now()
    done = manage("adopt", "--from", "mogilefs", "--storage", "default")
    assert done.error == done.err == ""
    assert done.out == (
        "default: adopted 3 files (8 bytes) from mogilefs, 0 already recorded. "
        "They are at mogilefs alone: there is no copy here that media1 could be sent.\n"
    )
    assert set(MediaFile.objects.values_list("name", "size", "sha256", "mogile_class", "content_type")) == {
        ("a.txt", 3, "", "thumb", "text/plain"),
        ("deep/ü b#c.png", 5, "", "avatar", "image/png"),
        ("empty", 0, "", "", "application/octet-stream"),
    }
    assert set(Replica.objects.values_list("target", "status")) == {("mogilefs", "synced")}
    assert woken == [], "there is nothing to send"
    for name, data in old.items():
        assert storage.exists(name)
        assert storage.size(name) == len(data)
        assert before <= storage.get_modified_time(name) <= timezone.now()
        assert read(storage, name) == data
    name = storage.save("a.txt", ContentFile(b"new"))
    assert name != "a.txt"
    storage.delete("deep/ü b#c.png")
    assert not storage.exists("deep/ü b#c.png")
    deliver()
    deliver("media1")
    assert not Replica.objects.backlog().exists()
    assert mogilefs.files() == {"a.txt": b"one", "empty": b"", name: b"new"}
    assert list(Path(storage.location).rglob("*.txt")) == [Path(storage.path(name))], "something came here"


def test_an_adopted_file_can_be_replaced(mogilefs: MogileFS, storage: MogileFSStorage) -> None:
    """From then on it is a file like any other: at every target, and its bytes are known."""
    mogilefs.put_behind_back("a.txt", b"old", "thumb")
    adopt()
    with storage.open("a.txt", "ab") as file:
        file.write(b" and new")
    deliver()
    deliver("media1")
    assert mogilefs.files() == {"a.txt": b"old and new"}
    assert get_target("media1").files == {"media/a.txt": b"old and new"}  # type: ignore[attr-defined]
    assert not Replica.objects.backlog().exists()


def test_what_the_ledger_knows_is_passed_over(mogilefs: MogileFS, storage: MogileFSStorage) -> None:
    """Resumable; and a deleted file never comes back (promise 2), though its key is still there."""
    storage.save("saved.txt", ContentFile(b"saved"))
    storage.delete(storage.save("gone.txt", ContentFile(b"gone")))
    deliver()
    for name in ("old.txt", "gone.txt"):
        mogilefs.put_behind_back(name, b"old")
    versions = dict(MediaFile.objects.values_list("name", "version"))
    run, notes = adopt()
    assert (run.adopted, run.adopted_bytes, run.known, run.deleted) == (1, 3, 1, 1)
    text = "was deleted and stays so: to bring it back, save it through the site"
    assert notes == [Note("deleted", "'gone.txt'", text)]
    again, _ = adopt()
    assert (again.adopted, again.known, again.deleted) == (0, 2, 1)
    after = dict(MediaFile.objects.values_list("name", "version"))
    assert {name: after[name] for name in versions} == versions


def test_what_is_on_this_disk_too_is_adopted_from_there(mogilefs: MogileFS, storage: MogileFSStorage) -> None:
    """Then every target can have it; and what a save that is not committed has put here stays its own."""
    mogilefs.put_behind_back("both.txt", b"same")
    Path(storage.path("both.txt")).write_bytes(b"same")
    run, (note,) = adopt()
    assert (run.adopted, run.skipped) == (0, 1)
    assert note == Note("skipped", "'both.txt'", "is on this disk too: adopt it from there, without --from")
    assert not MediaFile.objects.exists()


def test_keys_that_can_not_be_names_are_refused(mogilefs: MogileFS, storage: MogileFSStorage, manage: Manage) -> None:
    """With the reason; the rest is adopted all the same, and the exit code is 1."""
    bad = ["/absolute.txt", "a//b.txt", "../up.txt", "back\\slash", "folder/", "latin-\udce9.txt", ".replicator/x"]
    for key in [*bad, "good.txt"]:
        mogilefs.put_behind_back(key, b"x")
    done = manage("adopt", "--from", "mogilefs", "--storage", "default")
    assert done.out.startswith("default: adopted 1 file (1 bytes) from mogilefs, 0 already recorded, 7 refused.")
    assert done.error == "7 files refused, as said above: cure them and adopt again."
    assert r"REFUSED: 'latin-\udce9.txt' is not UTF-8: store it under another key" in done.err
    assert r"REFUSED: 'back\\slash' has a backslash, which servers take for a slash: store it" in done.err
    assert "REFUSED: '.replicator/x' is a name that storages keep for themselves: store it" in done.err
    assert "REFUSED: 'a//b.txt' is empty, absolute or leaves its storage: store it" in done.err
    assert recorded() == {("default", "good.txt")}
    assert len(mogilefs.keys()) == 8, "nothing was changed there"


def test_each_storage_gets_its_own(mogilefs: MogileFS, storage: MogileFSStorage, manage: Manage) -> None:
    """A storage inside another is adopted by itself; those that do not have the target are none of this."""
    for key in ("a.txt", "avatars/me.png", "avatars/you.png", "avatarsnot/x.png"):
        mogilefs.put_behind_back(key, b"x")
    done = manage("adopt", "--from", "mogilefs")
    assert recorded() == {
        ("default", "a.txt"),
        ("default", "avatarsnot/x.png"),
        ("avatars", "me.png"),
        ("avatars", "you.png"),
    }
    assert "default: adopted 2 files (2 bytes) from mogilefs, 0 already recorded, 1 skipped." in done.out
    assert "avatars: adopted 2 files (2 bytes) from mogilefs, 0 already recorded.\n" in done.out
    assert done.err == "skipped: 'avatars' is another storage: what it has there is adopted by itself\n"
    assert read(storages["avatars"], "me.png") == b"x"  # type: ignore[arg-type]


def test_keys_outside_the_media_belong_to_who_has_them(mogilefs: MogileFS, settings: Any, tmp_path: Path) -> None:
    """A storage with another URL has keys that begin with a slash: no refused names of the default one."""
    other = {"alias": "other", "location": str(tmp_path / "other"), "base_url": "/other/", "targets": ["mogilefs"]}
    settings.STORAGES = {**settings.STORAGES, "other": {"BACKEND": STORAGE, "OPTIONS": other}}
    mogilefs.put_behind_back("/other/a.txt", b"x")
    mogilefs.put_behind_back("b.txt", b"x")
    assert adopt()[0].refused == 0
    assert adopt("other")[0].adopted == 1
    assert recorded() == {("default", "b.txt"), ("other", "a.txt")}
    assert read(storages["other"], "a.txt") == b"x"  # type: ignore[arg-type]


def test_a_dry_run_records_nothing(mogilefs: MogileFS, manage: Manage) -> None:
    """It lists, and asks no more."""
    for key in ("a.txt", "b.txt", "a//b"):
        mogilefs.put_behind_back(key, b"x")
    mogilefs.refuse("file_info", times=None)
    done = manage("adopt", "--from", "mogilefs", "--storage", "default", "--dry-run")
    assert done.out.startswith("default: would adopt 2 files from mogilefs, 0 already recorded, 1 refused.")
    assert not MediaFile.objects.exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--from", "mogile"], """REPLICATOR["TARGETS"] has no 'mogile'. Did you mean 'mogilefs'?"""),
        (["--from", "media1"], "The target 'media1' can't list what it holds"),
        (
            ["--from", "vast", "--storage", "default"],
            "STORAGES['default'] does not have the target 'vast': add it to the targets in its OPTIONS.",
        ),
        (["--from", "mogilefs", "--storage", "avatar"], "STORAGES has no ReplicatedStorage 'avatar'. Did you mean"),
    ],
)
def test_what_can_not_be_is_said(mogilefs: MogileFS, manage: Manage, args: list[str], message: str) -> None:
    assert manage("adopt", *args).error.startswith(message)
    assert not MediaFile.objects.exists()


def test_a_storage_that_could_not_open_them_is_refused(mogilefs: MogileFS, settings: Any, manage: Manage) -> None:
    """Its files would be there, and no one could read them."""
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": "replicator.storage.ReplicatedStorage"}}
    mogilefs.put_behind_back("a.txt", b"x")
    assert manage("adopt", "--from", "mogilefs", "--storage", "default").error == (
        "STORAGES['default'] is a ReplicatedStorage, which reads only what is on this disk: "
        "make it a replicator.storage.MogileFSStorage."
    )
    assert not MediaFile.objects.exists()


def test_a_tracker_that_goes_away_loses_nothing(mogilefs: MogileFS, manage: Manage) -> None:
    """What was asked before is recorded; starting again does the rest."""
    for n in range(6):
        mogilefs.put_behind_back(f"{n}.txt", b"x")
    mogilefs.answer("ERR failure database+gone", "file_info", times=1)
    done = manage("adopt", "--from", "mogilefs", "--storage", "default", "--batch", "2")
    assert done.error == (
        "file_info: failure. What is recorded is passed over when you start the same command again."
    )
    count = MediaFile.objects.count()
    assert done.out.startswith(f"default: adopted {count} file")
    assert count < 6
    done = manage("adopt", "--from", "mogilefs", "--storage", "default", "--batch", "2")
    assert done.error == ""
    assert MediaFile.objects.count() == 6
    assert f"adopted {6 - count} files ({6 - count} bytes) from mogilefs, {count} already recorded" in done.out


def test_one_that_is_deleted_meanwhile_is_no_news(mogilefs: MogileFS, monkeypatch: pytest.MonkeyPatch) -> None:
    mogilefs.put_behind_back("a.txt", b"x")
    target: Any = get_target("mogilefs")
    listed = [Entry("went.txt"), Entry("a.txt")]
    monkeypatch.setattr(type(target), "entries", lambda self, prefix: iter(listed))
    run, notes = adopt()
    assert (run.adopted, run.known, notes) == (1, 0, [])
    assert recorded() == {("default", "a.txt")}


# Many


def test_an_interrupted_run_goes_on_where_it_was(
    vast: type[Vast], manage: Manage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch is recorded when it is full."""
    monkeypatch.setattr(vast, "count", 1000)

    def interrupt(self: Vast, number: int) -> None:
        if number == 700:
            raise KeyboardInterrupt

    monkeypatch.setattr(vast, "listed", interrupt)
    with pytest.raises(SystemExit) as ended:
        manage("adopt", "--from", "vast", "--batch", "100")
    assert ended.value.code == 130
    assert MediaFile.objects.count() == 700
    monkeypatch.setattr(vast, "listed", lambda self, number: None)
    done = manage("adopt", "--from", "vast", "--batch", "100")
    assert "adopted 300 files (300 bytes) from vast, 700 already recorded." in done.out
    assert MediaFile.objects.filter(mogile_class="avatar").count() == 1000


def test_memory_stays_flat(vast: type[Vast], monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 8: a million keys are listed, asked and recorded a batch at a time."""
    peaks: list[int] = []

    def measure(self: Vast, number: int) -> None:
        if number in (2_000, 11_999):
            peaks.append(tracemalloc.get_traced_memory()[0])

    monkeypatch.setattr(vast, "count", 12_000)
    monkeypatch.setattr(vast, "listed", measure)
    tracemalloc.start()
    try:
        run, _ = adopt("vast", "vast")
    finally:
        tracemalloc.stop()
    assert run.adopted == 12_000
    assert peaks[1] - peaks[0] < 500_000, "10,000 more names took 50 bytes each"


def test_a_bar_shows_how_far_it_is(
    vast: type[Vast], manage: Manage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a total: to count the keys is to list them."""
    monkeypatch.setattr(vast, "count", 1000)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert manage("adopt", "--from", "vast").error == ""
    assert "files" in capsys.readouterr().err


# Beside the site


@postgresql_only
def test_a_name_that_is_being_saved_is_the_savers(mogilefs: MogileFS) -> None:
    """On another web host, so that nothing of it is here. Adopting does not wait for it; the others are recorded."""
    for key in ("a.txt", "b.txt", "c.txt"):
        mogilefs.put_behind_back(key, b"x")
    with Session() as writer:
        writer.begin()
        write = adoption_from_target.Write("default", "b.txt", 3, "0" * 64)
        writer.do(adoption_from_target.ledger.record, write, ["media1", "mogilefs"])
        run, notes = adopt()
        assert (run.adopted, run.adopted_bytes, run.skipped) == (2, 2, 1)
        assert notes == [Note("skipped", "'b.txt'", "is being saved or deleted just now: the site sees to it")]
        writer.commit()
    assert adopt()[0].known == 3
    assert MediaFile.objects.get(name="b.txt").version == write.version


@pytest.mark.parametrize("what", ["replace", "delete"])
def test_what_is_rolled_back_over_an_adopted_file_leaves_it(
    mogilefs: MogileFS, storage: MogileFSStorage, what: str
) -> None:
    """Promise 3. Its bytes are nowhere here: the clean-up removes what the write put here, and "restores" nothing."""
    mogilefs.put_behind_back("a.txt", b"old")
    adopt()
    with transaction.atomic():
        storage.replace("a.txt", ContentFile(b"new")) if what == "replace" else storage.delete("a.txt")
        transaction.set_rollback(True)
    assert storage.tidy() == 1
    assert not Path(storage.path("a.txt")).exists()
    assert read(storage, "a.txt") == b"old"
    deliver()
    assert mogilefs.files() == {"a.txt": b"old"}
    assert not Replica.objects.backlog().exists()


def test_a_local_file_that_comes_later_is_not_sent_over_it(
    mogilefs: MogileFS, storage: MogileFSStorage, manage: Manage
) -> None:
    """Nobody saved it through the site: the ledger's file stays what it is, even if it is due for its class."""
    mogilefs.put_behind_back("a.txt", b"old")
    adopt()
    Path(storage.path("a.txt")).write_bytes(b"xxx")
    assert "default: adopted 0 files (0 bytes), 1 already recorded" in manage("adopt", "--storage", "default").out
    manage("reclass", "thumb", "--storage", "default")
    deliver()
    assert mogilefs.files() == {"a.txt": b"old"}
    assert not Replica.objects.backlog().exists()
    assert storage.tidy() == 0
    assert Path(storage.path("a.txt")).read_bytes() == b"xxx"


@pytest.mark.parametrize("trouble", ["none", "no answer", "killed"])
def test_an_adopted_file_gets_another_class(mogilefs: MogileFS, storage: MogileFSStorage, trouble: str) -> None:
    """Without a copy of it here, whatever becomes of a request or a worker."""
    fid = mogilefs.put_behind_back("a.txt", b"old", "avatar")
    adopt()
    adoption_from_target.ledger.reclass(MediaFile.objects.all(), "thumb", ["mogilefs"])
    if trouble == "no answer":
        mogilefs.refuse("updateclass")
    elif trouble == "killed":
        adoption_from_target.ledger.claim("mogilefs", 1)
        Replica.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    deliver()
    replica = Replica.objects.get()
    assert (replica.status, replica.error_text) == ("synced", "")
    stored = mogilefs.stored("a.txt")
    assert stored is not None
    assert (stored.fid, stored.mogile_class) == (fid, "thumb")


def test_an_adopted_file_that_mogilefs_lost_says_so(mogilefs: MogileFS, storage: MogileFSStorage) -> None:
    """Nothing else is sent in its place; the replica says why not (promise 1)."""
    mogilefs.put_behind_back("a.txt", b"old", "avatar")
    adopt()
    mogilefs.wipe()
    adoption_from_target.ledger.reclass(MediaFile.objects.all(), "thumb", ["mogilefs"])
    tasks.deliver("mogilefs")
    replica = Replica.objects.get()
    assert (replica.status, replica.error_kind) == ("pending", "local-missing")
    with pytest.raises(FileNotFoundError):
        storage.open("a.txt")


def test_the_admin_shows_adopted_files(mogilefs: MogileFS, storage: MogileFSStorage, admin_client: Client) -> None:
    mogilefs.put_behind_back("a.txt", b"old", "avatar")
    adopt()
    file = MediaFile.objects.get()
    for page in ("/admin/replicator/mediafile/", f"/admin/replicator/mediafile/{file.pk}/change/"):
        text = admin_client.get(page).content.decode()
        assert '<span class="replicator-badge replicator-synced" title="synced">mogilefs</span>' in text or (
            "avatar" in text and "mogilefs" in text
        )
        assert "media1" not in text
