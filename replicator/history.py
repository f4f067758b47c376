"""How targets fared over the last day, and how fast they are now: reckoned from what was noted each minute."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from django.db.models import F, Max, Min, QuerySet
from django.db.models.functions import ExtractMinute, Floor, TruncHour
from django.utils import timezone

from replicator.ledger import database
from replicator.ledger.counters import BYTES, DELETED, FAILED, PUT, WITHIN
from replicator.models import TargetSample

#: Minutes that a chart may span → minutes that one of its points stands for: a young site sees its history, too.
_SPANS = {15: 1, 60: 1, 180: 1, 360: 3, 720: 5, 1440: 10}
#: Seconds that a rate is reckoned over, at least: workers add up what they did before they note it.
_RATE = 45.0
#: And those that the share of attempts that failed is reckoned over.
_ERRORS = 15 * 60.0


@dataclass(frozen=True, slots=True)
class Point:
    """Some minutes of one target, or of all."""

    at: datetime
    """When they begin."""
    pending: int
    """The most that were pending at once."""
    failed: int
    files: float | None
    """Sent or deleted in a second; None: not known, because nothing was noted before."""
    bytes: float | None

    @property
    def backlog(self) -> int:
        return self.pending + self.failed


@dataclass(frozen=True, slots=True)
class Span:
    """What a chart shows: its points by target, and of all targets together under ``""``."""

    start: datetime
    end: datetime
    points: dict[str, list[Point]] = field(default_factory=dict)

    @property
    def minutes(self) -> int:
        return round((self.end - self.start).total_seconds() / 60)


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast one target is. None: nothing is known of the time before."""

    files: float | None = None
    """Sent or deleted in a second, over the last minute or two."""
    bytes: float | None = None
    errors: float | None = None
    """Share of the attempts that failed, over the last quarter of an hour; None: there were none."""


class _Drawn:
    """What this process reckoned last, and from which samples: new ones come once in a minute."""

    def __init__(self) -> None:
        self.of: tuple[object, ...] = ()
        self.span: Span | None = None


_drawn = _Drawn()


def last_day() -> Span:
    """At most 24 hours, fewer while nothing older is known. One statement, and another once in a minute."""
    now = timezone.now()
    samples = TargetSample.objects.using(database.alias()).filter(
        at__gt=now - timedelta(minutes=max(_SPANS)), at__lte=now
    )
    facts = samples.aggregate(first=Min("at"), last=Max("at"), newest=Max("id"))
    of = (now.replace(second=0, microsecond=0), *facts.values())
    if _drawn.span is None or _drawn.of != of:
        _drawn.of, _drawn.span = of, _read(samples, facts["first"], now)
    return _drawn.span


def _read(samples: QuerySet[TargetSample], first: datetime | None, now: datetime) -> Span:
    if first is None:
        return Span(now - timedelta(minutes=min(_SPANS)), now)
    span = next(span for span in _SPANS if first >= now - timedelta(minutes=span))
    start, minutes = now - timedelta(minutes=span), _SPANS[span]
    rows = (
        samples.filter(at__gt=start)
        # Added up by the database: a day of ten targets is 14,400 rows.
        .annotate(hour=TruncHour("at", tzinfo=UTC), part=Floor(ExtractMinute("at", tzinfo=UTC) / float(minutes)))
        .order_by()
        .values_list("target", "hour", "part")
        .annotate(
            Max("pending"), Max("failed"), files=Max(F("put") + F("deleted")), size=Max("bytes"), until=Max("at")
        )
    )
    parts: dict[str, list[_Part]] = defaultdict(list)
    for target, hour, part, pending, failed, files, size, until in rows:
        at = hour + timedelta(minutes=int(part) * minutes)
        parts[target].append(_Part(at, until, pending, failed, files, size))
    points = {target: _points(found) for target, found in parts.items()}
    return Span(start, now, points | {"": _together(points.values())})


@dataclass(frozen=True, slots=True, order=True)
class _Part:
    at: datetime
    until: datetime
    pending: int
    failed: int
    files: int
    """Since ever, as the number of bytes is."""
    bytes: int


def _points(parts: list[_Part]) -> list[Point]:
    parts.sort()
    found, before = [], None
    for part in parts:
        files = size = None
        if before is not None and part.files >= before.files and part.bytes >= before.bytes:
            seconds = (part.until - before.until).total_seconds()
            files, size = (part.files - before.files) / seconds, (part.bytes - before.bytes) / seconds
        found.append(Point(part.at, part.pending, part.failed, files, size))
        before = part
    return found


def _together(series: Iterable[list[Point]]) -> list[Point]:
    by_time: dict[datetime, list[Point]] = defaultdict(list)
    for points in series:
        for point in points:
            by_time[point.at].append(point)
    return [
        Point(at, sum(p.pending for p in some), sum(p.failed for p in some),
              _sum(p.files for p in some), _sum(p.bytes for p in some))
        for at, some in sorted(by_time.items())
    ]  # fmt: skip


def _sum(numbers: Iterable[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


def rates(counted: Mapping[str, Mapping[str, float]], now: datetime | None = None) -> dict[str, Rates]:
    """By target, from its counters as they are now. One statement."""
    now = now or timezone.now()
    samples = TargetSample.objects.using(database.alias()).filter(
        at__gt=now - timedelta(seconds=_ERRORS), at__lte=now
    )
    earlier: dict[str, list[TargetSample]] = defaultdict(list)
    for sample in samples.order_by("at"):
        earlier[sample.target].append(sample)
    return {target: _rates(counted.get(target, {}), found, now) for target, found in earlier.items()}


def within(counted: Mapping[str, Mapping[str, float]], now: datetime | None = None) -> dict[str, float]:
    """By target, the share of what was delivered in the last day (or since counting began) that came within the lag
    objective, from its counters as they are now; nothing of a target to which nothing was. One statement."""
    now = now or timezone.now()
    older = TargetSample.objects.using(database.alias()).filter(at__lte=now - timedelta(days=1)).order_by()
    # They only grow, so that the largest is the newest.
    rows = older.values_list("target").annotate(done=Max(F("put") + F("deleted")), good=Max("within"))
    before = {target: (done, good) for target, done, good in rows}
    found = {}
    for target, count in counted.items():
        done, good = before.get(target, (0, 0))
        done, good = count.get(PUT, 0) + count.get(DELETED, 0) - done, count.get(WITHIN, 0) - good
        if done > 0:
            found[target] = min(1.0, max(0.0, good / done))
    return found


def _rates(counted: Mapping[str, float], samples: list[TargetSample], now: datetime) -> Rates:
    """From the counters as they are, and what they were: *samples*, the oldest first, at least one."""
    done, failed = counted.get(PUT, 0) + counted.get(DELETED, 0), counted.get(FAILED, 0)
    oldest = samples[0]
    good, bad = done - oldest.put - oldest.deleted, failed - oldest.errors
    errors = bad / (good + bad) if bad >= 0 and good >= 0 and good + bad > 0 else None
    settled = [sample for sample in samples if (now - sample.at).total_seconds() >= _RATE]
    if not settled:
        return Rates(errors=errors)
    last = settled[-1]
    seconds = (now - last.at).total_seconds()
    files, size = done - last.put - last.deleted, counted.get(BYTES, 0) - last.bytes
    # Fewer than before: somebody removed the rows of the counters.
    return Rates(max(0.0, files / seconds), max(0.0, size / seconds), errors)
