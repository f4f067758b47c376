"""Waking workers: the only module that publishes messages.

A message says no more than "look at this target". It may be lost, doubled or late; ``sweep`` makes up for it. So
publishing never raises and never takes long, however the broker fares.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from celery import Celery, current_app
from kombu import Connection, Producer

from replicator.conf import config, queue_of
from replicator.ledger import life, nodes

log = logging.getLogger(__name__)

DELIVER = "replicator.deliver"

#: Seconds after which a waiting message is worth nothing: the sweep has sent another.
_EXPIRES = 300
#: The same of one that calls for help, each second: only who has nothing to do is to come.
_CALL_EXPIRES = 5
#: Seconds for which a flag says "a wake-up is waiting": little more than the sweep's rhythm, in case it lies.
_FLAG_SECONDS = 15
#: Messages that may wait for a node: Redis keeps what has expired, and a node may be gone for good.
_MOST_FOR_NODE = 100


class _State(threading.local):
    producer: Producer | None = None
    pid: int = 0


_state = _State()
_leave_alone_until = 0.0


class _Announcer:
    """Publishes, in a thread of its own, what a process's saves announce: no request waits for a broker.

    What is announced while a message is on its way waits for the next, and is then one.
    """

    def __init__(self) -> None:
        self._waiting: set[str] = set()
        self._busy = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, targets: Iterable[str]) -> None:
        with self._changed:
            self._waiting.update(targets)
            if self._waiting and not (self._thread and self._thread.is_alive()):
                thread = threading.Thread(target=self._work, name="replicator-announce", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no more threads, or the interpreter is ending: the sweep will find it
                    self._waiting.clear()
                    return
                self._thread = thread
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, seconds)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                targets, self._waiting, self._busy = sorted(self._waiting), set(), True
            try:
                _publish(targets, config().deliverer, even_if_waiting=False)
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()


_announcer = _Announcer()


def _start_again() -> None:
    """A child process has none of its parent's threads."""
    global _announcer
    _announcer = _Announcer()


os.register_at_fork(after_in_child=_start_again)


def announce(targets: Iterable[str]) -> None:
    """Have a worker woken for each of *targets* that is up, unless a wake-up for it waits. Neither waits nor raises.

    A target that is down is not woken: its probe will; nor is one that people have paused or retired. After a
    failure the broker is left alone for ``ANNOUNCE_PAUSE`` seconds: nobody asks a sick one again and again.
    """
    if time.monotonic() >= _leave_alone_until:
        closed = life.closed()
        _announcer.add(t for t in targets if t not in closed)


def flush(seconds: float = 5.0) -> bool:
    """Wait until all that was announced is published, or given up. Whether it is, after *seconds* at most.

    A process that ends does this by itself; one that is killed leaves the rest to the sweep.
    """
    return _announcer.flush(seconds)


atexit.register(flush)


def wake(targets: Iterable[str], node: str | None = None) -> bool:
    """Wake a worker for each of *targets*, whatever is known. Never raises. For the sweep, the probe and people.

    *node*: one of its workers, or any node's (``""``); wherever there may be work, unless given. Whether the broker
    took it; if not, the sweep makes up for it.
    """
    if node is not None:
        return _publish(list(targets), node, even_if_waiting=True)
    if not config().deliverer:
        return _publish(list(targets), "", even_if_waiting=True)
    # Each of them, also after one that failed.
    done = [
        _publish([target], whose, even_if_waiting=True) for target in targets for whose in nodes.with_pending(target)
    ]
    return all(done)


def call(target: str, node: str) -> bool:
    """As ``wake``, for help at a backlog, from who has nothing to do just now. A queue full of such calls, each of
    them good for a run, would keep those for other targets waiting."""
    return _publish([target], node, even_if_waiting=True, expires=_CALL_EXPIRES)


def send_to_nodes(task: str, names: Iterable[str]) -> None:
    """Have *task* run on each of these nodes, once its workers come to it; soon or not at all. Never raises."""
    if time.monotonic() < _leave_alone_until:
        return
    names = list(names)
    try:
        producer = _producer()
        client = _flags(producer)
        for name in names:
            if client is None or client.llen(queue_of(name)) < _MOST_FOR_NODE:
                current_app.send_task(
                    task, producer=producer, retry=False, ignore_result=True, expires=_EXPIRES, queue=queue_of(name)
                )
    except Exception as error:  # as in _publish
        _give_up(error, names)


