"""``manage.py replicator reclass``: another MogileFS class for recorded files. And what people see of classes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from replicator import delivery, ledger
from replicator.errors import Unavailable
from replicator.ledger import Outcome, Write, health
from replicator.models import MediaFile, Replica
from replicator.storage import MogileFSStorage, ReplicatedStorage
from replicator.targets import get_target
from replicator.testing import MemoryTarget
from tests.ledger.sessions import Session, postgresql_only
from tests.mogilefs.cluster import MogileFS
from tests.people.conftest import BACKEND, Output, Woken, record_many

pytestmark = pytest.mark.django_db(transaction=True)
Manage = Callable[..., Output]
FILES = "/admin/replicator/mediafile/"


class Classy(MemoryTarget):
    """A target in memory with classes. ``unanswered``: raised when it is asked for them."""

    has_classes = True
    unanswered: Exception | None = None

    def classes(self) -> list[str]:
        if self.unanswered:
            raise self.unanswered
        return ["default", "avatar", "thumb"]


@pytest.fixture
def storage(site: ReplicatedStorage, settings: Any) -> ReplicatedStorage:
    """The site's default storage, now with a target that has classes; "avatars" has it too, "plain" has not."""
    settings.REPLICATOR = {
        "TARGETS": {
            "media1": {"BACKEND": "replicator.testing.MemoryTarget"},
            "classy": {"BACKEND": "tests.people.test_reclass.Classy"},
        }
    }
    below = Path(site.location)

    def entry(alias: str, **options: Any) -> dict[str, Any]:
        place = {"alias": alias, "location": str(below / alias), "base_url": f"/media/{alias}/"}
        return {"BACKEND": BACKEND, "OPTIONS": {**place, **options}}

    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": BACKEND},
        "avatars": entry("avatars", targets=["classy"], mogile_class="avatar"),
        "plain": entry("plain", targets=["media1"]),
    }
    found = storages["default"]
    assert isinstance(found, ReplicatedStorage)
    return found


def recorded(*names: str, storage: str = "default", mogile_class: str = "", synced: bool = True) -> None:
    """Files in the ledger, there or on their way."""
    targets = ["classy"] if storage == "avatars" else ["classy", "media1"]
    ledger.record_new([Write(storage, n, 5, "0" * 64, "", mogile_class) for n in names], targets)
    for target in targets if synced else ():
        while (batch := ledger.claim(target, 100)).claims:
            ledger.settle(batch.lease, [Outcome(c) for c in batch.claims])


def classes() -> dict[str, str]:
    return dict(MediaFile.objects.values_list("name", "mogile_class"))


def pending() -> set[tuple[str, str]]:
    return set(Replica.objects.pending().values_list("file__name", "target"))


# The command


def test_the_files_of_a_storage_get_another_class(storage: ReplicatedStorage, manage: Manage, woken: Woken) -> None:
    """Only where files have classes there is work; other storages keep theirs."""
    recorded("a.txt", "b.txt")
    recorded("c.txt", mogile_class="thumb")
    recorded("me.png", storage="avatars", mogile_class="avatar")
    woken.clear()
    done = manage("reclass", "thumb", "--storage", "default")
    assert (done.error, done.out) == ("", "default: gave 2 files the class 'thumb'.\n")
    assert classes() == {"a.txt": "thumb", "b.txt": "thumb", "c.txt": "thumb", "me.png": "avatar"}
    assert pending() == {("a.txt", "classy"), ("b.txt", "classy")}
    assert woken == ["classy"]
    assert manage("reclass", "thumb", "--storage", "default").out == "default: gave 0 files the class 'thumb'.\n"
    assert woken == ["classy"], "workers were woken for nothing"


def test_the_class_that_new_files_get_is_said(storage: ReplicatedStorage, manage: Manage) -> None:
    """Else the next upload is of the old class again."""
    recorded("me.png", storage="avatars", mogile_class="avatar")
    said = manage("reclass", "thumb", "--storage", "avatars").err
    assert said == "New files of 'avatars' get the class 'avatar', as before: change its mogile_class too.\n"
    assert manage("reclass", "avatar", "--storage", "avatars").err == ""
    said = manage("reclass", "thumb", "--storage", "default").err
    assert said == "New files of 'default' get the class 'default', as before: change its mogile_class too.\n"
    assert manage("reclass", "thumb", "--storage", "default", "--prefix", "x/").err == ""


