"""Facts about what a copy writes to: exact names, nothing that somebody else has written, nothing half."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread
from typing import Any
from uuid import uuid4

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, default_storage, storages
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from replicator import wake
from replicator.errors import Refused, Unavailable
from replicator.local import Entry
from replicator.models import MediaFile, Replica
from replicator.staging.base import Changed, Destination, Held, NotCopied
from replicator.staging.destinations import destination_of
from replicator.staging.replicateddestination import ReplicatedDestination
from replicator.storage import ReplicatedStorage
from tests.processes import RUNNING_AS_ROOT
from tests.staging.parts import Broken, Bytes, fail

pytestmark = pytest.mark.django_db(transaction=True)

TARGETS = {f"media{n}": {"BACKEND": "replicator.testing.MemoryTarget"} for n in (1, 2)}
NAME = "photos/größe 日本.jpg"
Make = Callable[..., ReplicatedStorage]


@pytest.fixture(autouse=True)
def announced(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    calls: list[list[str]] = []
    monkeypatch.setattr(wake, "announce", lambda targets: calls.append(list(targets)))
    return calls


@pytest.fixture
def media(tmp_path: Path) -> Path:
    return tmp_path / "media"


@pytest.fixture
def make(settings: Any, media: Path) -> Make:
    def make(replicator: dict[str, Any] | None = None, **options: Any) -> ReplicatedStorage:
        settings.MEDIA_ROOT = str(media)
        settings.REPLICATOR = {"TARGETS": TARGETS, **(replicator or {})}
        entry = {"BACKEND": "replicator.storage.ReplicatedStorage", "OPTIONS": options}
        settings.STORAGES = {**settings.STORAGES, "default": entry}
        storage = storages["default"]
        assert isinstance(storage, ReplicatedStorage)
        return storage

    return make


@pytest.fixture
def storage(make: Make) -> ReplicatedStorage:
    return make()


@pytest.fixture(params=["replicated", "a folder", "another kind"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class OtherKind(FileSystemStorage):
    """A storage that does something of its own with contents."""

    def _save(self, name: str, content: Any) -> str:
        return super()._save(name, content)


@pytest.fixture
def destination(kind: str, make: Make, media: Path) -> Destination:
    """One of each kind, whose files are in *media*."""
    if kind == "replicated":
        return destination_of(make())
    return destination_of({"a folder": FileSystemStorage, "another kind": OtherKind}[kind](media))


def everything(root: Path) -> dict[str, bytes]:
    """Name → bytes of all files below *root*; what a link says for it."""
    return {
        str(path.relative_to(root)): bytes(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def held(destination: Destination, name: str = NAME) -> Held | None:
    return destination.held([name]).get(name)


def put(destination: Destination, data: bytes, name: str = NAME, then: Callable[[], object] | None = None) -> int:
    return destination.put(name, Bytes(data, then), held(destination, name))


def place(media: Path, data: bytes, name: str = NAME) -> Path:
    path = media / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def dumped(name: str = NAME, data: bytes = b"the live one's") -> MediaFile:
    """A row that came with a dump of the live site's database: its file is not here."""
    storage = storages["default"]
    assert isinstance(storage, ReplicatedStorage)
    storage.save(name, ContentFile(data))
    Path(storage.path(name)).unlink()
    row = MediaFile.objects.get(name=name)
    Replica.objects.filter(file=row).update(status="synced", version=row.version)
    return row


# All kinds


def test_a_file_is_written_under_exactly_its_name(destination: Destination, media: Path) -> None:
    data = os.urandom(300_000)
    name = destination.clean(NAME)
    assert held(destination, name) is None
    assert destination.put(name, Bytes(data), None) == len(data)
    assert everything(media) == {NAME: data}
    found = held(destination, name)
    assert found is not None
    assert found.size == len(data)
    assert found.modified is not None
    assert abs(found.modified.timestamp() - time.time()) < 60


@pytest.mark.parametrize("data", [b"", b"1", os.urandom(3_000_000)], ids=["empty", "one byte", "3 MB"])
def test_a_stream_of_unknown_size_is_written_whole(destination: Destination, media: Path, data: bytes) -> None:
    assert destination.put(NAME, Bytes(data, says_size=False), None) == len(data)
    assert everything(media) == {NAME: data}


