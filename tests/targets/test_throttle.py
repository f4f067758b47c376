"""The option ``bandwidth``: how fast workers send to a target, and read there."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone
from pytest_django.fixtures import Settings

from replicator.delivery.send import send
from replicator.ledger import Claim, Outcome
from replicator.ledger.leases import Lease
from replicator.targets import get_target
from replicator.targets.base import Target
from replicator.targets.http import CHUNK
from replicator.targets.mogilefs import MogileFSTarget
from replicator.targets.throttle import Throttle
from replicator.targets.webdav import WebDAVTarget
from replicator.testing import MemoryTarget
from tests.mogilefs.cluster import MogileFS
from tests.servers import MediaHost
from tests.targets.conftest import MakeS3

MIB = 1024 * 1024
Deliver = Callable[[Target, str], Outcome]


@pytest.fixture
def folder(settings: Settings, tmp_path: Path) -> Path:
    """Where the storage "limited" has its files."""
    backend = "django.core.files.storage.FileSystemStorage"
    options = {"location": str(tmp_path), "base_url": "/media/"}
    settings.STORAGES = {**settings.STORAGES, "limited": {"BACKEND": backend, "OPTIONS": options}}
    return tmp_path


@pytest.fixture
def deliver(folder: Path) -> Deliver:
    """Send a file of the storage as a worker does."""

    def run(target: Target, name: str) -> Outcome:
        data = (folder / name).read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        lease = Lease.start(60)
        rest: Any = ("", "", "", 0, timezone.now(), False, lease)
        claim = Claim(1, target.alias, 1, "limited", name, uuid4(), False, len(data), sha256, *rest)
        outcome = send(target, claim)
        assert outcome.error is None, outcome.error
        return outcome

    return run


def _rate(folder: Path, target: Target, deliver: Deliver, *names: str, size: int) -> float:
    """Bytes per second with which *names*, of *size* bytes each, are sent at once."""
    for name in names:
        (folder / name).write_bytes(os.urandom(size))
    begun = time.monotonic()
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: deliver(target, name), names))
    return size * len(names) / (time.monotonic() - begun)


def _keeps_to(limit: float, folder: Path, target: Target, deliver: Deliver, *names: str, size: int) -> bool:
    """Whether they are sent with about *limit* bytes per second: never faster, and not slower in each of some tries,
    of which one or another may meet a busy machine."""
    for _ in range(4):
        rate = _rate(folder, target, deliver, *names, size=size)
        assert rate < 1.2 * limit
        if rate > 0.6 * limit:
            return True
    return False


@pytest.mark.parametrize("size", [3 * MIB, 48 * 1024], ids=["streamed", "in one piece"])
def test_a_transfer_keeps_to_the_bandwidth(nginx: MediaHost, folder: Path, deliver: Deliver, size: int) -> None:
    """One process of the two that may be busy has half of it."""
    target = WebDAVTarget("media1", url=nginx.url, bandwidth=2 * size)
    assert _keeps_to(size, folder, target, deliver, "a.bin", size=size)
    target.close()


def test_threads_share_the_bandwidth(nginx: MediaHost, folder: Path, deliver: Deliver) -> None:
    """However many files are in flight; and none of them waits for the others to end."""
    target = WebDAVTarget("media1", url=nginx.url, bandwidth=4 * MIB, workers=1)
    assert _keeps_to(4 * MIB, folder, target, deliver, "a.bin", "b.bin", "c.bin", "d.bin", size=MIB)
    target.close()


def test_no_limit_costs_nothing() -> None:
    """Promise 7 has a price only where it was asked for: as many bytes at once as before, and no wait."""
    throttle = MemoryTarget("media1").throttle
    begun = time.thread_time()
    for _ in range(10_000):
        assert throttle.at_most(CHUNK) == CHUNK
        throttle.take(CHUNK)
    assert time.thread_time() - begun < 0.1


def test_a_limited_transfer_outlives_the_rate_at_which_others_are_given_up(
    nginx: MediaHost, folder: Path, deliver: Deliver
) -> None:
    """It is not the server that is slow: neither ``min_rate`` nor the time for a silent server is used up."""
    target = WebDAVTarget(
        "media1", url=nginx.url, bandwidth=64 * 1024, workers=1, min_rate=10 * MIB, read_timeout=1.5
    )
    rate = _rate(folder, target, deliver, "a.bin", size=128 * 1024)
    assert rate < 1.2 * 64 * 1024
    assert nginx.files()["media/a.bin"] == (folder / "a.bin").read_bytes()
    target.close()


def test_a_limited_transfer_is_smooth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers end a connection on which nothing comes for long, as it would between pieces of a mebibyte."""
    throttle = Throttle(100_000)
    waits: list[float] = []
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: (waits.append(seconds), sleep(seconds)))
    begun = time.monotonic()
    for _ in range(5):
        throttle.take(throttle.at_most(CHUNK))
    assert time.monotonic() - begun > 0.3
    assert max(waits) < 0.2
    assert sum(waits) < 0.6


