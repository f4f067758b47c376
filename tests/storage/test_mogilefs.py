"""``MogileFSStorage``, as the ancestors documented it, with a tracker and its nodes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage, storages
from django.db import connection, models
from django.db.migrations.writer import MigrationWriter
from django.test.utils import isolate_apps
from django.utils import timezone

from replicator import delivery, ledger, tasks, wake
from replicator.conf import config
from replicator.delivery.send import send
from replicator.models import MediaFile, Replica
from replicator.storage import MogileFSStorage
from replicator.targets import get_target
from replicator.targets.mogilefs import MogileFSTarget
from tests import ownproject
from tests.mogilefs.cluster import MogileFS

pytestmark = pytest.mark.django_db(transaction=True)


class AvatarStorage(MogileFSStorage):
    mogile_class = "avatar"


class ThumbStorage(MogileFSStorage):
    mogile_class = "thumb"


@pytest.fixture(scope="module")
def installation() -> Iterator[MogileFS]:
    with MogileFS() as mogilefs:
        yield mogilefs


@pytest.fixture
def mogilefs(installation: MogileFS, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MogileFS:
    """A site with the ancestors' settings, and no others."""
    installation.control("wipe")
    settings.MEDIA_ROOT = str(tmp_path / "media")
    settings.MOGILEFS_DOMAIN = installation.domain
    settings.MOGILEFS_TRACKERS = installation.trackers
    settings.MOGILEFS_MEDIA_URL = "/mogile/"
    settings.REPLICATOR = {"DOUBT_WINDOW": 0.0}
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": "replicator.storage.MogileFSStorage"}}
    monkeypatch.setattr(wake, "announce", lambda targets: None)
    monkeypatch.setattr(wake, "wake", lambda targets: True)
    return installation


def _storage() -> MogileFSStorage:
    storage = storages["default"]
    assert isinstance(storage, MogileFSStorage)
    return storage


def _deliver() -> None:
    delivery.deliver("mogilefs")
    assert set(Replica.objects.values_list("status", flat=True)) <= {"synced"}


def test_the_ancestors_settings_work_unchanged(mogilefs: MogileFS) -> None:
    """A domain and its trackers are a target; the name is the key; no class, no problem."""
    storage = _storage()
    name = storage.save("photos/é 1.jpg", ContentFile(b"photo"))
    assert storage.url(name) == "/mogile/photos/%C3%A9%201.jpg"
    _deliver()
    assert mogilefs.files() == {name: b"photo"}
    stored = mogilefs.stored(name)
    assert stored is not None
    assert stored.mogile_class == "default"
    storage.delete(name)
    _deliver()
    assert mogilefs.keys() == []


def test_check_says_what_the_settings_became(mogilefs: MogileFS) -> None:
    """As information: nothing is wrong."""
    messages = [m for m in run_checks(tags=["replicator"]) if m.id in ("replicator.I023",) or m.is_serious()]
    assert [m.id for m in messages] == ["replicator.I023"]
    assert "MOGILEFS_DOMAIN and MOGILEFS_TRACKERS became REPLICATOR[\"TARGETS\"]['mogilefs']" in messages[0].msg


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MOGILEFS_TRACKERS", "10.0.0.5:7001", "MOGILEFS_TRACKERS is no list of addresses"),
        ("MOGILEFS_TRACKERS", None, "MOGILEFS_TRACKERS is not set, and the other of the two is"),
        ("MOGILEFS_DOMAIN", "", "MOGILEFS_DOMAIN is not set, and the other of the two is"),
        ("MOGILEFS_DOMAIN", 3, "MOGILEFS_DOMAIN is 3"),
        ("MOGILEFS_TRACKERS", ["a:b"], "trackers has 'a:b': write host and port"),
    ],
)
def test_a_wrong_setting_says_what_to_write(
    mogilefs: MogileFS, settings: Any, name: str, value: object, message: str
) -> None:
    """Each names the setting, and none of them is found out by the first upload only."""
    setattr(settings, name, value)
    serious = [m for m in run_checks(tags=["replicator"]) if m.is_serious()]
    assert message in serious[0].msg
    assert "10.0.0.5:7001" in f"{serious[0].msg} {serious[0].hint}" or name == "MOGILEFS_DOMAIN"


