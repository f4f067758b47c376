"""What a block of a test may end with. Not pytest's: the package needs none to be imported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from replicator.errors import DeliveryError


@contextmanager
def raises(kind: type[BaseException]) -> Iterator[list[BaseException]]:
    """The block must raise this; it is then in the list."""
    caught: list[BaseException] = []
    try:
        yield caught
    except kind as error:
        caught.append(error)
    else:
        raise AssertionError(f"{kind.__name__} was not raised")


@contextmanager
def settled() -> Iterator[None]:
    """The block succeeds, or says why not."""
    with suppress(DeliveryError):
        yield