def test_what_was_seen_is_replaced(destination: Destination, media: Path) -> None:
    put(destination, b"old")
    assert put(destination, b"the new one") == 11
    assert everything(media) == {NAME: b"the new one"}


@pytest.mark.parametrize("old", [None, b"old"], ids=["nothing", "something"])
def test_a_stream_that_fails_in_mid_file_leaves_what_was_there(
    destination: Destination, media: Path, old: bytes | None
) -> None:
    """Promise 5: no part of it is ever seen."""
    if old is not None:
        put(destination, old)
    before = everything(media) if old else {}
    rows = list(MediaFile.objects.values())
    with pytest.raises(Broken):
        put(destination, os.urandom(2_000_000), then=fail)
    assert everything(media) == before
    assert list(MediaFile.objects.values()) == rows


@pytest.mark.parametrize("old", [None, b"old"], ids=["nothing", "something"])
def test_what_came_in_between_stays(destination: Destination, media: Path, old: bytes | None) -> None:
    """The site has saved the name since it was looked at: its file is never overwritten by the copy."""
    if old is not None:
        put(destination, old)
    with pytest.raises(Changed):
        put(destination, os.urandom(2_000_000), then=lambda: place(media, b"somebody else's"))
    assert everything(media) == {NAME: b"somebody else's"}


def test_what_came_before_the_stream_stays(destination: Destination, media: Path) -> None:
    place(media, b"somebody else's")
    with pytest.raises(Changed):
        destination.put(NAME, Bytes(b"1"), None)
    found = held(destination)
    place(media, b"another")
    with pytest.raises(Changed):
        destination.put(NAME, Bytes(b"1"), found)
    assert everything(media) == {NAME: b"another"}


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../a.jpg", "a/../../b.jpg", "a\0b", "a\\b.jpg", "a\udcffb"])
def test_a_name_that_must_not_be_written_is_refused(destination: Destination, name: str) -> None:
    """Promise 6."""
    with pytest.raises(Refused):
        destination.clean(name)


def test_a_name_that_the_disk_does_not_take_is_refused(destination: Destination, media: Path) -> None:
    """And keeps no other name from being looked at."""
    place(media, b"1", "a.txt")
    place(media, b"1", "file")
    long = "x" * 300
    assert set(destination.held(["a.txt", long, "file/below.txt"])) == {"a.txt"}
    for name in (long, "file/below.txt"):
        with pytest.raises(Refused):
            destination.put(name, Bytes(b"1"), None)
    assert everything(media) == {"a.txt": b"1", "file": b"1"}


def test_no_link_leads_out_of_the_folder(destination: Destination, media: Path, tmp_path: Path, kind: str) -> None:
    """Trees of links to the live site's files are a way to make a staging site: those files stay as they are."""
    live = place(tmp_path / "live", b"live", "a.jpg")
    media.mkdir()
    (media / "photos").symlink_to(live.parent)
    for name in ("photos/a.jpg", "photos/new.jpg"):
        with pytest.raises(Refused, match="leads out"):
            put(destination, b"1", name)
    (media / "b.jpg").symlink_to(live)
    found = held(destination, "b.jpg")
    assert found is not None
    if kind != "another kind":  # its class writes as it likes
        put(destination, b"copied", "b.jpg")
        assert (media / "b.jpg").read_bytes() == b"copied"
    assert everything(tmp_path / "live") == {"a.jpg": b"live"}


def test_what_is_no_file_is_in_the_way(destination: Destination, media: Path) -> None:
    (media / "folder").mkdir(parents=True)
    (media / "nowhere").symlink_to("/nonexistent/file")
    os.mkfifo(media / "pipe")
    names = ["folder", "nowhere", "pipe"]
    if not isinstance(getattr(destination, "storage", None), OtherKind):
        assert destination.held(names[:2]) == {}
    for name in names:
        with pytest.raises(Refused, match="no file has this name"):
            destination.put(name, Bytes(b"1"), None)


# Storages that replicate