def test_without_a_mogilefs_the_storage_says_what_to_write(mogilefs: MogileFS, settings: Any) -> None:
    """The other targets are not MogileFS, and get nothing by mistake."""
    settings.MOGILEFS_DOMAIN = settings.MOGILEFS_TRACKERS = None
    settings.REPLICATOR = {"TARGETS": {"media1": {"BACKEND": "replicator.testing.MemoryTarget"}}}
    with pytest.raises(ImproperlyConfigured, match='write MOGILEFS_DOMAIN = "production"'):
        _storage().save("a.txt", ContentFile(b"1"))
    assert "replicator.E005" in [m.id for m in run_checks(tags=["replicator"])]


def test_a_target_in_todays_words_replaces_the_settings(mogilefs: MogileFS, settings: Any) -> None:
    """One that TARGETS names is the one that is used, whatever its alias."""
    options = {"domain": mogilefs.domain, "trackers": mogilefs.trackers}
    settings.REPLICATOR = {
        "TARGETS": {
            "media1": {"BACKEND": "replicator.testing.MemoryTarget"},
            "cluster": {"BACKEND": "replicator.targets.mogilefs.MogileFSTarget", "OPTIONS": options},
        }
    }
    assert list(config().targets) == ["media1", "cluster"]
    assert _storage().targets == ["cluster"]


def test_settings_that_are_not_what_is_done_are_told(mogilefs: MogileFS, settings: Any) -> None:
    """A target of that name that is none, and one that is another: no setting is dropped without a word."""
    settings.REPLICATOR = {"TARGETS": {"mogilefs": {"BACKEND": "replicator.testing.MemoryTarget"}}}
    messages = run_checks(tags=["replicator"])
    assert [m.id for m in messages] == ["replicator.E001"]
    assert 'MOGILEFS_DOMAIN stands for a target "mogilefs"' in messages[0].msg
    same = {"domain": mogilefs.domain, "trackers": mogilefs.trackers}
    for options, warned in ((same, False), ({**same, "domain": "other"}, True)):
        entry = {"BACKEND": "replicator.targets.mogilefs.MogileFSTarget", "OPTIONS": options}
        settings.REPLICATOR = {"TARGETS": {"cluster": entry}}
        assert ("replicator.W024" in [m.id for m in run_checks(tags=["replicator"])]) is warned


def test_it_can_be_the_default_file_storage(mogilefs: MogileFS, tmp_path: Path) -> None:
    """``DEFAULT_FILE_STORAGE`` in a process of its own, also where Django itself ignores it."""
    settings_text = (
        'SECRET_KEY = "x"\nUSE_TZ = True\n'
        'INSTALLED_APPS = ["django.contrib.contenttypes", "django_celery_beat", "replicator"]\n'
        f'DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": "{tmp_path}/own.sqlite3"}}}}\n'
        f'MEDIA_ROOT = "{tmp_path}/media"\n'
        'DEFAULT_FILE_STORAGE = "replicator.storage.MogileFSStorage"\n'
        f'MOGILEFS_DOMAIN = "{mogilefs.domain}"\nMOGILEFS_TRACKERS = {mogilefs.trackers!r}\n'
        'MOGILEFS_MEDIA_URL = "/mogile/"\n'
    )
    script = """
import django; django.setup()
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import call_command
from replicator import delivery, wake
wake.announce = lambda targets: None
call_command("migrate", verbosity=0)
print(default_storage.url(default_storage.save("a.txt", ContentFile(b"1"))))
assert delivery.deliver("mogilefs").put == 1
"""
    done = ownproject.run(tmp_path, settings_text, script)
    assert (done.stdout, done.returncode) == ("/mogile/a.txt\n", 0), done.stderr
    assert mogilefs.files() == {"a.txt": b"1"}


# Classes.


