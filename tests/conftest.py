"""What holds for every test: fixtures of servers, and the order in which several processes share the files."""

from __future__ import annotations

import os
import signal

import pytest

pytest_plugins = ["tests.servers"]

#: Where tests start whole sites, of many processes. They are spread among the others: at a time, there would be more
#: for the machine to do than what is promised in seconds allows for.
SITES = ("tests/project/", "tests/promises/")
#: The files that take longest, which come first, so that no process is still at one when the others are done.
LONGEST = (
    "tests/project/test_a_day.py",
    "tests/promises/test_end_to_end.py",
    "tests/project/test_demo.py",
    "tests/promises/test_kills.py",
    "tests/operating/test_audit_kills.py",
    "tests/project/test_compose.py",
    "tests/project/test_overview_browser.py",
    "tests/promises/test_nodes.py",
    "tests/promises/test_staging.py",
    "tests/project/test_run.py",
    "tests/promises/test_no_local_copy.py",
    "tests/project/test_shapes.py",
    "tests/project/test_copies_browser.py",
    "tests/project/test_settings.py",
    "tests/project/test_browser.py",
    "tests/promises/test_waiting.py",
    "tests/promises/test_brokers.py",
    "tests/project/test_mogilefs.py",
    "tests/property/test_convergence.py",
    "tests/ledger/test_counterexamples.py",
    "tests/model/test_protocol.py",
    "tests/people/test_docs.py",
    "tests/delivery/test_own_disk_by_chance.py",
)

# A shell's background job ignores Ctrl-C, and so would each command that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    if config.pluginmanager.hasplugin("xdist"):
        from xdist.workermanage import NodeManager

        # Seconds that a process may take, after Ctrl-C, to end its servers: on a busy machine ten left some running.
        NodeManager.EXIT_TIMEOUT = 30


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two for each core: a good part of what tests do is to wait. No more than have something to do for long."""
    return min(2 * (os.cpu_count() or 1), 12)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Only where several processes take the files one by one: a single one keeps the order of the folders."""
    if not hasattr(config, "workerinput"):
        return
    rank = {file: number for number, file in enumerate(LONGEST)}
    files = sorted(dict.fromkeys(map(_file, items)), key=lambda file: rank.get(file, len(rank)))
    place = {}
    for group in ([f for f in files if f.startswith(SITES)], [f for f in files if not f.startswith(SITES)]):
        place |= {file: (number + 0.5) / len(group) for number, file in enumerate(group)}
    items.sort(key=lambda item: place[_file(item)])


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]
