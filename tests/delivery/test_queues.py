"""Each node's own queue: who is sent what, and that nothing is lost on the way. On real brokers."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client
from celery import Celery
from django.utils import timezone
from kombu import Connection

from replicator import delivery, tasks, wake
from replicator.conf import config, queue_of
from replicator.ledger import health, life
from replicator.models import NodeState, Replica, TargetState
from tests.brokers import RabbitMQ, Redis
from tests.ledger.nodes import As, become
from tests.ledger.rows import ago, row, set_row, write
from tests.processes import free_port
from tests.promises.harness import Part, Site, wait_until
from tests.servers import MediaHost

pytestmark = pytest.mark.django_db(transaction=True)

Client = Any


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Celery]]:
    """``use(url)``: this process publishes to that broker."""
    with ExitStack() as stack:

        def begin(url: str) -> Celery:
            app = Celery("project", broker=url, set_as_current=False)
            stack.callback(app.close)
            monkeypatch.setattr(wake, "current_app", app)
            monkeypatch.setattr(wake, "_leave_alone_until", 0.0)
            life.forget()
            wake._forget_producer()
            stack.callback(leave)
            return app

        def leave() -> None:
            if wake._state.producer is not None:
                connection: Any = wake._state.producer.connection
                with suppress(Exception):
                    connection.release()
            wake._forget_producer()

        yield begin


@pytest.fixture
def broker(redis: Redis, use: Callable[[str], Celery]) -> Iterator[Client]:
    """An empty Redis, as a client sees it."""
    redis.flush()
    use(redis.url)
    # Announcements are published by a thread, which has a connection to the last test's broker.
    wake._start_again()
    with redis_client.Redis(unix_socket_path=str(redis.socket)) as client:
        yield client
        assert wake.flush()


@pytest.fixture
def as_node(settings: Any, tmp_path: Path) -> As:
    settings.MEDIA_ROOT = str(tmp_path)
    return become(settings, {})


def waiting(broker: Client, queue: str) -> list[tuple[str, list[str]]]:
    """The messages in a queue, oldest first: task and arguments."""
    found = []
    for raw in reversed(broker.lrange(queue, 0, -1)):
        message = json.loads(raw)
        args = json.loads(base64.b64decode(message["body"]))[0]
        found.append((message["headers"]["task"], args))
    return found


def deliveries(broker: Client, queue: str) -> list[str]:
    """The targets that wake-ups in a queue name."""
    return [args[0] for task, args in waiting(broker, queue) if task == "replicator.deliver"]


def queues(broker: Client) -> set[str]:
    return {key.decode() for key in broker.keys("*") if broker.type(key) == b"list"}


def seen(**ages: float) -> None:
    for node, seconds in ages.items():
        NodeState.objects.create(node=node, seen_at=ago(seconds=seconds))


# Who is sent what


def test_what_is_saved_on_a_node_wakes_its_own_workers(as_node: As, broker: Client) -> None:
    """Others could not read the file."""
    wake.announce(["media1", "media2"])
    assert wake.flush()
    assert deliveries(broker, "replicator.web1") == ["media1", "media2"]
    assert queues(broker) == {"replicator.web1"}
    as_node(None)
    wake.announce(["media1"])
    assert wake.flush()
    assert deliveries(broker, "celery") == ["media1"]


def test_sites_that_share_a_redis_wake_each_its_own_workers(
    as_node: As, broker: Client, redis: Redis, use: Callable[[str], Celery]
) -> None:
    """Each has a queue of its own there, and perhaps a target of the same name."""
    as_node(None)
    for queue in ("live", "staging"):
        use(redis.url).conf.task_default_queue = queue
        # A thread with a connection of the other site's.
        wake._start_again()
        wake.announce(["media1"])
        assert wake.flush()
        assert deliveries(broker, queue) == ["media1"]


def test_a_wake_up_that_waits_in_one_queue_says_nothing_of_another(as_node: As, broker: Client) -> None:
    """One flag for each node: else web2's file would wait for the sweep, since web1's workers were told."""
    for node in ("web1", "web2", None):
        as_node(node)
        for _ in range(3):
            wake.announce(["media1"])
            assert wake.flush()
    assert {queue: len(waiting(broker, queue)) for queue in queues(broker)} == {
        "replicator.web1": 1,
        "replicator.web2": 1,
        "celery": 1,
    }
    # A worker says so for what it is about to look for: its own node's, and anybody's.
    as_node("web1")
    wake.clear_flag("media1")
    flags = {key.decode() for key in broker.keys("replicator:wake:*")}
    assert flags == {"replicator:wake:replicator.web2:media1"}
    as_node("web2")
    wake.announce(["media1"])
    assert wake.flush()
    assert len(waiting(broker, "replicator.web2")) == 1
    as_node("web1")
    wake.announce(["media1"])
    assert wake.flush()
    assert len(waiting(broker, "replicator.web1")) == 2


def test_the_sweep_wakes_each_nodes_workers_for_their_work(as_node: As, broker: Client) -> None:
    """And anybody's for that of a node that is gone; it also has each node say that it is there."""
    for node, targets in {"web1": ["media1"], "web2": ["media2"], "web3": ["media1"], "web4": ["media2"]}.items():
        as_node(node)
        write(f"{node}.txt", *targets)
    as_node(None)
    write("any.txt", "media2")
    as_node("web1")
    write("later.txt", "media2")
    set_row("later.txt", due_at=timezone.now() + timedelta(hours=1))
    seen(web1=0, web2=0, web3=400, web5=0)
    health.mark_down("media2", "connection refused")
    assert tasks.sweep() == ["media1"]
    assert deliveries(broker, "celery") == ["media1"], "web3 is gone"
    assert deliveries(broker, "replicator.web2") == [], "media2 is down"
    health.mark_up("media2")
    broker.flushdb()
    assert tasks.sweep() == ["media1", "media2"]
    assert sorted(deliveries(broker, "celery")) == ["media1", "media2"]
    assert deliveries(broker, "replicator.web1") == ["media1"]
    assert deliveries(broker, "replicator.web2") == ["media2"]
    assert deliveries(broker, "replicator.web4") == ["media2"], "it has never been seen, and may come"
    asked = {queue for queue in queues(broker) if ("replicator.check_in", []) in waiting(broker, queue)}
    assert asked == {"replicator.web1", "replicator.web2", "replicator.web3", "replicator.web5"}
    assert deliveries(broker, "replicator.web3") == []


