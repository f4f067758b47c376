"""What is counted of each target: by whichever process delivers, and read by any other."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import DatabaseError, OperationalError, connections, transaction
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from replicator import delivery, wake
from replicator.delivery.now import deliver_now
from replicator.delivery.wanted import Wanted
from replicator.errors import Refused
from replicator.ledger import counters
from replicator.models import MediaFile, Replica, TargetCounter
from replicator.targets import get_target
from replicator.testing import MemoryTarget
from tests.promises.harness import Site, new_database, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    """What other tests of this process counted, and never wrote."""
    counters._KEPT.clear()
    yield
    counters._KEPT.clear()


@pytest.fixture
def target(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryTarget:
    settings.MEDIA_ROOT = str(tmp_path)
    targets = {alias: {"BACKEND": "replicator.testing.MemoryTarget"} for alias in ("media1", "media2")}
    settings.REPLICATOR = {"TARGETS": targets, "LAG_OBJECTIVE": 60}
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": "replicator.storage.ReplicatedStorage", "OPTIONS": {"targets": ["media1"]}},
    }
    monkeypatch.setattr(wake, "announce", lambda targets: None)
    monkeypatch.setattr(wake, "wake", lambda targets, node=None: True)
    target = get_target("media1")
    assert isinstance(target, MemoryTarget)
    return target


def test_each_delivery_is_counted_with_what_it_took(target: MemoryTarget) -> None:
    """Files, bytes, seconds, the bucket of the histogram, and whether it was in time."""
    target.lag = 0.03
    default_storage.save("a.txt", ContentFile(b"12345"))
    default_storage.save("b.txt", ContentFile(b"678"))
    delivery.deliver("media1")
    counted = counters.read()["media1"]
    assert (counted["put"], counted["bytes"], counted["within"]) == (2, 8, 2)
    assert sum(counted.get(counters.bucket_key(end), 0) for end in counters.BUCKETS) == 2
    assert not any(counted.get(counters.bucket_key(end)) for end in (0.005, 0.01, 0.025))
    assert counted["seconds"] >= 0.06
    assert "failed" not in counted


def test_deletes_and_failures_are_counted_apart(target: MemoryTarget) -> None:
    """A failed attempt is no delivery: neither its bytes nor its seconds count."""
    default_storage.save("a.txt", ContentFile(b"12345"))
    target.fail_with = Refused("403 Forbidden", status=403)
    delivery.deliver("media1")
    assert counters.read()["media1"] == {"failed": 1}
    target.fail_with = None
    default_storage.delete("a.txt")
    delivery.deliver("media1")
    counted = counters.read()["media1"]
    assert (counted["failed"], counted["deleted"], counted["within"]) == (1, 1, 1)
    assert "put" not in counted
    assert "bytes" not in counted


def test_what_comes_later_than_the_objective_is_not_within_it(target: MemoryTarget) -> None:
    """Counted from the write, however short the delivery itself was."""
    default_storage.save("late.txt", ContentFile(b"1"))
    default_storage.save("soon.txt", ContentFile(b"1"))
    late = Replica.objects.filter(file__name="late.txt")
    late.update(since=timezone.now() - timedelta(seconds=61))
    delivery.deliver("media1")
    counted = counters.read()["media1"]
    assert (counted["put"], counted["within"]) == (2, 1)


def test_who_waits_for_copies_counts_what_it_sends(target: MemoryTarget) -> None:
    """A web process delivers too, and no worker ever hears of that."""
    default_storage.save("a.txt", ContentFile(b"12345"))
    file = MediaFile.objects.get()
    assert deliver_now([Wanted("default", "a.txt", file.version, ("media1",), 1, 5.0)]) == []
    assert counters.read()["media1"]["put"] == 1


def test_all_that_a_turn_counted_is_one_statement(
    target: MemoryTarget, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    """What counting costs a delivery, whatever there is to count."""
    _keep(media1=3, media2=4)
    with django_assert_num_queries(1):
        counters.flush()
    with django_assert_num_queries(0):
        counters.flush()
    assert counters.read() == {"media1": {"put": 3}, "media2": {"put": 4}}


def test_a_long_turn_writes_every_two_seconds(target: MemoryTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a chart moves while a backlog drains, and no more statements than that."""
    _keep(media1=1)
    monkeypatch.setattr(counters, "_written", counters.time.monotonic())
    counters.flush(at_once=False)
    assert counters.read() == {}
    monkeypatch.setattr(counters, "_written", counters.time.monotonic() - 2.1)
    counters.flush(at_once=False)
    assert counters.read() == {"media1": {"put": 1}}


