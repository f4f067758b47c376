"""What load balancers and container runtimes ask: is this process up, and can it do its work."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from replicator import readiness
from replicator.ledger import database
from replicator.storage import ReplicatedStorage
from tests.people.conftest import site, woken  # noqa: F401  # fixtures
from tests.promises.harness import wait_until
from tests.servers import Postgres, Redis

#: Of a site, in seconds.
PATIENCE = readiness._PATIENCE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.operating.monitored_urls")]


@pytest.fixture(autouse=True)
def _asked_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What other tests heard is forgotten, and the broker is one in memory."""
    monkeypatch.setattr(readiness, "_migrated", set())
    asked = {name: readiness._Check(check._ask) for name, check in readiness._CHECKS.items()}
    monkeypatch.setattr(readiness, "_CHECKS", asked)
    # What is well must be found so on a busy machine, too; who tests how long it takes says how long.
    monkeypatch.setattr(readiness, "_PATIENCE", 60.0)
    with _broker_at("memory://"):
        yield


@contextmanager
def _broker_at(url: str) -> Iterator[None]:
    before = current_app.conf.broker_url, current_app.conf.broker_write_url
    current_app.conf.broker_url = current_app.conf.broker_write_url = url
    try:
        yield
    finally:
        current_app.conf.broker_url, current_app.conf.broker_write_url = before


def ready(client: Client) -> tuple[int, dict[str, str]]:
    answer = client.get("/readyz")
    body = answer.json()
    assert body["ready"] == (answer.status_code == 200)
    return answer.status_code, body["checks"]