def test_a_trial_is_made_by_a_node_whose_files_wait(as_node: As, broker: Client) -> None:
    """Another one has nothing to try, and would find the target well for that. Anybody's, if nothing waits."""
    as_node("web2")
    write("a.txt", "media1")
    as_node("web1")
    seen(web1=0, web2=0)
    health.trip("media1", "each PUT hangs")
    health.trip("media2", "each PUT hangs")
    TargetState.objects.update(retry_at=timezone.now())
    assert tasks.sweep() == []
    assert deliveries(broker, "replicator.web2") == ["media1"]
    assert deliveries(broker, "celery") == ["media2"]
    assert deliveries(broker, "replicator.web1") == []


def test_with_a_shared_disk_the_sweep_wakes_anybody(as_node: As, broker: Client) -> None:
    """Also for what was recorded when nodes had disks of their own."""
    write("a.txt", "media1")
    as_node(None)
    assert tasks.sweep() == ["media1"]
    assert queues(broker) == {"celery"}
    assert deliveries(broker, "celery") == ["media1"]
    assert row("a.txt").node == ""


def test_people_wake_every_node_that_has_work(as_node: As, broker: Client) -> None:
    """For a target that is up again, or what was requeued."""
    for node in ("web2", "web3"):
        as_node(node)
        write(f"{node}.txt", "media1")
    as_node("web1")
    assert wake.wake(["media1", "media2"])
    assert queues(broker) == {"replicator.web2", "replicator.web3"}
    health.mark_down("media1", "connection refused")
    set_row("web2.txt", due_at=timezone.now() + timedelta(hours=1))
    broker.flushdb()
    assert delivery.probe("media1") == {"media1": True}
    assert deliveries(broker, "replicator.web2") == deliveries(broker, "replicator.web3") == ["media1"]
    assert row("web2.txt").due_at <= timezone.now()


def test_each_node_tidies_its_own_disk(as_node: As, broker: Client) -> None:
    seen(web1=0, web2=0)
    assert tasks.prune() == {"tombstones": 0}
    for node in ("web1", "web2"):
        assert waiting(broker, queue_of(node)) == [("replicator.tidy", [])]
    assert queues(broker) == {"replicator.web1", "replicator.web2"}


def test_a_node_that_is_gone_for_good_does_not_fill_the_broker(as_node: As, broker: Client) -> None:
    """Redis keeps messages that have expired until somebody takes them: at one each ten seconds, for ever."""
    seen(web1=0, web2=9999999)
    for _ in range(150):
        wake.send_to_nodes("replicator.check_in", ["web2"])
    assert broker.llen("replicator.web2") == 100
    wake.send_to_nodes("replicator.check_in", ["web2", "web1"])
    assert broker.llen("replicator.web1") == 1, "the others are told"
    broker.delete("replicator.web2")
    wake.send_to_nodes("replicator.check_in", ["web2"])
    assert broker.llen("replicator.web2") == 1


def test_a_node_checks_in_by_whatever_it_does(as_node: As, broker: Client) -> None:
    """If it was gone, what others could not deliver meanwhile is due at once."""
    write("a.txt", "media1")
    later = timezone.now() + timedelta(hours=1)
    for age, due in ((400.0, True), (0.0, False)):
        for work in (tasks.check_in, lambda: delivery.deliver("media2")):
            NodeState.objects.all().delete()
            seen(web1=age)
            set_row("a.txt", due_at=later)
            work()
            assert timezone.now() - NodeState.objects.get().seen_at < timedelta(seconds=60)
            assert (row("a.txt").due_at <= timezone.now()) is due
    as_node(None)
    NodeState.objects.all().delete()
    tasks.check_in()
    assert not NodeState.objects.exists()


