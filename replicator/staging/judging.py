"""Whether a file is to be copied: policy, without a clock, a database or a network."""

from __future__ import annotations

from enum import Enum

from replicator.models import CopyFile
from replicator.staging.base import Facts, Held
from replicator.staging.choices import Choices

State = CopyFile.State


class Verdict(Enum):
    """What comes next for a file."""

    ASK = "ask"
    """The source must say more of it first."""
    COPY = "copy"
    COPIED = State.COPIED
    """By this run, whose worker was killed before it could say so."""
    THERE = State.THERE
    NEWER = State.NEWER
    EXCLUDED = State.EXCLUDED


def judge(facts: Facts | None, held: Held | None, choices: Choices, *, chosen: bool) -> Verdict:
    """What becomes of a file. *facts*: what the source says, if it was asked; *held*: what is here, if anything.

    *chosen*: this run has begun to copy it before.
    """
    if facts is None:
        may_differ = held is not None or choices.since or choices.max_size is not None or choices.dry_run
        return Verdict.ASK if may_differ else Verdict.COPY
    if _is_excluded(facts, choices):
        return Verdict.EXCLUDED
    if held is None:
        return Verdict.COPY
    if chosen and _is_same(facts, held, choices):
        return Verdict.COPIED
    if choices.compare != "nothing" and _is_same(facts, held, choices):
        return Verdict.THERE
    if not choices.overwrite_newer and _may_be_newer(held, facts):
        return Verdict.NEWER
    return Verdict.COPY


def _is_excluded(facts: Facts, choices: Choices) -> bool:
    """What the source does not say can't exclude a file: better one too many than one that is missed."""
    if choices.max_size is not None and facts.size is not None and facts.size > choices.max_size:
        return True
    return choices.since is not None and facts.modified is not None and facts.modified < choices.since


def _is_same(facts: Facts, held: Held, choices: Choices) -> bool:
    if facts.size != held.size:
        return False
    if choices.compare != "checksum":
        return True
    both = facts.checksums.keys() & held.checksums.keys()
    return all(facts.checksums[name] == held.checksums[name] for name in both)


def _may_be_newer(held: Held, facts: Facts) -> bool:
    """Promise: what is newer here is never overwritten unless someone says so. Unknown times are no proof."""
    return held.modified is None or facts.modified is None or held.modified > facts.modified
