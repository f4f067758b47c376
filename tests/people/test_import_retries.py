"""Taking over django_dust's queue of retries: a table as its model made it, and real media hosts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import connection

from replicator import adoption_from_retries, delivery
from replicator.adoption import Note
from replicator.adoption_from_retries import AdoptionFromRetries
from replicator.models import MediaFile, Replica
from replicator.storage import DistributedStorage
from replicator.targets.webdav import WebDAVTarget
from tests.people.conftest import Output, Woken
from tests.servers import Embedded

pytestmark = pytest.mark.django_db(transaction=True)
Manage = Callable[..., Output]

#: What syncdb made of django_dust's model Retry, on the databases of its time.
SCHEMA = {
    "sqlite": """
        CREATE TABLE "django_dust_retry" (
            "id" integer NOT NULL PRIMARY KEY,
            "created" datetime NOT NULL,
            "operation" varchar(20) NOT NULL,
            "target_host" varchar(50) NOT NULL,
            "filename" varchar(100) NOT NULL,
            "source_host" varchar(50) NOT NULL
        )""",
    "postgresql": """
        CREATE TABLE "django_dust_retry" (
            "id" serial NOT NULL PRIMARY KEY,
            "created" timestamp with time zone NOT NULL,
            "operation" varchar(20) NOT NULL,
            "target_host" varchar(50) NOT NULL,
            "filename" varchar(100) NOT NULL,
            "source_host" varchar(50) NOT NULL
        )""",
}


@pytest.fixture(scope="module")
def _hosts() -> Iterator[list[Embedded]]:
    with Embedded() as one, Embedded() as two, Embedded() as three:
        yield [one, two, three]


class Site:
    """A site that had django_dust, with three hosts and the table."""

    def __init__(self, hosts: list[Embedded]) -> None:
        self.hosts = hosts
        self.names = [f"127.0.0.1:{host.port}" for host in hosts]
        found = storages["default"]
        assert isinstance(found, DistributedStorage)
        self.storage = found

    def here(self, name: str, data: bytes = b"hello") -> Path:
        path = Path(self.storage.path(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def at(self, *numbers: int, name: str, data: bytes = b"hello") -> None:
        for number in numbers:
            self.hosts[number].write(f"media/{name}", data)

    def queue(self, operation: str, name: str, *, target: int = 1, source: int = 0) -> None:
        self.queue_at(operation, name, self.names[target], self.names[source])

    def queue_at(self, operation: str, name: str, target: str, source: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO django_dust_retry (created, operation, target_host, filename, source_host) "
                "VALUES ('2011-05-25 16:26:59', %s, %s, %s, %s)",
                [operation, target, name, source],
            )

    def queued(self) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM django_dust_retry ORDER BY id")
            return cursor.fetchall()

    def deliver(self) -> None:
        for name in self.names:
            delivery.deliver(name)

    def take_over(self, **options: Any) -> tuple[AdoptionFromRetries, dict[str, Note]]:
        notes: dict[str, Note] = {}
        run = AdoptionFromRetries(self.storage, tell=lambda note: notes.__setitem__(note.name, note), **options)
        run.run()
        return run, notes

    def ledger(self) -> dict[str, bool]:
        """What it has: name → whether it is deleted."""
        return dict(MediaFile.objects.values_list("name", "deleted"))


@pytest.fixture
def site(_hosts: list[Embedded], settings: Any, tmp_path: Path, woken: Woken) -> Iterator[Site]:
    for host in _hosts:
        host.start()
        host.wipe()
    media = tmp_path / "media"
    media.mkdir()
    settings.MEDIA_ROOT = str(media)
    settings.MEDIA_URL = "/media/"
    settings.DUST_HOSTS = [f"127.0.0.1:{host.port}" for host in _hosts]
    settings.DUST_TIMEOUT = 2
    settings.DUST_USE_LOCAL_FS = True
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": "replicator.storage.DistributedStorage"}}
    with connection.cursor() as cursor:
        cursor.execute(SCHEMA[connection.vendor])
    yield Site(_hosts)
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE django_dust_retry")


def test_what_could_not_be_put_is_sent_to_every_host(site: Site, manage: Manage) -> None:
    """Promise 1 for files of before: from this disk, or, where it has none, from the host that has the file."""
    site.here("a/here ü.txt", b"one")
    site.at(0, 2, name="a/here ü.txt", data=b"one")
    site.queue("put", "a/here ü.txt")
    site.at(2, name="remote.txt", data=b"two" * 100_000)
    site.queue("put", "remote.txt", target=0, source=2)
    site.queue("put", "remote.txt", target=1, source=2)
    done = manage("import-retries")
    assert done.error == ""
    said = "default: adopted 1 file (3 bytes), fetched 1 file, recorded 0 deletes, 0 already recorded."
    assert done.out.strip() == said
    site.deliver()
    for host in site.hosts:
        assert host.files() == {"media/a/here ü.txt": b"one", "media/remote.txt": b"two" * 100_000}
    assert Path(site.storage.path("remote.txt")).read_bytes() == b"two" * 100_000
    assert not Replica.objects.backlog().exists()


def test_what_could_not_be_deleted_is_deleted_everywhere(site: Site) -> None:
    """Promise 2: a deleted file never comes back. What no host ever got to delete goes, too."""
    site.at(1, name="old.txt")
    site.queue("delete", "old.txt")
    run, notes = site.take_over()
    assert (run.removed, run.adopted, run.fetched, notes) == (1, 0, 0, {})
    assert site.ledger() == {"old.txt": True}
    site.deliver()
    assert [host.files() for host in site.hosts] == [{}, {}, {}]


def test_the_newest_operation_of_a_name_counts(site: Site) -> None:
    """Promise 2: django_dust replayed both in any order, and its PUT brought the file back."""
    site.at(1, name="a.txt")
    site.queue("put", "a.txt", target=2, source=0)
    site.queue("delete", "a.txt", target=1, source=0)
    site.take_over()
    assert site.ledger() == {"a.txt": True}
    site.deliver()
    assert [host.files() for host in site.hosts] == [{}, {}, {}]


def test_a_put_whose_file_nobody_has_is_a_delete(site: Site) -> None:
    """It was deleted since, at every host but the one that the put may yet reach."""
    site.queue("put", "gone.txt")
    run, _ = site.take_over()
    assert (run.removed, site.ledger()) == (1, {"gone.txt": True})


def test_a_file_that_was_saved_again_since_is_not_deleted(site: Site) -> None:
    """Promise 6: the queue alone does not decide; the host at which the delete succeeded has the file again."""
    site.queue("delete", "here.txt")
    site.here("here.txt")
    site.at(0, name="here.txt")
    site.queue("delete", "remote.txt")
    site.at(0, name="remote.txt", data=b"new")
    run, notes = site.take_over()
    assert (run.adopted, run.fetched, run.removed, notes) == (1, 1, 0, {})
    site.deliver()
    for host in site.hosts:
        assert host.files() == {"media/here.txt": b"hello", "media/remote.txt": b"new"}


def test_what_can_not_be_told_is_left_to_a_person(site: Site) -> None:
    """Nothing is lost by guessing: neither a file here, nor one that only another host has."""
    site.queue("delete", "differs.txt")
    site.here("differs.txt", b"here")
    site.at(0, name="differs.txt", data=b"there it is")
    site.queue("put", "elsewhere.txt")
    site.at(2, name="elsewhere.txt")
    site.queue("delete", "leftover.txt", target=1, source=0)
    site.here("leftover.txt")
    site.queue_at("put", "unknown.txt", "media9", "media8:80")
    site.queue("", "odd.txt")
    site.here("folder/file.txt")
    site.queue("put", "folder")
    one, three = site.names[0], site.names[2]
    run, notes = site.take_over()
    assert notes["'differs.txt'"].text == f"was queued to be deleted; {one} has 11 bytes, and here are 4"
    assert f"but at {three}: save or delete it yourself" in notes["'elsewhere.txt'"].text
    assert notes["'leftover.txt'"].text == f"was deleted at {one}, and stays on this disk: remove it"
    assert "its host 'media8:80' is no target: name it in DUST_HOSTS" in notes["'unknown.txt'"].text
    assert notes["'odd.txt'"].text == "was queued for '', which is neither put nor delete"
    assert "folder" in notes["'folder'"].text
    assert (run.skipped, run.deleted, run.adopted, run.fetched) == (5, 1, 0, 0)
    assert site.ledger() == {"leftover.txt": True}
    assert Path(site.storage.path("leftover.txt")).read_bytes() == b"hello"
    assert Path(site.storage.path("differs.txt")).read_bytes() == b"here"


def test_what_the_ledger_knows_stays_as_it_is(site: Site) -> None:
    """Saved or deleted since the replicator is there: that is newer than anything in the queue."""
    site.queue("delete", "new.txt")
    site.queue("put", "deleted.txt")
    site.storage.save("new.txt", ContentFile(b"new"))
    site.storage.save("deleted.txt", ContentFile(b"x"))
    site.storage.delete("deleted.txt")
    site.at(0, name="deleted.txt")
    before = sorted(MediaFile.objects.values_list("name", "version", "deleted"))
    run, notes = site.take_over()
    assert (run.known, run.adopted, run.fetched, run.removed, notes) == (2, 0, 0, 0, {})
    assert sorted(MediaFile.objects.values_list("name", "version", "deleted")) == before


def test_it_can_be_run_again_and_leaves_the_table_as_it_was(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """In batches, whatever the order of the names, with a page that ends in the middle of a name's operations."""
    monkeypatch.setattr(adoption_from_retries, "_PAGE_ROWS", 4)
    for number in range(12):
        name = f"{number:02}.txt"
        for target in (1, 2, 1):
            site.queue("put", name, target=target)
        if number % 2:
            site.here(name)
        site.queue("delete" if number % 4 == 0 else "put", name)
    table = site.queued()
    run, _ = site.take_over(batch=5)
    assert (run.adopted, run.removed, run.known) == (6, 6, 0)
    assert site.ledger() == {f"{number:02}.txt": number % 2 == 0 for number in range(12)}
    versions = set(MediaFile.objects.values_list("version", flat=True))
    run, notes = site.take_over()
    assert (run.adopted, run.removed, run.known, notes) == (0, 0, 12, {})
    assert set(MediaFile.objects.values_list("version", flat=True)) == versions
    assert site.queued() == table


