"""The settings of django_dust and django-resto: unchanged in a project, they are targets and options."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.utils.module_loading import import_string

from replicator import ancestors, checks, delivery
from replicator.ancestors import MOGILEFS, WEBDAV
from replicator.conf import config
from replicator.models import MediaFile, Replica
from replicator.storage import DistributedStorage, ReplicatedStorage
from replicator.targets import get_target
from tests import ownproject
from tests.people.conftest import Woken
from tests.servers import Embedded


@pytest.fixture
def dust(settings: Any, tmp_path: Path) -> Any:
    """The settings of a site that had django_dust, as its README says."""
    settings.MEDIA_ROOT = str(tmp_path / "media")
    settings.MEDIA_URL = "/media/"
    settings.DUST_HOSTS = ["media1", "10.0.0.2:8080"]
    settings.DUST_USE_LOCAL_FS = True
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": "replicator.storage.DistributedStorage"}}
    del settings.REPLICATOR
    return settings


def said() -> dict[str, str]:
    """What the checks of settings say: id → message and hint."""
    return {
        str(message.id).removeprefix("replicator."): f"{message.msg} {message.hint}"
        for message in checks.check()
        if str(message.id).rpartition(".")[2] in ("E001", "E005", "E050", "W029", "I023", "I026", "I027", "I028")
    }


def options_of(alias: str) -> dict[str, Any]:
    return dict(config().targets[alias].options)


# Hosts


def test_each_host_of_dust_hosts_is_a_target(dust: Any) -> None:
    """Its alias is the host as written, so that another order in the list changes nothing."""
    assert list(config().targets) == ["media1", "10.0.0.2:8080"]
    assert config().targets["media1"].backend == WEBDAV
    assert options_of("media1") == {"url": "http://media1"}
    assert options_of("10.0.0.2:8080") == {"url": "http://10.0.0.2:8080"}
    assert list(storages["default"].targets) == ["media1", "10.0.0.2:8080"]  # type: ignore[attr-defined]
    assert "DUST_HOSTS became REPLICATOR[\"TARGETS\"]: 'media1', '10.0.0.2:8080'." in said()["I026"]


def test_hosts_are_spoken_to_in_the_scheme_of_media_url(dust: Any) -> None:
    """As in django_dust, whose URLs are MEDIA_URL with another host; one that names its own keeps it."""
    dust.DUST_HOSTS = ["media1", "http://media2/"]
    assert options_of("media1") == {"url": "http://media1"}
    dust.MEDIA_URL = "https://www.example.com/media/"
    assert (options_of("media1"), options_of("http://media2/")) == (
        {"url": "https://media1"},
        {"url": "http://media2"},
    )


def test_dust_timeout_is_both_time_outs(dust: Any) -> None:
    dust.DUST_TIMEOUT = 2
    assert options_of("media1") == {"url": "http://media1", "connect_timeout": 2.0, "read_timeout": 2.0}
    message = said()["I026"]
    assert "DUST_HOSTS with DUST_TIMEOUT became" in message
    assert (
        f'"media1": {{"BACKEND": "{WEBDAV}", "OPTIONS": {{"url": \'http://media1\', "connect_timeout": 2.0' in message
    )
    get_target("media1")


def test_resto_media_hosts_are_targets_too(dust: Any) -> None:
    dust.DUST_HOSTS = None
    dust.RESTO_MEDIA_HOSTS = tuple(f"media-{number:02}:8080" for number in range(12))
    dust.RESTO_TIMEOUT = 4.5
    assert len(config().targets) == 12
    expected = {"url": "http://media-11:8080", "connect_timeout": 4.5, "read_timeout": 4.5}
    assert options_of("media-11:8080") == expected
    assert said()["I026"].startswith("RESTO_MEDIA_HOSTS with RESTO_TIMEOUT became")


def test_a_host_that_is_named_twice_is_one_target(dust: Any) -> None:
    """In one list, or by both ancestors; then django_dust's time-out is its."""
    dust.DUST_HOSTS = ["media1", "media1"]
    dust.RESTO_MEDIA_HOSTS = ["media2", "media1"]
    dust.DUST_TIMEOUT, dust.RESTO_TIMEOUT = 2, 9
    assert list(config().targets) == ["media1", "media2"]
    assert options_of("media1")["read_timeout"] == 2.0
    assert options_of("media2")["read_timeout"] == 9.0
    first = next(str(message.msg) for message in checks.check() if message.id == "replicator.I026")
    assert first.endswith("REPLICATOR[\"TARGETS\"]: 'media1'.")


