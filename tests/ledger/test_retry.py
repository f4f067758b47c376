"""The retry schedule: arithmetic."""

from __future__ import annotations

from itertools import pairwise

import pytest

from replicator.retry import delay_seconds, is_too_old


@pytest.mark.parametrize(("attempt", "full"), [(1, 15), (2, 30), (3, 60), (8, 1920), (9, 3600), (5000, 3600)])
def test_the_delay_doubles_up_to_the_cap(attempt: int, full: float) -> None:
    """Jitter places it in the upper half, so that a crowd of failures does not return as a crowd."""
    assert delay_seconds(attempt, base=15, cap=3600, jitter=1.0) == full
    assert delay_seconds(attempt, base=15, cap=3600, jitter=0.0) == full / 2
    assert delay_seconds(attempt, base=15, cap=3600, jitter=0.5) == full * 0.75


def test_no_attempt_waits_less_than_half_of_the_one_before() -> None:
    """Whatever chance says."""
    for one, next_ in pairwise(range(1, 12)):
        least = delay_seconds(next_, base=1, cap=100, jitter=0.0)
        assert least >= delay_seconds(one, base=1, cap=100, jitter=1.0) / 2


@pytest.mark.parametrize(("asked", "expected"), [(0, 15), (10, 15), (100, 100), (10**9, 3600)])
def test_what_the_target_asks_for_is_honoured_up_to_the_cap(asked: float, expected: float) -> None:
    """And never shortens the schedule's own delay."""
    assert delay_seconds(1, base=15, cap=3600, jitter=1.0, retry_after=asked) == expected


def test_enough_is_enough() -> None:
    """At the age limit, not before."""
    assert [is_too_old(age, max_age=10) for age in (0, 9.9, 10, 11)] == [False, False, True, True]
