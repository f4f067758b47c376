"""What holds for every test: fixtures of servers, and how many processes share the tests."""

import os
import signal

import pytest

pytest_plugins = ["tests.servers"]

#: The files that take longest. They come first, so that no process is still at one when the others are done.
LONGEST = (
    "tests/promises/test_end_to_end.py",
    "tests/project/test_demo.py",
    "tests/promises/test_kills.py",
    "tests/project/test_settings.py",
    "tests/project/test_mogilefs.py",
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
    """Two for each core: a good part of what tests do is to wait. No more than have files to share for long."""
    return min(2 * (os.cpu_count() or 1), 12)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Only where several processes share them: who runs one after the other reads them in their own order."""
    if hasattr(config, "workerinput"):
        rank = {name: number for number, name in enumerate(LONGEST)}
        items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(LONGEST)))
