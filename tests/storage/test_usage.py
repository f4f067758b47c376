"""Facts about the ways to use the storage: per field, by alias, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import models
from django.db.migrations.writer import MigrationWriter

from replicator.models import MediaFile
from replicator.storage import ReplicatedStorage
from tests.storage.conftest import contents, everything

pytestmark = pytest.mark.django_db(transaction=True)


class Avatars(ReplicatedStorage):
    """A storage of a project's own."""

    mogile_class = "avatar"


@pytest.fixture
def avatars(storage: ReplicatedStorage, settings: Any, tmp_path: Path) -> ReplicatedStorage:
    options = {"alias": "avatars", "location": str(tmp_path / "avatars"), "base_url": "/a/", "targets": ["media2"]}
    entry = {"BACKEND": f"{__name__}.Avatars", "OPTIONS": options}
    settings.STORAGES = {**settings.STORAGES, "avatars": entry}
    found = storages["avatars"]
    assert isinstance(found, ReplicatedStorage)
    return found


def test_a_file_field_saves_to_its_storage(avatars: ReplicatedStorage, tmp_path: Path) -> None:
    class Person(models.Model):  # noqa: DJ008  # nobody prints it
        photo = models.FileField(upload_to="photos/", storage=avatars, max_length=30)

        class Meta:
            app_label = "tests"
            managed = False

    person = Person()
    person.photo.save("my photo with a long name.jpg", ContentFile(b"1"), save=False)
    name = str(person.photo.name)
    assert name.startswith("photos/my_photo")
    assert len(name) <= 30
    assert person.photo.url == f"/a/{person.photo.name}"
    row = MediaFile.objects.get()
    assert (row.storage, row.name, row.mogile_class) == ("avatars", person.photo.name, "avatar")
    assert [replica.target for replica in row.replicas.all()] == ["media2"]
    person.photo.delete(save=False)
    assert everything(tmp_path / "avatars") == {}
    assert MediaFile.objects.get().deleted


def test_an_instance_made_by_hand_writes_as_its_alias(avatars: ReplicatedStorage) -> None:
    by_hand = Avatars(alias="avatars", location=avatars.location, base_url="/a/", targets=["media2"])
    assert by_hand.save("a.txt", ContentFile(b"1")) == "a.txt"
    assert MediaFile.objects.get().storage == "avatars"
    assert contents(avatars, "a.txt") == b"1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"location": "/elsewhere"}, "writes to /elsewhere"),
        ({"targets": ["media1"]}, "has the targets"),
        ({"alias": "nobody"}, "no 'nobody'"),
        ({"alias": "staticfiles"}, "is no ReplicatedStorage"),
        ({"targets": ["media3"]}, "Did you mean 'media[12]'"),
    ],
)
def test_an_instance_that_workers_would_not_find_is_refused(
    storage: ReplicatedStorage, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    """Promise 1: a save that no worker could deliver is no save. The message says what to write."""
    astray = ReplicatedStorage(**options)
    for call in (lambda: astray.save("a.txt", ContentFile(b"1")), lambda: astray.delete("a.txt")):
        with pytest.raises(ImproperlyConfigured, match=message):
            call()
    assert not MediaFile.objects.exists()
    assert everything(tmp_path) == {}


def test_a_migration_can_hold_it(storage: ReplicatedStorage) -> None:
    by_hand = ReplicatedStorage(alias="avatars", targets=["media1"], allow_overwrite=True)
    text, imports = MigrationWriter.serialize(by_hand)
    scope: dict[str, Any] = {}
    exec("\n".join(imports) + f"\nmade = {text}", scope)
    assert text.startswith("replicator.storage.ReplicatedStorage(")
    assert scope["made"].deconstruct() == by_hand.deconstruct()