def test_a_copied_file_is_recorded_for_every_target(storage: ReplicatedStorage, announced: list[list[str]]) -> None:
    """Promise 1: it is delivered as if it had been saved here."""
    put(destination_of(storage), b"content")
    row = MediaFile.objects.get()
    assert (row.storage, row.name, row.size) == ("default", NAME, 7)
    assert row.sha256 == hashlib.sha256(b"content").hexdigest()
    assert row.content_type == "image/jpeg"
    assert {(r.target, r.status, r.version) for r in Replica.objects.all()} == {
        ("media1", "pending", None),
        ("media2", "pending", None),
    }
    assert announced == [["media1", "media2"]]


def test_no_target_is_waited_for(make: Make) -> None:
    """A bulk copy that waited for the hosts would take as long as the slowest of them for each file."""
    storage = make(wait=30.0, min_copies=2, keep_local=True)
    begun = time.monotonic()
    put(destination_of(storage), b"content")
    assert time.monotonic() - begun < 20
    assert Replica.objects.pending().count() == 2


def test_a_row_of_the_dump_whose_file_is_not_here_is_written_anew(storage: ReplicatedStorage, media: Path) -> None:
    """The ledger came with the database, and says that the live site's hosts have it: it must go to ours."""
    row = dumped()
    destination = destination_of(storage)
    assert held(destination) is None
    put(destination, b"the live one's")
    assert everything(media) == {NAME: b"the live one's"}
    new = MediaFile.objects.get()
    assert (new.pk, new.deleted) == (row.pk, False)
    assert new.version != row.version
    assert not Replica.objects.current().exists()
    assert Replica.objects.pending().count() == 2


def test_a_tombstone_of_the_dump_is_no_obstacle(storage: ReplicatedStorage, media: Path) -> None:
    dumped()
    storage.delete(NAME)
    put(destination_of(storage), b"content")
    assert not MediaFile.objects.get().deleted
    assert everything(media) == {NAME: b"content"}


def test_a_file_of_the_dump_that_the_site_deletes_meanwhile_stays_deleted(
    storage: ReplicatedStorage, media: Path
) -> None:
    """Promise 2."""
    dumped()
    with pytest.raises(Changed):
        put(destination_of(storage), b"content", then=lambda: storage.delete(NAME))
    assert MediaFile.objects.get().deleted
    assert everything(media) == {}


@pytest.mark.parametrize("rows", ["none", "living", "deleted"])
def test_a_save_of_the_site_in_mid_file_wins(storage: ReplicatedStorage, media: Path, rows: str) -> None:
    """Promise 2: what the ledger says is what is here, and nothing was overwritten."""
    if rows != "none":
        dumped()
    if rows == "deleted":
        storage.delete(NAME)
    with pytest.raises(Changed):
        put(destination_of(storage), b"copied" * 1000, then=lambda: storage.replace(NAME, ContentFile(b"saved")))
    row = MediaFile.objects.get()
    assert (row.size, row.deleted) == (5, False)
    assert everything(media) == {NAME: b"saved"}


def test_a_save_that_has_not_committed_wins(storage: ReplicatedStorage, media: Path) -> None:
    """Its file is here before its row can be seen: it counts as nobody's until then, and is never written over."""
    destination = destination_of(storage)
    with transaction.atomic():
        storage.save(NAME, ContentFile(b"saved"))
        # As another process sees it.
        rows = MediaFile.objects.filter(name=NAME)
        facts = rows.values().get()
        rows.delete()
        assert held(destination) is None
        assert not destination.exists_unrecorded(NAME)
        with pytest.raises(Unavailable, match="being written"):
            destination.adopt(NAME)
        MediaFile.objects.create(**facts)
    assert held(destination) == Held(
        5, MediaFile.objects.get().updated_at, {"sha256": hashlib.sha256(b"saved").hexdigest()}, facts["version"]
    )


def test_what_a_killed_copy_put_in_place_is_copied_again(storage: ReplicatedStorage, media: Path) -> None:
    """It was shown, and never recorded: that it has the size of the dump's row is no proof that it was delivered."""
    row = dumped()
    entry = Entry(str(media), NAME, uuid4())
    entry.open()
    entry.stage(ContentFile(b"the live one's"), None)
    entry.put_in_free_place()
    destination = destination_of(storage)
    assert held(destination) is None
    assert not destination.exists_unrecorded(NAME)
    put(destination, b"the live one's")
    assert MediaFile.objects.get().version != row.version
    assert held(destination) is not None