def test_a_host_that_is_down_is_asked_once_and_its_names_wait(
    site: Site, manage: Manage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No name is decided without it; those of other hosts are. The exit code is 1, and the next run goes on."""
    site.at(0, name="a.txt")
    for number in range(5):
        site.queue("put", "a.txt" if not number else f"{number}.txt", target=1, source=0)
    site.at(2, name="b.txt", data=b"b")
    site.queue("put", "b.txt", target=1, source=2)
    site.hosts[0].stop()
    asked: list[str] = []
    stat = WebDAVTarget.stat
    monkeypatch.setattr(WebDAVTarget, "stat", lambda self, file: asked.append(self.alias) or stat(self, file))
    done = manage("import-retries")
    assert sorted(asked) == sorted([site.names[0], site.names[2]])
    assert "fetched 1 file" in done.out
    assert "5 skipped" in done.out
    assert done.error.startswith("5 names left that only a host which does not answer can tell of")
    assert site.ledger() == {"b.txt": False}
    site.hosts[0].start()
    done = manage("import-retries")
    assert done.error == ""
    assert site.ledger() == {"b.txt": False, "a.txt": False, **{f"{n}.txt": True for n in range(1, 5)}}


def test_a_dry_run_says_what_it_would_do(site: Site, manage: Manage, woken: Woken) -> None:
    site.here("here.txt")
    site.queue("put", "here.txt")
    site.at(0, name="remote.txt")
    site.queue("put", "remote.txt")
    site.queue("delete", "gone.txt")
    done = manage("import-retries", "--dry-run")
    said = "would have adopted 1 file (5 bytes), fetched 1 file, recorded 1 delete, 0 already recorded."
    assert said in done.out
    assert site.ledger() == {}
    assert not Path(site.storage.path("remote.txt")).exists()
    assert not woken


def test_a_name_that_can_not_be_sent_is_refused(site: Site, manage: Manage) -> None:
    """Promise 6: the table may hold anything; nothing outside the storage is asked for, sent or deleted."""
    for name in ("../../etc/passwd", "/etc/passwd", ".replicator/x", "a//b"):
        site.queue("delete", name)
    done = manage("import-retries")
    assert done.error == "4 names refused, as said above."
    assert "REFUSED: '../../etc/passwd' is empty, absolute or leaves its storage" in done.err
    assert site.ledger() == {}


def test_hosts_are_found_by_what_todays_settings_name(site: Site, settings: Any) -> None:
    """Who has moved DUST_HOSTS to REPLICATOR["TARGETS"], with aliases of his own, can import too."""
    webdav = "replicator.targets.webdav.WebDAVTarget"
    settings.DUST_HOSTS = []
    settings.REPLICATOR = {
        "TARGETS": {
            f"media{n}": {"BACKEND": webdav, "OPTIONS": {"url": host.url}} for n, host in enumerate(site.hosts)
        }
    }
    site.at(0, name="a.txt")
    site.queue("put", "a.txt")
    run, notes = Site(site.hosts).take_over()
    assert (run.fetched, notes) == (1, {})


def test_without_the_table_there_is_nothing_to_take_over(site: Site, manage: Manage) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE django_dust_retry RENAME TO elsewhere")
    try:
        error = manage("import-retries").error
        assert error == "DATABASES['default'] has no table django_dust_retry: there is nothing to take over."
        assert (
            "DATABASES has no 'defualt'. Did you mean 'default'?"
            in manage("import-retries", "--database", "defualt").error
        )
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE elsewhere RENAME TO django_dust_retry")
