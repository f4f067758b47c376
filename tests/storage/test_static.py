"""Facts about static files: what collectstatic leaves here, at the targets and in the ledger."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django
import pytest
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.management.commands import collectstatic
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, default_storage, storages
from django.core.management import CommandError, call_command, get_commands
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from replicator import delivery
from replicator.errors import Refused, Unavailable
from replicator.ledger import health
from replicator.models import MediaFile, Replica, TargetState
from replicator.storage import ReplicatedManifestStaticFilesStorage, ReplicatedStaticFilesStorage
from replicator.storage.collecting import Run
from replicator.targets import get_target
from replicator.testing import MemoryTarget
from replicator.waiting import NotSynced
from tests.servers import Nginx
from tests.storage.conftest import TARGETS, everything

pytestmark = pytest.mark.django_db(transaction=True)

PLAIN = "replicator.storage.ReplicatedStaticFilesStorage"
MANIFEST = "replicator.storage.ReplicatedManifestStaticFilesStorage"
MEDIA = "replicator.storage.ReplicatedStorage"
DJANGOS = "django.contrib.staticfiles.storage.StaticFilesStorage"


class Project:
    """A project's own static files, and what becomes of them."""

    def __init__(self, settings: Any, folder: Path) -> None:
        self.settings = settings
        self.source = folder / "source"
        self.root = folder / "static"
        self.source.mkdir()
        settings.STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
        settings.STATICFILES_DIRS = [str(self.source)]
        settings.STATIC_ROOT = str(self.root)
        settings.MEDIA_ROOT = str(folder / "media")
        settings.REPLICATOR = {"TARGETS": TARGETS, "RETRY_BASE": 0.01, "RETRY_CAP": 0.01}
        self.use(MANIFEST)
        self.write("site.css", "body { background: url(img/logo.png) }", ahead=-1000)
        # Post-processing comes to deeper folders first: what this names changes its own name after that.
        self.write("css/all.css", '@import "../site.css";', ahead=-1000)
        self.write("img/logo.png", "logo", ahead=-1000)
        self.write("site.js", "alert(1)", ahead=-1000)

    def use(self, backend: str, **options: Any) -> None:
        entry = {"BACKEND": backend, "OPTIONS": options}
        self.settings.STORAGES = {**self.settings.STORAGES, "staticfiles": entry}
        self.settings.STATIC_ROOT = str(self.root)
        if options and django.VERSION < (5, 1):  # which forgets OPTIONS when a test sets STORAGES
            vars(storages["staticfiles"]).update(options)

    def write(self, name: str, text: str, *, ahead: float = 1000) -> None:
        """Change a source. collectstatic looks at whole seconds of times: so it is newer than what was collected."""
        path = self.source / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        when = time.time() + ahead
        os.utime(path, (when, when))

    def collect(self, *args: str) -> str:
        out = io.StringIO()
        call_command("collectstatic", *args, interactive=False, verbosity=1, stdout=out)
        return out.getvalue()

    def sent(self, alias: str = "media1") -> list[tuple[str, str]]:
        """What was asked of a target in memory since the last call; names without /static/."""
        target = get_target(alias)
        assert isinstance(target, MemoryTarget)
        operations, target.operations = target.operations, []
        return [(what, path.removeprefix("static/")) for what, path in operations if what in ("put", "delete")]

    def held(self, alias: str = "media1") -> dict[str, bytes]:
        target = get_target(alias)
        assert isinstance(target, MemoryTarget)
        return {path.removeprefix("static/"): data for path, data in target.files.items()}

    def here(self) -> dict[str, bytes]:
        return everything(self.root)

    def traces(self) -> list[Path]:
        """What unfinished writes left."""
        return [path for path in self.root.rglob(".replicator*") if not path.is_dir()]

    def manifest(self) -> dict[str, str]:
        paths = json.loads((self.root / "staticfiles.json").read_text())["paths"]
        assert isinstance(paths, dict)
        return paths


@pytest.fixture
def project(settings: Any, tmp_path: Path) -> Project:
    return Project(settings, tmp_path)


def deliver() -> None:
    for alias in TARGETS:
        delivery.deliver(alias)


def target(alias: str) -> MemoryTarget:
    found = get_target(alias)
    assert isinstance(found, MemoryTarget)
    return found


