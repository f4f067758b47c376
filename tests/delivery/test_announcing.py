"""How saves wake workers."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from replicator import wake

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """What is published, message by message."""
    monkeypatch.setattr(wake, "_leave_alone_until", 0.0)
    messages: list[list[str]] = []
    yield messages
    assert wake.flush()


def test_a_save_goes_on_while_the_broker_hangs(published: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 4: and what was announced meanwhile is one message for each target."""
    begun, release = threading.Event(), threading.Event()

    def publish(targets: list[str], node: str, *, even_if_waiting: bool) -> bool:
        begun.set()
        release.wait(30)
        published.append(targets)
        return True

    monkeypatch.setattr(wake, "_publish", publish)
    start = time.monotonic()
    wake.announce(["a"])
    assert begun.wait(30)
    for _ in range(100):
        wake.announce(["b", "a"])
    assert time.monotonic() - start < 8, "nobody waited for the broker"
    assert not wake.flush(0.01)
    release.set()
    assert wake.flush()
    assert published == [["a"], ["a", "b"]]


def test_what_a_process_announced_is_published_before_it_ends() -> None:
    """A command that saves one file and ends must not leave its wake-up to the sweep."""
    script = """
import time, django
django.setup()
from replicator import wake
from replicator.ledger import health
health.down_targets = lambda: set()
wake._publish = lambda targets, node, *, even_if_waiting: (time.sleep(0.5), print("published", *targets, flush=True))
wake.announce(["media1"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=180)
    assert done.stdout == "published media1\n"


def test_a_forked_process_announces_with_a_thread_of_its_own() -> None:
    """A web server that forks after the parent has saved: its threads stay behind."""
    script = """
import os, django
django.setup()
from replicator import wake
from replicator.ledger import health
health.down_targets = lambda: set()
wake._publish = lambda targets, node, *, even_if_waiting: print("published", *targets, flush=True)
wake.announce(["parent"])
assert wake.flush()
child = os.fork()
if not child:
    wake.announce(["child"])
    os._exit(0 if wake.flush() else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=180)
    assert done.stdout == "published parent\npublished child\n"
