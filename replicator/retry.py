"""When to try again: the retry schedule, as arithmetic without clock or chance of its own."""

from __future__ import annotations


def delay_seconds(attempt: int, *, base: float, cap: float, jitter: float, retry_after: float | None = None) -> float:
    """Seconds from the failed attempt number *attempt* (from 1) to the next.

    The full delay doubles with each attempt from *base* to *cap*; *jitter*, a number from 0 to 1 that the
    caller draws, places the result in its upper half, so that a crowd of failures does not return as a
    crowd. *retry_after* (seconds, what the target asked for) is honoured up to *cap*.

    >>> delay_seconds(3, base=15, cap=3600, jitter=1.0)
    60.0
    >>> delay_seconds(3, base=15, cap=3600, jitter=0.0)
    30.0
    """
    # 2.0 ** 1024 overflows; long before that the cap decides.
    full = min(cap, base * 2.0 ** min(attempt - 1, 64))
    delay = full * (0.5 + jitter / 2)
    if retry_after is not None:
        delay = max(delay, min(retry_after, cap))
    return delay


def is_too_old(age: float, *, max_age: float) -> bool:
    """Whether a replica whose write is *age* seconds old has been tried for long enough."""
    return age >= max_age


def probe_interval(down_for: float) -> float:
    """Seconds between two probes of a target that has been down for *down_for* seconds.

    A sixtieth of that, up to a minute: a host that is back gets its files about as soon.

    >>> probe_interval(60), probe_interval(600), probe_interval(86400)
    (1.0, 10.0, 60.0)
    """
    return min(60.0, down_for / 60)
