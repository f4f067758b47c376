"""How a project says what replicates: settings old and new, fields, instances made in code, beat's entries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import django
import pytest
from celery import current_app
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import models
from django.db.migrations.writer import MigrationWriter
from django.test.utils import isolate_apps
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from replicator import conf, schedule, tasks
from replicator.conf import config, nearest
from replicator.models import MediaFile
from replicator.storage import ReplicatedStorage
from replicator.targets import get_target
from tests import ownproject
from tests.people.conftest import BACKEND, TARGETS

SHOW = """
import django; django.setup()
from django.core.files.storage import default_storage, storages
print(default_storage.location)
print(type(default_storage._wrapped).__qualname__, type(storages["default"]).__qualname__)
print(sorted(storages.backends))
"""


def started_with(tmp_path: Path, text: str) -> list[str]:
    """What a process with these settings takes for its default storage: its class, its place, the aliases."""
    settings_text = (
        'SECRET_KEY = "x"\nUSE_TZ = True\n'
        'INSTALLED_APPS = ["django.contrib.contenttypes", "django_celery_beat", "replicator"]\n'
        f'MEDIA_ROOT = "{tmp_path}/media"\nMEDIA_URL = "/media/"\n{text}\n'
    )
    done = ownproject.run(tmp_path, settings_text, SHOW)
    assert done.returncode == 0, done.stderr
    place, kind, aliases = done.stdout.splitlines()
    return [kind, place, aliases]


REPLICATED = "ReplicatedStorage ReplicatedStorage"


@pytest.mark.parametrize(
    "text",
    [
        f'DEFAULT_FILE_STORAGE = "{BACKEND}"',
        f'STORAGES = {{"default": {{"BACKEND": "{BACKEND}"}}}}',
        f'DEFAULT_FILE_STORAGE = "{BACKEND}"\nSTORAGES = {{"default": {{"BACKEND": "{BACKEND}"}}}}',
    ],
    ids=["old", "new", "both"],
)
def test_the_default_storage_replicates(tmp_path: Path, text: str) -> None:
    """Also with DEFAULT_FILE_STORAGE on Django 5.1 and later, which ignores that setting."""
    if "STORAGES = " in text and "DEFAULT_FILE_STORAGE" in text and django.VERSION < (5, 1):
        pytest.skip("Django itself refuses both")
    kind, place, _ = started_with(tmp_path, text)
    assert (kind, place) == (REPLICATED, f"{tmp_path}/media")


@pytest.mark.skipif(django.VERSION < (5, 1), reason="Django itself reads the setting")
def test_default_file_storage_leaves_the_other_entries(tmp_path: Path) -> None:
    others = '{"avatars": {"BACKEND": "django.core.files.storage.InMemoryStorage"}}'
    kind, _, aliases = started_with(tmp_path, f'DEFAULT_FILE_STORAGE = "{BACKEND}"\nSTORAGES = {others}')
    assert (kind, aliases) == (REPLICATED, "['avatars', 'default']")


@pytest.mark.skipif(django.VERSION < (5, 1), reason="Django itself reads the setting")
def test_storages_comes_before_default_file_storage(tmp_path: Path) -> None:
    """Both set and different: a check says so, and nothing changes behind the project's back."""
    plain = "django.core.files.storage.FileSystemStorage"
    text = f'DEFAULT_FILE_STORAGE = "{BACKEND}"\nSTORAGES = {{"default": {{"BACKEND": "{plain}"}}}}'
    assert started_with(tmp_path, text)[0] == "FileSystemStorage FileSystemStorage"
    elsewhere = f'{{"default": {{"BACKEND": "{BACKEND}", "OPTIONS": {{"location": "{tmp_path}/own"}}}}}}'
    text = f'DEFAULT_FILE_STORAGE = "{BACKEND}"\nSTORAGES = {elsewhere}'
    assert started_with(tmp_path, text)[1] == f"{tmp_path}/own"


def test_a_project_that_sets_neither_is_left_alone(tmp_path: Path) -> None:
    assert started_with(tmp_path, "")[0] == "FileSystemStorage FileSystemStorage"


# Fields and instances


class AvatarStorage(ReplicatedStorage):
    mogile_class = "avatar"


