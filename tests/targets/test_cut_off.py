"""A host behind a cable that is pulled: what was under way never arrives after its sender has given up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from replicator.errors import Unavailable
from replicator.targets.base import TargetFile
from replicator.targets.webdav import WebDAVTarget
from replicator.testing.content import BytesContent
from tests.namespaces import EmbeddedOn, Network
from tests.servers import CHECKOUT

#: Seconds: longer than the kernel waits, after these outages, before it sends again what was not acknowledged.
LONG_ENOUGH = 8.0

PUTTING = """
import sys
from replicator.targets.base import TargetFile
from replicator.targets.webdav import WebDAVTarget
from replicator.testing.content import BytesContent

target = WebDAVTarget("cut", url=sys.argv[1])
target.put(TargetFile("default", "a.txt", size=5), BytesContent(b"first"))
print("put", flush=True)
sys.stdin.readline()
print("going on", flush=True)
target.put(TargetFile("default", "a.txt", size=5), BytesContent(b"older"))
"""


@pytest.mark.parametrize("ends", ["gives up", "is killed"])
def test_what_was_sent_into_a_dead_line_is_lost(ends: str) -> None:
    """Promise 2. The kernel would go on sending for a process that has closed its connection, or was killed: an older
    version would land long after the doubt window, over what was confirmed since."""
    with Network(["host"]) as network, EmbeddedOn(network, "host") as host:
        command = [sys.executable, "-c", PUTTING, host.url]
        environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(CHECKOUT)}
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == b"put\n"
            network.cut("host")
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"going on\n"
            time.sleep(1.0)
            process.send_signal(signal.SIGKILL if ends == "is killed" else signal.SIGINT)
        # A packet that waits for the address of the host's card is the kernel's, for three seconds.
        time.sleep(5.0)
        network.mend("host")
        target = WebDAVTarget("cut", url=host.url)
        end = time.monotonic() + LONG_ENOUGH
        while time.monotonic() < end:
            assert host.files() == {"a.txt": b"first"}
            time.sleep(0.2)
        # It is there, and works: only what was sent before is not.
        target.put(TargetFile("default", "a.txt", size=5), BytesContent(b"newer"))
        assert host.files() == {"a.txt": b"newer"}


def test_a_request_into_a_dead_line_is_a_doubt() -> None:
    """Nobody can tell it from one that arrived and was not answered."""
    with Network(["host"]) as network, EmbeddedOn(network, "host") as host:
        target = WebDAVTarget("cut", url=host.url, read_timeout=3.0)
        target.put(TargetFile("default", "a.txt", size=5), BytesContent(b"first"))
        network.cut("host")
        with pytest.raises(Unavailable) as caught:
            target.put(TargetFile("default", "a.txt", size=5), BytesContent(b"older"))
        assert caught.value.doubt