# A real project and real servers


def test_every_host_ends_with_every_file_of_the_admin(settings: Any, tmp_path: Path, nginx: Nginx) -> None:
    """The admin's own files, two hosts, no worker: what collectstatic waits for, it delivers."""
    settings.STATIC_ROOT, settings.MEDIA_ROOT = str(tmp_path / "static"), str(tmp_path / "media")
    with Nginx() as other:
        hosts = {"media1": nginx, "media2": other}
        backend = "replicator.targets.webdav.WebDAVTarget"
        settings.REPLICATOR = {
            "TARGETS": {alias: {"BACKEND": backend, "OPTIONS": {"url": host.url}} for alias, host in hosts.items()}
        }
        settings.STORAGES = {**settings.STORAGES, "staticfiles": {"BACKEND": MANIFEST}}
        call_command("collectstatic", interactive=False, verbosity=0)
        for alias in hosts:
            delivery.deliver(alias)  # the manifest, which is a worker's
        here = {f"static/{name}": data for name, data in everything(tmp_path / "static").items()}
        paths = json.loads(here["static/staticfiles.json"])["paths"]
        assert len(paths) > 100
        assert {"admin/css/base.css", "admin/img/icon-yes.svg", "admin/js/core.js"} <= paths.keys()
        assert {f"static/{hashed}" for hashed in paths.values()} <= here.keys()
        for host in hosts.values():
            assert host.files() == here


def test_while_a_host_is_down_no_page_names_what_it_lacks(
    project: Project, tmp_path: Path, nginx: Nginx, settings: Any
) -> None:
    """The manifest stays as it was, here and at the other host, and the deploy hears of it; then all is made up."""
    with Nginx() as other:
        hosts = {"media1": nginx, "media2": other}
        entries = {
            alias: {"BACKEND": "replicator.targets.webdav.WebDAVTarget", "OPTIONS": {"url": host.url}}
            for alias, host in hosts.items()
        }
        settings.REPLICATOR = {**settings.REPLICATOR, "TARGETS": entries}
        project.use(MANIFEST, manifest_wait=60)
        project.collect()
        deliver()
        old = project.manifest()
        project.write("site.css", "body { color: red }")
        other.stop()
        project.use(MANIFEST, manifest_wait=6)
        with pytest.raises(CommandError) as failed:
            project.collect("--clear")
        message = str(failed.value)
        assert message.startswith("staticfiles.json was not written: no page may name what a target lacks. After 6 s")
        assert "media2: 3 pending" in message
        assert "media1" not in message
        assert project.manifest() == old
        # The host that is up has both generations: whatever names a file finds it.
        held = nginx.files()
        assert json.loads(held["static/staticfiles.json"])["paths"] == old
        assert {f"static/{hashed}" for hashed in old.values()} <= held.keys()
        assert b"body { color: red }" in held.values()
        other.start()
        project.use(MANIFEST, manifest_wait=60)
        project.collect("--clear")
        new = project.manifest()
        assert new["site.css"] != old["site.css"]
        for host in hosts.values():
            assert {f"static/{hashed}" for hashed in new.values()} <= host.files().keys()
        deliver()
        here = {f"static/{name}": data for name, data in project.here().items()}
        assert nginx.files() == other.files() == here


def test_a_host_whose_breaker_is_open_is_tried_without_a_worker(project: Project) -> None:
    """A deploy is often the first thing that runs: what closed the host before may have passed since."""
    project.use(MANIFEST, manifest_wait=8.0)
    project.collect()
    deliver()
    default_storage.save("media.txt", ContentFile(b"another storage's, for which it may be the wrong machine"))
    project.sent("media2")
    health.trip("media2", "each file failed")
    TargetState.objects.filter(pk="media2").update(retry_at=timezone.now())
    project.write("site.css", "body { color: red }")
    project.collect()
    assert health.down_targets() == set()
    assert ("put", project.manifest()["site.css"]) in project.sent("media2")
    assert "media/media.txt" not in target("media2").files
    assert Replica.objects.get(target="media2", file__storage="default").attempts == 0


# What is sent