@pytest.mark.django_db(transaction=True)
def test_an_instance_made_in_code_belongs_to_the_default_alias(site: ReplicatedStorage) -> None:
    """``AvatarStorage()`` in a model: the default storage's files, with a class of their own."""
    name = AvatarStorage().save("me.png", ContentFile(b"face"))
    file = MediaFile.objects.get()
    assert (file.storage, file.name, file.mogile_class) == ("default", name, "avatar")
    assert site.exists(name)
    assert AvatarStorage(mogile_class="big").mogile_class == "big"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"location": "elsewhere"}, r"but its alias 'default' to .*: pass alias=\"…\" to AvatarStorage\(\)"),
        ({"base_url": "/faces/"}, r"shows its files at /faces/, but its alias 'default' at /media/: pass alias="),
        ({"alias": "avatar"}, r"STORAGES has no 'avatar': pass alias=\"…\" to AvatarStorage\(\)"),
        ({"alias": "staticfiles"}, r"STORAGES\['staticfiles'\] is no ReplicatedStorage: pass alias="),
        ({"targets": ["media1"]}, r"this storage has the targets \['media1'\], but its alias 'default' "),
    ],
)
def test_an_instance_that_is_not_where_its_alias_is_can_not_write(
    site: ReplicatedStorage, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    """Workers would not find its files. The message says what to write."""
    if "location" in options:
        options = {"location": str(tmp_path / "elsewhere")}
    storage = AvatarStorage(**options)
    with pytest.raises(ImproperlyConfigured, match=message):
        storage.save("me.png", ContentFile(b"face"))
    with pytest.raises(ImproperlyConfigured, match=message):
        storage.delete("me.png")
    assert not MediaFile.objects.exists()
    assert not list(tmp_path.rglob("me.png"))


def storage_for_avatars() -> Any:
    return storages["avatars"]


@pytest.mark.django_db(transaction=True)
def test_each_field_may_have_its_storage(site: ReplicatedStorage) -> None:
    """That of the settings, one by its alias, and an instance."""
    with isolate_apps("replicator"):

        class Profile(models.Model):
            picture = models.FileField(upload_to="pictures/")
            avatar = models.FileField(storage=storage_for_avatars, upload_to="faces/%Y/")
            badge = models.FileField(storage=AvatarStorage())

            class Meta:
                app_label = "replicator"

            def __str__(self) -> str:
                return "profile"

    profile = Profile()
    for field in (profile.picture, profile.avatar, profile.badge):
        field.save("a b.png", ContentFile(b"x"), save=False)
    year = str(profile.avatar.name).split("/")[1]
    assert set(MediaFile.objects.values_list("storage", "name", "mogile_class")) == {
        ("default", "pictures/a_b.png", ""),
        ("avatars", f"faces/{year}/a_b.png", "avatar"),
        ("default", "a_b.png", "avatar"),
    }
    assert profile.avatar.url == f"/media/avatars/faces/{year}/a_b.png"
    assert profile.picture.url == "/media/pictures/a_b.png"


def test_names_of_uploads_are_made_as_django_makes_them(site: ReplicatedStorage) -> None:
    assert site.generate_filename("faces/ü b?.png") == "faces/ü_b.png"
    assert site.generate_filename("faces\\me.png") == "faces/me.png"
    with pytest.raises(Exception, match="Detected path traversal attempt"):
        site.generate_filename("../me.png")


def test_a_storage_can_be_written_into_a_migration(site: ReplicatedStorage, tmp_path: Path) -> None:
    """A field's storage that is an instance: makemigrations writes what makes an equal one."""
    storage = ReplicatedStorage(alias="avatars", targets=["media1"], location=str(tmp_path))
    text, imports = MigrationWriter.serialize(storage)
    assert imports == {"import replicator.storage"}
    scope: dict[str, Any] = {}
    exec("\n".join(imports), scope)
    again = eval(text, scope)
    assert (again.alias, list(again.targets), again.location) == ("avatars", ["media1"], str(tmp_path))
    # What the autodetector compares: an equal one makes no new migration.
    assert again.deconstruct() == storage.deconstruct()
    path = MigrationWriter.serialize(AvatarStorage())[0]
    assert path == "tests.people.test_settings.AvatarStorage()"


# The settings as the code reads them


def test_settings_have_defaults_and_are_read_anew_when_they_change(settings: Any) -> None:
    del settings.REPLICATOR
    assert (config().targets, config().batch_size) == ({}, 250)
    assert config().node
    settings.REPLICATOR = {"TARGETS": TARGETS, "BATCH_SIZE": 7, "NODE": "web1"}
    assert (list(config().targets), config().batch_size, config().node) == (["media1", "media2"], 7, "web1")
    first = get_target("media1")
    assert get_target("media1") is first
    settings.REPLICATOR = {"TARGETS": TARGETS}
    assert get_target("media1") is not first


def test_wrong_settings_stop_what_would_use_them(settings: Any) -> None:
    """Without manage.py check too: a worker that starts with them says what to write."""
    settings.REPLICATOR = {"BATCH": 7}
    with pytest.raises(ImproperlyConfigured, match=r"unknown key 'BATCH'\. Did you mean 'BATCH_SIZE'\?"):
        config()


def test_every_number_of_the_settings_has_limits() -> None:
    """A setting added without them would take any value unseen."""
    no_numbers = {"targets", "node", "shared_media", "x_accel_redirect", "staging", "metrics_token", "flower_url"}
    assert set(conf.Config.__dataclass_fields__) - no_numbers == set(conf._NUMBERS)
    for name, (kind, least) in conf._NUMBERS.items():
        default = getattr(conf.Config(), name)
        assert isinstance(default, kind)
        assert default >= least


def test_the_nearest_name_is_found() -> None:
    assert nearest("medai1", ["media1", "mogile"]) == "Did you mean 'media1'?"
    assert nearest("xyz", ["media1", "mogile"]) == "Known: media1, mogile."
    assert nearest("xyz", []) == "There are none."


# Beat's entries


@pytest.mark.django_db
def test_beat_entries_are_seeded_once_and_keep_what_people_change() -> None:
    """The admin is where rhythms are changed; a migrate must not undo that."""
    PeriodicTask.objects.all().delete()
    assert schedule.seed() == [*schedule.PERIODS, *schedule.NIGHTLY]
    assert {t.name: t.interval.every for t in PeriodicTask.objects.exclude(interval=None)} == schedule.PERIODS
    slow = IntervalSchedule.objects.create(every=90, period="seconds")
    PeriodicTask.objects.filter(name="replicator.sweep").update(interval=slow, enabled=False)
    assert schedule.seed() == []
    sweep = PeriodicTask.objects.get(name="replicator.sweep")
    assert (sweep.interval.every, sweep.enabled) == (90, False)


@pytest.mark.django_db
def test_beat_entries_name_tasks_that_exist() -> None:
    assert tasks.sweep.name in schedule.PERIODS
    assert schedule.PERIODS.keys() | schedule.NIGHTLY.keys() <= set(current_app.tasks)
    assert apps.is_installed("django_celery_beat")
    assert set(PeriodicTask.objects.values_list("task", flat=True)) >= schedule.PERIODS.keys()
