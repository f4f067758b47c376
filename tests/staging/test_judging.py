"""Facts about which files a copy takes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from replicator.staging.base import Facts, Held
from replicator.staging.choices import Choices
from replicator.staging.judging import Verdict, judge

THEN = datetime(2026, 1, 1, tzinfo=UTC)
LATER = THEN + timedelta(days=1)


def held(size: int = 5, modified: datetime | None = THEN, **checksums: str) -> Held:
    return Held(size, modified, checksums)


def facts(size: int | None = 5, modified: datetime | None = THEN, **checksums: str) -> Facts:
    return Facts(size, modified, checksums)


def test_what_is_not_here_is_copied_without_asking_first() -> None:
    assert judge(None, None, Choices(), chosen=False) is Verdict.COPY


@pytest.mark.parametrize("choices", [Choices(since=THEN), Choices(max_size=0), Choices(dry_run=True)])
def test_the_source_is_asked_where_its_answer_decides(choices: Choices) -> None:
    assert judge(None, None, choices, chosen=False) is Verdict.ASK


def test_the_source_is_asked_about_what_is_here() -> None:
    assert judge(None, held(), Choices(), chosen=False) is Verdict.ASK
    assert judge(None, held(), Choices(), chosen=True) is Verdict.ASK


def test_the_same_size_is_there_already() -> None:
    assert judge(facts(modified=LATER), held(), Choices(), chosen=False) is Verdict.THERE


def test_another_size_is_copied() -> None:
    assert judge(facts(6, LATER), held(), Choices(), chosen=False) is Verdict.COPY


@pytest.mark.parametrize("choices", [Choices(), Choices(compare="checksum"), Choices(compare="nothing")])
def test_what_is_newer_here_stays(choices: Choices) -> None:
    """Promise: newer content at the destination is never overwritten unless told."""
    assert judge(facts(6, THEN), held(5, LATER), choices, chosen=False) is Verdict.NEWER


def test_what_is_newer_here_goes_if_told() -> None:
    assert judge(facts(6, THEN), held(5, LATER), Choices(overwrite_newer=True), chosen=False) is Verdict.COPY


@pytest.mark.parametrize(("source", "here"), [(None, THEN), (THEN, None), (None, None)])
def test_a_time_that_nobody_knows_proves_nothing(source: datetime | None, here: datetime | None) -> None:
    assert judge(facts(6, source), held(5, here), Choices(), chosen=False) is Verdict.NEWER


def test_the_same_time_is_not_newer() -> None:
    assert judge(facts(6, THEN), held(5, THEN), Choices(), chosen=False) is Verdict.COPY


def test_an_unknown_size_is_never_the_same() -> None:
    assert judge(facts(None, LATER), held(), Choices(), chosen=False) is Verdict.COPY


def test_a_checksum_tells_files_of_one_size_apart() -> None:
    choices = Choices(compare="checksum")
    assert judge(facts(modified=LATER, md5="a"), held(md5="b"), choices, chosen=False) is Verdict.COPY
    assert judge(facts(modified=LATER, md5="a"), held(md5="a"), choices, chosen=False) is Verdict.THERE
    assert judge(facts(modified=LATER, md5="a"), held(md5="b"), Choices(), chosen=False) is Verdict.THERE


def test_without_a_checksum_of_one_kind_the_size_decides() -> None:
    choices = Choices(compare="checksum")
    assert judge(facts(modified=LATER, md5="a"), held(sha256="b"), choices, chosen=False) is Verdict.THERE
    assert judge(facts(modified=LATER), held(sha256="b"), choices, chosen=False) is Verdict.THERE


def test_everything_is_copied_again_if_nothing_is_compared() -> None:
    choices = Choices(compare="nothing")
    assert judge(facts(modified=LATER), held(), choices, chosen=False) is Verdict.COPY


@pytest.mark.parametrize("choices", [Choices(), Choices(compare="nothing"), Choices(overwrite_newer=True)])
def test_what_a_killed_worker_copied_is_not_copied_twice(choices: Choices) -> None:
    """It was chosen before it was copied, so who finds it knows whose work it is."""
    assert judge(facts(5, THEN), held(5, LATER), choices, chosen=True) is Verdict.COPIED


def test_what_a_killed_worker_did_not_replace_is_still_to_be_replaced() -> None:
    assert judge(facts(6, LATER), held(5, THEN), Choices(), chosen=True) is Verdict.COPY


def test_sizes_and_dates_exclude() -> None:
    assert judge(facts(11), None, Choices(max_size=10), chosen=False) is Verdict.EXCLUDED
    assert judge(facts(10), None, Choices(max_size=10), chosen=False) is Verdict.COPY
    assert judge(facts(modified=THEN), None, Choices(since=LATER), chosen=False) is Verdict.EXCLUDED
    assert judge(facts(modified=LATER), None, Choices(since=LATER), chosen=False) is Verdict.COPY


def test_what_the_source_does_not_say_excludes_nothing() -> None:
    choices = Choices(max_size=10, since=LATER)
    assert judge(facts(None, None), None, choices, chosen=False) is Verdict.COPY