def test_who_delivers_without_being_a_worker_is_no_sign_of_life(as_node: As, broker: Client) -> None:
    """collectstatic on a node whose workers are gone helps with its own storage's files only."""
    delivery.deliver("media1", storage="staticfiles")
    assert not NodeState.objects.exists()
    delivery.deliver("media1")
    assert NodeState.objects.get().node == "web1"


def test_a_broker_that_is_away_stops_neither_sweep_nor_prune(
    as_node: As, use: Callable[[str], Celery], caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing raises, and it is then left alone for a while."""
    use(f"redis://127.0.0.1:{free_port()}/0")
    write("a.txt", "media1")
    seen(web1=0, web2=0)
    assert tasks.prune() == {"tombstones": 0}
    assert wake._leave_alone_until > 0
    assert "announcing failed" in caplog.text
    wake._leave_alone_until = 0.0
    assert tasks.sweep() == ["media1"]
    assert not wake.wake(["media1"])
    wake.clear_flag("media1")


# Real workers


@pytest.fixture
def node(tmp_path: Path, nginx: MediaHost) -> Iterator[Callable[[str, str], Site]]:
    """``node(name, broker)``: a site's node, without workers. All share a database."""
    with ExitStack() as stack:

        def start(name: str, broker: str) -> Site:
            site = Site(
                tmp_path / name,
                {"media1": nginx},
                database=f"sqlite:///{tmp_path}/ledger.sqlite3",
                broker=broker,
                replicator={"NODE": name, "SHARED_MEDIA": False},
                # Nobody but beat, which is not there, would try again what a busy machine did not take in time.
                options={"media1": {"read_timeout": 30.0}},
            )
            stack.callback(site.close)
            return site

        yield start


def worker(site: Site, *queues: str) -> Part:
    """One that takes from these queues only."""
    options = ["-c", "1", "--without-gossip", "--without-mingle", "-n", f"only@{site.node}", "-Q", ",".join(queues)]
    return site._start(Part(site, ["worker", *options], says=" ready."))


def test_a_worker_of_a_nodes_queue_alone_delivers_its_files(node: Callable[..., Site], redis: Redis) -> None:
    """There is no beat: each file is delivered because its own node was told."""
    redis.flush()
    web1, web2 = node("web1", redis.url), node("web2", redis.url)
    worker(web1, "replicator.web1")
    web2.operator.call("save", name="b.txt", data="of web2")
    web1.operator.call("save", name="a.txt", data="of web1")
    web1.wait_for_agreement(["a.txt"])
    assert web2.held("media1", "b.txt") == "absent"
    worker(web2, "replicator.web2")
    web2.wait_for_agreement(["b.txt"])


def test_on_rabbitmq_a_queue_that_nobody_has_read_yet_keeps_its_messages(
    node: Callable[..., Site], rabbitmq: RabbitMQ
) -> None:
    """The first file of a new node, whose workers come later; and what the sweep of another one sends it."""
    web1, web2 = node("web1", rabbitmq.url), node("web2", rabbitmq.url)
    web2.operator.call("save", name="b.txt", data="of web2")
    worker(web1, "celery", "replicator.web1")
    web1.operator.call("save", name="a.txt", data="of web1")
    web1.wait_for_agreement(["a.txt"])
    assert web2.held("media1", "b.txt") == "absent", "web1's worker took it"
    worker(web2, "replicator.web2")
    web2.wait_for_agreement(["b.txt"])


def test_on_rabbitmq_what_is_sent_to_nodes_arrives_and_expires(
    as_node: As, rabbitmq: RabbitMQ, use: Callable[[str], Celery], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There it goes by itself: a node that is gone for good fills nothing."""
    use(rabbitmq.url)
    queue = f"replicator.web{free_port()}"

    def count() -> int:
        with Connection(rabbitmq.url) as connection:
            channel: Any = connection.default_channel
            return int(channel.queue_declare(queue, passive=True).message_count)

    name = queue.removeprefix("replicator.")
    for _ in range(3):
        wake.send_to_nodes("replicator.check_in", [name])
    wait_until(lambda: count() == 3)
    monkeypatch.setattr(wake, "_EXPIRES", 5)
    assert wake.wake(["media1"], name)
    wait_until(lambda: count() == 4)
    with Connection(rabbitmq.url) as connection:
        channel: Any = connection.default_channel
        channel.queue_purge(queue)
    assert wake.wake(["media1"], name)
    wait_until(lambda: count() == 1)
    wait_until(lambda: count() == 0)
    assert config().deliverer == "web1"
    assert not Replica.objects.exists()