def test_time_in_which_nothing_went_over_is_not_made_up_for() -> None:
    """A limit is one at every moment, also after an idle hour."""
    throttle = Throttle(100_000)
    throttle.take(10_000)
    time.sleep(0.4)
    begun = time.monotonic()
    for _ in range(4):
        throttle.take(10_000)
    assert time.monotonic() - begun > 0.25


def test_the_wait_is_not_the_targets_slowness(nginx: MediaHost, folder: Path, deliver: Deliver) -> None:
    """Promise 7: who is slow is closed after a while. A limit of one's own must not look like that."""
    target = WebDAVTarget("media1", url=nginx.url, bandwidth=256 * 1024, workers=1)
    (folder / "a.bin").write_bytes(bytes(512 * 1024))
    begun = time.monotonic()
    outcome = deliver(target, "a.bin")
    took = time.monotonic() - begun
    assert took > 1.5
    assert 0 < outcome.seconds < took - 1.5
    target.close()


def test_what_s3_is_sent_is_limited(make_s3: MakeS3, folder: Path, deliver: Deliver) -> None:
    target = make_s3(times={"bandwidth": 4 * MIB})
    target.probe()  # boto takes its time to import
    assert _keeps_to(2 * MIB, folder, target, deliver, "a.bin", size=3 * MIB)
    target.close()


@pytest.fixture(scope="module")
def installation() -> Iterator[MogileFS]:
    with MogileFS() as mogilefs:
        yield mogilefs


def test_what_mogilefs_is_sent_is_limited(installation: MogileFS, folder: Path, deliver: Deliver) -> None:
    """A large file is read twice, and sent once."""
    trackers, domain = installation.trackers, installation.domain
    target = MogileFSTarget("mogile", domain=domain, trackers=trackers, base_url="/media/", bandwidth=4 * MIB)
    assert _keeps_to(2 * MIB, folder, target, deliver, "a.bin", size=3 * MIB)
    target.close()


def test_reading_back_is_limited(nginx: MediaHost, folder: Path, deliver: Deliver) -> None:
    """``verify: "content"`` sends all of it over the same line again."""
    target = WebDAVTarget("media1", url=nginx.url, bandwidth=4 * MIB, verify="content")
    assert _keeps_to(MIB, folder, target, deliver, "a.bin", size=MIB)
    target.close()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bandwidth": 0}, "bandwidth is 0: write a number above 0"),
        ({"bandwidth": "1M"}, "bandwidth is '1M': write a number above 0"),
        ({"bandwidth": True}, "bandwidth is True"),
        ({"bandwidth": 10_000}, "Write at least 16384"),
        ({"bandwidth": 10_000, "concurrency": 2, "workers": 8}, "each of 2 transfers in 8 processes"),
        ({"workers": 0}, "workers is 0: write a number above 0"),
        ({"concurrency": -1}, "concurrency is -1: write a number above 0"),
    ],
)
def test_a_limit_that_can_not_work_is_refused(settings: Any, options: dict[str, Any], says: str) -> None:
    """With what to write instead: so slow a transfer would be given up by the server, each time."""
    settings.REPLICATOR = {"TARGETS": {"media1": {"BACKEND": "replicator.testing.MemoryTarget", "OPTIONS": options}}}
    with pytest.raises(ImproperlyConfigured, match=says):
        get_target("media1")
