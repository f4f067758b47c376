"""How a project says that its static files replicate, and what the checks make of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.contrib.staticfiles.management.commands import collectstatic as djangos
from django.core.management import get_commands

from replicator.management.commands import collectstatic as ours
from replicator.storage import ReplicatedStorage
from tests import ownproject
from tests.people.test_checks import app, found

__all__ = ["app"]

BACKEND = "replicator.storage.ReplicatedStaticFilesStorage"
MANIFEST = "replicator.storage.ReplicatedManifestStaticFilesStorage"

SHOW = """
import django; django.setup()
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.files.storage import storages
from django.core.management import get_commands
print(type(storages["default"]).__qualname__, staticfiles_storage.__class__.__qualname__)
print(get_commands().get("collectstatic"))
"""


def started_with(tmp_path: Path, text: str, apps: str) -> tuple[str, str]:
    """The classes of a process's two storages, and whose command its collectstatic is."""
    settings_text = (
        'SECRET_KEY = "x"\nUSE_TZ = True\nSTATIC_URL = "/static/"\n'
        f'STATIC_ROOT = "{tmp_path}/static"\nMEDIA_ROOT = "{tmp_path}/media"\n'
        f'INSTALLED_APPS = ["django.contrib.contenttypes", "django_celery_beat", {apps}]\n{text}\n'
    )
    done = ownproject.run(tmp_path, settings_text, SHOW)
    assert done.returncode == 0, done.stderr
    classes, command = done.stdout.splitlines()
    return classes, command


BEHIND = '"django.contrib.staticfiles", "replicator"'
BEFORE = '"replicator", "django.contrib.staticfiles"'


@pytest.mark.parametrize("apps", [BEHIND, BEFORE], ids=["behind", "before"])
def test_staticfiles_storage_works_and_collectstatic_is_ours(tmp_path: Path, apps: str) -> None:
    """Also on Django 5.1 and later, which ignores the setting; and wherever the app is listed."""
    started = started_with(tmp_path, f'STATICFILES_STORAGE = "{BACKEND}"', apps)
    assert started == ("FileSystemStorage ReplicatedStaticFilesStorage", "replicator")


def test_both_old_settings_work_together(tmp_path: Path) -> None:
    text = f'STATICFILES_STORAGE = "{BACKEND}"\nDEFAULT_FILE_STORAGE = "replicator.storage.ReplicatedStorage"'
    assert started_with(tmp_path, text, BEHIND)[0] == "ReplicatedStorage ReplicatedStaticFilesStorage"


@pytest.mark.skipif(django.VERSION < (5, 1), reason="Django itself refuses both")
def test_an_entry_of_storages_comes_before_the_old_setting(tmp_path: Path) -> None:
    plain = "django.contrib.staticfiles.storage.StaticFilesStorage"
    others = f'STORAGES = {{"default": {{"BACKEND": "{plain}"}}, "staticfiles": {{"BACKEND": "{plain}"}}}}'
    classes, _ = started_with(tmp_path, f'STATICFILES_STORAGE = "{BACKEND}"\n{others}', BEHIND)
    assert classes == "StaticFilesStorage StaticFilesStorage"
    media = 'STORAGES = {"default": {"BACKEND": "replicator.storage.ReplicatedStorage"}}'
    classes, _ = started_with(tmp_path, f'STATICFILES_STORAGE = "{BACKEND}"\n{media}', BEHIND)
    assert classes == "ReplicatedStorage ReplicatedStaticFilesStorage"


def test_a_project_without_static_files_gets_no_collectstatic(tmp_path: Path) -> None:
    assert started_with(tmp_path, "", '"replicator"')[1] == "None"


# Checks


@pytest.fixture
def static(site: ReplicatedStorage, settings: Any, tmp_path: Path) -> Any:
    """A site whose static files replicate, too."""
    settings.STATIC_ROOT = str(tmp_path / "static")
    settings.STORAGES = {**settings.STORAGES, "staticfiles": {"BACKEND": BACKEND}}
    return settings


def test_a_right_configuration_is_silent(static: Any) -> None:
    assert found() == []
    static.STORAGES = {**static.STORAGES, "staticfiles": {"BACKEND": MANIFEST}}
    assert found() == []


def test_static_files_need_a_place(static: Any) -> None:
    static.STATIC_ROOT = None
    assert found(hints=True) == [
        "replicator.E008: STORAGES['staticfiles'] has no place for its files: STATIC_ROOT is not set. | "
        'Write STATIC_ROOT = BASE_DIR / "static", or give the storage the option "location".'
    ]
    static.STORAGES = {**static.STORAGES, "staticfiles": {"BACKEND": MANIFEST}}
    [message] = found()
    assert message.startswith("replicator.E005: STORAGES['staticfiles'] can't be made: You're using the staticfiles")


def test_static_files_and_media_in_one_place_are_refused(static: Any) -> None:
    static.STATIC_URL = "/media/avatars/"
    message = found()[0]
    assert message.startswith("replicator.E007: ")
    assert "STORAGES['staticfiles'] send different files to the same place at 'media1'" in message


@pytest.mark.skipif(django.VERSION < (5, 1), reason="Django itself reads the setting")
def test_two_settings_for_static_files(static: Any) -> None:
    static.STATICFILES_STORAGE = "django.contrib.staticfiles.storage.StaticFilesStorage"
    assert found() == [
        'replicator.E009: STATICFILES_STORAGE and STORAGES["staticfiles"] are both set, and differ: '
        "'django.contrib.staticfiles.storage.StaticFilesStorage' is ignored."
    ]
    static.STATICFILES_STORAGE = BACKEND
    assert found() == []


@pytest.fixture
def commands() -> Iterator[dict[str, Any]]:
    """Django's list, to be changed."""
    known: Any = get_commands()
    before = dict(known)
    yield known
    known.clear()
    known.update(before)


def test_another_app_s_collectstatic_is_told_of(static: Any, commands: dict[str, Any]) -> None:
    """One that knows nothing of ours deletes at targets what it then sends again."""
    commands["collectstatic"] = djangos.Command()
    [message] = found(hints=True)
    assert message.startswith("replicator.W025: collectstatic is a command of ")
    assert message.endswith("Derive its Command from replicator.management.commands.collectstatic.Command.")

    class Derived(ours.Command):
        pass

    commands["collectstatic"] = Derived()
    assert found() == []
    commands["collectstatic"] = "django.contrib.staticfiles"
    assert "W025: collectstatic is a command of django.contrib.staticfiles:" in found()[0]
