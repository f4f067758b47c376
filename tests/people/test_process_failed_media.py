"""``manage.py process_failed_media``: the cron job of a site that comes from django_dust, on real media hosts."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from replicator import conf
from replicator.conf import config
from replicator.ledger import health, life
from replicator.models import MediaFile, Replica, TargetState
from replicator.storage import DistributedStorage
from tests.people.conftest import Woken
from tests.servers import Embedded

pytestmark = pytest.mark.django_db(transaction=True)
CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def _hosts() -> Iterator[list[Embedded]]:
    with Embedded() as one, Embedded() as two:
        yield [one, two]


@pytest.fixture
def hosts(_hosts: list[Embedded], settings: Any, tmp_path: Path, woken: Woken) -> list[Embedded]:
    """Two media hosts, of a site with django_dust's settings and no worker."""
    for host in _hosts:
        host.start()
        host.wipe()
    settings.MEDIA_ROOT = str(tmp_path / "media")
    settings.MEDIA_URL = "/media/"
    settings.DUST_HOSTS = [f"127.0.0.1:{host.port}" for host in _hosts]
    settings.DUST_TIMEOUT = 2
    settings.DUST_USE_LOCAL_FS = True
    settings.REPLICATOR = {"DOWN_AFTER": 2, "RETRY_BASE": 0.01, "RETRY_CAP": 0.01}
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": "replicator.storage.DistributedStorage"},
    }
    return _hosts


def storage() -> DistributedStorage:
    found = storages["default"]
    assert isinstance(found, DistributedStorage)
    return found


def process(*options: str) -> str:
    out = io.StringIO()
    call_command("process_failed_media", *options, stdout=out, stderr=out)
    return out.getvalue()


def test_what_is_saved_is_sent_to_every_host_of_dust_hosts(hosts: list[Embedded]) -> None:
    """Promise 1, without any worker, broker or beat: to where browsers look for it, below MEDIA_URL."""
    storage().save("a b/ü.txt", ContentFile(b"hello"))
    storage().save("gone.txt", ContentFile(b"x"))
    storage().delete("gone.txt")
    one, two = (f"127.0.0.1:{host.port}" for host in hosts)
    lines = process().splitlines()
    assert lines == [
        *sorted(f"{a}: sent 1 file (5 bytes), deleted 1. 0 pending, 0 failed." for a in (one, two)),
        "Every target has everything.",
    ]
    for host in hosts:
        assert host.files() == {"media/a b/ü.txt": b"hello"}
    assert f"{one}: nothing was due. 0 pending, 0 failed." in process()


def test_a_host_that_was_down_gets_what_it_missed(hosts: list[Embedded]) -> None:
    """Promises 1 and 2, as the cron job of old could not keep them: a delete is not undone by an older put."""
    hosts[1].stop()
    storage().save("kept.txt", ContentFile(b"kept"))
    storage().save("deleted.txt", ContentFile(b"deleted"))
    said = process()
    assert hosts[0].files() == {"media/kept.txt": b"kept", "media/deleted.txt": b"deleted"}
    assert "2 attempts failed; it is down: " in said
    assert "2 pending, 0 failed." in said
    assert "Every target" not in said
    # Nothing more is spent on it while it is down.
    attempts = list(Replica.objects.order_by("pk").values_list("attempts", flat=True))
    storage().delete("deleted.txt")
    assert "nothing was due; it is down: " in process()
    assert Replica.objects.filter(attempts__gt=0).count() <= len([a for a in attempts if a])
    hosts[1].start()
    assert "Every target has everything." in process()
    for host in hosts:
        assert host.files() == {"media/kept.txt": b"kept"}
    assert not health.down_targets()


def test_what_just_failed_is_tried_again_as_soon_as_the_host_answers(hosts: list[Embedded], settings: Any) -> None:
    """When cron says, as it always was: not when the retry, or the host's being marked down, would have it."""
    settings.REPLICATOR = {}
    hosts[1].stop()
    storage().save("a.txt", ContentFile(b"hello"))
    process()
    assert "nothing was due. 1 pending, 0 failed." in process()
    assert not health.down_targets()
    hosts[1].start()
    assert "Every target has everything." in process()
    assert hosts[1].files() == {"media/a.txt": b"hello"}


def test_a_host_whose_breaker_is_open_is_tried(hosts: list[Embedded]) -> None:
    """Promise 1: there is no beat that would have it tried, and its probe alone closes no breaker."""
    target = sorted(config().targets)[1]
    health.trip(target, "each PUT hangs")
    for name in ("a.txt", "b.txt", "c.txt"):
        storage().save(name, ContentFile(b"hello"))
    TargetState.objects.update(retry_at=timezone.now() + timedelta(minutes=1))
    assert "it is down: each PUT hangs. 3 pending" in process()
    TargetState.objects.update(retry_at=timezone.now())
    assert "Every target has everything." in process()
    assert [len(host.files()) for host in hosts] == [3, 3]
    assert not health.down_targets()