def test_what_todays_hint_says_does_what_the_old_settings_did(dust: Any) -> None:
    """Pasted into REPLICATOR, it makes the same targets; then the old settings say nothing any more."""
    dust.DUST_TIMEOUT = 2
    before = dict(config().targets)
    hint = said()["I026"].partition("In today's words: ")[2].partition(". Choose")[0]
    dust.REPLICATOR = {"TARGETS": eval(f"{{{hint}}}")}
    assert dict(config().targets) == before
    message = said()["I028"]
    assert 'says nothing any more: REPLICATOR["TARGETS"] names all of DUST_HOSTS' in message
    dust.DUST_HOSTS = dust.DUST_TIMEOUT = None
    assert dict(config().targets) == before
    assert said().keys() == {"I027"}


def test_hosts_in_both_places_are_all_targets_and_a_warning(dust: Any) -> None:
    """Nothing that somebody lists is left out in silence."""
    one = {"BACKEND": WEBDAV, "OPTIONS": {"url": "https://media1"}}
    other = {"BACKEND": WEBDAV, "OPTIONS": {"url": "http://10.0.0.3"}}
    dust.REPLICATOR = {"TARGETS": {"first": one, "third": other}}
    # media1 is there under an alias, whatever the scheme; the other one is not.
    assert list(config().targets) == ["first", "third", "10.0.0.2:8080"]
    assert said()["W029"].startswith(
        "DUST_HOSTS names '10.0.0.2:8080', and REPLICATOR[\"TARGETS\"] other hosts: 'first', 'third'."
    )
    dust.REPLICATOR = {"TARGETS": {"first": one, "s3": {"BACKEND": "replicator.testing.MemoryTarget"}}}
    dust.DUST_HOSTS = ["media1"]
    assert list(config().targets) == ["first", "s3"]
    assert "W029" not in said()


def test_hosts_and_mogilefs_go_together(dust: Any) -> None:
    dust.MOGILEFS_DOMAIN, dust.MOGILEFS_TRACKERS = "production", ["10.0.0.5:7001"]
    assert list(config().targets) == ["media1", "10.0.0.2:8080", "mogilefs"]
    assert config().targets["mogilefs"].backend == MOGILEFS
    assert {"I023", "I026"} <= said().keys()


