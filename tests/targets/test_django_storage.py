"""Django storages as targets: names, folders, the Storage API, and what the checks say."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, InMemoryStorage, storages
from storages.backends.s3 import S3Storage

from replicator import ledger, wake
from replicator.delivery.run import deliver
from replicator.errors import Corrupt, LeaseEnded, LocalChanged, Refused, Unavailable
from replicator.models import Replica
from replicator.targets import get_target
from replicator.targets.base import TargetFile
from replicator.targets.django_storage import StorageTarget
from replicator.testing import BytesContent, FailingContent
from tests.targets.conftest import file, put

BACKEND = "replicator.targets.django_storage.StorageTarget"
FOLDER = "django.core.files.storage.FileSystemStorage"
KEY = "media/a b/file.txt"

Configure = Callable[..., StorageTarget]


@pytest.fixture
def configure(settings: Any, tmp_path: Path) -> Configure:
    """Settings with the storage ``copies`` and the target ``backup`` there; the target."""
    settings.MEDIA_ROOT = str(tmp_path / "media")

    def configured(backend: str = FOLDER, target: dict[str, Any] | None = None, **options: Any) -> StorageTarget:
        if backend == FOLDER:
            options.setdefault("location", str(tmp_path / "copies"))
        settings.STORAGES = {**settings.STORAGES, "copies": {"BACKEND": backend, "OPTIONS": options}}
        entry = {"BACKEND": BACKEND, "OPTIONS": {"storage": "copies", **(target or {})}}
        settings.REPLICATOR = {"TARGETS": {"backup": entry}}
        made = get_target("backup")
        assert isinstance(made, StorageTarget)
        return made

    return configured


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Names.


@pytest.mark.parametrize(
    ("options", "prefix", "name"),
    [
        ({}, "/media/up loads/", "media/up loads/é.txt"),
        ({}, "/", "é.txt"),
        ({"base_url": "/media/"}, "/media/", "é.txt"),
        ({"base_url": "https://cdn.example.com/media"}, "/media/avatars/", "avatars/é.txt"),
        ({"prefix": "copies/of 2026"}, "/media/", "copies/of 2026/media/é.txt"),
        ({"prefix": "/copies/", "base_url": "/media/"}, "/media/", "copies/é.txt"),
    ],
)
def test_a_name_is_prefix_and_path(options: dict[str, Any], prefix: str, name: str) -> None:
    """The path of the file's URL below ``base_url``, in the folder ``prefix``."""
    target = StorageTarget("backup", storage="copies", **options)
    assert target.name_of(TargetFile("default", "é.txt", prefix=prefix)) == name


@pytest.mark.parametrize("prefix", ["/static/", "/", "/mediator/"])
def test_a_path_outside_of_base_url_is_refused(prefix: str) -> None:
    """It would get the name of a file inside."""
    target = StorageTarget("backup", storage="copies", base_url="/media/")
    with pytest.raises(Refused, match="base_url"):
        target.name_of(TargetFile("default", "x", prefix=prefix))


@pytest.mark.parametrize(("name", "prefix"), [("../x", "/"), ("\udcff", "/"), ("x", "/a/../../b/"), ("x", "/a//b/")])
def test_an_unsafe_name_is_refused(name: str, prefix: str) -> None:
    """Promise 6: nothing outside of the target's own place, whoever wrote the settings."""
    with pytest.raises(Refused):
        StorageTarget("backup", storage="copies").name_of(TargetFile("default", name, prefix=prefix))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"storage": ""}, "s3-backup"),
        ({"storage": 3}, "s3-backup"),
        ({"prefix": "../up"}, "a folder"),
        ({"prefix": None}, "copies/"),
        ({"read_timeout": 0}, "above 0"),
        ({"min_rate": "fast"}, "above 0"),
    ],
)
def test_a_wrong_option_is_said_when_the_target_is_made(options: dict[str, Any], words: str) -> None:
    """With what to write instead."""
    with pytest.raises((TypeError, ValueError), match=words):
        StorageTarget("backup", **{"storage": "copies", **options})


# A folder.