@isolate_apps("tests")
def test_fields_with_storages_of_a_class_store_in_it(mogilefs: MogileFS) -> None:
    """``mogile_class`` of a subclass, an instance of which is given to a field."""

    class Person(models.Model):  # noqa: DJ008  # nobody prints it
        avatar = models.FileField(storage=AvatarStorage(), upload_to="avatars")
        thumb = models.FileField(storage=ThumbStorage(), upload_to="thumbs")
        letter = models.FileField(upload_to="letters")

        class Meta:
            app_label = "tests"
            managed = False

    person = Person()
    for field in ("avatar", "thumb", "letter"):
        getattr(person, field).save(f"{field}.png", ContentFile(field.encode()), save=False)
    assert person.avatar.url == "/mogile/avatars/avatar.png"
    _deliver()
    found = {key: stored.mogile_class for key in mogilefs.keys() if (stored := mogilefs.stored(key))}  # noqa: SIM118
    assert found == {
        "avatars/avatar.png": "avatar",
        "thumbs/thumb.png": "thumb",
        "letters/letter.png": "default",
    }
    assert dict(MediaFile.objects.values_list("name", "mogile_class")) == {
        "avatars/avatar.png": "avatar",
        "thumbs/thumb.png": "thumb",
        "letters/letter.png": "",
    }


def test_a_subclass_of_the_default_storages_class_works(mogilefs: MogileFS) -> None:
    """How the ancestors documented classes: ``class AvatarStorage(storage.__class__)``."""

    class ThumbnailStorage(default_storage.__class__):  # type: ignore[misc,name-defined]
        mogile_class = "thumb"

    name = ThumbnailStorage().save("a.png", ContentFile(b"1"))
    _deliver()
    stored = mogilefs.stored(name)
    assert stored is not None
    assert stored.mogile_class == "thumb"


def test_migrations_name_the_storage(mogilefs: MogileFS) -> None:
    """What the ancestors' users have in theirs goes on working."""
    text, imports = MigrationWriter.serialize(AvatarStorage())
    assert text == f"{__name__}.AvatarStorage()"
    assert imports == {f"import {__name__}"}
    assert MigrationWriter.serialize(MogileFSStorage(mogile_class="avatar"))[0] == (
        "replicator.storage.MogileFSStorage(mogile_class='avatar')"
    )


def test_an_unknown_class_fails_with_its_name(mogilefs: MogileFS, settings: Any) -> None:
    """Promise 1: the replica's row says why not, at once: only a person can cure it."""
    storage = MogileFSStorage(mogile_class="avatr")
    storage.save("a.png", ContentFile(b"1"))
    delivery.deliver("mogilefs")
    replica = Replica.objects.get()
    assert (replica.status, replica.error_kind) == ("failed", "refused")
    assert "domain 'testdomain' has no class 'avatr'" in replica.error_text


def test_a_changed_class_is_no_second_upload(mogilefs: MogileFS) -> None:
    """The bytes are confirmed: nothing is read here, and the fid stays. Then the file can be replaced as ever."""
    name = MogileFSStorage(mogile_class="avatar").save("a.png", ContentFile(b"1"))
    _deliver()
    before = mogilefs.stored(name)
    assert before is not None
    place = Path(_storage().path(name))
    place.rename(place.with_suffix(".away"))
    assert ledger.reclass(MediaFile.objects.all(), "thumb", ["mogilefs"]) == 1
    assert Replica.objects.get().status == "pending"
    _deliver()
    after = mogilefs.stored(name)
    assert after is not None
    assert (after.fid, after.mogile_class) == (before.fid, "thumb")
    place.with_suffix(".away").rename(place)
    _storage().replace(name, ContentFile(b"22"))
    _deliver()
    assert mogilefs.files()[name] == b"22"


@pytest.mark.parametrize("happens", ["the answer is lost", "the worker is killed"])
def test_a_class_is_changed_though_the_first_try_ended_in_doubt(
    mogilefs: MogileFS, settings: Any, happens: str
) -> None:
    """Promise 1: also when the file is not here any more; what MogileFS has is read back and compared."""
    name = MogileFSStorage(mogile_class="avatar").save("a.png", ContentFile(b"1"))
    _deliver()
    before = mogilefs.stored(name)
    assert before is not None
    Path(_storage().path(name)).unlink()
    ledger.reclass(MediaFile.objects.all(), "thumb", ["mogilefs"])
    if happens == "the answer is lost":
        mogilefs.control("fault", kind="eof", command="updateclass")
        delivery.deliver("mogilefs")
    else:
        ledger.claim("mogilefs", 1)
        Replica.objects.update(lease_until=timezone.now())
    for _ in range(3):
        Replica.objects.update(due_at=timezone.now())
        delivery.deliver("mogilefs")
    assert Replica.objects.values_list("status", "doubt").get() == ("synced", False)
    after = mogilefs.stored(name)
    assert after is not None
    assert (after.fid, after.mogile_class) == (before.fid, "thumb")