def test_a_host_that_people_have_paused_is_left_alone(hosts: list[Embedded]) -> None:
    target = sorted(config().targets)[1]
    health.note_failures(target, 1, "being repaired")
    life.pause(target)
    storage().save("a.txt", ContentFile(b"hello"))
    assert "nothing was due; it is paused. 1 pending" in process()
    assert TargetState.objects.get(pk=target).failures == 1, "it was not probed"
    life.resume(target)
    assert "Every target has everything." in process()


def test_a_host_that_hangs_does_not_keep_the_other_waiting(hosts: list[Embedded]) -> None:
    """Promise 7: DUST_TIMEOUT bounds what the hanging one costs, and it costs the other nothing."""
    name = storage().save("a.txt", ContentFile(b"hello"))
    # Whichever comes first by its name: the other one would have to wait for it.
    hosts = sorted(hosts, key=lambda host: str(host.port), reverse=True)
    hosts[1].pause()
    try:
        begun = timezone.now()
        process()
        took = (timezone.now() - begun).total_seconds()
    finally:
        hosts[1].resume()
    good = Replica.objects.get(target=f"127.0.0.1:{hosts[0].port}")
    assert good.status == Replica.Status.SYNCED
    assert good.synced_at is not None
    # At the end of it the hanging one's time-out was waited for.
    assert (good.synced_at - begun).total_seconds() < took - 1.5
    assert 1.5 < took < 60
    assert hosts[0].files() == {f"media/{name}": b"hello"}


def test_the_options_of_old_are_taken_and_it_can_be_silent(hosts: list[Embedded]) -> None:
    """Cron mails whatever is printed."""
    storage().save("a.txt", ContentFile(b"hello"))
    assert process("--verbosity", "0", "--traceback") == ""
    assert not Replica.objects.backlog().exists()


def test_what_failed_for_good_is_told_and_is_no_error(hosts: list[Embedded]) -> None:
    """The exit code was always 0."""
    storage().save("a.txt", ContentFile(b"hello"))
    (hosts[0].root / "media").mkdir(exist_ok=True)
    (hosts[0].root / "media" / "a.txt").mkdir()
    said = process()
    assert "1 attempt failed. 0 pending, 1 failed." in said
    assert 'What failed is not sent again by itself: see "manage.py replicator status".' in said


def test_wrong_settings_end_it_with_what_to_write(hosts: list[Embedded], settings: Any) -> None:
    settings.DUST_HOSTS = "media1"
    with pytest.raises(CommandError, match=r"DUST_HOSTS is a string, not a list\. Write DUST_HOSTS = \['media1'\]"):
        process()
    settings.DUST_HOSTS = []
    assert 'REPLICATOR["TARGETS"] is empty' in process()


def test_as_cron_calls_it_it_ends_well_while_a_host_is_down(hosts: list[Embedded], tmp_path: Path) -> None:
    """A process of its own, without a worker: exit code 0, a summary, nothing on stderr."""
    if connection.vendor != "sqlite":
        pytest.skip("its project has a file as its database")
    hosts[1].stop()
    (tmp_path / "cron_settings.py").write_text(
        f"""
import celery
celery.Celery("cron", broker="memory://").set_default()
SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django_celery_beat", "replicator"]
DATABASES = {{"default": {{
    "ENGINE": "django.db.backends.sqlite3", "NAME": "{connection.settings_dict["NAME"]}",
    "OPTIONS": {connection.settings_dict.get("OPTIONS", {})!r},
}}}}
MEDIA_ROOT, MEDIA_URL = "{tmp_path / "media"}", "/media/"
STORAGES = {{
    "default": {{"BACKEND": "replicator.storage.DistributedStorage"}},
    "staticfiles": {{"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}},
}}
DUST_HOSTS = {[f"127.0.0.1:{host.port}" for host in hosts]!r}
DUST_TIMEOUT = 2
DUST_USE_LOCAL_FS = True
DUST_RETRY_STORAGE_BACKEND = "django_dust.backends.db"
"""
    )
    storage().save("a.txt", ContentFile(b"hello"))
    done = subprocess.run(
        [sys.executable, "-m", "django", "process_failed_media"],
        env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{CHECKOUT}", "DJANGO_SETTINGS_MODULE": "cron_settings"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert "sent 1 file (5 bytes). 0 pending, 0 failed." in done.stdout
    assert "1 attempt failed. 1 pending, 0 failed." in done.stdout
    assert hosts[0].files() == {"media/a.txt": b"hello"}
    assert MediaFile.objects.get().name == "a.txt"
    assert conf.config().targets.keys() == {f"127.0.0.1:{host.port}" for host in hosts}


def test_what_waits_for_a_node_is_sent_once_the_disk_is_shared(hosts: list[Embedded], settings: Any) -> None:
    """Promise 1: also where cron is all the beat there is."""
    before = settings.REPLICATOR
    settings.REPLICATOR = {**before, "SHARED_MEDIA": False, "NODE": "web2"}
    storage().save("a.txt", ContentFile(b"hello"))
    settings.REPLICATOR = {**before, "SHARED_MEDIA": False, "NODE": "web1"}
    process()
    assert not hosts[0].files(), "it waits for web2"
    settings.REPLICATOR = before
    process()
    assert [host.files()["media/a.txt"] for host in hosts] == [b"hello"] * 2