def test_a_folder_has_the_files_and_nothing_else(configure: Configure, tmp_path: Path) -> None:
    """No temporary file stays, whatever happened."""
    target = configure()
    put(target, b"body")
    put(target, b"body 2")
    with pytest.raises(KeyError):
        target.put(file("other.txt"), FailingContent(bytes(10), 10, KeyError()))
    with pytest.raises(LocalChanged):
        target.put(file("other.txt"), BytesContent(bytes(10), size=11))
    assert files_in(tmp_path / "copies") == {KEY: b"body 2"}


@pytest.mark.parametrize("allowed", range(2))
def test_a_lease_that_ends_while_writing_changes_nothing(configure: Configure, tmp_path: Path, allowed: int) -> None:
    """Promise 2: asked at the start, and before the old content is replaced."""
    target = configure()
    put(target, b"newer")
    answers = iter([None] * allowed)

    def may_send() -> None:
        if next(answers, "ended"):
            raise LeaseEnded

    with pytest.raises(LeaseEnded):
        put(target, b"older", may_send=may_send)
    assert files_in(tmp_path / "copies") == {KEY: b"newer"}


def test_permissions_are_the_storages(configure: Configure, tmp_path: Path) -> None:
    """Of files and of the folders that are made."""
    put(configure(file_permissions_mode=0o640, directory_permissions_mode=0o750), b"body")
    place = tmp_path / "copies" / KEY
    assert place.stat().st_mode & 0o777 == 0o640
    assert place.parent.stat().st_mode & 0o777 == 0o750


def test_a_folder_in_a_files_place_is_named(configure: Configure, tmp_path: Path) -> None:
    """Before a byte is written; and the other way round."""
    target = configure()
    put(target, b"body", "a/b")
    with pytest.raises(Refused, match="a folder has this name"):
        put(target, b"body", "a")
    with pytest.raises(Refused, match="a file is where a folder"):
        put(target, b"body", "a/b/c")
    assert target.stat(file("a")) is None
    assert files_in(tmp_path / "copies") == {"media/a/b": b"body"}


