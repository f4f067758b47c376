"""Fixtures for tests of the ledger: short times, and database sessions beside the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from pytest_django.fixtures import Settings

from tests.ledger.nodes import As, become
from tests.ledger.sessions import Session

NUMBERS = {"LEASE_SECONDS": 60, "DOUBT_WINDOW": 60, "RETRY_BASE": 16, "RETRY_CAP": 3600}


@pytest.fixture(autouse=True)
def numbers(settings: Settings) -> None:
    """Settings that these tests calculate with."""
    settings.REPLICATOR = NUMBERS


@pytest.fixture
def session() -> Iterator[Callable[[], Session]]:
    """Makes further database sessions; they end with the test."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Session())


@pytest.fixture
def as_node(settings: Settings) -> As:
    """This process is "web1", a node with a disk of its own, until told otherwise."""
    return become(settings, NUMBERS)
