"""Charts of the last day, as paths of an SVG: drawn here, so that nothing but the browser is needed to show them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from django.template.defaultfilters import filesizeformat
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from replicator.history import Point, Span

#: Of the drawing, which is stretched to the place there is.
WIDTH, HEIGHT = 600, 60
#: Room above the highest point and below the lowest one, where a line would be cut in half.
_EDGE = 2


@dataclass(frozen=True, slots=True)
class Drawn:
    """One curve."""

    name: str
    kind: str
    """What its colours are called."""
    area: str
    """The paths of what is below it, and of itself."""
    line: str
    most: str
    """What the top of the drawing stands for."""
    title: str
    text: str
    """What it shows, for those who do not see it."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Backlog and throughput of one target, or of all."""

    since: str
    """What its left edge stands for; the right one is now."""
    curves: list[Drawn]
    rows: list[tuple[str, str, str, str]]
    """The same in numbers: time, backlog, files and bytes in a second."""

    @property
    def is_empty(self) -> bool:
        return not self.curves


def chart(span: Span, target: str = "", *, numbers: bool = False) -> Chart:
    """Of *target*; of all of them, if none is given. With its *numbers*, if they are shown, too."""
    points = span.points.get(target, [])
    since = _("%(hours)s h ago") % {"hours": span.minutes // 60}
    if span.minutes < 60:
        since = _("%(minutes)s min ago") % {"minutes": span.minutes}
    if not points:
        return Chart(since, [], [])
    where = target or _("all targets")
    backlog = _curve(
        span,
        points,
        lambda p: p.backlog,
        "backlog",
        _("Backlog"),
        whole,
        _("Backlog of %(where)s") % {"where": where},
    )
    files = _curve(
        span, points, lambda p: p.files, "files", _("Files/s"), rate,
        _("Files per second of %(where)s") % {"where": where},
    )  # fmt: skip
    return Chart(since, [backlog, files], _rows(points) if numbers else [])


def whole(number: float) -> str:
    return f"{number:,.0f}"


def rate(number: float | None) -> str:
    """Of files, in a second."""
    if number is None:
        return "-"
    if 0 < number < 0.05:
        return _("under 0.1")
    return f"{number:,.1f}" if 0 < number < 9.95 else f"{number:,.0f}"


def speed(size: float | None) -> str:
    """Of bytes, in a second."""
    return "-" if size is None else _("%(size)s/s") % {"size": filesizeformat(size)}


def clock(when: datetime) -> str:
    return date_format(localtime(when), "TIME_FORMAT")


def _curve(
    span: Span,
    points: Sequence[Point],
    value: Callable[[Point], float | None],
    kind: str,
    name: str,
    words: Callable[[float], str],
    title: str,
) -> Drawn:
    known = [(point.at, number) for point in points if (number := value(point)) is not None]
    top = max((number for _at, number in known), default=0)
    area, line = [], []
    for part in _unbroken(known):
        at = [(_x(span, when), _y(number, top)) for when, number in part]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in at)
        # A single point is a line of no length, which round ends show.
        line.append(f"M{path}" + ("h0.01" if len(at) == 1 else ""))
        area.append(f"M{at[0][0]:.1f} {HEIGHT}L{path}L{at[-1][0]:.1f} {HEIGHT}Z")
    return Drawn(name, kind, "".join(area), "".join(line), words(top), title, _text(span, known, top, words))


def _unbroken(known: Sequence[tuple[datetime, float]]) -> list[list[tuple[datetime, float]]]:
    """Where nothing was noted for a while, nothing is drawn."""
    steps = sorted(b[0] - a[0] for a, b in pairwise(known))
    gap = 3 * (steps[len(steps) // 2] if steps else timedelta(minutes=1))
    parts: list[list[tuple[datetime, float]]] = []
    for each in known:
        if not parts or each[0] - parts[-1][-1][0] > gap:
            parts.append([])
        parts[-1].append(each)
    return parts


def _x(span: Span, when: datetime) -> float:
    share = (when - span.start) / (span.end - span.start)
    return WIDTH * min(1.0, max(0.0, share))


def _y(number: float, top: float) -> float:
    return HEIGHT - _EDGE - (HEIGHT - 2 * _EDGE) * (number / top if top else 0)


def _text(span: Span, known: Sequence[tuple[datetime, float]], top: float, words: Callable[[float], str]) -> str:
    if not known:
        return _("Nothing is known yet.")
    when = next(at for at, number in known if number == top)
    return _("Now %(now)s; the most since %(since)s was %(most)s, at %(when)s.") % {
        "now": words(known[-1][1]),
        "since": clock(span.start),
        "most": words(top),
        "when": clock(when),
    }


def _rows(points: Sequence[Point]) -> list[tuple[str, str, str, str]]:
    """At most 24, the newest first: of each part of the time the largest backlog, and the mean of the rest."""
    step = max(1, -(-len(points) // 24))
    parts = [points[start : start + step] for start in range(0, len(points), step)]
    return [
        (
            clock(part[0].at),
            whole(max(point.backlog for point in part)),
            rate(_mean([point.files for point in part])),
            speed(_mean([point.bytes for point in part])),
        )
        for part in reversed(parts)
    ]


def _mean(numbers: Sequence[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return sum(known) / len(known) if known else None
