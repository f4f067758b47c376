"""What Prometheus and beat ask of a site."""

from __future__ import annotations

from time import perf_counter

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


def scrape(token: str, times: int) -> tuple[list[float], int]:
    """The seconds of each, after one that is not counted; the statements of one."""
    with CaptureQueriesContext(connection) as queries:
        _scrape(token)
    statements = len(queries)
    return [_scrape(token) for _ in range(times)], statements


def _scrape(token: str) -> float:
    client = Client(headers={"authorization": f"Bearer {token}", "host": "localhost"})
    start = perf_counter()
    answer = client.get("/metrics")
    seconds = perf_counter() - start
    assert answer.status_code == 200, answer.content
    assert b"replicator_scrape_errors 0.0" in answer.content
    return seconds
