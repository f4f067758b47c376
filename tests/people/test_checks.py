"""manage.py check: each wrong setting is named, with what to write instead; a right configuration is silent."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import django
import pytest
from celery import Celery
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, run_checks
from django.core.checks import Error as CheckError
from django.core.files.storage import storages
from django.db import connections

from replicator.checks import celery as celery_checks
from replicator.checks import check
from replicator.checks import database as database_checks
from replicator.checks import nodes as node_checks
from replicator.checks.database import _problems_of_postgresql, _problems_of_sqlite
from replicator.storage import ReplicatedStorage
from replicator.testing import MemoryTarget
from tests.people.conftest import BACKEND, TARGETS

MEMORY = "replicator.testing.MemoryTarget"


@pytest.fixture(autouse=True)
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """A project's Celery app, well set up."""
    app = Celery("project", broker="memory://", set_as_current=False)
    app.conf.update(accept_content=["json"], task_time_limit=21600, task_soft_time_limit=21300)
    monkeypatch.setattr(celery_checks, "current_app", app)
    yield app
    app.close()


def found(*, hints: bool = False) -> list[str]:
    """``id: message``, and the hint behind it if asked for."""
    return [f"{m.id}: {m.msg}" + (f" | {m.hint}" if hints else "") for m in check()]


def only() -> CheckMessage:
    messages = check()
    assert len(messages) == 1, messages
    return messages[0]


def test_a_right_configuration_is_silent(site: ReplicatedStorage) -> None:
    assert found() == []


def test_the_checks_are_registered(site: ReplicatedStorage, settings: Any) -> None:
    settings.REPLICATOR = {"TRAGETS": {}}
    assert "replicator.E001" in [message.id for message in run_checks()]


# REPLICATOR


@pytest.mark.parametrize(
    ("raw", "message", "hint"),
    [
        (["media1"], "REPLICATOR is not a dictionary.", 'Write REPLICATOR = {"TARGETS": {…}}.'),
        ({"TRAGETS": {}}, "REPLICATOR has an unknown key 'TRAGETS'.", "Did you mean 'TARGETS'?"),
        ({"lease_second": 5}, "REPLICATOR has an unknown key 'lease_second'.", "Did you mean 'LEASE_SECONDS'?"),
        ({3: 5}, "REPLICATOR has an unknown key 3.", "Known: ANNOUNCE_PAUSE, "),
        ({"NODE": 7}, 'REPLICATOR["NODE"] is 7.', "Write a name of at most 64 letters, digits,"),
        ({"NODE": "x" * 65}, f'REPLICATOR["NODE"] is {"x" * 65!r}.', "Write a name of at most 64 letters, digits,"),
        ({"NODE": "web,1"}, "REPLICATOR[\"NODE\"] is 'web,1'.", "Write a name of at most 64 letters, digits,"),
        ({"SHARED_MEDIA": 0}, 'REPLICATOR["SHARED_MEDIA"] is 0.', "Write False if each node has a disk of its own"),
        ({"SHARED_MEDIA": "no"}, "REPLICATOR[\"SHARED_MEDIA\"] is 'no'.", "Write False if each node has a disk"),
        ({"TARGETS": ["media1"]}, 'REPLICATOR["TARGETS"] is not a dictionary.', 'Write REPLICATOR["TARGETS"] = {"m'),
        (
            {"TARGETS": {"": {"BACKEND": MEMORY}}},
            """REPLICATOR["TARGETS"]['']: an alias is a text of 1 to 64 characters.""",
            'Write REPLICATOR["TARGETS"] = {"media1":',
        ),
        (
            {"TARGETS": {"media1": "https://10.0.0.1"}},
            """REPLICATOR["TARGETS"]['media1'] has no BACKEND.""",
            'Write REPLICATOR["TARGETS"] = {"media1":',
        ),
        (
            {"TARGETS": {"media1": {"BACKEND": MEMORY, "OPTIONS": "url"}}},
            """REPLICATOR["TARGETS"]['media1']: OPTIONS is not a dictionary.""",
            'Write REPLICATOR["TARGETS"] = {"media1":',
        ),
        (
            {"TARGETS": {"media1": {"BACKEND": MEMORY, "OPTION": {}}}},
            """REPLICATOR["TARGETS"]['media1'] has an unknown key 'OPTION'.""",
            "Did you mean 'OPTIONS'? What the backend takes goes into \"OPTIONS\".",
        ),
        (
            {"RETRY_BASE": 60, "RETRY_CAP": 30},
            'REPLICATOR["RETRY_BASE"] is larger than "RETRY_CAP".',
            "Write the longest delay in RETRY_CAP.",
        ),
        ({"BATCH_SIZE": 2.5}, 'REPLICATOR["BATCH_SIZE"] is 2.5.', "Write a whole number from 1 to 10000."),
        ({"BATCH_SIZE": 10**6}, 'REPLICATOR["BATCH_SIZE"] is 1000000.', "Write a whole number from 1 to 10000."),
        (
            {"RUN_SECONDS": float("nan")},
            'REPLICATOR["RUN_SECONDS"] is nan.',
            "Write a number from 0.1 to 3153600000.",
        ),
        ({"DOWN_AFTER": True}, 'REPLICATOR["DOWN_AFTER"] is True.', "Write a whole number from 1 to 10000."),
    ],
)
def test_a_wrong_setting_is_named_with_its_cure(
    site: ReplicatedStorage, settings: Any, raw: Any, message: str, hint: str
) -> None:
    settings.REPLICATOR = raw
    problem = only()
    assert (problem.id, problem.msg) == ("replicator.E001", message)
    assert problem.is_serious()
    assert str(problem.hint).startswith(hint)


