"""What holds for every test: fixtures of servers, and which processes share the tests."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

pytest_plugins = ["tests.servers"]

#: Folders whose tests start whole sites, of many processes. One process takes all of such a folder, or else the
#: machine has more to do at a time than what is promised in seconds allows for.
SITES = ("tests/project/", "tests/promises/")
#: Other files that take long. They come next, so that no process is still at one when the others are done.
LONGEST = (
    "tests/people/test_admin.py",
    "tests/ledger/test_counterexamples.py",
    "tests/model/test_protocol.py",
    "tests/people/test_docs.py",
)

# A shell's background job ignores Ctrl-C, and so would each command that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two for each core: a good part of what tests do is to wait. No more than have something to do for long."""
    return min(2 * (os.cpu_count() or 1), 12)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each process takes a file at a time, for the servers of its module; or a folder of SITES."""
    from xdist.scheduler import LoadFileScheduling  # only where the tests run in several processes

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return next((folder for folder in SITES if file.startswith(folder)), file)

    return Scheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Longest first, where several processes share them. Who runs them alone gets them in their own order."""
    if hasattr(config, "workerinput"):
        first = (*SITES, *LONGEST)
        items.sort(
            key=lambda item: next((n for n, name in enumerate(first) if item.nodeid.startswith(name)), len(first))
        )
