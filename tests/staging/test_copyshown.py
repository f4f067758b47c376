"""A copy's progress in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from replicator.admin.copyshown import lasting, page_of
from replicator.staging.progress import ModelProgress, Progress

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
COUNTS = {"copied": 0, "there": 0, "newer": 0, "excluded": 0, "missing": 0, "failed": 0}


def model(rows: int = 0, total: int | None = 1000, *, is_open: int = 0, **counts: int) -> ModelProgress:
    return ModelProgress(
        "blog.Post", ["image"], rows, total, {**COUNTS, **counts}, 0, walked=rows == total, trouble="", open=is_open
    )


def progress(*models: ModelProgress, **changed: Any) -> Progress:
    facts: dict[str, Any] = {
        "id": 1,
        "source": "live",
        "state": "running",
        "dry_run": False,
        "started_by": "anna",
        "started_at": NOW - timedelta(minutes=5),
        "ended_at": None,
        "words": [],
        "counts": COUNTS,
        "files": 0,
        "bytes": 0,
        "files_per_second": None,
        "bytes_per_second": None,
        "eta": None,
        "again": 0,
        "next_at": None,
        "trouble": "",
        "due_at": NOW,
        "listing": "none",
    }
    return Progress(models=models, **{**facts, **changed})


def texts(*models: ModelProgress, **changed: Any) -> dict[str, str]:
    return page_of(progress(*models, **changed), NOW).run.texts


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "1 s"),
        (0.2, "1 s"),
        (39.5, "40 s"),
        (99, "99 s"),
        (101, "2 min"),
        (5939, "99 min"),
        (3 * 3600 + 61, "3 h 1 min"),
        (50 * 3600, "2 days"),
    ],
)
def test_a_length_of_time_is_in_units_that_people_use(seconds: float, words: str) -> None:
    assert lasting(seconds) == words


def test_100_percent_is_said_of_nothing_that_is_not_done() -> None:
    assert texts(model(1000, is_open=1, copied=999))["percent"] == "99%"
    assert texts(model(1000, copied=1000))["percent"] == "100%"


def test_rows_that_came_since_they_were_counted_are_counted() -> None:
    """No "1,200 of 1,000"."""
    assert texts(model(1200, 1000, copied=1200))["rows"] == "1,200 of 1,200 rows walked"


def test_a_screen_reader_is_told_each_tenth() -> None:
    """It says each change: every second would be too often."""
    said = {texts(model(rows, copied=rows))["spoken"] for rows in range(0, 1000, 7)}
    assert said == {f"Running, {tenth}0%." if tenth else "Running, 0%." for tenth in range(10)}


def test_a_copy_without_rows_is_done() -> None:
    assert texts(model(0, 0))["percent"] == "100%"


@pytest.mark.parametrize(
    ("changed", "pace"),
    [
        ({}, "beginning…"),
        ({"files_per_second": 3.14, "bytes_per_second": 0.0}, "3.1 files/s"),
        (
            {"files_per_second": 1234.5, "bytes_per_second": 2048.0, "eta": 61},
            "1,234 files/s · 2.0 KB/s · about 61 s left",
        ),
        ({"files_per_second": 5, "bytes_per_second": 9.0, "dry_run": True}, "5.0 files/s"),
        ({"state": "paused"}, "paused: nothing is copied until it is resumed"),
        ({"trouble": "503"}, ""),
    ],
)
def test_the_pace_is_said_once_there_is_one(changed: dict[str, Any], pace: str) -> None:
    assert texts(model(10), **changed)["pace"].replace("\xa0", " ") == pace


def test_what_waits_only_for_failed_files_says_so() -> None:
    later = NOW + timedelta(seconds=90)
    found = texts(
        model(1000, copied=990), again=10, next_at=later, files_per_second=1.0, bytes_per_second=1.0, eta=0.0
    )
    assert found["again"] == "10 failed files are tried again, the next one in 90 s."
    assert found["pace"].endswith("all but the failed files are dealt with")


def test_an_ended_copy_says_when_and_how_long_it_took() -> None:
    found = page_of(progress(model(1000, copied=1000), state="done", ended_at=NOW), NOW)
    assert "after 5 min" in found.run.texts["pace"]
    assert found.over
    assert not any(found.run.flags[flag] for flag in ("pause", "resume", "now", "cancel", "trouble"))
