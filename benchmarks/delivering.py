"""What it costs to bring files to a media host."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from time import sleep

from tqdm import tqdm

from benchmarks.peers import curl_upload, rclone_copy
from benchmarks.report import Row, ms, percentile
from benchmarks.site import DurablePostgres, MediaHost, Site, worker
from tests.servers import Redis

GIB = 1024**3
MIB = 1024**2


def backlog(*, quick: bool) -> Iterator[Row]:
    """Draining 5,000 files of 4 KiB with two worker processes, beside rclone with its best number of transfers."""
    files, rounds = 5_000, 2 if quick else 7
    ours: list[float] = []
    theirs: dict[int, list[float]] = {transfers: [] for transfers in ((8, 16) if quick else (4, 8, 16, 32))}
    with DurablePostgres() as postgres, Redis() as redis, MediaHost() as nginx:
        at = {"database": postgres.url, "broker": redis.url, "targets": {"host1": nginx.url}}
        with Site(**at) as one, Site(**at, folder=one.folder) as two:
            one.call("ledger.make")
            one.call("ledger.write_files", "round0", files, 4096)
            for number in tqdm(range(rounds + 1), "draining", leave=False):
                if number:
                    one.call("ledger.link_files", f"round{number}", "round0")
                ours.append(_drain(f"round{number}", files, one, two))
                for transfers, seconds in theirs.items():
                    # Fresh names on both sides: wiping the host would leave the disk busy with that.
                    fresh = f"rclone-{number}-{transfers}"
                    seconds.append(rclone_copy(one.media / "round0", nginx.url, fresh, transfers))
            found = sum(1 for path in nginx.root.rglob("*") if path.is_file())
            assert found == files * (rounds + 1) * (1 + len(theirs)), found
    # The first round warms both up.
    rate = files / median(ours[1:])
    best, peer = max(((t, files / median(s[1:])) for t, s in theirs.items()), key=lambda each: each[1])
    title = "drain 5,000 x 4 KiB to nginx, 2 processes, PostgreSQL"
    ratio = rate / peer
    shown = f"{peer:,.0f} files/s (rclone, {best} transfers)"
    yield Row(title, f"{rate:,.0f} files/s", shown, f"{ratio:.2f}x", "≥ 1.5x", ratio >= 1.5)


def _drain(folder: str, files: int, *sites: Site) -> float:
    """Seconds from the start of the first run to the end of the last."""
    sites[0].call("ledger.empty")
    assert sites[0].call("ledger.record_files", folder) == files
    # A second worker joins in once work has lain for a second: a backlog has.
    sleep(1.5)
    runs = [each.result() for each in [site.start("delivering.deliver", "host1") for site in sites]]
    assert sum(run["put"] for run in runs) == files, runs
    return max(run["end"] for run in runs) - min(run["start"] for run in runs)


def large_file(*, quick: bool) -> Iterator[Row]:
    """A large file, beside ``curl -T``."""
    size, rounds = GIB, 1 if quick else 7
    ours: list[float] = []
    theirs: list[float] = []
    growth: list[int] = []
    with DurablePostgres() as postgres, Redis() as redis, MediaHost() as nginx:
        with Site(database=postgres.url, broker=redis.url, targets={"host1": nginx.url}) as site:
            site.call("ledger.make")
            site.call("ledger.write_files", "large", 1, size)
            source = next((site.media / "large").rglob("*.bin"))
            there = nginx.root / "media" / source.relative_to(site.media)
            for _ in tqdm(range(rounds + 1), "1 GiB", leave=False):
                site.call("ledger.empty")
                site.call("ledger.record_files", "large")  # reads it: it is in memory for both
                seconds, bytes_more = site.call("delivering.deliver_one", "host1")
                ours.append(seconds)
                growth.append(bytes_more)
                assert there.stat().st_size == size
                there.unlink()
                theirs.append(curl_upload(source, f"{nginx.url}/curl.bin"))
                (nginx.root / "curl.bin").unlink()
    rates = [size / MIB / median(seconds[1:]) for seconds in (ours, theirs)]
    ratio = rates[0] / rates[1]
    shown = [f"{rate:,.0f} MiB/s" for rate in rates]
    yield Row("1 GiB file to nginx", shown[0], f"{shown[1]} (curl -T)", f"{ratio:.2f}x", "≥ 0.95x", ratio >= 0.95)
    most = max(growth) / MIB
    yield Row("1 GiB file: memory growth", f"{most:.1f} MiB", budget="< 60 MiB", met=most < 60)


def visible(*, quick: bool) -> Iterator[Row]:
    """From the commit of a save until the file is on the disks of all of 3 hosts; an idle system."""
    with (
        DurablePostgres() as postgres,
        Redis() as redis,
        MediaHost() as one,
        MediaHost() as two,
        MediaHost() as three,
    ):
        hosts = (one, two, three)
        targets = {f"host{n + 1}": host.url for n, host in enumerate(hosts)}
        with Site(database=postgres.url, broker=redis.url, targets=targets) as site:
            site.call("ledger.make")
            with worker(site):
                roots = [str(host.root) for host in hosts]
                site.call("delivering.seconds_until_visible", 10, roots, 0.05)
                seconds = site.call("delivering.seconds_until_visible", 50 if quick else 300, roots, 0.05)
    half, most = percentile(seconds, 50), percentile(seconds, 99)
    yield Row("commit to visible on 3 hosts, p50", ms([half]), budget="< 30 ms", met=half < 0.03)
    yield Row("commit to visible on 3 hosts, p99", ms([most]), budget="< 150 ms", met=most < 0.15)


def beside_a_hanging_one(*, quick: bool) -> Iterator[Row]:
    """The same for two hosts while a third takes connections and never answers, and while it is well."""
    rounds = 50 if quick else 300
    with (
        DurablePostgres() as postgres,
        Redis() as redis,
        MediaHost() as one,
        MediaHost() as two,
        MediaHost() as three,
    ):
        targets = {f"host{n + 1}": host.url for n, host in enumerate((one, two, three))}
        with Site(database=postgres.url, broker=redis.url, targets=targets) as site:
            site.call("ledger.make")
            with worker(site):
                roots = [str(host.root) for host in (one, two)]
                site.call("delivering.seconds_until_visible", 10, roots, 0.05)
                well = site.call("delivering.seconds_until_visible", rounds, roots, 0.05)
                three.pause()
                try:
                    hanging = site.call("delivering.seconds_until_visible", rounds, roots, 0.05)
                finally:
                    three.resume()
    for percent in (50, 99):
        ours, normal = percentile(hanging, percent), percentile(well, percent)
        title = f"commit to visible on 2 hosts while a third hangs, p{percent}"
        yield Row(
            title, ms([ours]), f"{ms([normal])} (it is well)", f"{ours / normal:.2f}x", "≤ 2x", ours <= 2 * normal
        )
