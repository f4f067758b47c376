"""Promise 4 and what follows from it: the broker may be refused, hung, killed or emptied; beat may be down."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.promises.harness import Shell, Site, wait_until
from tests.servers import Nginx, RabbitMQ, Redis


@pytest.fixture
def site(tmp_path: Path, nginx: Nginx, redis: Redis) -> Iterator[Site]:
    redis.flush()
    with Site(tmp_path, {"media1": nginx}, broker=redis.url) as site:
        yield site


def seconds_to_save(saver: Shell, name: str) -> float:
    start = time.monotonic()
    saver.call("save", name=name, data=name)
    return time.monotonic() - start


def test_with_the_broker_refused_saves_succeed_at_once_and_arrive_later(site: Site, redis: Redis) -> None:
    """Promise 4: killed and restarted while saving; and promise 1, since what it knew is not needed."""
    names = [f"{n}.txt" for n in range(8)]
    site.worker()
    beat = site.beat()
    site.operator.call("save", name=names[0], data="1")
    site.wait_for_agreement(names[:1])
    redis.kill()
    waits = [seconds_to_save(site.operator, name) for name in names[1:]]
    assert max(waits) < 2.5, waits
    redis.start()
    site.wait_for_agreement(names)
    assert beat.process is not None


def test_a_worker_outlives_a_broker_that_is_killed_while_it_works(site: Site, redis: Redis, nginx: Nginx) -> None:
    """Its message is not acknowledged yet: a Celery worker that tried to give it back died of that."""
    worker = site.worker(2)
    nginx.pause()
    site.operator.call("save", name="a.txt", data="1")
    wait_until(lambda: site.operator.call("rows", name="a.txt")[0]["leased"])
    redis.kill()
    site.operator.call("save", name="b.txt", data="1")
    time.sleep(1)
    redis.start()
    nginx.resume()
    site.beat()
    site.wait_for_agreement(["a.txt", "b.txt"])
    assert worker.process is not None
    assert worker.process.poll() is None, worker.output()


@pytest.mark.parametrize("kind", ["redis on a socket", "redis on a port", "rabbitmq"])
def test_with_the_broker_hung_a_save_takes_a_bounded_time_and_the_next_ones_none(
    tmp_path: Path, nginx: Nginx, request: pytest.FixtureRequest, kind: str
) -> None:
    """Promise 4: one save finds out; for a while the others leave the broker alone."""
    broker: Any = request.getfixturevalue(kind.split()[0])
    assert isinstance(broker, Redis | RabbitMQ)
    url = broker.tcp_url if kind == "redis on a port" and isinstance(broker, Redis) else broker.url
    # Who waited for it would wait much longer than a save takes on a busy machine.
    replicator = {"ANNOUNCE_TIMEOUT": 8.0, "ANNOUNCE_PAUSE": 5.0}
    with Site(tmp_path, {"media1": nginx}, broker=url, replicator=replicator) as site:
        connected, fresh = site.shell(), site.shell()
        connected.call("save", name="before.txt", data="1")
        fresh.call("rows")
        broker.pause()
        try:
            for number, saver in enumerate((connected, fresh)):
                waits = [seconds_to_save(saver, f"{number} {n}.txt") for n in range(4)]
                # An AMQP client that is connected writes into its socket, and is none the wiser.
                assert max(waits) < 2.5, waits
        finally:
            broker.resume()
        site.drain_until_agreed([f"{number} {n}.txt" for number in range(2) for n in range(4)])


def test_without_beat_files_arrive(tmp_path: Path, nginx: Nginx, redis: Redis) -> None:
    """Beat makes up for what is lost; what is announced does not wait for it."""
    redis.flush()
    # Nobody but beat would try again what a busy machine did not take in time.
    options = {"media1": {"read_timeout": 30.0}}
    with Site(tmp_path, {"media1": nginx}, broker=redis.url, options=options) as site:
        site.worker()
        for number in range(5):
            site.operator.call("save", name=f"{number}.txt", data="1")
        site.wait_for_agreement([f"{number}.txt" for number in range(5)])


def test_lost_messages_are_made_up_for(site: Site, redis: Redis) -> None:
    """Promise 1: messages are hints. A saver's flag says that one is waiting, and it is not."""
    names = [f"{n}.txt" for n in range(5)]
    for name in names:
        site.operator.call("save", name=name, data="1")
    redis.flush()
    site.worker()
    assert site.disagreements(names) != []
    site.beat()
    site.wait_for_agreement(names)


def test_messages_lost_behind_their_flags_are_made_up_for(site: Site, redis: Redis) -> None:
    """The flag "a wake-up is waiting" outlives the queue: saves send nothing, and the sweep does not believe it."""
    import redis as client

    site.operator.call("save", name="0.txt", data="1")
    assert site.operator.call("flush")
    with client.Redis(unix_socket_path=str(redis.socket)) as connection:
        assert connection.delete("celery") == 1
        assert list(connection.scan_iter("*wake*"))
    site.operator.call("save", name="1.txt", data="1")
    site.worker()
    site.beat()
    site.wait_for_agreement(["0.txt", "1.txt"], 14)


def test_a_worker_delivers_on_while_redis_is_gone(tmp_path: Path, nginx: Nginx, redis: Redis) -> None:
    """What a worker has begun needs no broker: nothing of it may be lost to one that is refused or hung."""
    names = [f"{n}.txt" for n in range(30)]
    settings = {"BATCH_SIZE": 10, "LEASE_SECONDS": 30.0, "DOUBT_WINDOW": 30.0, "ANNOUNCE_TIMEOUT": 1.0}
    options = {"media1": {"read_timeout": 20.0}}
    with Site(tmp_path, {"media1": nginx}, broker=redis.url, replicator=settings, options=options) as site:
        for name in names:
            site.operator.call("save", name=name, data=name)
        redis.kill()
        assert site.operator.call("deliver", target="media1")["put"] == 30
        assert site.operator.call("backlog") == 0
        site.operator.call("save", name="more.txt", data="1")
        redis.start()
        site.shell().call("sweep")
        redis.pause()
        try:
            start = time.monotonic()
            assert site.operator.call("deliver", target="media1")["put"] == 1
            assert time.monotonic() - start < 15
        finally:
            redis.resume()
        assert site.disagreements([*names, "more.txt"]) == []


def test_one_wake_up_serves_many_saves(site: Site, redis: Redis) -> None:
    """A flag says that a wake-up is waiting; a hundred uploads are not a hundred messages."""
    import redis as client

    for number in range(20):
        site.operator.call("save", name=f"{number}.txt", data="1")
        assert site.operator.call("flush")
    with client.Redis(unix_socket_path=str(redis.socket)) as connection:
        assert connection.llen("celery") == 1
