"""Adopting: files that were there before the replicator was."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import storages

from replicator import adoption, delivery, ledger, local
from replicator.adoption import Adoption, Note
from replicator.local import Entry
from replicator.models import MediaFile, Replica
from replicator.storage import ReplicatedStorage
from replicator.targets import get_target
from tests.people.conftest import Output, Woken

pytestmark = pytest.mark.django_db(transaction=True)
Manage = Callable[..., Output]


def put(storage: ReplicatedStorage, name: str | bytes, data: bytes = b"hello") -> Path:
    """A file in *storage* that nobody recorded."""
    path = Path(storage.location) / os.fsdecode(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def adopt(storage: ReplicatedStorage, **options: Any) -> tuple[Adoption, dict[str, Note]]:
    notes: dict[str, Note] = {}
    run = Adoption(storage, tell=lambda note: notes.__setitem__(note.name, note), **options)
    run.run()
    return run, notes


def test_files_that_were_there_before_replicate(site: ReplicatedStorage, woken: Woken) -> None:
    """Promise 1 holds for files that the storage did not write itself, once they are adopted."""
    put(site, "a.txt", b"one")
    put(site, "deep/er/ü b#c.png", b"two")
    put(site, "empty", b"")
    run, notes = adopt(site)
    assert (run.adopted, run.adopted_bytes, run.known, notes) == (3, 6, 0, {})
    file = MediaFile.objects.get(name="deep/er/ü b#c.png")
    assert (file.size, file.sha256, file.content_type) == (3, hashlib.sha256(b"two").hexdigest(), "image/png")
    assert set(woken) == {"media1", "media2"}
    for alias in ("media1", "media2"):
        delivery.deliver(alias)
        held = {path: bytes(data) for path, data in get_target(alias).files.items()}  # type: ignore[attr-defined]
        assert held == {"media/a.txt": b"one", "media/deep/er/ü b#c.png": b"two", "media/empty": b""}
    assert not Replica.objects.backlog().exists()


def test_what_is_recorded_is_not_read_again(site: ReplicatedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adopting is resumable: a second run costs a look at the names."""
    for n in range(25):
        put(site, f"{n}.txt")
    adopt(site, batch=10)
    put(site, "new.txt")
    read: list[str] = []
    steady_digest = local.steady_digest
    monkeypatch.setattr(local, "steady_digest", lambda path: read.append(path) or steady_digest(path))
    versions = set(MediaFile.objects.values_list("name", "version"))
    run, _ = adopt(site, batch=10)
    assert (run.adopted, run.known) == (1, 25)
    assert read == [site.path("new.txt")]
    assert versions < set(MediaFile.objects.values_list("name", "version")), "a version moved"


def test_a_dry_run_reads_and_records_nothing(site: ReplicatedStorage, woken: Woken, manage: Manage) -> None:
    put(site, "a.txt").chmod(0)
    put(site, "b.txt")
    put(site, "back\\slash")
    done = manage("adopt", "--dry-run")
    assert "default: would adopt 2 files (10 bytes), 0 already recorded, 1 refused" in done.out
    assert not MediaFile.objects.exists()
    assert not woken


def test_names_that_can_not_be_sent_are_listed_with_the_cure(site: ReplicatedStorage, manage: Manage) -> None:
    """The rest is adopted all the same, and the exit code is 1."""
    put(site, "good.txt")
    put(site, b"latin-\xe9.txt")
    put(site, "back\\slash.txt")
    long = "/".join(["x" * 200] * 6)
    put(site, long)
    done = manage("adopt")
    assert "default: adopted 1 file (5 bytes), 0 already recorded, 3 refused." in done.out
    assert r"REFUSED: 'latin-\udce9.txt' is not UTF-8: rename it (convmv" in done.err
    assert r"REFUSED: 'back\\slash.txt' has a backslash, which servers take for a slash: rename it" in done.err
    assert f"REFUSED: {long!r} has 1205 bytes, and 1024 is the most" in done.err
    assert done.error == "3 files refused, as said above: cure them and adopt again."


def test_an_unreadable_file_is_refused(site: ReplicatedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    put(site, "a.txt")

    def refuse(path: str) -> None:
        # Root, whom tests may run as, may read everything.
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(local, "steady_digest", refuse)
    run, notes = adopt(site)
    assert (run.adopted, run.refused) == (0, 1)
    assert notes["'a.txt'"].text == "can't be read: Permission denied"


def test_only_files_are_adopted(site: ReplicatedStorage, tmp_path: Path) -> None:
    """No link leads out of the storage or round in circles; a pipe makes nobody wait."""
    put(site, "real/a.txt", b"one")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"no")
    root = Path(site.location)
    (root / "out").symlink_to(outside)
    (root / "real" / "loop").symlink_to(root)
    (root / "me").symlink_to("me")
    (root / "nowhere").symlink_to("missing")
    (root / "link.txt").symlink_to("real/a.txt")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as sock:
        here = Path.cwd()
        os.chdir(root)  # a unix socket's path is short
        sock.bind("socket")
        os.chdir(here)
        run, notes = adopt(site)
    assert set(MediaFile.objects.values_list("name", flat=True)) == {"real/a.txt", "link.txt"}
    assert set(notes) == {"'out'", "'real/loop'", "'me'", "'nowhere'", "'pipe'", "'socket'"}
    assert (run.skipped, run.refused) == (6, 0)
    assert "symbolic link to a folder" in notes["'out'"].text
    assert "leads nowhere" in notes["'me'"].text
    assert "no file but a socket, a pipe" in notes["'pipe'"].text


