"""Which bytes a Range field means."""

from __future__ import annotations

import pytest

from replicator.serving.ranges import Part, Unsatisfiable, part_of


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", Part(0, 1)),
        ("bytes=2-5", Part(2, 6)),
        ("bytes=2-", Part(2, 10)),
        ("bytes=0-99", Part(0, 10)),
        ("bytes=-3", Part(7, 10)),
        ("bytes=-99", Part(0, 10)),
        ("Bytes= 2-5 ", Part(2, 6)),
    ],
)
def test_a_range_means_these_bytes(header: str, part: Part) -> None:
    """RFC 9110, section 14.1.2: ends are included, and cut at the file's."""
    assert part_of(header, 10) == part


@pytest.mark.parametrize(
    "header",
    [
        "bytes=0-1,4-5",
        "bytes=5-2",
        "bytes=-",
        "bytes=a-b",
        "bytes=1",
        "lines=1-2",
        "bytes=٣-",
        f"bytes={'9' * 5000}-",
    ],
)
def test_what_is_no_single_range_means_all_of_it(header: str) -> None:
    """Several parts too: all of it is an answer that every client must take."""
    assert part_of(header, 10) is None


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=10-", 10), ("bytes=99-100", 10), ("bytes=-0", 10), ("bytes=0-", 0)]
)
def test_what_lies_behind_the_end_can_not_be_had(header: str, size: int) -> None:
    """416, not an empty part."""
    with pytest.raises(Unsatisfiable):
        part_of(header, size)


def test_the_last_bytes_of_an_empty_file_are_all_of_it() -> None:
    """No Content-Range can name nothing."""
    assert part_of("bytes=-5", 0) is None
