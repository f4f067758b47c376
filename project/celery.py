"""The Celery application, with settings that are safe for a ledger with leases."""

from __future__ import annotations

import logging.config
import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging
from django.conf import settings
from kombu import Queue
from kombu.transport import redis

from replicator.conf import config, queue_of

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

app = Celery("replicator")
# The broker's URL and the time limit: what differs between deployments is in project/settings.py.
app.config_from_object("django.conf:settings", namespace="CELERY")

HARD_LIMIT: int = settings.CELERY_TASK_TIME_LIMIT

app.conf.update(
    # JSON only: a worker must not unpickle what someone put into the broker.
    task_serializer="json",
    accept_content=["json"],
    result_serializer="json",
    event_serializer="json",
    # A message is acknowledged when its task has ended; one whose process was killed comes back. (A hint that is
    # lost or doubled does no harm; one that comes back soon saves the wait for the sweep.)
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    # One at a time: a process that works for minutes at one target must not sit on wake-ups for others.
    worker_prefetch_multiplier=1,
    # A lease is short and renewed by the working process for as long as it works, so no task limit has to lie below
    # it: a killed process loses its leases within LEASE_SECONDS, wherever it was. What the limits must leave room
    # for is one whole run: a ``deliver`` claims work for REPLICATOR["RUN_SECONDS"] (240 s) and then only finishes
    # what it has begun, at worst the largest file at the slowest host (others beside it). One that takes longer would
    # never arrive. Requests have their own time limits, so these two only end what is truly stuck: the default of
    # six hours is a file of 200 GiB at 10 MiB/s. The soft one comes first and lets the run abort its transfers.
    task_time_limit=HARD_LIMIT,
    task_soft_time_limit=max(1, HARD_LIMIT - 300),
    # The ledger is the result. Nothing is kept in the broker.
    task_ignore_result=True,
    result_backend=None,
    # Else beat would add an entry that cleans up results.
    result_expires=None,
    # A start before the broker's, and a broker that goes away and comes back.
    broker_connection_retry_on_startup=True,
    broker_connection_timeout=5,
    # By default a worker gives up, and ends, after a hundred tries.
    broker_connection_max_retries=None,
    # Flower lives on these.
    worker_send_task_events=True,
    # Whatever leaks, leaks slowly; a new process costs a quarter of a second.
    worker_max_tasks_per_child=1000,
    beat_scheduler="django_celery_beat.schedulers:DatabaseScheduler",
    # The probe runs every five seconds, and a change in the admin should show by then.
    beat_max_loop_interval=5,
    # What beat has sent is noted at once, not every three minutes: health checks and the overview look at it.
    beat_sync_every=1,
    enable_utc=True,
    timezone="UTC",
)
if settings.CELERY_BROKER_URL.startswith(("redis", "rediss", "sentinel", "unix")):
    # A broker that hangs is noticed: without these, redis-py waits for ever.
    app.conf.broker_transport_options = {
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 15,
    }
if not settings.REPLICATOR.get("SHARED_MEDIA", True):
    # What arrived on this node's disk waits for this node's workers.
    app.conf.task_queues = [Queue(app.conf.task_default_queue), Queue(queue_of(config().node))]
app.autodiscover_tasks()


class _Channel(redis.Channel):
    """Redis as kombu has it, but for one thing: a channel whose connection is gone says so.

    A worker that loses its broker gives back, on the old channel, the messages of tasks that are at work, and those
    tasks acknowledge theirs there when they end. kombu 5.7.0 raises AttributeError then, and the worker dies of it.
    A lost connection is what workers live with; the messages need no saving, since the sweep sends others.
    """

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        if self.connection is None or self.connection.client is None:
            raise ConnectionError("the connection of this channel is gone")
        params: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[misc]  # the stubs lack it
        return params


redis.Transport.Channel = _Channel


@setup_logging.connect
def _use_the_projects_logging(**_: Any) -> None:
    """Workers and beat log as the site does: Celery's own format drops the facts."""
    logging.config.dictConfig(settings.LOGGING)