@pytest.mark.parametrize(
    ("number", "error", "words"),
    [
        (errno.ENOSPC, Unavailable, "disk is full"),
        (errno.EDQUOT, Unavailable, "disk is full"),
        (errno.EIO, Unavailable, "Input/output error"),
        (errno.EROFS, Unavailable, "Read-only"),
        (errno.ESTALE, Unavailable, "Stale"),
        (errno.EACCES, Refused, "owner"),
        (errno.ENAMETOOLONG, Refused, "rename"),
    ],
)
def test_each_error_says_what_happens_next(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type, words: str
) -> None:
    """A full disk may have room later; who may not write needs a person. What was there stays."""
    target = configure()
    put(target, b"old")

    def failing(descriptor: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr("os.write", failing)
        with pytest.raises(error, match=words) as caught:
            put(target, b"new")
    assert not caught.value.doubt
    assert files_in(tmp_path / "copies") == {KEY: b"old"}


def test_a_folder_that_cannot_be_written_to_is_down(configure: Configure, tmp_path: Path) -> None:
    """It need not be there yet."""
    target = configure(location=str(tmp_path / "not" / "yet"))
    target.probe()
    assert not (tmp_path / "not").exists()
    (tmp_path / "not").write_bytes(b"in the way")
    with pytest.raises(Unavailable, match="not a folder"):
        target.probe()


def test_a_folder_of_another_user_is_down(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said before any file fails. (Tests may run as root, who may write everywhere.)"""
    target = configure()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(Unavailable, match="cannot be written to"):
        target.probe()


@pytest.mark.parametrize("way", ["itself", "by a link"])
def test_the_source_is_never_touched(configure: Configure, tmp_path: Path, way: str) -> None:
    """Promise 6: a target that is the source's own folder would delete what is to be replicated."""
    source = tmp_path / "media"
    source.mkdir()
    (source / "x").write_bytes(b"the only one")
    location = source if way == "itself" else tmp_path / "link"
    if way == "by a link":
        location.symlink_to(source)
    target = configure(location=str(location), target={"base_url": "/media/"})
    for call in (lambda: put(target, b"other", "x"), lambda: target.delete(file("x"))):
        with pytest.raises(Refused, match="the file itself"):
            call()
    assert files_in(source) == {"x": b"the only one"}


def test_a_link_is_replaced_not_followed(configure: Configure, tmp_path: Path) -> None:
    """What it leads to is not the target's."""
    target = configure()
    outside = tmp_path / "outside"
    outside.write_bytes(b"kept")
    put(target, b"body")
    place = tmp_path / "copies" / KEY
    place.unlink()
    place.symlink_to(outside)
    put(target, b"body")
    assert (outside.read_bytes(), place.read_bytes(), place.is_symlink()) == (b"kept", b"body", False)


# The Storage API.


class Renaming(InMemoryStorage):
    """Gives every file a name of its own."""

    def _save(self, name: str, content: Any) -> str:
        return str(super()._save(f"{name}.renamed", content))


class Overwriting(InMemoryStorage):
    """Replaces what is there, as many object stores do. ``calls``: what was asked to change it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.calls: list[str] = []

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return name

    def _save(self, name: str, content: Any) -> str:
        self.calls.append(f"save {content.content_type} {content.size}")
        return str(super()._save(name, content))

    def delete(self, name: str) -> None:
        self.calls.append("delete")
        super().delete(name)


class Broken(InMemoryStorage):
    """``error``: what it raises instead of doing anything."""

    error: Exception

    def exists(self, name: str) -> bool:
        raise self.error

    def save(self, *args: Any, **kwargs: Any) -> str:
        raise self.error


class Losing(InMemoryStorage):
    """Keeps half of what it is given."""

    def size(self, name: str) -> int:
        return int(super().size(name)) // 2


class Encrypting(FileSystemStorage):
    """A folder whose files only it can read."""

    def _save(self, name: str, content: Any) -> str:
        return str(super()._save(name, ContentFile(content.read()[::-1])))

    def _open(self, name: str, mode: str = "rb") -> Any:
        with super()._open(name, mode) as held:
            return ContentFile(held.read()[::-1])


class OwnS3(S3Storage):
    """An S3 whose class has something to do with each save."""

    def _save(self, name: str, content: Any) -> str:
        return str(super()._save(name, content))


def test_a_storage_that_renames_is_corrupt(configure: Configure) -> None:
    """What it saved under another name is removed again, and the message says both."""
    target = configure(f"{__name__}.Renaming")
    with pytest.raises(Corrupt, match=r"'copies' saved media/a b/file\.txt as media/a b/file\.txt\.renamed"):
        put(target, b"body")
    assert storages["copies"].listdir("media/a b") == ([], [])


def test_a_storage_that_overwrites_is_not_asked_to_delete(configure: Configure) -> None:
    """A reader misses nothing; and the type goes along."""
    target = configure(f"{__name__}.Overwriting")
    put(target, b"old")
    put(target, b"newer")
    storage: Any = storages["copies"]
    assert storage.calls == ["save text/plain 3", "save text/plain 5"]
    assert storage.open(KEY).read() == b"newer"


def test_a_file_of_another_length_is_corrupt(configure: Configure) -> None:
    """Verified at least by size."""
    with pytest.raises(Corrupt, match="4 bytes were sent, and the storage has 2"):
        put(configure(f"{__name__}.Losing"), b"body")


@pytest.mark.parametrize(
    ("raised", "error", "doubt"),
    [
        (ConnectionError("https://me:hunter2@example.com"), Unavailable, True),
        (TimeoutError("hunter2"), Unavailable, True),
        (RuntimeError("hunter2"), Unavailable, True),
        (OSError(errno.ENOSPC, "hunter2"), Unavailable, False),
        (PermissionError("hunter2"), Refused, False),
        (NotImplementedError("hunter2"), Refused, False),
    ],
)
def test_what_a_storage_raises_is_sorted(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, raised: Exception, error: type, doubt: bool
) -> None:
    """Promise 9: its own text is not shown. What a save began may still take effect."""
    monkeypatch.setattr(Broken, "error", raised, raising=False)
    target = configure(f"{__name__}.Broken")
    with monkeypatch.context() as patch:
        patch.setattr(Broken, "exists", lambda self, name: False)
        with pytest.raises(error) as caught:
            put(target, b"body")
        assert caught.value.doubt == doubt
        assert "hunter2" not in str(caught.value)
    for call in (target.probe, lambda: target.stat(file()), lambda: target.delete(file())):
        with pytest.raises(error) as caught:
            call()
        assert not caught.value.doubt
        assert "hunter2" not in str(caught.value)


def test_a_mistake_in_a_storage_is_not_hidden(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Delivery logs where it is."""
    monkeypatch.setattr(Broken, "error", TypeError("a mistake"), raising=False)
    with pytest.raises(TypeError):
        configure(f"{__name__}.Broken").probe()


def test_a_class_that_saves_its_own_way_is_not_passed_by(configure: Configure, tmp_path: Path) -> None:
    """Written straight to its folder, files would lie there unencrypted."""
    target = configure(f"{__name__}.Encrypting", location=str(tmp_path / "copies"))
    put(target, b"secret")
    assert files_in(tmp_path / "copies") == {KEY: b"terces"}
    with target.open(file()) as reader:
        assert reader.read() == b"secret"


# Checks.


def problems(settings: Any, **targets: Any) -> list[tuple[str, str]]:
    """Last part of the id and the message of what each target's check says."""
    settings.REPLICATOR = {
        "TARGETS": {alias: {"BACKEND": BACKEND, "OPTIONS": options} for alias, options in targets.items()}
    }
    return [(str(m.id).rpartition(".")[2], str(m.msg)) for alias in targets for m in get_target(alias).check()]


def test_settings_that_work_pass(settings: Any, tmp_path: Path) -> None:
    """A folder beside the media, a bucket, and two targets in parts of one bucket."""
    s3 = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {"bucket_name": "b"}}
    settings.MEDIA_ROOT = str(tmp_path / "media")
    settings.STORAGES = {
        **settings.STORAGES,
        "copies": {"BACKEND": FOLDER, "OPTIONS": {"location": str(tmp_path / "copies")}},
        "s3": s3,
    }
    targets = {"a": {"storage": "copies"}, "b": {"storage": "s3"}, "c": {"storage": "s3", "prefix": "copies/"}}
    assert problems(settings, **targets) == []


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (None, "which STORAGES does not have. Did you mean 'copies'?"),
        ({"BACKEND": "no.such.Storage"}, "can't be made"),
        ({"BACKEND": FOLDER, "OPTIONS": {"locaton": "/x"}}, "locaton"),
        ({"BACKEND": "replicator.storage.ReplicatedStorage", "OPTIONS": {"alias": "copy"}}, "replicates itself"),
        ({"BACKEND": "storages.backends.s3.S3Storage"}, "no bucket_name"),
        ({"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {"bucket": "b"}}, "bucket"),
        (
            {
                "BACKEND": "storages.backends.s3.S3Storage",
                "OPTIONS": {"bucket_name": "b", "endpoint_url": "minio:9000"},
            },
            "no URL",
        ),
        (
            {
                "BACKEND": "storages.backends.s3.S3Storage",
                "OPTIONS": {"bucket_name": "b", "endpoint_url": "http://me:hunter2@minio:9000"},
            },
            "access_key and secret_key",
        ),
    ],
)
def test_a_storage_that_cannot_be_used_is_an_error(settings: Any, tmp_path: Path, entry: Any, words: str) -> None:
    """E001 at ``check``; who does not look there reads the same of each file, which fails at once."""
    settings.MEDIA_ROOT = str(tmp_path)
    copies = {"BACKEND": FOLDER, "OPTIONS": {"location": "/copies"}}
    settings.STORAGES = {**settings.STORAGES, "copies": copies, **({"copy": entry} if entry else {})}
    [(number, message)] = problems(settings, backup={"storage": "copy"})
    assert number == "E001"
    assert words in message
    assert "hunter2" not in message
    with pytest.raises(Refused) as caught:
        put(get_target("backup"), b"body")
    assert words in str(caught.value)


def test_without_django_storages_the_message_says_so(tmp_path: Path) -> None:
    """The package does not need it, nor boto3, until a storage does."""
    script = """
import sys
sys.modules["boto3"] = sys.modules["storages"] = None
import django
from django.conf import settings
entry = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {"bucket_name": "b"}}
settings.configure(STORAGES={"s3": entry}, INSTALLED_APPS=["replicator"])
django.setup()
from replicator.targets.django_storage import StorageTarget
print(StorageTarget("backup", storage="s3").check()[0].msg)
"""
    checkout = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=checkout, capture_output=True, text=True, timeout=180)
    assert "can't be made" in done.stdout, done.stderr
    assert "storages" in done.stdout


