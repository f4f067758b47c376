"""What it costs to copy a live site's media here, beside rclone and the loop that people write."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from tqdm import tqdm

from benchmarks.distance import Distance
from benchmarks.lives3 import BUCKET, LiveS3, size_of, sizes_of_a_site, small_sizes
from benchmarks.peers import rclone_fetch
from benchmarks.report import Row
from benchmarks.site import NOWHERE, DurablePostgres, Site, worker
from tests.brokers import Redis
from tests.s3 import Proxy

MIB = 1024**2
#: In each, a file is written under its own name at once, and nothing is asked for that a copy can do without.
RCLONE = ("--fast-list", "--use-server-modtime", "--inplace", "--s3-no-head-object", "--buffer-size", "0")
TRANSFERS = (8, 16, 32)
#: Rows of the loop, which is slow.
LOOPED = 200
#: Seconds that an answer takes from a live site elsewhere.
AWAY = 0.02
#: Streams of each of our two processes.
STREAMS = "8"


@dataclass
class Times:
    """Seconds of each round: everything is to be copied, and everything is there."""

    copied: list[float] = field(default_factory=list)
    there: list[float] = field(default_factory=list)


def copies(*, quick: bool) -> Iterator[Row]:
    """From an S3 to this disk with two worker processes: small files, and those that a site has."""
    count, rounds = (1_000, 1) if quick else (4_000, 5)
    with DurablePostgres() as postgres, LiveS3() as live, ExitStack() as open_sites:
        data = {"small files": small_sizes(count), "a site's files": sizes_of_a_site(count // 2)}
        names = {kind: live.write(kind.split()[0], sizes) for kind, sizes in data.items()}
        names["large"] = live.write("large", [MIB * (32 if quick else 256)] * 4)
        sites = {kind: _site(open_sites, postgres, live, kind) for kind in ("plain", "replicated")}
        for kind, sizes in data.items():
            times = _rounds(sites, live, names[kind], sum(sizes), rounds)
            yield from _rows(kind, times, len(sizes), sum(sizes))
        yield from _requests(sites, live, names["small files"])
        yield from _large(sites, live, names["large"])
        yield from _far(postgres, live, names["small files"], min(rounds, 2))


def _site(open_sites: ExitStack, postgres: DurablePostgres, live: LiveS3, kind: str, url: str = "") -> Site:
    """A staging site with two workers of its own, whose files are in a plain storage or one that replicates. *url*:
    where the live site's S3 is asked."""
    database = kind if not url else f"{kind}-far"
    postgres.run(
        [postgres._binary("createdb"), *("-h", "127.0.0.1", "-p", str(postgres.port), "-U", "postgres", database)]
    )
    redis = open_sites.enter_context(Redis())
    environment = {"DJANGO_SETTINGS_MODULE": "benchmarks.stagingsettings", "BENCH_DEFAULT": kind}
    environment |= {"BENCH_STREAMS": STREAMS, **live.environment_of_staging(url)}
    site = open_sites.enter_context(
        Site(
            database=postgres.url.removesuffix("postgres") + database,
            broker=redis.url,
            targets={f"host{n}": NOWHERE for n in (1, 2, 3)},
            environment=environment,
        )
    )
    site.call("ledger.make")
    open_sites.enter_context(worker(site, 2, queue="copies"))
    return site


def _far(postgres: DurablePostgres, live: LiveS3, names: list[str], rounds: int) -> Iterator[Row]:
    """As between a live site's data centre and this one's."""
    size = size_of(live.root / BUCKET / names[0].partition("/")[0])
    with Distance(live.port, AWAY) as distance, ExitStack() as open_sites:
        sites = {"replicated": _site(open_sites, postgres, live, "replicated", distance.url)}
        times = _rounds(sites, live, names, size, rounds, distance.url)
    for row in _rows("small files", times, len(names), size):
        yield replace(row, what=row.what.replace("from S3", f"from {AWAY * 1000:.0f} ms away"))


