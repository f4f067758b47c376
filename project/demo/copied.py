"""What a copy must have left behind, and what it must not have touched, seen from outside; in words if it is not so.

Knows no ledger and no run: hosts and disks are asked for every file, and the live S3 for what it was asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from project.demo import checking
from project.demo.live import is_fetch
from project.demo.livefiles import LiveFiles

#: Seconds that a file may have been in a worker's hands when the worker was killed; and those that a request may have
#: been on its way then, to a busy server.
IN_FLIGHT, ON_ITS_WAY = 10.0, 2.0


def check_places(
    files: LiveFiles, hosts: Mapping[str, tuple[str, Path]], media_root: Path, step: Callable[[], object]
) -> list[checking.Findings]:
    """Every file at each of *hosts* (alias → URL and root), and on the local disk; and nothing else there."""
    expected, missing = files.on_staging(), files.missing_on_staging()
    found = [checking.check_folder("local disk", media_root, expected, missing, step)]
    for alias, (url, root) in hosts.items():
        found.append(checking.check_host(alias, url, root, "/media/", expected, missing, step))
    return found


def touched(before: Mapping[str, Any], after: Mapping[str, Any], requests: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is not bit for bit what it was at the source, and what asked for a change."""
    found = [
        f"{what} of the source: {before[what]} before, {after[what]} now"
        for what in ("uploads", "buckets")
        if before[what] != after[what]
    ]
    old, new = before["objects"], after["objects"]
    found += [
        f"{key} at the source: {old.get(key)} before, {new.get(key)} now"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]
    found += [
        f"the source was asked to {each['method']} {each['key']}?{each['query']}: {each['status']}"
        for each in requests
        if each["method"] not in ("GET", "HEAD")
    ]
    return found


def fetched_wrongly(
    files: LiveFiles, requests: Sequence[Mapping[str, Any]], kills: Sequence[float] = (), at_once: int = 0
) -> list[str]:
    """What was not fetched, or though nobody names it, or again though no kill at its time was the reason.

    *kills*: when, as ``time.time`` has it; *at_once*: the files that may be in flight then.
    """
    times: dict[str, list[float]] = defaultdict(list)
    for request in requests:
        if is_fetch(request):
            times[request["key"]].append(request["at"])
    found = [f"never fetched: {key}" for key in sorted(files.sizes.keys() - times.keys())]
    found += [f"fetched, and named by no row: {key}" for key in sorted(times.keys() - files.sizes.keys())]
    again = {key: sorted(each) for key, each in times.items() if len(each) > 1}
    for key, each in sorted(again.items()):
        for first, second in pairwise(each):
            if not any(-ON_ITS_WAY < kill - first < IN_FLIGHT and kill < second for kill in kills):
                since = ", ".join(f"{kill - first:+.1f}" for kill in kills)
                found.append(f"fetched again, {second - first:.1f} s later, and kills at {since or 'no time'}: {key}")
    most = at_once * len(kills)
    if (count := sum(len(each) - 1 for each in again.values())) > most:
        found.append(f"{count} fetched again, where at most {most} were in flight when a worker was killed")
    return found