@pytest.mark.parametrize(
    ("key", "least"),
    [
        ("LEASE_SECONDS", "1"),
        ("DOUBT_WINDOW", "0"),
        ("RETRY_BASE", "0.01"),
        ("RETRY_CAP", "0.01"),
        ("RETRY_MAX_AGE", "1"),
        ("BATCH_SIZE", "1"),
        ("RUN_SECONDS", "0.1"),
        ("DOWN_AFTER", "1"),
        ("TOMBSTONE_AGE", "0"),
        ("ORPHAN_GRACE", "0"),
        ("ANNOUNCE_TIMEOUT", "0.01"),
        ("ANNOUNCE_PAUSE", "0"),
        ("NODE_GONE_AFTER", "1"),
    ],
)
def test_each_number_has_a_least_value_and_is_a_number(
    site: ReplicatedStorage, settings: Any, key: str, least: str
) -> None:
    number = "whole number" if key in ("BATCH_SIZE", "DOWN_AFTER") else "number"
    for value in (-1, "5", None):
        settings.REPLICATOR = {"TARGETS": TARGETS, key: value}
        problem = only()
        assert problem.msg == f'REPLICATOR["{key}"] is {value!r}.'
        assert f"Write a {number} from {least} to " in str(problem.hint)
    settings.REPLICATOR = {"TARGETS": TARGETS, key: 20}
    assert found() == []


def test_a_target_that_can_not_be_made_is_named(site: ReplicatedStorage, settings: Any) -> None:
    def with_target(**entry: Any) -> list[str]:
        settings.REPLICATOR = {"TARGETS": {**TARGETS, "media2": entry}}
        return found()

    where = """replicator.E002: REPLICATOR["TARGETS"]['media2']: """
    assert with_target(BACKEND="replicator.targets.nothing.Target") == [
        f"{where}BACKEND 'replicator.targets.nothing.Target' can't be imported: "
        "No module named 'replicator.targets.nothing'"
    ]
    assert with_target(BACKEND="pathlib.Path") == [
        f"{where}BACKEND 'pathlib.Path' is no target. Write a subclass of replicator.targets.base.Target."
    ]
    assert with_target(BACKEND=MEMORY, OPTIONS={"workres": 3}) == [
        f"{where}OPTIONS has an unknown key 'workres'. Did you mean 'workers'?"
    ]