def _rounds(
    sites: dict[str, Site], live: LiveS3, names: list[str], size: int, rounds: int, url: str = ""
) -> dict[str, Times]:
    """What each contender takes, in turns."""
    times: dict[str, Times] = {}
    remote = live.environment_of_rclone(url)
    folder = next(iter(sites.values())).folder / "rclone"
    for site in sites.values():
        site.call("staging.name_files", names)
    for number in tqdm(range(rounds + 1), "copying", leave=False):
        for transfers in TRANSFERS:
            flags = (*RCLONE, "--transfers", str(transfers), "--checkers", str(transfers))
            found = times.setdefault(f"rclone, {transfers} transfers", Times())
            source = f"{BUCKET}/{names[0].partition('/')[0]}"
            found.copied.append(rclone_fetch(remote, source, folder, "--no-check-dest", *flags))
            assert size_of(folder) == size
            found.there.append(rclone_fetch(remote, source, folder, "--size-only", *flags))
            _wipe(folder)
        for kind, site in sites.items():
            found = times.setdefault(kind, Times())
            for seconds, state in ((found.copied, "copied"), (found.there, "there")):
                done = site.call("staging.copy")
                assert done[state] == len(names), done
                seconds.append(done["seconds"])
            assert size_of(site.media) == size
            _forget(site)
        if number < 3:
            for kind, site in sites.items():
                times.setdefault(f"loop, {kind}", Times()).copied.append(site.call("staging.loop", LOOPED))
                _forget(site)
    return times


def _rows(kind: str, times: dict[str, Times], files: int, size: int) -> Iterator[Row]:
    """The first round warms everyone up."""
    copied = {who: median(found.copied[1:]) for who, found in times.items()}
    there = {who: median(found.there[1:]) for who, found in times.items() if found.there}
    fastest = min((who for who in copied if who.startswith("rclone")), key=copied.__getitem__)
    quickest = min((who for who in there if who.startswith("rclone")), key=there.__getitem__)
    for what, who in (("plain storage", "plain"), ("storage that replicates", "replicated")):
        if who not in copied:
            continue
        ours, peer = copied[who], copied[fastest]
        looped = copied[f"loop, {who}"] / LOOPED * files
        title = f"copy {files:,} {kind} ({size / 1e6:,.0f} MB) from S3: {what}"
        yield Row(title, _rate(files, size, ours), f"{_rate(files, size, peer)} ({fastest})", f"{peer / ours:.2f}x")
        yield Row("  beside a loop over the rows", "", _rate(files, size, looped), f"{looped / ours:.2f}x")
        ours, peer = there[who], there[quickest]
        yield Row("  all there already", f"{ours:.2f} s", f"{peer:.2f} s ({quickest})", f"{peer / ours:.2f}x")


def _rate(files: int, size: int, seconds: float) -> str:
    return f"{files / seconds:,.0f} files/s, {size / 1e6 / seconds:,.0f} MB/s"


def _large(sites: dict[str, Site], live: LiveS3, names: list[str]) -> Iterator[Row]:
    """Four large files, all at once: what is read is written, and held by nobody."""
    size = size_of(live.root / BUCKET / "large")
    for kind, site in sites.items():
        with Site(folder=site.folder, environment=site.environment) as alone:
            # One that has copied before.
            alone.call("staging.name_files", ["small/00/file-0.bin"])
            alone.call("staging.copy_alone")
            alone.call("staging.name_files", names)
            growth = alone.call("staging.growth") / MIB
        assert size_of(site.media / "large") == size
        _forget(site)
        title = f"memory growth for {len(names)} files of {size // len(names) // MIB} MiB at once: {kind}"
        yield Row(title, f"{growth:.1f} MiB", budget="< 60 MiB", met=growth < 60)


def _requests(sites: dict[str, Site], live: LiveS3, names: list[str]) -> Iterator[Row]:
    """What the source is asked when everything is there."""
    plain = sites["plain"]
    with Proxy(live.port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        environment = {**plain.environment, **live.environment_of_staging(url)}
        with Site(folder=plain.folder, environment=environment) as site:
            site.call("staging.name_files", names)
            site.call("staging.copy_alone")
            proxy.requests.clear()
            assert site.call("staging.copy_alone")["there"] == len(names)
        heads, all_ours = proxy.count("^HEAD"), len(proxy.requests)
        folder, source = plain.folder / "rclone", f"{BUCKET}/{names[0].partition('/')[0]}"
        remote = live.environment_of_rclone(url)
        rclone_fetch(remote, source, folder, *RCLONE)
        proxy.requests.clear()
        rclone_fetch(remote, source, folder, "--size-only", *RCLONE)
        theirs = len(proxy.requests)
        _wipe(folder)
    title = f"  requests when all {len(names):,} are there"
    yield Row(title, f"{all_ours:,}, {heads:,} of them HEAD", f"{theirs:,} (rclone)")


def _forget(site: Site) -> None:
    site.call("ledger.empty")
    for path in site.media.iterdir():
        _wipe(path)


def _wipe(folder: Path) -> None:
    """What has not been written to the disk yet never will be: whoever comes next finds it idle."""
    shutil.rmtree(folder)