@pytest.mark.parametrize("backend", [PLAIN, MANIFEST])
@pytest.mark.parametrize("how", ["again", "clear", "newer times", "another machine"])
def test_unchanged_files_are_not_sent_again(project: Project, tmp_path: Path, backend: str, how: str) -> None:
    """Nor deleted in between: the bytes are what counts, whatever collectstatic does to get there."""
    project.use(backend)
    project.collect()
    deliver()
    assert {name for _, name in project.sent()} == project.here().keys()
    here, versions = project.here(), set(MediaFile.objects.values_list("version", flat=True))
    if how == "newer times":
        for path in project.source.rglob("*.*"):
            later = path.stat().st_mtime + 1000
            os.utime(path, (later, later))
    elif how == "another machine":
        project.root = tmp_path / "other"
        project.use(backend)
    project.collect(*(["--clear"] if how == "clear" else []))
    deliver()
    assert project.sent() == []
    assert project.here() == here, "and they are all here"
    assert set(MediaFile.objects.values_list("version", flat=True)) == versions
    assert project.traces() == []


def test_only_what_changed_is_sent_and_the_manifest_last(project: Project) -> None:
    project.collect()
    deliver()
    project.sent()
    project.write("img/logo.png", "another logo")
    project.collect()
    deliver()
    paths = project.manifest()
    sent = project.sent()
    assert {name for _, name in sent} == {
        "img/logo.png",
        paths["img/logo.png"],
        # Their text names the logo, and what names it.
        paths["site.css"],
        paths["css/all.css"],
        "staticfiles.json",
    }
    assert {what for what, _ in sent} == {"put"}, "the stages of post-processing are nobody's business"
    assert sent[-1] == ("put", "staticfiles.json")
    assert project.held() == project.held("media2") == project.here()