def test_a_killed_overwrite_hides_nothing(storage: ReplicatedStorage, media: Path, settings: Any) -> None:
    """What the ledger has is what counts, though a write that was never committed lies over it."""
    storage.save(NAME, ContentFile(b"committed"))
    entry = Entry(str(media), NAME, uuid4())
    entry.open()
    entry.stage(ContentFile(b"rolled back!"), None)
    entry.put_in_place()
    found = held(destination_of(storage))
    assert found is not None
    assert (found.size, found.version) == (9, MediaFile.objects.get().version)
    settings.REPLICATOR = {**settings.REPLICATOR, "ORPHAN_GRACE": 0}
    destination = destination_of(storages["default"])
    destination.put(NAME, Bytes(b"copied"), found)
    assert storages["default"].tidy() == 1  # type: ignore[attr-defined]
    assert everything(media) == {NAME: b"copied"}


def test_a_rollback_leaves_what_was_there(storage: ReplicatedStorage, media: Path, settings: Any) -> None:
    """Promise 3, as of any write."""
    destination = destination_of(storage)
    put(destination, b"before", "a.txt")
    with pytest.raises(Broken), transaction.atomic():  # noqa: PT012
        put(destination, b"after", "a.txt")
        put(destination, b"new", "b.txt")
        raise Broken
    settings.REPLICATOR = {**settings.REPLICATOR, "ORPHAN_GRACE": 0}
    assert storages["default"].tidy() == 2  # type: ignore[attr-defined]
    assert everything(media) == {"a.txt": b"before"}
    assert MediaFile.objects.get().size == 6


