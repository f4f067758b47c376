"""What Prometheus and beat ask of a site."""

from __future__ import annotations

from time import perf_counter, process_time

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from replicator import tasks
from replicator.models import TargetSample


def note_a_minute() -> float:
    """The seconds of the task that beat sends each minute."""
    forget_samples()
    start = perf_counter()
    assert tasks.sample()
    return perf_counter() - start


def forget_samples() -> None:
    TargetSample.objects.all().delete()


def scrape(token: str, times: int) -> tuple[list[float], float, int]:
    """The seconds of each, after one that is not counted; those that one keeps this process's processor busy; the
    statements of one."""
    client = Client(headers={"authorization": f"Bearer {token}", "host": "localhost"})
    with CaptureQueriesContext(connection) as queries:
        _scrape(client)
    statements = len(queries)
    busy = process_time()
    seconds = [_scrape(client) for _ in range(times)]
    return seconds, (process_time() - busy) / times, statements


def _scrape(client: Client) -> float:
    start = perf_counter()
    answer = client.get("/metrics")
    seconds = perf_counter() - start
    assert answer.status_code == 200, answer.content
    assert b"replicator_scrape_errors 0.0" in answer.content
    return seconds