def test_a_target_checks_its_own_options(
    site: ReplicatedStorage, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    problem = CheckError("its url is wrong", id="replicator.targets.memory.E001")
    monkeypatch.setattr(MemoryTarget, "check", lambda self: [problem] if self.alias == "media2" else [])
    assert check() == [problem]


# STORAGES


def test_targets_without_a_storage_that_replicates(site: ReplicatedStorage, settings: Any) -> None:
    settings.STORAGES = {"default": {"BACKEND": "django.core.files.storage.FileSystemStorage"}}
    assert found(hints=True) == [
        'replicator.W004: REPLICATOR["TARGETS"] is set, but no storage in STORAGES replicates: nothing is sent to '
        'any target. | Write STORAGES = {"default": {"BACKEND": "replicator.storage.ReplicatedStorage"}, …}.'
    ]
    settings.REPLICATOR = {}
    assert found() == []


def test_a_target_that_no_storage_uses(site: ReplicatedStorage, settings: Any) -> None:
    settings.STORAGES = {"default": {"BACKEND": BACKEND, "OPTIONS": {"targets": ["media1"]}}}
    assert found() == ["replicator.W003: No storage uses the target 'media2': nothing is sent there."]


def with_avatars(settings: Any, **options: Any) -> list[str]:
    settings.STORAGES = {"default": {"BACKEND": BACKEND}, "avatars": {"BACKEND": BACKEND, "OPTIONS": options}}
    return found(hints=True)


def test_a_storage_with_an_unknown_target(site: ReplicatedStorage, settings: Any) -> None:
    assert with_avatars(settings, alias="avatars", targets=["medai1"]) == [
        "replicator.E005: STORAGES['avatars'] names the target 'medai1', which REPLICATOR[\"TARGETS\"] does not have."
        " | Did you mean 'media1'?"
    ]
    assert with_avatars(settings, alias="avatars", targets="media1") == [
        "replicator.E005: STORAGES['avatars']: the option \"targets\" is 'media1', not a list. "
        '| Write "targets": ["media1"].'
    ]


def test_a_storage_with_an_unknown_option(site: ReplicatedStorage, settings: Any) -> None:
    (message,) = with_avatars(settings, alias="avatars", folder="/srv")
    assert message.startswith("replicator.E005: STORAGES['avatars'] can't be made: ")
    assert "'folder'" in message


def test_an_entry_that_says_not_which_it_is(site: ReplicatedStorage, settings: Any, tmp_path: Path) -> None:
    """Workers would look for its files where another storage keeps its own."""
    (message,) = with_avatars(settings, location=str(tmp_path / "avatars"), base_url="/media/avatars/")
    assert message.startswith(
        f"replicator.E006: STORAGES['avatars']: this storage writes to {tmp_path}/avatars, "
        f"but its alias 'default' to {site.location}: "
    )
    assert message.endswith("""| Write STORAGES['avatars']["OPTIONS"] = {"alias": 'avatars', …}.""")
    (message,) = with_avatars(settings, alias="avatar")
    assert "STORAGES has no 'avatar'" in message
    assert message.endswith(
        "| Write STORAGES['avatar'], or the alias of an entry with the same location and targets."
    )
    # Only a class of its own, for the same files: that is what the alias is for.
    assert with_avatars(settings, alias="default", mogile_class="avatar") == []


def test_an_empty_media_root(site: ReplicatedStorage, settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = ""
    settings.STORAGES = {"default": {"BACKEND": BACKEND}}
    assert found() == [
        "replicator.E008: STORAGES['default'] keeps its files in MEDIA_ROOT, which is empty: "
        "that is the folder a process happens to run in."
    ]
    settings.STORAGES = {"default": {"BACKEND": BACKEND, "OPTIONS": {"location": str(tmp_path)}}}
    assert found() == []


@pytest.mark.parametrize(
    ("location", "base_url", "targets", "clash"),
    [
        ("media/avatars", "/media/avatars/", None, ""),  # one in the other, here and there
        ("avatars", "/avatars/", None, ""),
        ("avatars", "/media/", ["media1"], "send different files to the same place at 'media1'"),
        ("avatars", "https://cdn.example.com/media/", None, "send different files to the same place at 'media1'"),
        ("avatars", "/media/avatars/", None, "send different files to the same place at 'media1'"),
        ("avatars", "/", None, "send different files to the same place at 'media1'"),
        ("media/avatars", "/media/other/", None, "send different files to the same place at 'media1'"),
        ("media", "/other/", None, "keep their files in the same folder"),
    ],
)
def test_two_storages_that_take_each_others_place(
    site: ReplicatedStorage,
    settings: Any,
    tmp_path: Path,
    location: str,
    base_url: str,
    targets: list[str] | None,
    clash: str,
) -> None:
    """Promise 2 is kept for a file; two files under one path would overwrite each other at the target."""
    messages = with_avatars(
        settings, alias="avatars", location=str(tmp_path / location), base_url=base_url, targets=targets
    )
    if not clash:
        assert messages == []
    else:
        (message,) = messages
        assert message.startswith("replicator.E007: STORAGES['default'] and STORAGES['avatars'] ")
        assert clash in message


def test_storages_that_share_no_target_may_share_a_path(
    site: ReplicatedStorage, settings: Any, tmp_path: Path
) -> None:
    other = {"alias": "avatars", "location": str(tmp_path / "avatars"), "targets": ["media2"]}
    settings.STORAGES = {
        "default": {"BACKEND": BACKEND, "OPTIONS": {"targets": ["media1"]}},
        "avatars": {"BACKEND": BACKEND, "OPTIONS": other},
    }
    assert found() == []


def test_other_kinds_of_storages_are_not_made(site: ReplicatedStorage, settings: Any) -> None:
    """Making one could ask a network, or fail for want of a password that a check does not need."""
    settings.STORAGES = {
        **settings.STORAGES,
        "s3": {"BACKEND": "tests.people.test_checks.Unmakable"},
        "broken": {"BACKEND": "no.such.Storage"},
    }
    assert found() == []


class Unmakable:
    def __init__(self) -> None:
        raise AssertionError("made")


@pytest.mark.skipif(django.VERSION < (5, 1), reason="Django itself reads the setting")
def test_two_settings_for_the_default_storage(site: ReplicatedStorage, settings: Any) -> None:
    settings.DEFAULT_FILE_STORAGE = "django.core.files.storage.FileSystemStorage"
    assert found() == [
        'replicator.E009: DEFAULT_FILE_STORAGE and STORAGES["default"] are both set, and differ: '
        "'django.core.files.storage.FileSystemStorage' is ignored."
    ]
    settings.DEFAULT_FILE_STORAGE = BACKEND
    assert found() == []


# The ledger's database


def test_mysql_and_oracle_are_refused(site: ReplicatedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    for vendor, name in (("mysql", "MySQL"), ("oracle", "Oracle")):
        fake = SimpleNamespace(vendor=vendor, display_name=name, settings_dict={})
        monkeypatch.setattr(database_checks, "connections", {"default": fake})
        assert found(hints=True) == [
            f"replicator.E010: DATABASES['default'] is {name}, which the ledger can't use: it needs partial indexes, "
            "and upserts that say what they wrote. | Use PostgreSQL, or SQLite on a single machine."
        ]
    monkeypatch.setattr(
        database_checks, "connections", {"default": SimpleNamespace(vendor="postgresql", settings_dict={})}
    )
    assert found() == []


def of_sqlite(name: Path | str, **options: Any) -> list[str]:
    return [f"{m.id}: {m.msg} | {m.hint}" for m in _problems_of_sqlite("default", {"NAME": name, "OPTIONS": options})]


def test_an_old_sqlite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    assert of_sqlite(":memory:") == [
        "replicator.E011: SQLite is 3.34.1; the ledger needs 3.35 or later (RETURNING). "
        "| Use a newer SQLite (or Python), or PostgreSQL."
    ]


def test_a_higher_isolation_level_is_refused() -> None:
    """Every save that meets a settling worker would fail."""
    assert list(_problems_of_postgresql("default", {"OPTIONS": {}})) == []
    assert list(_problems_of_postgresql("default", {"OPTIONS": {"isolation_level": 2}})) == []
    (message,) = _problems_of_postgresql("default", {"OPTIONS": {"isolation_level": 3}})
    assert message.id == "replicator.E021"
    assert message.msg.startswith('DATABASES[\'default\']["OPTIONS"]["isolation_level"] is not READ COMMITTED')


def test_local_times_are_warned_of(site: ReplicatedStorage, settings: Any) -> None:
    """When the clocks go back, an hour comes twice: leases and retries would wait for the second one."""
    settings.USE_TZ = False
    assert "replicator.W022" in [message.split(":")[0] for message in found()]


@pytest.mark.skipif(django.VERSION < (5, 1), reason="no such options")
def test_sqlite_needs_the_options_that_let_writers_queue_up(tmp_path: Path) -> None:
    name = tmp_path / "db.sqlite3"
    wal = "PRAGMA journal_mode = WAL; PRAGMA synchronous=NORMAL;"
    assert of_sqlite(name, transaction_mode="IMMEDIATE", init_command=wal) == []
    assert of_sqlite("file:memorydb_default?mode=memory&cache=shared") == []
    mode, journal = of_sqlite(name)
    assert mode.startswith('replicator.W012: DATABASES[\'default\']["OPTIONS"] has no "transaction_mode"')
    assert (
        """| Write DATABASES['default']["OPTIONS"] = {"transaction_mode": "IMMEDIATE", "timeout": 20, …}.""" in mode
    )
    assert journal == (
        "replicator.W013: DATABASES['default'] is not in WAL mode: the site's readers wait while a worker writes. "
        """| Write DATABASES['default']["OPTIONS"] = """
        '{"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;", …}.'
    )
    assert of_sqlite(name, transaction_mode="DEFERRED", init_command="PRAGMA journal_mode=DELETE") == [mode, journal]
    assert not name.exists(), "a check made the database"


def test_a_database_file_remembers_its_journal_mode(tmp_path: Path) -> None:
    name = tmp_path / "db ?#.sqlite3"
    database = sqlite3.connect(name)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE a (b)")
    database.close()
    assert of_sqlite(name, transaction_mode="IMMEDIATE") == []


class Router:
    """``DATABASE_ROUTERS`` of a test; what it answers is set there."""

    write: dict[str, str] = {}
    read: dict[str, str] = {}
    migrate: bool | None = None

    def db_for_write(self, model: Any, **_: Any) -> str | None:
        return self.write.get(model.__name__) if model._meta.app_label == "replicator" else None

    def db_for_read(self, model: Any, **_: Any) -> str | None:
        return self.read.get(model.__name__) if model._meta.app_label == "replicator" else None

    def allow_migrate(self, db: str, app_label: str, **_: Any) -> bool | None:
        return self.migrate if app_label == "replicator" else None


MODELS = ("MediaFile", "Replica", "TargetState", "Slot")


def test_a_router_that_tears_the_ledger_apart(
    site: ReplicatedStorage, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DATABASE_ROUTERS = ["tests.people.test_checks.Router"]
    monkeypatch.setattr(
        database_checks,
        "connections",
        {"ledger": SimpleNamespace(vendor="postgresql", settings_dict={}), "default": None},
    )
    monkeypatch.setattr(Router, "write", {"Replica": "ledger"})
    assert found() == ["replicator.E014: DATABASE_ROUTERS put MediaFile into 'default' and Replica into 'ledger'."]
    monkeypatch.setattr(Router, "write", dict.fromkeys(MODELS, "ledger"))
    monkeypatch.setattr(Router, "read", dict.fromkeys(MODELS, "copy"))
    monkeypatch.setattr(Router, "migrate", False)
    assert found() == [
        "replicator.E014: DATABASE_ROUTERS read the ledger from 'copy' and write it to 'ledger': "
        "a copy that lags behind shows what is not true any more.",
        "replicator.E014: DATABASE_ROUTERS put the ledger into 'ledger', and forbid to migrate it there.",
        "replicator.W020: The ledger is in the database 'ledger': a transaction of another database that is rolled "
        "back leaves the files that were saved in it.",
    ]
    monkeypatch.setattr(Router, "read", dict.fromkeys(MODELS, "ledger"))
    monkeypatch.setattr(Router, "migrate", True)
    assert [message.split(":")[0] for message in found()] == ["replicator.W020"]


def test_the_databases_of_the_tests_are_what_the_checks_want(site: ReplicatedStorage) -> None:
    assert connections["default"].vendor in ("sqlite", "postgresql")
    assert django_settings.STORAGES["avatars"]["OPTIONS"]["targets"] == ["media1"]
    assert storages["avatars"].targets == ["media1"]  # type: ignore[attr-defined]
    assert found() == []


# Celery


def test_a_process_without_a_celery_app(
    site: ReplicatedStorage, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(celery_checks, "current_app", Celery("default", set_as_current=False))
    assert found(hints=True) == [
        "replicator.W015: This process has no Celery app: saves can't wake workers, and files wait for the sweep. "
        "| Import your Celery app in the site's __init__.py: from yoursite.celery import app as celery_app."
    ]
    settings.STORAGES = {"default": {"BACKEND": BACKEND}}
    settings.REPLICATOR = {}
    assert found() == []


def test_what_celery_makes_up_is_recognised(tmp_path: Path) -> None:
    """The name that Celery gives the app of a project that has none."""
    code = "from celery import current_app; print(current_app.main)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "default\n"


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        (
            {"accept_content": ["json", "pickle"]},
            "W016: Celery's accept_content has pickle: whoever can write to the broker can run code in the workers.",
        ),
        (
            {"accept_content": ["application/x-python-serialize", "application/x-pickle"]},
            "W016: Celery's accept_content has pickle: whoever can write to the broker can run code in the workers.",
        ),
        (
            {"task_always_eager": True},
            "W017: Celery's task_always_eager is on: every save would wait until all targets have answered.",
        ),
        (
            {"task_time_limit": 120},
            'E018: Celery\'s task_time_limit is 120, and REPLICATOR["RUN_SECONDS"] 240: '
            "workers are killed in the middle of their work, again and again.",
        ),
        (
            {"task_soft_time_limit": 240},
            'E018: Celery\'s task_soft_time_limit is 240, and REPLICATOR["RUN_SECONDS"] 240: '
            "workers are killed in the middle of their work, again and again.",
        ),
        ({"task_time_limit": None, "task_soft_time_limit": None}, ""),
    ],
)
def test_celery_settings_that_break_promises(
    site: ReplicatedStorage, app: Celery, conf: dict[str, Any], message: str
) -> None:
    app.conf.update(conf)
    assert found() == ([f"replicator.{message}"] if message else [])


def test_a_beat_that_would_send_nothing(site: ReplicatedStorage, app: Celery, settings: Any) -> None:
    settings.USE_TZ = False
    assert [message.split(":")[0] for message in found()] == ["replicator.W022"]
    app.conf.enable_utc = False
    assert [message for message in found() if "W022" not in message] == [
        "replicator.W018: USE_TZ is False and Celery's enable_utc too: in some zones beat then sends nothing, "
        "and says nothing."
    ]


def test_nothing_that_sweeps(
    site: ReplicatedStorage, app: Celery, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(celery_checks.apps, "is_installed", lambda name: name != "django_celery_beat")
    (message,) = found(hints=True)
    assert message.startswith("replicator.W019: Nothing runs replicator.sweep: ")
    assert '| Add "django_celery_beat" to INSTALLED_APPS' in message
    app.conf.beat_schedule = {"sweep": {"task": "replicator.sweep", "schedule": 10}}
    assert found() == []


# Nodes with disks of their own


def own_disks(settings: Any, node: str = "web1", **whose: Any) -> None:
    targets = {alias: {"BACKEND": MEMORY, "OPTIONS": {"node": name}} for alias, name in whose.items()}
    settings.REPLICATOR = {"SHARED_MEDIA": False, "NODE": node, "TARGETS": targets or TARGETS}


@pytest.fixture
def on_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger's database is one that other machines can reach, as far as the checks of nodes look."""
    monkeypatch.setattr(node_checks, "connections", {"default": SimpleNamespace(vendor="postgresql")})


@pytest.mark.usefixtures("on_a_server")
def test_nodes_that_are_named_well_are_silent(site: ReplicatedStorage, settings: Any) -> None:
    own_disks(settings)
    assert found() == []
    own_disks(settings, media1="web1", media2="web-2.example_3")
    assert found() == []
    # A target of another node, or of none.
    own_disks(settings, media1="web7", media2="")
    assert found() == []


@pytest.mark.usefixtures("on_a_server")
@pytest.mark.parametrize("name", ["web,1", "web 1", "w" * 65, 7, None, ["web1"]])
def test_a_nodes_name_that_is_none(site: ReplicatedStorage, settings: Any, name: Any) -> None:
    """Commas part the names in a column, and it is part of a queue's name."""
    own_disks(settings, media1="web1", media2=name)
    assert [message for message in found(hints=True) if "E040" in message] == [
        f"""replicator.E040: REPLICATOR["TARGETS"]['media2']["OPTIONS"]["node"] is {name!r}. | """
        """Write what REPLICATOR["NODE"] is on that node, such as "web1"."""
    ]
    own_disks(settings, name)
    if isinstance(name, str):
        assert [message for message in found() if "E001" in message] == [
            f'replicator.E001: REPLICATOR["NODE"] is {name!r}.'
        ]


@pytest.mark.usefixtures("on_a_server")
def test_two_targets_can_not_be_one_nodes_disk(site: ReplicatedStorage, settings: Any) -> None:
    own_disks(settings, media1="web1", media2="web1")
    problem = only()
    assert (problem.id, problem.msg) == (
        "replicator.E040",
        "The targets media1, media2 are all the media root of the node 'web1': each would be sent what the other "
        "has.",
    )
    assert problem.is_serious()


@pytest.mark.parametrize("shared", [True, None])
def test_a_target_that_names_a_node_where_the_disk_is_shared(
    site: ReplicatedStorage, settings: Any, *, shared: bool | None
) -> None:
    own_disks(settings, media1="web1", media2="")
    del settings.REPLICATOR["SHARED_MEDIA"]
    if shared:
        settings.REPLICATOR = {**settings.REPLICATOR, "SHARED_MEDIA": True}
    assert found(hints=True) == [
        "replicator.W041: The target 'media1' names a node, 'web1', but nodes have no disks of their own here. | "
        'Write REPLICATOR["SHARED_MEDIA"] = False if they have, or remove the option "node".'
    ]


def test_a_ledger_that_other_nodes_can_not_reach(site: ReplicatedStorage, settings: Any) -> None:
    own_disks(settings)
    warnings = [message for message in found() if "W042" in message]
    assert warnings == (
        [
            'replicator.W042: REPLICATOR["SHARED_MEDIA"] is False, and the ledger is in SQLite, which no other '
            "machine can write."
        ]
        if connections["default"].vendor == "sqlite"
        else []
    )


@pytest.mark.usefixtures("on_a_server")
def test_a_nodes_name_that_may_change(
    site: ReplicatedStorage, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container has a new host name after each deploy."""
    monkeypatch.setattr("replicator.conf.socket.gethostname", lambda: "3f9a b7")
    settings.REPLICATOR = {"SHARED_MEDIA": False, "TARGETS": TARGETS}
    warnings = [message for message in found(hints=True) if "W043" in message]
    assert warnings == [
        "replicator.W043: REPLICATOR[\"NODE\"] is not set: this node is called '3f9a-b7', after the machine. Under "
        'another name it would not find its own files. | Write REPLICATOR["NODE"], another one on each machine, '
        'such as "web1".'
    ]
    settings.REPLICATOR = {"TARGETS": TARGETS}
    assert found() == [], "with a shared disk it is but a note in each row"