def send(task: str, *messages: list[Any], node: str = "") -> bool:
    """Publish *task* with the arguments of each of *messages*; for the workers of *node*, if it is given.

    Never raises. Whether the broker took them.
    """
    if time.monotonic() < _leave_alone_until:
        return False
    try:
        producer = _producer()
        for args in messages:
            current_app.send_task(
                task,
                args=args,
                producer=producer,
                retry=False,
                ignore_result=True,
                expires=_EXPIRES,
                queue=queue_of(node) if node else None,
            )
    except Exception as error:  # as in _publish
        _give_up(error, [task])
        return False
    return True


def is_broker_there() -> bool:
    """Whether the broker answers a connection of its own, within a few times ``ANNOUNCE_TIMEOUT``. Never raises."""
    connection: Any = _connection(current_app)
    try:
        connection.connect()
        connection.channel()
    except Exception as error:  # whatever a transport raises
        log.info("broker gives no answer", extra={"error": type(error).__name__})
        return False
    finally:
        with suppress(Exception):
            connection.collapse()
    return True


def clear_flag(target: str) -> None:
    """Say that no wake-up for *target* is waiting any more. To be called before looking for work, not after:
    what is recorded in between is then announced again. Never raises; a flag that stays ends by itself."""
    if time.monotonic() < _leave_alone_until:
        return
    try:
        client = _flags(_producer())
        if client is not None:
            client.delete(*{_flag(target, ""), _flag(target, config().deliverer)})
    except Exception as error:  # whatever a client raises: a worker's work needs no broker
        _give_up(error, [target])


def _publish(targets: list[str], node: str, *, even_if_waiting: bool, expires: float | None = None) -> bool:
    if not targets:
        return True
    try:
        producer = _producer()
        client = _flags(producer)
        for target in targets:
            # A client that is not there can't say that a wake-up is waiting.
            first = client is None or client.set(_flag(target, node), 1, nx=True, ex=_FLAG_SECONDS)
            if first or even_if_waiting:
                current_app.send_task(
                    DELIVER,
                    args=[target],
                    producer=producer,
                    retry=False,
                    ignore_result=True,
                    expires=expires or _EXPIRES,
                    queue=queue_of(node) if node else None,
                    headers={"sent_at": time.time()},
                )
    except Exception as error:  # whatever a transport raises: saving goes on, and the sweep will find it
        _give_up(error, targets)
        return False
    return True


def _give_up(error: Exception, targets: list[str]) -> None:
    """Leave the broker alone for a while."""
    global _leave_alone_until
    _forget_producer()
    _leave_alone_until = time.monotonic() + config().announce_pause
    log.warning("announcing failed", extra={"targets": targets, "error": type(error).__name__})


def _flag(target: str, node: str) -> str:
    """Named for the queue, too: sites that share a Redis may have targets of one name."""
    return f"replicator:wake:{queue_of(node) if node else current_app.conf.task_default_queue}:{target}"


def _flags(producer: Producer) -> Any:
    """The broker's own Redis client, which can hold flags; None on other brokers."""
    connection: Any = producer.connection
    channel: Any = producer.channel
    return channel.client if connection.transport.driver_type == "redis" else None


def _producer() -> Producer:
    """This thread's producer. A connection must not cross a fork, and has time limits whatever the project's are."""
    if _state.producer is None or _state.pid != os.getpid():
        _state.producer = Producer(_connection(current_app), auto_declare=False)
        _state.pid = os.getpid()
    return _state.producer


def _connection(app: Celery) -> Connection:
    seconds = config().announce_timeout
    scheme = app.connection_for_write().transport_cls
    if str(scheme).startswith(("redis", "rediss", "sentinel")):
        limits: dict[str, Any] = {
            "socket_timeout": seconds,
            "socket_connect_timeout": seconds,
            "retry_on_timeout": False,
        }
    else:
        limits = {"read_timeout": seconds, "write_timeout": seconds}
    options = {**app.conf.broker_transport_options, **limits, "max_retries": 0}
    return app.connection_for_write(connect_timeout=seconds, heartbeat=0, transport_options=options)


def _forget_producer() -> None:
    producer, _state.producer = _state.producer, None
    if producer is not None and _state.pid == os.getpid():
        with suppress(Exception):
            # collapse() drops the sockets without a farewell that a hung broker would keep us waiting for.
            connection: Any = producer.connection
            connection.collapse()