def test_a_class_that_changes_while_the_file_is_sent_is_changed_after(mogilefs: MogileFS) -> None:
    """Promise 2, for the class: whoever is sending with the old one does not settle the new."""
    MogileFSStorage(mogile_class="avatar").save("a.png", ContentFile(b"1"))
    claim = ledger.claim("mogilefs", 1)
    outcome = send(get_target("mogilefs"), claim.claims[0])
    ledger.reclass(MediaFile.objects.all(), "thumb", ["mogilefs"])
    assert ledger.settle(claim.lease, [outcome]) == []
    assert Replica.objects.get().status == "pending"
    _deliver()
    stored = mogilefs.stored("a.png")
    assert stored is not None
    assert stored.mogile_class == "thumb"


def test_a_close_that_takes_effect_late_does_not_win(mogilefs: MogileFS, settings: Any) -> None:
    """Promise 2: a tracker's killed process stores an old version after the new one; the doubt brings that back."""
    settings.REPLICATOR = {"DOUBT_WINDOW": 4.0}
    mogilefs.control("fault", kind="rerun", command="create_close", value=True, seconds=2.5)
    storage = _storage()
    name = storage.save("a.txt", ContentFile(b"old"))
    delivery.deliver("mogilefs")
    assert Replica.objects.get().doubt
    storage.replace(name, ContentFile(b"new"))
    delivery.deliver("mogilefs")
    assert mogilefs.files() == {name: b"new"}
    assert Replica.objects.get().provisional
    _until(lambda: mogilefs.files() == {name: b"old"})
    _until(lambda: delivery.deliver("mogilefs").put == 1)
    assert not Replica.objects.backlog().exists()
    assert mogilefs.files() == {name: b"new"}


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


# Reading what is not here any more.


@pytest.fixture
def gone(mogilefs: MogileFS) -> str:
    """The name of a file that is in MogileFS, and not here."""
    name = _storage().save("folder/gone.txt", ContentFile("läuft\n".encode() * 300_000))
    _deliver()
    Path(_storage().path(name)).unlink()
    return name


def test_a_file_that_is_gone_here_is_read_from_mogilefs(gone: str) -> None:
    """Bytes, lines and parts; what is written goes through the storage as ever."""
    storage = _storage()
    with storage.open(gone) as file:
        assert file.read(5) == "läuf".encode()
        file.seek(-7, 2)
        assert file.read() == "läuft\n".encode()
    with storage.open(gone) as file:
        assert file.read() == "läuft\n".encode() * 300_000
        assert file.size == storage.size(gone) == 7 * 300_000
    with storage.open(gone, "r") as text:
        assert text.readline() == "läuft\n"
    assert storage.exists(gone)
    assert storage.get_modified_time(gone) == MediaFile.objects.get().updated_at
    assert storage.get_created_time(gone) == MediaFile.objects.get().created_at
    with storage.open(gone, "ab") as file:
        file.write(b"more")
    with storage.open(gone) as file:
        assert file.read() == "läuft\n".encode() * 300_000 + b"more"


def test_a_file_need_not_stay_here(mogilefs: MogileFS, settings: Any) -> None:
    """``keep_local=False``: as with the ancestors, whose files were in MogileFS only."""
    entry = {"BACKEND": "replicator.storage.MogileFSStorage", "OPTIONS": {"keep_local": False}}
    settings.STORAGES = {**settings.STORAGES, "default": entry}
    name = _storage().save("folder/a.txt", ContentFile(b"hello"))
    _deliver()
    assert not Path(_storage().path(name)).exists()
    with _storage().open(name) as file:
        assert file.read() == b"hello"
    assert _storage().listdir("folder") == ([], ["a.txt"])
    assert not _storage().exists("folder/b.txt")