@pytest.mark.parametrize(
    ("hosts", "message", "cure"),
    [
        ("media1", "DUST_HOSTS is a string, not a list.", "DUST_HOSTS = ['media1']"),
        ("media1, u:p@media2:80", "DUST_HOSTS is a string, not a list.", "DUST_HOSTS = ['…@media2:80']"),
        ("media1:80,media2", "DUST_HOSTS is a string, not a list.", "DUST_HOSTS = ['media1:80', 'media2']"),
        ("http://me:secret@media1", "DUST_HOSTS is a string", "http://…@media1"),
        (3, "DUST_HOSTS is no list of hosts.", 'DUST_HOSTS = ["media1", "10.0.0.2:8080"]'),
        ([b"media1"], "DUST_HOSTS is no list of hosts.", 'DUST_HOSTS = ["media1", "10.0.0.2:8080"]'),
        (["http://me:secret@media1"], "has 'http://…@media1', which holds credentials", '"username" and "password"'),
        (["me:secret@media1"], "has '…@media1', which holds credentials", '"username" and "password"'),
        (["ftp://media1"], "has the scheme 'ftp'", 'Write "media1", or "https://media1"'),
        (["media1/files/"], "which has a path", "the path is that of MEDIA_URL"),
        (["media1?x"], "which has a path", "the path is that of MEDIA_URL"),
        (["media1:http"], "which is no host", "DUST_HOSTS = ["),
        (["media 1"], "which is no host", "DUST_HOSTS = ["),
        ([""], "which is no host", "DUST_HOSTS = ["),
        (["[::1"], "which is no host", "DUST_HOSTS = ["),
        (["m" * 65], "too long for an alias", 'REPLICATOR["TARGETS"]'),
    ],
)
def test_a_wrong_list_of_hosts_is_an_error_that_says_what_to_write(
    dust: Any, hosts: object, message: str, cure: str
) -> None:
    """For manage.py check, and for a worker that starts without it. Promise 9: a password is not repeated."""
    dust.DUST_HOSTS = hosts
    error = said()["E001"]
    assert message in error
    assert cure in error
    assert "secret" not in error
    with pytest.raises(ImproperlyConfigured) as raised:
        config()
    assert message in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("setting", "value", "cure"),
    [
        ("DUST_TIMEOUT", "2", "DUST_TIMEOUT = 2"),
        ("DUST_TIMEOUT", True, "DUST_TIMEOUT = 2"),
        ("RESTO_TIMEOUT", 0, "RESTO_TIMEOUT = 2"),
        ("RESTO_TIMEOUT", float("nan"), "RESTO_TIMEOUT = 2"),
        ("DUST_USE_LOCAL_FS", "yes", "Write True or False"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_the_setting(dust: Any, setting: str, value: object, cure: str) -> None:
    setattr(dust, setting, value)
    error = said()["E001"]
    assert error.startswith(f"{setting} is {value!r}.")
    assert cure in error


def test_one_alias_for_two_hosts_is_an_error(dust: Any) -> None:
    dust.REPLICATOR = {"TARGETS": {"media1": {"BACKEND": WEBDAV, "OPTIONS": {"url": "http://10.0.0.9"}}}}
    assert "DUST_HOSTS has 'media1', and REPLICATOR[\"TARGETS\"]['media1'] is something else." in said()["E001"]


@pytest.mark.parametrize("ours", [[], {"TARGETS": []}, {"TARGETS": {"a": 3}}, {"TARGETS": {"a": {"OPTIONS": 3}}}])
def test_broken_settings_beside_the_old_ones_are_still_told(dust: Any, ours: object) -> None:
    """One mistake does not hide behind another's traceback."""
    dust.MOGILEFS_DOMAIN, dust.MOGILEFS_TRACKERS = "production", ["10.0.0.5:7001"]
    dust.REPLICATOR = ours
    assert "REPLICATOR" in said()["E001"]


def test_the_same_host_is_known_again() -> None:
    """Whichever way it is written; a port of its own is another server."""
    same = ["http://media1", "https://media1", "http://media1:80/dav", "https://MEDIA1:443/"]
    assert {ancestors.place_of(url) for url in same} == {"media1"}
    assert ancestors.place_of("http://media1:8080") == "media1:8080"
    assert ancestors.place_of("http://[::1") == ""


# What nothing reads any more


@pytest.mark.parametrize(
    ("setting", "value", "instead"),
    [
        ("DUST_RETRY_STORAGE_BACKEND", "django_dust.backends.db", "replicator import-retries"),
        ("RESTO_FATAL_EXCEPTIONS", False, 'the option "wait"'),
        ("RESTO_SHOW_TRACEBACK", True, "replicator status"),
    ],
)
def test_a_setting_that_nothing_reads_is_answered(dust: Any, setting: str, value: object, instead: str) -> None:
    setattr(dust, setting, value)
    message = said()["I028"]
    assert message.startswith(f"{setting} says nothing any more.")
    assert instead in message


@pytest.mark.parametrize("path", ancestors.CLASSES)
def test_a_storage_that_is_not_installed_any_more_is_an_error_that_names_the_new_one(
    dust: Any, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the first upload would tell. What it names exists."""
    # Benchmarks have it installed, as a peer.
    for module in ("django_resto", "django_resto.storage"):
        monkeypatch.setitem(sys.modules, module, None)
    dust.STORAGES = {**dust.STORAGES, "default": {"BACKEND": path}}
    error = said()["E050"]
    assert error.startswith(f"STORAGES['default'] names {path}, which can't be imported.")
    assert ancestors.CLASSES[path] in error
    assert issubclass(import_string(ancestors.CLASSES[path]), ReplicatedStorage)


# The storage


def test_dust_use_local_fs_is_keep_local(dust: Any) -> None:
    """False unless set, as in django_dust; an option, by either name, comes first."""
    assert DistributedStorage().keep_local is True
    assert "became the option \"keep_local\": True of STORAGES['default']" in said()["I027"]
    dust.DUST_USE_LOCAL_FS = False
    assert DistributedStorage().keep_local is False
    del dust.DUST_USE_LOCAL_FS
    assert DistributedStorage().keep_local is False
    assert DistributedStorage(use_local=True).keep_local is True
    assert DistributedStorage(keep_local=True).keep_local is True
    dust.DUST_USE_LOCAL_FS = True
    assert DistributedStorage(use_local=False).keep_local is False


def test_dust_use_local_fs_without_its_storage_is_told(dust: Any) -> None:
    dust.STORAGES["default"]["OPTIONS"] = {"keep_local": False}
    assert "no storage in STORAGES is a DistributedStorage that goes by it" in said()["I028"]
    dust.DUST_USE_LOCAL_FS = False
    dust.STORAGES = {**dust.STORAGES, "default": {"BACKEND": "replicator.storage.ReplicatedStorage"}}
    assert said()["I028"].startswith("DUST_USE_LOCAL_FS says nothing: no storage in STORAGES is a DistributedStorage")


def test_hosts_in_code_are_refused_with_what_to_write(dust: Any) -> None:
    """What django_dust and django-resto took as their first argument."""
    for build in (lambda: DistributedStorage(["media1"]), lambda: DistributedStorage(hosts=["media1"])):
        with pytest.raises(TypeError, match=r"hosts are targets now: write targets="):
            build()


@pytest.mark.django_db(transaction=True)
def test_a_distributed_storage_without_hosts_says_so(dust: Any) -> None:
    """It may keep nothing here, so there would be no place at all."""
    dust.DUST_HOSTS = []
    assert 'write DUST_HOSTS = ["media1"]' in said()["E005"]
    with pytest.raises(ImproperlyConfigured, match="has no host to send its files to"):
        DistributedStorage().save("a.txt", ContentFile(b"x"))
    assert not list(Path(dust.MEDIA_ROOT).rglob("a.txt"))


def test_default_file_storage_and_dust_hosts_are_all_that_is_needed(tmp_path: Path) -> None:
    """A settings file of 2011 with one name changed, in a process of its own, on any Django."""
    text = f"""
SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django_celery_beat", "replicator"]
MEDIA_ROOT, MEDIA_URL = "{tmp_path}/media", "/media/"
DEFAULT_FILE_STORAGE = "replicator.storage.DistributedStorage"
DUST_HOSTS = ["media1", "media2"]
DUST_TIMEOUT = 2
DUST_USE_LOCAL_FS = True
DUST_RETRY_STORAGE_BACKEND = "django_dust.backends.db"
"""
    script = """
import django; django.setup()
from django.core.files.storage import default_storage
kept = default_storage.keep_local
print(type(default_storage._wrapped).__qualname__, kept, list(default_storage.targets))
"""
    done = ownproject.run(tmp_path, text, script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "DistributedStorage True ['media1', 'media2']"


# On real hosts


@pytest.fixture
def hosts(dust: Any, woken: Woken) -> Iterator[list[Embedded]]:
    with Embedded() as one, Embedded() as two:
        dust.DUST_HOSTS = [f"127.0.0.1:{host.port}" for host in (one, two)]
        yield [one, two]


@pytest.mark.django_db(transaction=True)
def test_what_django_dust_left_on_the_hosts_can_be_read(dust: Any, hosts: list[Embedded]) -> None:
    """Without local files: before it is adopted, too. With them, no host is asked for what is not here."""
    for host in hosts:
        host.write("media/2011/old.txt", b"hello")
    dust.DUST_USE_LOCAL_FS = False
    storage = storages["default"]
    with storage.open("2011/old.txt") as file:
        assert file.read() == b"hello"
    assert storage.size("2011/old.txt") == 5
    with pytest.raises(FileNotFoundError):
        storage.size("2011/never.txt")
    kept = DistributedStorage(keep_local=True)
    for read in (kept.open, kept.size):
        with pytest.raises(FileNotFoundError):
            read("2011/old.txt")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("keep", [True, False])
def test_files_are_where_django_dust_put_them(dust: Any, hosts: list[Embedded], keep: bool) -> None:
    """At MEDIA_URL's path on every host; on this disk with DUST_USE_LOCAL_FS, else only until they are there."""
    dust.DUST_USE_LOCAL_FS = keep
    storage = storages["default"]
    assert isinstance(storage, ReplicatedStorage)
    name = storage.save("2011/a b.txt", ContentFile(b"hello"))
    here = Path(storage.path(name))
    assert here.read_bytes() == b"hello"
    for alias in config().targets:
        delivery.deliver(alias)
    for host in hosts:
        assert host.files() == {"media/2011/a b.txt": b"hello"}
    assert not Replica.objects.backlog().exists()
    assert here.exists() is keep
    with storage.open(name) as file:
        assert file.read() == b"hello"
    assert storage.exists(name)
    assert storage.size(name) == 5
    storage.delete(name)
    for alias in config().targets:
        delivery.deliver(alias)
    assert [host.files() for host in hosts] == [{}, {}]
    assert MediaFile.objects.get().deleted
    assert not storage.exists(name)