@pytest.mark.parametrize(
    ("location", "options"),
    [
        ("media", {"base_url": "/media/"}),
        ("", {}),
        ("media/below", {}),
        ("", {"prefix": "media/copies"}),
    ],
)
def test_a_sources_own_folder_is_an_error(
    settings: Any, tmp_path: Path, location: str, options: dict[str, Any]
) -> None:
    """E003: the same, one inside of the other; files would be overwritten, deleted, or copied over and over."""
    settings.MEDIA_ROOT = str(tmp_path / "media")
    settings.STORAGES = {
        **settings.STORAGES,
        "copies": {"BACKEND": FOLDER, "OPTIONS": {"location": str(tmp_path / location)}},
    }
    [(number, message)] = problems(settings, backup={"storage": "copies", **options})
    assert number == "E003"
    assert "STORAGES['default']" in message


def test_a_source_outside_of_base_url_is_an_error(settings: Any, tmp_path: Path) -> None:
    """E002: every file of that storage would fail."""
    settings.MEDIA_ROOT = str(tmp_path / "media")
    settings.STORAGES = {
        **settings.STORAGES,
        "copies": {"BACKEND": FOLDER, "OPTIONS": {"location": str(tmp_path / "copies")}},
    }
    [(number, message)] = problems(settings, backup={"storage": "copies", "base_url": "/files/"})
    assert number == "E002"
    assert "/media/x is not below /files/" in message


