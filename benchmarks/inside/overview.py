"""The admin's overview, as somebody who is logged in asks for it."""

from __future__ import annotations

import random
from datetime import timedelta
from time import monotonic, process_time

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from replicator.conf import config
from replicator.ledger import counters, life
from replicator.models import Replica, TargetCounter, TargetSample, TargetState

_PAGE = "/admin/replicator/targetstate/"
_SAMPLES = 48 * 60


def note_two_days() -> None:
    """A sample for each minute of the last two days and each target, as beat leaves them; all targets are active."""
    now = timezone.now()
    rows = []
    for target in config().targets:
        life.enter(target, TargetState.Phase.ACTIVE)
        put = 0
        for minute in range(_SAMPLES, 0, -1):
            put += random.randint(0, 600)
            at = now - timedelta(minutes=minute)
            rows.append(
                TargetSample(
                    target=target, at=at, pending=random.randint(0, 50), put=put, bytes=put * 10_000, within=put
                )
            )
        for key, value in {counters.PUT: put + 300, counters.BYTES: put * 10_000 + 3_000_000}.items():
            TargetCounter.objects.create(target=target, key=key, value=value)
    TargetSample.objects.bulk_create(rows, batch_size=1_000)
    counters.note_swept()


def make_pending(target: str, count: int) -> None:
    """As a long outage leaves them: *count* replicas that wait at *target*."""
    table = Replica._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table} SET status = 'pending', version = NULL WHERE id IN "
            f"(SELECT id FROM {table} WHERE target = %s ORDER BY id LIMIT %s)",
            [target, count],
        )
        cursor.execute(f"VACUUM ANALYZE {table}")


def collect_static() -> None:
    """As on a server: the page names its style sheets by what is in them."""
    call_command("collectstatic", interactive=False, verbosity=0)


def open_page(path: str, times: int) -> tuple[list[float], float, int]:
    """Seconds that each of *times* requests takes, after one that is not counted; those that one of them keeps this
    process's processor busy; its SQL statements."""
    settings.ALLOWED_HOSTS = ["*"]
    user = User.objects.filter(is_superuser=True).first() or User.objects.create_superuser("bench")
    client = Client()
    client.force_login(user)
    with CaptureQueriesContext(connection) as queries:
        _open(client, path)
    statements = len(queries)
    busy = process_time()
    seconds = [_open(client, path) for _ in range(times)]
    return seconds, (process_time() - busy) / times, statements


def _open(client: Client, path: str) -> float:
    start = monotonic()
    response = client.get(_PAGE + path)
    seconds = monotonic() - start
    assert response.status_code == 200, response.status_code
    return seconds
