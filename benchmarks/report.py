"""One row for each budget, and the table of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from statistics import median


@dataclass(frozen=True)
class Row:
    """What was measured, beside what it is held against."""

    what: str
    ours: str = ""
    peer: str = ""
    ratio: str = ""
    budget: str = ""
    met: bool | None = None
    """None: informative, or not measured."""
    missing: str = ""
    """Why it was not measured."""

    @property
    def verdict(self) -> str:
        if self.missing:
            return f"not measured: {self.missing}"
        return {None: "", True: "met", False: "MISSED"}[self.met]


def table(rows: Iterable[Row]) -> str:
    columns = ["what", "ours", "peer", "ratio", "budget"]
    assert set(columns) < {field.name for field in fields(Row)}
    lines = [[*columns, "verdict"], *([*(getattr(row, name) for name in columns), row.verdict] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    lines.insert(1, ["-" * width for width in (*widths, 7)])
    return "\n".join(
        " | ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]).rstrip()
        for line in lines
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least *percent* of them do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def ms(seconds: Iterable[float]) -> str:
    return f"{median(seconds) * 1000:.2f} ms"