def test_a_deleted_file_is_not_read_from_mogilefs(mogilefs: MogileFS, gone: str) -> None:
    """Promise 2: it may still be there; for the site it is gone."""
    storage = _storage()
    storage.delete(gone)
    assert mogilefs.keys() == [gone]
    for ask in (storage.open, storage.size, storage.get_modified_time, storage.get_created_time):
        with pytest.raises(FileNotFoundError):
            ask(gone)
    assert not storage.exists(gone)


def test_bytes_that_the_ledger_does_not_name_are_not_read(mogilefs: MogileFS, gone: str) -> None:
    """An older or foreign version is an error, not the file."""
    target = get_target("mogilefs")
    assert isinstance(target, MogileFSTarget)
    for path in mogilefs.copies(gone):
        path.write_bytes(b"x" * path.stat().st_size)
    with _storage().open(gone) as file, pytest.raises(OSError, match="mogilefs has another version of it"):
        file.read()


def test_a_file_that_nobody_has_is_not_found(mogilefs: MogileFS) -> None:
    """As with any storage."""
    for ask in (_storage().open, _storage().size):
        with pytest.raises(FileNotFoundError):
            ask("nowhere.txt")


def test_trackers_that_do_not_answer_are_an_error_and_not_absence(mogilefs: MogileFS, gone: str) -> None:
    """Who asks must not take a file for deleted that can't be had just now."""
    mogilefs.control("tracker", index=0, do="stop")
    try:
        with pytest.raises(OSError, match="no tracker answers") as caught:
            _storage().open(gone)
        assert not isinstance(caught.value, FileNotFoundError)
        # What the ledger knows needs no tracker.
        assert _storage().size(gone) == 7 * 300_000
        assert _storage().exists(gone)
    finally:
        mogilefs.control("tracker", index=0, do="start")


def test_a_key_that_the_ledger_never_heard_of_is_read_too(mogilefs: MogileFS) -> None:
    """The files of people who come from the ancestors are in MogileFS only."""
    _storage().save("old.txt", ContentFile(b"of old"))
    _deliver()
    Path(_storage().path("old.txt")).unlink()
    MediaFile.objects.all().delete()
    with _storage().open("old.txt") as file:
        assert file.read() == b"of old"
    assert _storage().size("old.txt") == 6
    _storage().delete("old.txt")
    _deliver()
    assert mogilefs.keys() == []


# Beside other targets.


def test_saving_never_waits_for_mogilefs(mogilefs: MogileFS) -> None:
    """Promise 4: neither a tracker nor a node is asked anything."""
    mogilefs.control("tracker", index=0, do="hang")
    saved = threading.Event()

    def save() -> None:
        try:
            storage = _storage()
            assert storage.save("a.txt", ContentFile(b"1")) == "a.txt"
            assert storage.save("a.txt", ContentFile(b"2")) != "a.txt"
            storage.delete("a.txt")
            saved.set()
        finally:
            connection.close()

    thread = threading.Thread(target=save)
    thread.start()
    try:
        assert saved.wait(5)
    finally:
        mogilefs.control("tracker", index=0, do="start")
        thread.join()


def test_it_is_one_target_among_others(mogilefs: MogileFS, settings: Any) -> None:
    """A plain ReplicatedStorage sends to all: keys of another storage's URL never meet."""
    settings.MOGILEFS_MEDIA_URL = "/media/"
    settings.REPLICATOR = {"TARGETS": {"media1": {"BACKEND": "replicator.testing.MemoryTarget"}}}
    avatars = {"alias": "avatars", "location": f"{settings.MEDIA_ROOT}/avatars", "base_url": "/media/avatars/"}
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": "replicator.storage.ReplicatedStorage"},
        "avatars": {
            "BACKEND": "replicator.storage.ReplicatedStorage",
            "OPTIONS": {**avatars, "targets": ["mogilefs"], "mogile_class": "avatar"},
        },
    }
    storages["default"].save("a.png", ContentFile(b"both"))
    storages["avatars"].save("a.png", ContentFile(b"one"))
    tasks.deliver("media1")
    _deliver()
    assert mogilefs.files() == {"a.png": b"both", "avatars/a.png": b"one"}
    assert get_target("media1").files == {"media/a.png": b"both"}  # type: ignore[attr-defined]
