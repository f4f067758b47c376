"""``python -m benchmarks [names] [--quick]``: measure, and print the table of budgets.

The exit code says whether measuring worked, never whether a budget was met: a benchmark is no test.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import traceback
from collections.abc import Callable, Iterator
from time import monotonic

import pytest
from tqdm import tqdm

from benchmarks import delivering, metrics, mogilefs, overview, saves, staging, upkeep, urls, waiting, walking
from benchmarks.peers import Missing
from benchmarks.report import Row, table

Benchmark = Callable[..., Iterator[Row]]

BENCHMARKS: dict[str, Benchmark] = {
    "statements": saves.statements,
    "save": saves.beside_plain,
    "resto": saves.beside_resto,
    "wait": waiting.beside_resto,
    "drain": delivering.backlog,
    "large": delivering.large_file,
    "visible": delivering.visible,
    "hanging": delivering.beside_a_hanging_one,
    "sweep": upkeep.sweep,
    "outage": upkeep.outage,
    "mogilefs": mogilefs.stores,
    "urls": urls.of_a_list,
    "staging": staging.copies,
    "walk": walking.rows,
    "metrics": metrics.scrape,
    "overview": overview.page,
}


def measure(name: str, *, quick: bool) -> list[Row]:
    """The rows of one benchmark; what can't be measured is a row that says why."""
    rows: list[Row] = []
    try:
        rows.extend(BENCHMARKS[name](quick=quick))
    except (Missing, pytest.skip.Exception) as missing:
        # "nginx is not installed: apt install nginx"
        why = str(missing).rpartition("apt ")[2]
        rows.append(Row(f"benchmark {name!r}", missing=why))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the budgets of the design.")
    parser.add_argument("names", nargs="*", help=f"all unless given: {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller numbers: under two minutes")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark {name!r}: choose from {', '.join(BENCHMARKS)}")
    chosen = arguments.names or list(BENCHMARKS)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start, Python {platform.python_version()}")
    rows: list[Row] = []
    failed = []
    start = monotonic()
    with tqdm(chosen, unit="benchmark") as bar:
        for name in bar:
            bar.set_description(name)
            try:
                rows += measure(name, quick=arguments.quick)
            except Exception:  # the other figures are still worth having
                traceback.print_exc()
                failed.append(name)
    print(table(rows))
    missed = [row.what.strip() for row in rows if row.met is False]
    print(f"\n{len(missed)} missed{': ' if missed else ''}{'; '.join(missed)}")
    print(f"load {os.getloadavg()[0]:.1f} at the end, after {monotonic() - start:.0f} s")
    if failed:
        print(f"could not be measured, see above: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