def test_a_storage_inside_another_is_adopted_by_itself(site: ReplicatedStorage, manage: Manage) -> None:
    """Each file has one row: its own storage's, with that storage's targets and class."""
    put(site, "a.txt")
    put(site, "avatars/me.png")
    done = manage("adopt")
    assert "default: adopted 1 file" in done.out
    assert "avatars: adopted 1 file" in done.out
    assert "skipped: 'avatars' is the storage 'avatars', which is adopted by itself" in done.err
    avatar = MediaFile.objects.get(storage="avatars")
    assert (avatar.name, avatar.mogile_class) == ("me.png", "avatar")
    assert list(avatar.replicas.values_list("target", flat=True)) == ["media1"]
    assert MediaFile.objects.count() == 2


def test_a_deleted_file_stays_deleted(site: ReplicatedStorage, manage: Manage) -> None:
    """Promise 2: a deleted file never comes back, though a backup put its bytes here again."""
    site.delete(site.save("a.txt", ContentFile(b"old")))
    put(site, "a.txt", b"old")
    done = manage("adopt")
    assert "default: adopted 0 files (0 bytes), 0 already recorded, 1 stay deleted." in done.out
    assert "deleted: 'a.txt' was deleted and stays so" in done.err
    assert MediaFile.objects.get().deleted
    assert done.error == ""