def test_a_process_that_is_up_says_so_without_a_database(
    client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    """Whoever ends processes by it must not end all of them because the database is away."""
    with django_assert_num_queries(0):
        answer = client.get("/healthz")
    assert (answer.status_code, answer.content) == (200, b"ok\n")
    assert not answer.cookies


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_they_are_only_read_and_never_kept(site: ReplicatedStorage, client: Client, path: str) -> None:  # noqa: F811
    """A proxy that repeats what was would say that all is well."""
    assert client.post(path).status_code == 405
    assert "no-store" in client.get(path)["Cache-Control"]
    assert client.head(path).content == b""


def test_ready_is_who_has_database_broker_and_disk(site: ReplicatedStorage, client: Client) -> None:  # noqa: F811
    """The broker is Celery's own in memory here."""
    assert ready(client) == (200, {"database": "ok", "broker": "ok", "media": "ok"})
    assert not list(Path(site.location).iterdir())


def test_a_database_that_is_away_is_said(
    site: ReplicatedStorage,  # noqa: F811
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a word, for anybody may ask."""

    def refused(*_: object, **__: object) -> None:
        raise OperationalError("password authentication failed for user replicator")

    monkeypatch.setattr(type(database.connection()), "get_new_connection", refused)
    status, checks = ready(client)
    assert (status, checks["database"], checks["media"]) == (503, "no answer", "ok")


def test_a_database_that_lacks_a_migration_is_said(site: ReplicatedStorage, client: Client) -> None:  # noqa: F811
    """New code must not get requests before it was migrated for."""
    recorder = MigrationRecorder(connection)
    recorder.record_unapplied("replicator", "0004_operating")
    try:
        assert ready(client)[1]["database"] == "not migrated"
    finally:
        recorder.record_applied("replicator", "0004_operating")
    time.sleep(readiness._BELIEVED + 0.1)
    assert ready(client)[1]["database"] == "ok"


def test_migrations_are_looked_at_until_they_are_there(
    site: ReplicatedStorage,  # noqa: F811
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once for a process: to read them all takes longer than the rest."""
    assert ready(client)[0] == 200

    def looked(*_: object) -> None:
        raise AssertionError("looked again")

    monkeypatch.setattr(readiness, "MigrationExecutor", looked)
    time.sleep(readiness._BELIEVED + 0.1)
    assert ready(client)[0] == 200


@pytest.fixture
def broker(redis: Redis, _asked_anew: None) -> Iterator[Redis]:
    with _broker_at(redis.tcp_url):
        yield redis


def test_a_broker_that_is_refused_or_hangs_is_said_in_time(
    site: ReplicatedStorage,  # noqa: F811
    client: Client,
    broker: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Within three seconds; and a check that hangs gathers no threads, however often it is asked for."""
    assert ready(client)[1]["broker"] == "ok"
    time.sleep(readiness._BELIEVED + 0.1)
    broker.pause()
    monkeypatch.setattr(readiness, "_PATIENCE", PATIENCE)
    try:
        start = time.monotonic()
        assert ready(client)[1]["broker"] == "no answer"
        assert time.monotonic() - start < 15
        for _ in range(3):
            ready(client)
        wait_until(lambda: [t.name for t in threading.enumerate()].count("replicator-readiness") <= 1)
    finally:
        broker.resume()
    broker.stop()
    monkeypatch.setattr(readiness, "_PATIENCE", 60.0)
    time.sleep(readiness._BELIEVED + 0.1)
    assert ready(client) == (503, {"database": "ok", "broker": "no answer", "media": "ok"})


def test_what_hangs_keeps_nobody_waiting(
    site: ReplicatedStorage,  # noqa: F811
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A network disk may hang for hours: who asks meanwhile is told at once that there is no answer."""
    release = threading.Event()
    asked = []

    def hangs() -> str:
        asked.append(1)
        release.wait(60)
        return readiness.OK

    monkeypatch.setattr(readiness, "_PATIENCE", 0.3)
    monkeypatch.setitem(readiness._CHECKS, "media", readiness._Check(hangs))
    try:
        for _ in range(3):
            start = time.monotonic()
            assert ready(client)[1]["media"] == "no answer"
            assert time.monotonic() - start < 10
        assert len(asked) == 1
    finally:
        release.set()
    wait_until(lambda: ready(client)[1]["media"] == "ok")


def test_a_disk_that_takes_no_file_is_said(
    site: ReplicatedStorage,  # noqa: F811
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Full, read-only, or not this user's; the log says which, the public does not learn the path."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(readiness.tempfile, "TemporaryFile", full)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["media"] == "not writable"
    assert str(site.location) not in answer.content.decode()
    (record,) = [r for r in caplog.records if r.message == "not ready"]
    assert vars(record)["folder"] == str(site.location)
    assert "No space left" in vars(record)["error"]


def test_a_storage_that_nothing_was_saved_to_yet_is_ready(
    site: ReplicatedStorage,  # noqa: F811
    client: Client,
    settings: Any,
    tmp_path: Path,
) -> None:
    """Its folder is made by the first save; a question must not make it."""
    settings.MEDIA_ROOT = str(tmp_path / "not" / "yet")
    assert ready(client)[1]["media"] == "ok"
    assert not (tmp_path / "not").exists()


def test_a_defect_of_a_check_is_no_answer_that_all_is_well(
    site: ReplicatedStorage,  # noqa: F811
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever it raises."""
    monkeypatch.setitem(readiness._CHECKS, "media", readiness._Check(lambda: str(1 / 0)))
    assert ready(client) == (503, {"database": "ok", "broker": "ok", "media": "failed"})


def test_a_paused_database_is_no_answer_within_three_seconds(postgres: Postgres, tmp_path: Path) -> None:
    """A real one that hangs, asked through the reference project at its own addresses."""
    import subprocess
    import sys

    script = """
import os, sys, time, django
django.setup()
from django.core.management import call_command
from django.test import Client
call_command("migrate", verbosity=0)
client = Client(headers={"host": "localhost"})
while (said := client.get("/readyz").json()["checks"]["database"]) == "no answer":
    time.sleep(1.1)  # the first time it reads the migrations, which takes long on a busy machine
print(said, flush=True)
sys.stdin.readline()
start = time.monotonic()
print(client.get("/readyz").json()["checks"]["database"], round(time.monotonic() - start), flush=True)
print(client.get("/healthz").status_code, flush=True)
os._exit(0)
"""
    environment = {
        **os.environ,
        **{"DJANGO_SETTINGS_MODULE": "project.settings", "DATABASE_URL": postgres.url, "VAR": str(tmp_path)},
        **{"SECRET_KEY": "x", "ALLOWED_HOSTS": "localhost", "PYTHONPATH": str(Path(__file__).parents[2])},
    }
    process = subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ok\n"
        postgres.pause()
        time.sleep(1.1)
        process.stdin.write("\n")
        process.stdin.flush()
        said, _, seconds = process.stdout.readline().rpartition(" ")
        assert (said, 3 <= int(seconds) < 15) == ("no answer", True)
        assert process.stdout.readline() == "200\n"
    finally:
        postgres.resume()
        process.kill()
        process.communicate()


# Logs


def test_each_event_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    """What collects logs takes them apart by itself; nothing that is logged breaks a line."""
    import json
    import logging

    from project.logs import JSONFormatter

    handler = logging.StreamHandler()
    handler.setFormatter(JSONFormatter())
    log = logging.getLogger("tests.json")
    log.addHandler(handler)
    log.warning("target down", extra={"target": "media1", "reason": "a\nb", "level": 3, "path": Path("/x")})
    try:
        int("no")
    except ValueError:
        log.exception("run %s raised", 5)
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "WARNING",
        "logger": "tests.json",
        "message": "target down",
        "target": "media1",
        "reason": "a\nb",
        "level_": 3,
        "path": "/x",
    }
    assert second["message"] == "run 5 raised"
    assert "ValueError: invalid" in second["exception"]


def test_a_line_of_a_task_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where who logs does not think of it."""
    import logging

    from celery import shared_task

    from project.logs import FactsFormatter

    handler = logging.StreamHandler()
    handler.setFormatter(FactsFormatter())
    log = logging.getLogger("tests.facts")
    log.addHandler(handler)

    @shared_task(name="tests.logging")
    def logs() -> None:
        log.warning("something")
        log.warning("something else", extra={"task": "its own"})

    done = logs.apply()
    log.warning("after it")
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"WARNING tests.facts: something task='{done.id}'",
        "WARNING tests.facts: something else task='its own'",
        "WARNING tests.facts: after it",
    ]