@pytest.mark.parametrize("args", [[], ["--clear"]])
def test_a_target_is_never_without_a_file_that_stays(
    project: Project, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    """Even if a worker delivers after each step of collectstatic."""
    project.collect()
    deliver()
    before = project.held().keys()
    project.write("site.js", "alert(2)")
    put, delete = Run.put, Run.delete

    def step(do: Callable[..., None]) -> Callable[..., None]:
        def done(*values: Any) -> None:
            do(*values)
            deliver()
            assert before <= project.held().keys()

        return done

    with monkeypatch.context() as patch:
        patch.setattr(Run, "delete", step(delete))
        patch.setattr(Run, "put", step(put))
        project.collect(*args)
    assert target("media1").files["static/site.js"] == b"alert(2)"


def test_a_new_target_gets_everything_and_the_others_nothing(project: Project) -> None:
    one = {"media1": TARGETS["media1"]}
    project.settings.REPLICATOR = {**project.settings.REPLICATOR, "TARGETS": one}
    project.collect()
    delivery.deliver("media1")
    held = project.held()
    project.settings.REPLICATOR = {**project.settings.REPLICATOR, "TARGETS": TARGETS}
    first = target("media1")
    first.files.update({f"static/{name}": data for name, data in held.items()})
    project.collect()
    deliver()
    assert project.sent("media1") == []
    assert project.held("media2") == project.here()


@pytest.mark.parametrize("backend", [PLAIN, MANIFEST])
def test_what_was_collected_before_is_recorded_without_a_change(project: Project, backend: str) -> None:
    """A project that changes its storage need not clear anything: the next collectstatic sends all."""
    project.use("django.contrib.staticfiles.storage." + backend.rpartition(".")[2].removeprefix("Replicated"))
    project.collect()
    project.use(backend)
    assert "4 unmodified" in project.collect()
    deliver()
    assert project.held() == project.here()


def test_a_few_statements_record_many_files(project: Project) -> None:
    for n in range(300):
        project.write(f"many/{n}.txt", str(n))
    project.use(PLAIN)
    with CaptureQueriesContext(connection) as queries:
        project.collect()
    assert MediaFile.objects.count() == 304
    assert len(queries) < 10
    with CaptureQueriesContext(connection) as queries:
        project.collect()
    assert len(queries) < 10


def test_many_files_for_many_targets_fit_into_a_statement(project: Project) -> None:
    """SQLite takes 32,766 parameters; each replica has ten."""
    targets = {f"media{n}": {"BACKEND": "replicator.testing.MemoryTarget"} for n in range(1, 10)}
    project.settings.REPLICATOR = {**project.settings.REPLICATOR, "TARGETS": targets}
    project.use(PLAIN)
    for n in range(450):
        project.write(f"many/{n}.txt", str(n))
    project.collect()
    shutil.rmtree(project.source / "many")
    project.collect("--clear")
    assert MediaFile.objects.filter(deleted=True).count() == 450
    assert Replica.objects.pending().count() == 454 * 9


# Deletes


def test_old_hashed_files_stay_until_they_are_cleared(project: Project) -> None:
    """Pages in caches still name them."""
    project.collect()
    old = project.manifest()["site.js"]
    project.write("site.js", "alert(2)")
    project.collect()
    deliver()
    assert old in project.held()
    assert old in project.here()
    project.sent()
    project.collect("--clear")
    deliver()
    assert project.sent() == [("delete", old)]
    assert project.held() == project.held("media2") == project.here()
    assert old not in project.here()
    assert project.traces() == []


def test_what_is_cleared_goes_after_the_manifest_that_named_it(project: Project) -> None:
    entry = {"BACKEND": "replicator.testing.MemoryTarget", "OPTIONS": {"concurrency": 1}}
    project.settings.REPLICATOR = {**project.settings.REPLICATOR, "TARGETS": {"media1": entry}}
    project.use(MANIFEST, manifest_wait=60)
    project.collect()
    delivery.deliver("media1")
    (project.source / "site.js").unlink()
    gone = {"site.js", project.manifest()["site.js"]}
    project.write("new.js", "new")
    project.use(MANIFEST, manifest_wait=0.5)
    target("media1").fail_with = Unavailable("503")
    with pytest.raises(CommandError, match="was not written"):
        project.collect("--clear")
    assert gone <= project.here().keys()
    project.use(MANIFEST, manifest_wait=60)
    target("media1").fail_with = None
    project.sent()
    project.collect("--clear")
    delivery.deliver("media1")
    sent = project.sent()
    assert sent[-3] == ("put", "staticfiles.json")
    assert set(sent[-2:]) == {("delete", name) for name in gone}
    assert gone.isdisjoint(project.here())


def test_what_the_ledger_never_knew_is_cleared_here_only(project: Project) -> None:
    """Promise 6: nothing is deleted at a target that the ledger did not name."""
    project.collect()
    deliver()
    storage: Any = storages["staticfiles"]
    storage.save("gone.txt", ContentFile(b"1"))
    storage.delete("gone.txt")
    deliver()
    for name in ("stray.txt", "gone.txt"):
        (project.root / name).write_text("put here by hand")
    project.sent()
    project.collect("--clear")
    deliver()
    assert project.sent() == []
    assert project.here() == project.held()


# Waiting for the manifest


def test_a_manifest_that_is_kept_elsewhere_is_not_sent(project: Project, tmp_path: Path) -> None:
    """Django's own option: the manifest is a list of everything, which need not be public."""
    elsewhere = FileSystemStorage(tmp_path / "manifest")
    project.use(MANIFEST, manifest_storage=elsewhere, manifest_wait=60)
    project.collect()
    deliver()
    assert elsewhere.exists("staticfiles.json")
    assert project.held() == project.here()
    assert "staticfiles.json" not in project.held()
    old = (tmp_path / "manifest/staticfiles.json").read_bytes()
    project.write("site.js", "alert(2)")
    project.use(MANIFEST, manifest_storage=elsewhere, manifest_wait=0.5)
    target("media1").fail_with = Unavailable("503")
    with pytest.raises(CommandError, match="was not written"):
        project.collect()
    assert (tmp_path / "manifest/staticfiles.json").read_bytes() == old


def test_a_file_that_a_target_refuses_ends_the_wait_at_once(project: Project) -> None:
    project.use(MANIFEST, manifest_wait=60)
    target("media2").fail_with = Refused("403 Forbidden: check the access rules", status=403)
    with pytest.raises(CommandError) as failed:
        project.collect()
    message = str(failed.value)
    assert "Some failed for good" in message
    assert "media2: " in message
    # Five examples of eight: which they are depends on the order in which the disk lists the folder.
    examples = re.findall(r"staticfiles: (\S+): refused \(HTTP 403\): 403 Forbidden: check the access rules", message)
    assert len(examples) == 5
    assert set(examples) < project.here().keys()
    assert '"manifest_wait": 0' in message
    assert "staticfiles.json" not in project.here()


def test_a_manifest_that_waits_for_nothing_is_written_at_once(project: Project) -> None:
    project.use(MANIFEST, manifest_wait=0)
    target("media2").fail_with = Unavailable("503")
    project.collect()
    assert project.manifest()
    assert project.sent() == [], "and nothing was sent: that is for workers"


def test_files_that_are_not_part_of_it_are_not_waited_for(project: Project) -> None:
    """An old file that failed must not keep all new ones from pages for ever."""
    project.collect()
    project.write("bad.js", "1")
    project.use(MANIFEST, manifest_wait=60)
    target("media2").before = lambda what, file: _refuse_bad(file.name)
    with pytest.raises(CommandError, match="Some failed for good"):
        project.collect()
    (project.source / "bad.js").unlink()
    project.write("site.js", "alert(2)")
    project.collect()
    assert "bad.js" not in project.manifest()
    assert Replica.objects.failed().filter(file__name="bad.js").exists()


def _refuse_bad(name: str) -> None:
    if name.startswith("bad"):
        raise Refused("it is bad")


def test_a_wait_inside_a_transaction_is_refused(project: Project) -> None:
    """It could only end with the time."""
    with pytest.raises(RuntimeError, match="inside a transaction"), transaction.atomic():
        project.collect()


def test_a_project_s_own_command_writes_the_manifest_last_too(project: Project) -> None:
    """One that is not derived from ours: each write is recorded by itself, and the wait is the same."""
    call_command(collectstatic.Command(), interactive=False, verbosity=0)
    deliver()
    assert project.held() == project.here()
    assert project.manifest()
    old = project.manifest()
    project.use(MANIFEST, manifest_wait=1)
    project.write("site.js", "alert(2)")
    target("media2").fail_with = Unavailable("503")
    with pytest.raises(NotSynced):
        call_command(collectstatic.Command(), interactive=False, verbosity=0)
    assert project.manifest() == old


# Runs that do not end well


def test_a_run_that_fails_leaves_everything_as_it_was(project: Project) -> None:
    project.collect()
    deliver()
    here, held = project.here(), project.held()
    rows = set(MediaFile.objects.values_list("name", "version"))
    project.write("site.css", "body { background: url(nowhere.png) }")
    project.write("site.js", "alert(2)")
    project.write("new.js", "new")
    with pytest.raises((ValueError, CommandError), match=r"nowhere\.png"):
        project.collect("--clear")
    deliver()
    assert project.here() == here
    assert project.held() == held
    assert set(MediaFile.objects.values_list("name", "version")) == rows
    assert project.traces() == []


@pytest.fixture
def killed(project: Project, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A run was killed that had shown two new files, one of them half written to the disk; what was there before."""
    project.collect()
    deliver()
    before = project.here()
    project.write("site.js", "alert(2)")
    project.write("new.js", "new", ahead=-1000)
    with monkeypatch.context() as patch:
        # A process that is killed undoes nothing.
        patch.setattr(Run, "undo", lambda run: None)
        patch.setattr(Run, "record", lambda run: os.truncate(project.root / "new.js", 0) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            project.collect()
    assert (project.root / "site.js").read_bytes() == b"alert(2)"
    return before


def test_what_a_killed_run_left_is_undone(project: Project, killed: dict[str, bytes]) -> None:
    project.settings.REPLICATOR = {**project.settings.REPLICATOR, "ORPHAN_GRACE": 0}
    storage: Any = storages["staticfiles"]
    assert storage.tidy()
    assert project.here() == killed


def test_the_run_after_a_killed_one_collects_everything(project: Project, killed: dict[str, bytes]) -> None:
    """Also what was half written, though its time says that it is up to date."""
    project.collect()
    deliver()
    here = project.here()
    assert here["new.js"] == here[project.manifest()["new.js"]] == b"new"
    held = project.held()
    assert {name: data for name, data in here.items() if ".replicator" not in name} == held
    project.settings.REPLICATOR = {**project.settings.REPLICATOR, "ORPHAN_GRACE": 0}
    storage: Any = storages["staticfiles"]
    storage.tidy()
    assert project.here() == held


# What else collectstatic can do


def test_links_are_sent_as_what_they_lead_to(project: Project) -> None:
    project.use(PLAIN)
    project.collect("--link")
    deliver()
    assert (project.root / "site.js").is_symlink()
    assert project.held()["site.js"] == b"alert(1)"
    project.sent()
    # Back to copies: the same bytes.
    project.collect()
    deliver()
    assert not (project.root / "site.js").is_symlink()
    assert project.sent() == []
    assert project.held() == project.here()


def test_a_dry_run_does_nothing(project: Project) -> None:
    assert "Pretending to copy" in project.collect("--dry-run")
    assert not project.root.exists()
    project.use(DJANGOS)
    project.collect()
    project.use(MANIFEST)
    assert "4 unmodified" in project.collect("--dry-run")
    assert not MediaFile.objects.exists()


def test_without_post_processing_the_files_are_sent_as_they_are(project: Project) -> None:
    project.collect("--no-post-process")
    deliver()
    assert project.held().keys() == {"site.css", "css/all.css", "site.js", "img/logo.png"}


def test_our_collectstatic_runs_wherever_the_app_is_listed() -> None:
    """The tests' own settings have it after Django's, as the README says it."""
    assert get_commands()["collectstatic"] == "replicator"


def test_other_storages_are_collected_as_ever(project: Project) -> None:
    project.use(DJANGOS)
    assert "4 static files copied" in project.collect()
    assert not MediaFile.objects.exists()


# The storage by itself


def test_a_save_keeps_its_name_and_is_recorded_at_once(project: Project) -> None:
    """As tools do that write static files while the site runs."""
    project.use(PLAIN)
    storage: Any = storages["staticfiles"]
    assert storage.save("cache/a.css", ContentFile(b"1")) == "cache/a.css"
    shutil.rmtree(project.root)
    assert storage.save("cache/a.css", ContentFile(b"2")) == "cache/a.css", "another machine has it, this one not"
    deliver()
    assert project.held() == {"cache/a.css": b"2"}
    storage.delete("cache/a.css")
    deliver()
    assert project.held() == project.here() == {}


def test_a_delete_and_a_save_in_one_transaction_keep_the_name(project: Project) -> None:
    project.use(PLAIN)
    storage: Any = storages["staticfiles"]
    storage.save("a.css", ContentFile(b"1"))
    with transaction.atomic():
        storage.delete("a.css")
        assert not storage.exists("a.css")
        assert storage.save("a.css", ContentFile(b"2")) == "a.css"
    assert project.here() == {"a.css": b"2"}


def test_places_are_those_of_static_files(project: Project) -> None:
    storage: Any = storages["staticfiles"]
    assert isinstance(storage, ReplicatedManifestStaticFilesStorage)
    assert (storage.alias, storage.location, storage.base_url) == ("staticfiles", str(project.root), "/static/")
    other = ReplicatedStaticFilesStorage(str(project.root / "x"), "/x/", alias="other")
    assert (other.alias, other.location, other.base_url) == ("other", str(project.root / "x"), "/x/")


@pytest.mark.parametrize("debug", [False, True])
def test_urls_have_the_hash_except_while_debugging(project: Project, debug: bool) -> None:
    """As Django's."""
    project.collect()
    project.settings.DEBUG = debug
    expected = "site.js" if debug else project.manifest()["site.js"]
    assert staticfiles_storage.url("site.js") == f"/static/{expected}"
    assert finders.find("site.js")


@pytest.mark.parametrize("wait", [-1, "60", True, float("nan")])
def test_a_wrong_wait_is_refused(wait: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="write a number of seconds, or 0"):
        ReplicatedManifestStaticFilesStorage(manifest_wait=wait)


def test_collectstatic_sends_no_other_files(project: Project) -> None:
    """Media files may be on other machines, and are their workers' business."""
    project.settings.STORAGES = {**project.settings.STORAGES, "default": {"BACKEND": MEDIA}}
    storages["default"].save("photo.jpg", ContentFile(b"photo"))
    project.collect()
    assert project.manifest()
    assert "media/photo.jpg" not in target("media1").files
    assert Replica.objects.pending().filter(file__storage="default").count() == 2