def test_a_file_that_changes_while_it_is_read_is_left_for_later(
    site: ReplicatedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row names bytes that never were the file's."""
    path = put(site, "growing.log", b"1")
    put(site, "steady.txt")
    file_digest = hashlib.file_digest

    def digest_while_writing(file: Any, kind: str) -> Any:
        result = file_digest(file, kind)
        if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
            path.write_bytes(path.read_bytes() + b"more")
        return result

    monkeypatch.setattr(hashlib, "file_digest", digest_while_writing)
    _, notes = adopt(site)
    assert notes["'growing.log'"] == Note("skipped", "'growing.log'", notes["'growing.log'"].text)
    assert "changes while it is read" in notes["'growing.log'"].text
    assert list(MediaFile.objects.values_list("name", flat=True)) == ["steady.txt"]
    monkeypatch.undo()
    adopt(site)
    assert MediaFile.objects.get(name="growing.log").size == path.stat().st_size


def test_a_file_that_changes_once_is_read_again(site: ReplicatedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(site, "a.txt", b"old")
    file_digest = hashlib.file_digest
    changes = [b"newer"]

    def digest(file: Any, kind: str) -> Any:
        result = file_digest(file, kind)
        if changes:
            path.with_suffix(".tmp").write_bytes(changes.pop())
            path.with_suffix(".tmp").rename(path)
        return result

    monkeypatch.setattr(hashlib, "file_digest", digest)
    adopt(site)
    assert MediaFile.objects.get().sha256 == hashlib.sha256(b"newer").hexdigest()


def test_a_write_that_is_not_committed_yet_is_not_adopted(site: ReplicatedStorage) -> None:
    """Promise 3: it may be rolled back, and nobody would be told."""
    entry = Entry(str(site.location), "a.txt", uuid4())
    entry.open()
    entry.stage(ContentFile(b"maybe"), None)
    entry.put_in_free_place()
    run, notes = adopt(site)
    assert (run.adopted, run.skipped) == (0, 1)
    assert "is being saved or deleted just now" in notes["'a.txt'"].text
    assert not MediaFile.objects.exists()
    entry.close()
    assert adopt(site)[0].adopted == 1


def test_the_storages_own_traces_are_no_files(site: ReplicatedStorage) -> None:
    entry = Entry(str(site.location), "a.txt", uuid4())
    entry.open()
    entry.stage(ContentFile(b"maybe"), None)
    run, notes = adopt(site)
    assert (run.adopted, notes) == (0, {})


def test_a_storage_that_could_not_deliver_is_refused(site: ReplicatedStorage, settings: Any, manage: Manage) -> None:
    """Nothing is recorded that no worker could ever send."""
    put(site, "a.txt")
    stray = ReplicatedStorage(location=str(site.location) + "/avatars")
    with pytest.raises(ImproperlyConfigured, match="its alias 'default' to"):
        Adoption(stray).run()
    settings.REPLICATOR = {"TARGETS": {}}
    settings.STORAGES = {**settings.STORAGES, "avatars": {"BACKEND": "replicator.storage.ReplicatedStorage"}}
    assert manage("adopt").error == (
        "STORAGES['default'] has no targets: there is nothing that its files would be sent to."
    )
    assert not MediaFile.objects.exists()


def test_a_location_that_is_not_there_is_said(site: ReplicatedStorage, manage: Manage) -> None:
    """A mistyped MEDIA_ROOT does not look like an empty one."""
    Path(site.location).rmdir()
    done = manage("adopt", "--storage", "default")
    assert f"skipped: {site.location!r} is not there yet: there is nothing to adopt" in done.err
    Path(site.location).write_bytes(b"")
    done = manage("adopt", "--storage", "default")
    assert f"REFUSED: {site.location!r} is a folder that can't be read: Not a directory" in done.err


def test_an_unknown_storage_is_answered_with_the_nearest(site: ReplicatedStorage, manage: Manage) -> None:
    error = manage("adopt", "--storage", "avatar").error
    assert error == "STORAGES has no ReplicatedStorage 'avatar'. Did you mean 'avatars'?"
    assert manage("adopt", "--batch", "0").error == "--batch 0: write a number of at least 1."


def test_a_broker_that_is_down_is_said_and_does_no_harm(
    site: ReplicatedStorage, woken: Woken, manage: Manage
) -> None:
    put(site, "a.txt")
    woken.broker_is_up = False
    done = manage("adopt", "--storage", "default")
    assert "default: adopted 1 file" in done.out
    assert "The broker can't be reached. The files are recorded" in done.err
    assert done.error == ""


def test_an_interrupted_run_keeps_what_it_has_and_says_how_to_go_on(
    site: ReplicatedStorage, manage: Manage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(10):
        put(site, f"{n}.txt")
    steady_digest = local.steady_digest
    calls: list[str] = []

    def interrupted(path: str) -> Any:
        calls.append(path)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return steady_digest(path)

    monkeypatch.setattr(local, "steady_digest", interrupted)
    with pytest.raises(SystemExit) as ended:
        manage("adopt", "--batch", "3")
    assert ended.value.code == 130
    assert MediaFile.objects.count() == 7
    monkeypatch.undo()


def test_many_targets_fit_into_a_statement(site: ReplicatedStorage, settings: Any) -> None:
    """SQLite takes 32,766 parameters, whatever --batch says."""
    targets = {f"media{n}": {"BACKEND": "replicator.testing.MemoryTarget"} for n in range(40)}
    settings.REPLICATOR = {"TARGETS": targets}
    for n in range(200):
        put(site, f"{n}.txt")
    run, _ = adopt(storages["default"], batch=100_000)  # type: ignore[arg-type]
    assert run.adopted == 200
    assert Replica.objects.count() == 8000


def test_large_files_are_recorded_before_the_batch_is_full(
    site: ReplicatedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an interruption may cost is bounded in bytes too."""
    monkeypatch.setattr(adoption, "_BATCH_BYTES", 10)
    recorded: list[int] = []
    record_new = ledger.record_new
    monkeypatch.setattr(ledger, "record_new", lambda w, t: recorded.append(len(w)) or record_new(w, t))
    for n in range(5):
        put(site, f"{n}.txt", b"hello")
    adopt(site)
    assert recorded == [2, 2, 1]


SETTINGS = """
from tests.settings import *
from pathlib import Path
HERE = Path(__file__).parent
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": HERE / "db.sqlite3"}}
MEDIA_ROOT = str(HERE / "media")
REPLICATOR = {"TARGETS": {"media1": {"BACKEND": "replicator.testing.MemoryTarget"}}, "ANNOUNCE_TIMEOUT": 0.1}
SILENCED_SYSTEM_CHECKS = ["replicator.W012", "replicator.W013", "replicator.W015"]
"""


def test_ctrl_c_in_a_terminal_leaves_a_run_that_can_go_on(tmp_path: Path) -> None:
    """The real thing: a process, a signal, and the same command again."""
    (tmp_path / "adopt_settings.py").write_text(SETTINGS)
    media = tmp_path / "media"
    for n in range(6_000):
        path = media / f"{n % 40}" / f"{n}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % n)
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "adopt_settings",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}",
    }

    def command(*args: str) -> list[str]:
        return [sys.executable, "-m", "django", *args]

    subprocess.run(command("migrate", "-v0"), env=environment, check=True, timeout=120)
    # Small batches, so that there is time enough to be interrupted.
    run = command("replicator", "adopt", "--batch", "5")
    process = subprocess.Popen(run, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    query = "from replicator.models import MediaFile; print(MediaFile.objects.count())"
    for _ in range(6000):
        with sqlite3.connect(tmp_path / "db.sqlite3") as database:
            if database.execute("SELECT count(*) FROM replicator_mediafile").fetchone()[0] >= 100:
                break
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, (out, err)
    assert "Interrupted. Start the same command again to go on" in err
    again = subprocess.run(run[:-2], env=environment, capture_output=True, text=True, timeout=400)
    assert again.returncode == 0, again.stderr
    shell = command("shell", "-c", query)
    count = subprocess.run(shell, env=environment, capture_output=True, text=True, timeout=120)
    assert count.stdout.split()[-1] == "6000"