def test_default_is_no_class(storage: ReplicatedStorage, manage: Manage) -> None:
    recorded("a.txt", mogile_class="thumb")
    done = manage("reclass", "default", "--storage", "default")
    assert (done.out, done.err) == ("default: gave 1 file no class.\n", "")
    assert classes() == {"a.txt": ""}


def test_only_names_that_begin_so(storage: ReplicatedStorage, manage: Manage) -> None:
    """In the same case, and with no sign that means more than itself."""
    recorded("avatars/1.png", "Avatars/2.png", "avatars2/3.png", "a_atars/4.png", "x/avatars/5.png")
    done = manage("reclass", "avatar", "--storage", "default", "--prefix", "avatars/")
    assert done.out == "default: gave 1 file the class 'avatar'.\n"
    assert [name for name, kind in classes().items() if kind] == ["avatars/1.png"]
    manage("reclass", "thumb", "--storage", "default", "--prefix", "a_")
    assert {name: kind for name, kind in classes().items() if kind} == {
        "avatars/1.png": "avatar",
        "a_atars/4.png": "thumb",
    }


def test_a_dry_run_changes_nothing(storage: ReplicatedStorage, manage: Manage, woken: Woken) -> None:
    recorded("a.txt", "b.txt")
    recorded("c.txt", mogile_class="thumb")
    woken.clear()
    done = manage("reclass", "thumb", "--storage", "default", "--dry-run")
    assert done.out == "default: would give 2 files the class 'thumb'.\n"
    assert (pending(), woken) == (set(), [])
    assert classes()["a.txt"] == ""


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["thumb"], "Several storages have files in MogileFS. Write --storage default or --storage avatars."),
        (["thumb", "--storage", "avatar"], "STORAGES has no ReplicatedStorage 'avatar'. Did you mean 'avatars'?"),
        (
            ["thumb", "--storage", "plain"],
            "'plain' has no target where files have classes, as MogileFS is one: it has media1.",
        ),
        (["tumb", "--storage", "default"], "classy has no class 'tumb'. Did you mean 'thumb'? New ones are made by"),
        (["", "--storage", "default"], "The class is empty: write default for no class."),
        (["x" * 65, "--storage", "default"], "A class of 65 characters; 64 is the most."),
        (
            ["thumb", "--storage", "default", "--prefix", "/avatars/"],
            "--prefix /avatars/: names are relative. Write --prefix avatars/",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_changed(
    storage: ReplicatedStorage, manage: Manage, args: list[str], message: str
) -> None:
    recorded("a.txt")
    assert manage("reclass", *args).error.startswith(message)
    assert pending() == set()


def test_without_classes_anywhere_there_is_nothing_to_do(site: ReplicatedStorage, manage: Manage) -> None:
    error = manage("reclass", "thumb").error
    assert error == "No storage has a target where files have classes, as MogileFS is one."


def test_the_only_storage_with_classes_need_not_be_named(
    storage: ReplicatedStorage, settings: Any, manage: Manage
) -> None:
    avatars = settings.STORAGES["avatars"]
    settings.STORAGES = {
        **settings.STORAGES,
        "avatars": {**avatars, "OPTIONS": {**avatars["OPTIONS"], "targets": []}},
    }
    recorded("a.txt")
    assert manage("reclass", "thumb").out == "default: gave 1 file the class 'thumb'.\n"


def test_a_target_that_can_not_be_asked_keeps_nobody_from_it(
    storage: ReplicatedStorage, manage: Manage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger has it, and a class that is not there is refused later. What may take a while is said."""
    recorded("a.txt")
    monkeypatch.setattr(Classy, "unanswered", Unavailable("no tracker answers"))
    health.mark_down("classy", "no tracker answers")
    done = manage("reclass", "tumb", "--storage", "default", "--prefix", "a")
    assert done.out == "default: gave 1 file the class 'tumb'.\n"
    assert done.err == (
        "classy can't be asked whether it has the class 'tumb': no tracker answers\n"
        "classy is down: it gets its files when it answers again.\n"
    )


def test_a_broker_that_is_gone_is_said(storage: ReplicatedStorage, manage: Manage, woken: Woken) -> None:
    recorded("a.txt")
    woken.broker_is_up = False
    said = manage("reclass", "thumb", "--storage", "default", "--prefix", "a").err
    assert said == "The broker can't be reached: the next sweep that runs will wake the workers.\n"


@postgresql_only
def test_what_the_site_is_writing_is_told(storage: ReplicatedStorage, manage: Manage) -> None:
    """It was passed over; a second run finds it."""
    recorded("a.txt", "b.txt")
    with Session() as writer:
        writer.begin()
        writer.do(ledger.record, Write("default", "b.txt", 5, "0" * 64), ["classy", "media1"])
        done = manage("reclass", "thumb", "--storage", "default", "--prefix", "")
        assert done.out == "default: gave 1 file the class 'thumb'.\n"
        assert "1 file passed over: the site is just writing there. Start this again.\n" in done.err
        writer.commit()
    assert manage("reclass", "thumb", "--storage", "default").out.startswith("default: gave 1 file ")


def test_many_files_take_seconds(
    storage: ReplicatedStorage, manage: Manage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a bar that shows how far it is; in batches, so that saves get their turn."""
    record_many(20_000, status="synced", target="classy")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with CaptureQueriesContext(connection) as queries:
        done = manage("reclass", "thumb", "--storage", "default")
    assert done.out == "default: gave 20,000 files the class 'thumb'.\n"
    assert "/20.0k [" in capsys.readouterr().err
    assert sum(q["sql"].startswith("UPDATE") for q in queries) == 2 * 20


def test_an_interrupted_run_goes_on_where_it_was(
    storage: ReplicatedStorage, manage: Manage, monkeypatch: pytest.MonkeyPatch, woken: Woken
) -> None:
    """What was changed is sent meanwhile."""
    record_many(2_500, status="synced", target="classy")
    reclass = ledger.reclass

    def interrupted(*args: Any, progress: Callable[[int], object], **more: Any) -> int:
        def interrupt(count: int) -> None:
            raise KeyboardInterrupt

        return reclass(*args, progress=interrupt, **more)

    monkeypatch.setattr(ledger, "reclass", interrupted)
    with pytest.raises(SystemExit) as ended:
        manage("reclass", "thumb", "--storage", "default")
    assert ended.value.code == 130
    assert len(pending()) == 1000
    assert woken == ["classy"]
    monkeypatch.undo()
    monkeypatch.setattr("replicator.wake.wake", lambda targets: True)
    assert manage("reclass", "thumb", "--storage", "default").out == "default: gave 1,500 files the class 'thumb'.\n"


# With MogileFS itself


@pytest.fixture
def mogilefs(site: ReplicatedStorage, settings: Any) -> Iterator[MogileFS]:
    """One target beside a media host."""
    with MogileFS(classes=["avatar:2", "thumb:1"]) as installation:
        options = {"domain": installation.domain, "trackers": installation.trackers, "read_timeout": 20.0}
        settings.REPLICATOR = {
            "TARGETS": {
                "media1": {"BACKEND": "replicator.testing.MemoryTarget"},
                "mogilefs": {"BACKEND": "replicator.targets.mogilefs.MogileFSTarget", "OPTIONS": options},
            }
        }
        every = {"targets": ["media1", "mogilefs"], "mogile_class": "avatar"}
        settings.STORAGES = {
            **settings.STORAGES,
            "default": {"BACKEND": "replicator.storage.MogileFSStorage", "OPTIONS": every},
            "avatars": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
        }
        yield installation
        get_target("mogilefs").close()


def saved(*names: str) -> MogileFSStorage:
    storage = storages["default"]
    assert isinstance(storage, MogileFSStorage)
    for name in names:
        storage.save(name, ContentFile(b"hello"))
    for target in ("media1", "mogilefs"):
        delivery.deliver(target)
    assert not Replica.objects.backlog().exists()
    return storage


def test_mogilefs_is_told_the_new_class_and_sent_nothing(mogilefs: MogileFS, manage: Manage) -> None:
    """Also when the file is not here any more, and when the class changes back before anyone was told."""
    storage = saved("a.txt")
    Path(storage.path("a.txt")).unlink()
    before = mogilefs.stored("a.txt")
    assert before is not None
    assert before.mogile_class == "avatar"
    mogilefs.refuse("create_open", times=None)
    for changes in (["thumb"], ["default"], ["avatar", "default"]):
        for wanted in changes:
            assert manage("reclass", wanted).error == ""
        delivery.deliver("mogilefs")
        after = mogilefs.stored("a.txt")
        assert after is not None
        assert (after.fid, after.mogile_class) == (before.fid, changes[-1])
        assert not Replica.objects.backlog().exists()


def test_a_misspelt_class_is_found_before_anything_is_changed(mogilefs: MogileFS, manage: Manage) -> None:
    saved("a.txt")
    said = "mogilefs has no class 'avatr'. Did you mean 'avatar'? New ones are made by mogadm."
    assert manage("reclass", "avatr").error == said
    assert not Replica.objects.backlog().exists()


def test_status_shows_mogilefs_as_one_more_target(mogilefs: MogileFS, manage: Manage) -> None:
    """Up, with its backlog, its failures and why it is down; and probed like any other."""
    storage = saved("a.txt")
    line = manage("status").out.splitlines()[2].split()
    assert line[:6] == ["mogilefs", "up", "joining", "0", "0", "-"]
    assert line[-1] == "ago"
    storage.mogile_class = "nope"
    storage.save("b.txt", ContentFile(b"x"))
    delivery.deliver("mogilefs")
    done = manage("status", "--target", "mogilefs")
    assert "default: b.txt at mogilefs\n      refused: the domain 'testdomain' has no class 'nope'" in done.out
    assert done.error.startswith("1 replica failed.")
    facts = json.loads(manage("status", "--json").out)
    assert [(t["target"], t["failed"]) for t in facts["targets"]] == [("media1", 0), ("mogilefs", 1)]
    assert "mogilefs: answers\n" in manage("probe").out
    mogilefs.kill()
    assert "mogilefs: no answer: " in manage("probe").out
    health.mark_down("mogilefs", "no tracker answers")
    assert "mogilefs: down for 0 s: no tracker answers" in manage("status").out


def test_the_admin_shows_mogilefs_as_one_more_target(mogilefs: MogileFS, admin_client: Client) -> None:
    """Its state, each file's replica there, and each file's class."""
    saved("a.txt")
    file = MediaFile.objects.get()
    states = admin_client.get("/admin/replicator/targetstate/").content.decode()
    assert "mogilefs" in states
    page = admin_client.get(FILES).content.decode()
    assert '<span class="replicator-badge replicator-synced" title="synced">mogilefs</span>' in page
    assert '<td class="field-mogile_class">avatar</td>' in page
    page = admin_client.get(f"{FILES}{file.pk}/change/").content.decode()
    assert "MogileFS class" in page
    assert '<div class="readonly">avatar</div>' in page


# The admin


def test_files_can_be_filtered_by_class(storage: ReplicatedStorage, admin_client: Client) -> None:
    """The choices are those of the storages: asking all rows which classes they have would take long."""
    recorded("plain.txt")
    recorded("a.txt", mogile_class="avatar")
    recorded("b.txt", mogile_class="thumb")
    response = admin_client.get(FILES)
    page = response.content.decode()
    assert "?mogile_class=avatar" in page
    assert "?mogile_class=default" in page
    for value, names in (("avatar", {"a.txt"}), ("thumb", {"b.txt"}), ("default", {"plain.txt"})):
        response = admin_client.get(f"{FILES}?mogile_class={value}")
        assert {file.name for file in response.context["cl"].result_list} == names


def test_a_site_without_classes_is_not_shown_any(site: ReplicatedStorage, admin_client: Client) -> None:
    """Nobody there has a use for an empty column."""
    recorded("a.txt", synced=False)
    assert "mogile_class" not in admin_client.get(FILES).content.decode()