def test_a_failing_database_leaves_nothing_behind(
    storage: ReplicatedStorage, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was staged is not left to the clean-up: with a large file each try would take its place again."""
    from replicator import ledger

    def lost(*_: object) -> None:
        raise ConnectionError("the database went away")

    monkeypatch.setattr(ledger, "record_over", lost)
    with pytest.raises(ConnectionError):
        put(destination_of(storage), b"content")
    assert everything(media) == {}
    assert not MediaFile.objects.exists()


def test_one_statement_looks_at_all_names(storage: ReplicatedStorage, media: Path) -> None:
    destination = destination_of(storage)
    names = [f"{n}.txt" for n in range(50)]
    for name in names[:25]:
        storage.save(name, ContentFile(name.encode()))
    place(media, b"by hand", "30.txt")
    with CaptureQueriesContext(connection) as queries:
        found = destination.held(names)
    assert len(queries) == 1
    assert set(found) == {*names[:25], "30.txt"}
    assert found["7.txt"].version == MediaFile.objects.get(name="7.txt").version
    assert found["30.txt"].version is None
    with CaptureQueriesContext(connection) as queries:
        put(destination, b"1", "40.txt")
    statements = [q["sql"] for q in queries if q["sql"].split(" ")[0] in ("SELECT", "INSERT", "UPDATE", "DELETE")]
    assert len(statements) == 3, "one look, which is the test's own, one file, its replicas"


def test_a_file_that_differs_from_its_row_has_no_version(storage: ReplicatedStorage, media: Path) -> None:
    """Of other bytes than the ledger's nothing is known."""
    dumped(data=b"the live one's")
    place(media, b"put here by hand")
    found = held(destination_of(storage))
    assert found is not None
    assert (found.size, found.version, dict(found.checksums)) == (16, None, {})
    put(destination_of(storage), b"copied")
    assert everything(media) == {NAME: b"copied"}
    assert MediaFile.objects.get().size == 6


def test_the_leftover_of_a_delete_is_no_file(storage: ReplicatedStorage, media: Path) -> None:
    """It is about to go; what a person puts there later is a file."""
    path = place(media, b"old")
    os.utime(path, (1, 1))
    row = dumped("other.txt")
    MediaFile.objects.filter(pk=row.pk).update(name=NAME, deleted=True)
    destination = destination_of(storage)
    assert held(destination) is None
    later = time.time() + 10
    os.utime(path, (later, later))
    found = held(destination)
    assert found is not None
    assert not destination.exists_unrecorded(NAME)
    os.utime(path, (1, 1))
    put(destination, b"copied")
    assert everything(media) == {NAME: b"copied"}


def test_a_file_that_the_ledger_never_saw_is_adopted(
    storage: ReplicatedStorage, media: Path, announced: list[list[str]]
) -> None:
    """Someone ran rsync before: the files need not be copied again, and must go to the targets."""
    place(media, b"by hand")
    destination = destination_of(storage)
    assert destination.exists_unrecorded(NAME)
    destination.adopt(NAME)
    destination.adopt(NAME)
    row = MediaFile.objects.get()
    assert (row.size, row.sha256) == (7, hashlib.sha256(b"by hand").hexdigest())
    assert Replica.objects.pending().count() == 2
    assert announced == [["media1", "media2"]]
    assert not destination.exists_unrecorded(NAME)
    assert not destination.exists_unrecorded("absent.txt")


def test_where_no_local_copies_are_kept_a_target_s_is_what_is_held(make: Make, media: Path) -> None:
    storage = make(keep_local=False)
    destination = destination_of(storage)
    row = dumped()
    found = held(destination)
    assert found is not None
    assert (found.size, found.version) == (14, row.version)
    Replica.objects.filter(target="media1").update(version=None, status="pending")
    assert held(destination) == found, "one target is enough"
    put(destination, b"copied")
    assert everything(media) == {NAME: b"copied"}
    assert held(destination) is not None, "until it is delivered it is here"
    (media / NAME).unlink()
    assert held(destination) is None


def test_where_each_node_has_a_disk_an_older_file_here_is_not_what_is_held(make: Make, media: Path) -> None:
    storage = make({"SHARED_MEDIA": False, "NODE": "web1"})
    destination = destination_of(storage)
    row = dumped()
    Replica.objects.update(version=None, status="pending")
    place(media, b"older")
    assert held(destination) is None
    assert put(destination, b"copied") == 6
    assert everything(media) == {NAME: b"copied"}
    assert MediaFile.objects.get().version != row.version


def test_another_storage_s_folder_is_left_to_it(storage: ReplicatedStorage, settings: Any, media: Path) -> None:
    options = {"alias": "avatars", "location": str(media / "avatars"), "base_url": "/media/avatars/"}
    entry = {"BACKEND": "replicator.storage.ReplicatedStorage", "OPTIONS": options}
    settings.STORAGES = {**settings.STORAGES, "avatars": entry}
    with pytest.raises(Refused, match=r"storages\['avatars'\]"):
        destination_of(storages["default"]).clean("avatars/me.png")


@pytest.mark.parametrize(
    "backend", ["MogileFSStorage", "PrefixedStorage", "ProtectedStorage", "ReplicatedStaticFilesStorage"]
)
def test_every_kind_that_replicates_takes_copies(make: Make, settings: Any, tmp_path: Path, backend: str) -> None:
    make()
    options = {"alias": "other", "location": str(tmp_path / "other"), "base_url": "/other/", "targets": ["media2"]}
    if backend == "PrefixedStorage":
        options["prefix"] = "inside"
    settings.STORAGES = {
        **settings.STORAGES,
        "other": {"BACKEND": f"replicator.storage.{backend}", "OPTIONS": options},
    }
    destination = destination_of(storages["other"])
    put(destination, b"old")
    put(destination, b"copied")
    folder = tmp_path / "other" / options.get("prefix", "")
    assert everything(folder)[NAME] == b"copied"
    assert [(r.file.storage, r.target) for r in Replica.objects.select_related("file")] == [("other", "media2")]


def test_copies_and_the_site_s_own_writes_at_once_leave_what_the_ledger_says(
    storage: ReplicatedStorage, media: Path, settings: Any
) -> None:
    """Promise 2: eight threads, copies and saves and deletes of a few names; the last write is what is here."""
    destination = destination_of(storage)
    names = [f"{n}.txt" for n in range(3)]
    for name in names[:2]:
        dumped(name)
    start = Barrier(8)
    odd: list[BaseException] = []
    copied: list[str] = []

    def work(number: int) -> None:
        try:
            start.wait()
            for n in range(12):
                name, data = names[(n + number) % 3], f"{number} {n}".encode() * (n + 1)
                if number < 4:
                    try:
                        destination.put(name, Bytes(data), destination.held([name]).get(name))
                        copied.append(name)
                    except Changed:
                        pass
                elif n % 3 == 2:
                    storage.delete(name)
                elif n % 3:
                    storage.save(name, ContentFile(data))
                else:
                    storage.replace(name, ContentFile(data))
        except BaseException as error:
            odd.append(error)
        finally:
            connections.close_all()

    threads = [Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert odd == []
    assert copied
    # Saves that found their name taken leave that to the clean-up.
    settings.REPLICATOR = {**settings.REPLICATOR, "ORPHAN_GRACE": 0}
    storages["default"].tidy()  # type: ignore[attr-defined]
    found = everything(media)
    for row in MediaFile.objects.all():
        data = found.pop(row.name, None)
        assert (data is None) == row.deleted, row.name
        if data is not None:
            assert hashlib.sha256(data).hexdigest() == row.sha256, row.name
    assert found == {}


KILLED = """
import os, signal, sys
import django
django.setup()
from django.core.files.storage import default_storage
from django.core.management import call_command
from replicator.staging.destinations import destination_of
from replicator.staging.replicateddestination import ReplicatedDestination
from tests.staging.parts import Bytes
call_command("migrate", verbosity=0)
destination = destination_of(default_storage)
destination.put("a.bin", Bytes(b"1" * 1000), None)
def end():
    print("half", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
destination.put("a.bin", Bytes(b"2" * 1_000_000, end), destination.held(["a.bin"])["a.bin"])
"""

FULL = """
import resource, signal
import django
django.setup()
from django.core.files.storage import FileSystemStorage, default_storage
from django.core.management import call_command
from replicator.models import MediaFile
from replicator.staging.destinations import destination_of
from replicator.staging.replicateddestination import ReplicatedDestination
from tests.staging.parts import Bytes
call_command("migrate", verbosity=0)
destination = destination_of(default_storage if KIND == "replicated" else FileSystemStorage())
destination.put("small.txt", Bytes(b"1"), None)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
LIMIT
for over, name in ((None, "large.bin"), (destination.held(["small.txt"])["small.txt"], "small.txt")):
    try:
        destination.put(name, Bytes(b"x" * 8_000_000), over)
    except Exception as error:
        print(type(error).__name__, list(MediaFile.objects.values_list("name", "size")))
"""


def run(script: str, media: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "TEST_MEDIA_ROOT": str(media),
        "TEST_DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}",
    }
    command = [sys.executable, "-c", script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_a_kill_in_mid_file_leaves_what_was_there(tmp_path: Path, media: Path) -> None:
    """Promise 5, and what is left beside it is the clean-up's."""
    result = run(KILLED, media, tmp_path)
    assert (result.returncode, result.stdout) == (-signal.SIGKILL, "half\n"), result.stderr
    found = everything(media)
    assert found.pop("a.bin") == b"1" * 1000
    assert {Path(name).name.partition("-")[0] for name in found if not name.startswith(".replicator/")} == {
        ".replicator"
    }


@pytest.mark.parametrize("kind", ["replicated", "a folder"])
@pytest.mark.parametrize("how", ["a limit on files", "a small file system"])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, media: Path, how: str, kind: str) -> None:
    """Promises 1 and 5: nothing partial here, nothing recorded, the old file as it was."""
    media.mkdir()
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))"
    if how == "a small file system":
        limit = ""
        mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(media)]
        if not RUNNING_AS_ROOT or subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("mounting is not allowed here")
    try:
        result = run(FULL.replace("LIMIT", limit).replace("KIND", repr(kind)), media, tmp_path)
        assert result.returncode == 0, result.stderr
        error, rows = ("OSError", [("small.txt", 1)]) if kind == "replicated" else ("Unavailable", [])
        assert result.stdout.splitlines() == [f"{error} {rows}"] * 2, result.stderr
        assert everything(media) == {"small.txt": b"1"}
    finally:
        if not limit:
            subprocess.run(["umount", str(media)], check=True)