def test_a_database_that_fails_costs_neither_a_delivery_nor_a_count(
    target: MemoryTarget, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Counts are kept, and written with the next."""

    def fails(*_: object, **__: object) -> None:
        raise OperationalError("the server closed the connection")

    default_storage.save("a.txt", ContentFile(b"1"))
    with monkeypatch.context() as broken:
        broken.setattr(counters, "_write", fails)
        assert delivery.deliver("media1").put == 1
    assert Replica.objects.get().status == Replica.Status.SYNCED
    assert "counts not written yet" in caplog.text
    assert counters.read() == {}
    default_storage.save("b.txt", ContentFile(b"1"))
    delivery.deliver("media1")
    assert counters.read()["media1"]["put"] == 2


def test_no_transaction_of_a_site_holds_the_rows(target: MemoryTarget) -> None:
    """All workers add to them, and would wait."""
    _keep(media1=1)
    with transaction.atomic():
        counters.flush()
        assert counters.read() == {}
    counters.flush()
    assert counters.read() == {"media1": {"put": 1}}


def test_many_that_count_at_once_lose_nothing_and_never_block_each_other(target: MemoryTarget) -> None:
    """Each adds to the same rows, in whatever order it came across them; PostgreSQL would end a deadlock with an
    error."""
    each, rounds = 4, 25
    errors: list[BaseException] = []

    def write(number: int) -> None:
        try:
            keys = ["put", "bytes", "le=1", "failed"]
            keys = keys[number:] + keys[:number]
            for _ in range(rounds):
                rows = [(target, key, 1.0) for target in ("media1", "media2") for key in keys]
                counters._write(sorted(rows), add=True)
        except DatabaseError as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(each)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert set(TargetCounter.objects.values_list("value", flat=True)) == {each * rounds}


def test_a_child_does_not_write_what_its_parent_counted(target: MemoryTarget) -> None:
    """A worker's processes are forks of it: else all of them would write it again."""
    _keep(media1=1)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:  # pragma: no cover - it ends at once
        os.write(writing, b"kept" if counters._KEPT else b"none")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 10) == b"none"
    os.close(reading)
    os.close(writing)
    assert counters._KEPT == {("media1", "put"): 1}


def test_a_file_names_the_task_that_claimed_it(target: MemoryTarget) -> None:
    """So that the admin can lead to Flower; a process that is no task leaves none."""
    from replicator import tasks

    default_storage.save("a.txt", ContentFile(b"1"))
    delivery.deliver("media1")
    assert Replica.objects.get().task is None
    default_storage.save("b.txt", ContentFile(b"1"))
    done = tasks.deliver.apply(args=["media1"])
    assert str(Replica.objects.get(file__name="b.txt").task) == done.id


def test_an_id_of_a_task_that_is_no_uuid_is_left_out(target: MemoryTarget) -> None:
    """A project may name its tasks as it likes: what is saved in them is delivered all the same."""
    from replicator import tasks

    default_storage.save("a.txt", ContentFile(b"1"))
    tasks.deliver.apply(args=["media1"], task_id="nightly-import")
    replica = Replica.objects.get()
    assert (replica.status, replica.task) == ("synced", None)


def test_a_failure_is_logged_with_target_file_version_and_task(
    target: MemoryTarget, caplog: pytest.LogCaptureFixture
) -> None:
    """Structured logs: one can follow a file through them."""
    from replicator import tasks

    caplog.set_level("INFO", "replicator")
    default_storage.save("a.txt", ContentFile(b"1"))
    target.fail_with = Refused("403 Forbidden", status=403)
    done = tasks.deliver.apply(args=["media1"])
    file = MediaFile.objects.get()
    records = {record.message: record for record in caplog.records}
    for message in ("delivery failed", "file given up at target"):
        facts = vars(records[message])
        assert (facts["target"], facts["file"], facts["version"]) == ("media1", file.pk, str(file.version))
        assert facts["task"] == done.id
        assert facts["error"] == "refused"


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_killed_worker_loses_only_what_it_had_not_written(
    tmp_path: Path, request: pytest.FixtureRequest, database: str
) -> None:
    """SIGKILL in the middle of a backlog: what was written stays, and all that comes after is counted."""
    hosts = {"media1": request.getfixturevalue("embedded")}
    url = new_database(request.getfixturevalue("postgres")) if database == "postgresql" else ""
    # So slow that the turn lasts longer than two seconds.
    options = {"media1": {"bandwidth": 40_000, "workers": 1}}
    with Site(tmp_path, hosts, broker=request.getfixturevalue("redis").url, database=url, options=options) as site:
        names = [f"{number}.bin" for number in range(90)]
        for name in names:
            site.operator.call("save", name=name, size=4000)
        worker = site.worker(2)
        site.operator.call("flush")

        def counted() -> float:
            return float(site.operator.call("counted").get("media1", {}).get("put", 0))

        wait_until(counted, say=site.logs)
        worker.kill()
        before, done = counted(), site.operator.call("synced", target="media1")
        assert 0 < before <= len(names)
        assert done < len(names), "it was too quick for this test"
        site.worker(2)
        site.drain_until_agreed(names, 90)
        # At once with what was in doubt, that is sent twice.
        wait_until(lambda: counted() >= before + len(names) - done, say=lambda: (counted(), before, done))


def _keep(**puts: int) -> None:
    for target, number in puts.items():
        counters._keep(target, counters.PUT, number)