def test_options_that_have_no_effect_are_named(settings: Any) -> None:
    """W005: gzip. W006: a class of its own, whose requests boto may repeat."""
    bucket = {"bucket_name": "b"}
    settings.STORAGES = {
        **settings.STORAGES,
        "a": {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {**bucket, "gzip": True}},
        "b": {"BACKEND": f"{__name__}.OwnS3", "OPTIONS": bucket},
    }
    found = problems(settings, one={"storage": "a"}, other={"storage": "b"})
    assert [number for number, _ in found] == ["W005", "W006"]


def test_an_unknown_option_is_refused_with_the_nearest(settings: Any) -> None:
    """As of every kind of target."""
    settings.REPLICATOR = {"TARGETS": {"backup": {"BACKEND": BACKEND, "OPTIONS": {"storge": "x"}}}}
    with pytest.raises(ImproperlyConfigured, match="Did you mean 'storage'"):
        get_target("backup")


# With the ledger.


@pytest.mark.django_db(transaction=True)
def test_saves_and_deletes_reach_the_storage(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at every target: what is saved and deleted here is there."""
    monkeypatch.setattr(wake, "announce", lambda targets: None)
    configure(target={"base_url": "/media/"})
    storage = storages["default"]
    storage.save("a/x.txt", ContentFile(b"one"))
    storage.save("y.txt", ContentFile(b"two"))
    deliver("backup")
    assert files_in(tmp_path / "copies") == {"a/x.txt": b"one", "y.txt": b"two"}
    storage.delete("y.txt")
    deliver("backup")
    assert files_in(tmp_path / "copies") == {"a/x.txt": b"one"}
    assert {replica.status for replica in Replica.objects.all()} == {Replica.Status.SYNCED}
    assert ledger.due_targets(["backup"]) == []