# Other storages


def test_permissions_are_those_of_the_storage(media: Path) -> None:
    storage = FileSystemStorage(media, file_permissions_mode=0o640, directory_permissions_mode=0o750)
    put(destination_of(storage), b"1")
    assert (media / NAME).stat().st_mode & 0o777 == 0o640
    assert (media / NAME).parent.stat().st_mode & 0o777 == 0o750


def test_a_folder_s_name_that_is_taken_at_the_last_moment_is_not_overwritten(
    media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last look and the write nothing can be asked any more: the disk decides."""
    destination = destination_of(FileSystemStorage(media))
    monkeypatch.setattr(destination, "_look", lambda name: None)
    place(media, b"somebody else's")
    with pytest.raises(Changed):
        destination.put(NAME, Bytes(b"copied"), None)
    assert everything(media) == {NAME: b"somebody else's"}


@pytest.mark.parametrize("taken", [False, True])
def test_a_file_system_without_hard_links_will_do(media: Path, monkeypatch: pytest.MonkeyPatch, taken: bool) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    destination = destination_of(FileSystemStorage(media))
    if taken:
        monkeypatch.setattr(destination, "_look", lambda name: None)
        place(media, b"somebody else's")
        with pytest.raises(Changed):
            destination.put(NAME, Bytes(b"copied"), None)
    else:
        put(destination, b"copied")
    assert everything(media) == {NAME: b"somebody else's" if taken else b"copied"}


def test_a_storage_that_only_reads_is_no_destination(settings: Any) -> None:
    entry = {"BACKEND": "replicator.storage.HTTPStorage", "OPTIONS": {"base_url": "https://www.example.com/media/"}}
    settings.STORAGES = {**settings.STORAGES, "live": entry}
    with pytest.raises(NotCopied, match=r"STORAGES\['live'\]: it only reads"):
        destination_of(storages["live"])


def test_a_storage_that_workers_would_not_find_is_no_destination(storage: ReplicatedStorage) -> None:
    with pytest.raises(NotCopied, match="no 'nobody'"):
        destination_of(ReplicatedStorage(alias="nobody"))


# Which destination a field has


def test_each_storage_has_one_destination(storage: ReplicatedStorage, media: Path) -> None:
    """Connections are kept, and a process that was forked makes its own."""
    found = destination_of(default_storage)
    assert found is destination_of(storage)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        own = destination_of(storage)
        os.write(writer, b"own" if own is not found and own is destination_of(storage) else b"the parent's")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 100) == b"own"
    os.close(reader)
    os.close(writer)


def test_fields_that_share_a_place_share_its_files(storage: ReplicatedStorage, media: Path, tmp_path: Path) -> None:
    """Two instances of one alias, or of one folder by whatever way, are one place: files are copied once."""

    def address(of: Any) -> str:
        return destination_of(of).address("a.txt")

    media.mkdir()
    (tmp_path / "link").symlink_to(media)
    assert address(ReplicatedStorage()) == address(storage)
    assert address(FileSystemStorage(tmp_path / "link")) == address(FileSystemStorage(media))
    assert address(OtherKind(media)) == address(FileSystemStorage(media))
    assert address(FileSystemStorage(media / "a")) != address(FileSystemStorage(media))


def test_what_was_missing_once_is_replaced_when_it_is_seen_again(storage: ReplicatedStorage, media: Path) -> None:
    """A file that came between two looks, and that the second one found, is what a copy writes over."""
    destination = destination_of(storage)
    assert destination.held(["a.txt"]) == {}
    storage.save("a.txt", ContentFile(b"older"))
    found = destination.held(["a.txt"])["a.txt"]
    assert destination.put("a.txt", Bytes(b"copied"), found) == 6
    assert (media / "a.txt").read_bytes() == b"copied"


def test_what_was_missing_is_not_kept_for_ever(storage: ReplicatedStorage) -> None:
    """Promise 8: a worker looks at millions of names that it then never writes."""
    destination = destination_of(storage)
    assert isinstance(destination, ReplicatedDestination)
    for chunk in range(8):
        destination.held([f"{chunk}/{number}.txt" for number in range(500)])
    assert len(destination._missing) < 3_000
