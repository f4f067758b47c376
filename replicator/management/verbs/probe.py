"""``manage.py replicator probe``."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, OutputWrapper

from replicator import delivery
from replicator.conf import config
from replicator.delivery.probing import is_answering
from replicator.errors import DeliveryError
from replicator.ledger import health, life
from replicator.management.verbs.base import Verb, number_of, storages_named, targets_named
from replicator.storage.ownroot import mistakes
from replicator.storage.replicated import ReplicatedStorage
from replicator.targets import get_target
from replicator.targets.base import url_path
from replicator.targets.findings import LARGE, Finding

_MIB = 1024 * 1024
#: What people want of targets that are not asked, and of those where nothing is written, unless they are named.
_UNASKED = ("paused", "retired")
_UNWRITTEN = (*_UNASKED, "read-only")


@dataclass(slots=True)
class Answer:
    """What became of one target."""

    target: str
    answers: bool | None
    """None: people do not want it to be asked."""
    text: str
    """How it answers, or why not."""
    mistakes: list[str] = field(default_factory=list)
    """Why it is not the media root that it is said to be."""
    findings: list[Finding] = field(default_factory=list)
    """Of its examination."""

    def count(self, ok: str) -> int:
        return sum(finding.ok == ok for finding in self.findings)


class Probe(Verb):
    name = "probe"
    help = "ask targets whether they are up; examine one, and say what to change at it"
    epilog = """\
Without an alias all targets are asked whether they are up. One that is marked down and answers is marked up, and its
backlog is sent at once. Beat does the same every few seconds; this says why one does not answer.

With an alias, or --full, a target is examined as well: files are written, replaced, cut off half-way, listed and
deleted there, with odd names and of the size that --size says. That takes seconds, goes on in a folder
replicator-probe-… of its own below that of a storage, and is removed at the end, also after Ctrl-C. Nothing else is
touched. Each line says what was found:

  fine    as it should be
  note    worth knowing
  should  it costs something: change it when you can
  MUST    files do not arrive, or not as they are, until it is changed

Targets that are paused or retired are not asked, and those that are read-only not examined, unless they are named.

  manage.py replicator probe                       are all of them up?
  manage.py replicator probe media2                is media2 fit?
  manage.py replicator probe --full --json         all of them, for a program
  manage.py replicator probe media2 --size 500     does it take 500 MiB?
  manage.py replicator probe media2 --storage avatars

Of a target that is this node's own media root (option "node") it also says whether it is.

The exit code is 1 if one does not answer, is not what it is said to be, or must be changed.
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("target", nargs="*", help="alias, which is examined; unless given, all are asked")
        parser.add_argument("--full", action="store_true", help="examine all targets")
        parser.add_argument("--size", type=_mebibytes, metavar="MIB", help="size of the large file; default: 2")
        parser.add_argument(
            "--storage", metavar="ALIAS", help="whose path to use; default: the first with the target"
        )
        parser.add_argument("--json", action="store_true", help="for programs")

    def run(self, options: dict[str, Any], out: OutputWrapper, err: OutputWrapper) -> None:
        is_full = options["full"] or bool(options["target"]) or bool(options["size"])
        answers: list[Answer] = []
        show: Callable[[str], object] = (lambda line: None) if options["json"] else lambda line: _say(line, out)
        for target in targets_named(options["target"]):
            # Who names it wants to know, whatever it is closed for.
            closed = "" if options["target"] else life.why_closed(target)
            answer = Answer(target, None, f"{closed}: not asked") if closed in _UNASKED else _asked(target)
            answers.append(answer)
            for line in (answer.text, *answer.mistakes):
                show(f"{target}: {line}")
            if is_full and closed not in _UNWRITTEN:
                prefix = _prefix(target, options["storage"])
                _examine(answer, prefix, options["size"] or LARGE, show)
        if options["json"]:
            out.write(json.dumps([asdict(answer) for answer in answers], indent=2, ensure_ascii=False))
        _judge(answers)


def _asked(target: str) -> Answer:
    """Whether it is up. One that was down is marked up."""
    try:
        reason = is_answering(target)
    except ImproperlyConfigured as error:
        raise CommandError(str(error)) from error
    if reason:
        return Answer(target, False, f"no answer: {reason}")
    text = "answers"
    if health.is_down(target):
        delivery.probe(target)
        text += "; it was down, and is up now"
        if health.is_down(target):
            text = "answers; but files fail there, so it is down until one that is tried arrives"
    answer = Answer(target, True, text)
    if target in config().home:
        answer.mistakes += mistakes(target)
    return answer


def _prefix(target: str, storage: str | None) -> str:
    """Where files of a storage are, below the target's URL."""
    if storage:
        (found,) = storages_named([storage])
        if target not in found.targets:
            raise CommandError(f"The storage {storage!r} has no target {target!r}.")
        return _prefix_of(found)
    storages = [each for each in storages_named([]) if target in each.targets]
    return _prefix_of(storages[0]) if storages else "/"


def _prefix_of(storage: ReplicatedStorage) -> str:
    return url_path(storage.base_url or "/")


def _examine(answer: Answer, prefix: str, size: int, show: Callable[[str], object]) -> None:
    try:
        with closing(get_target(answer.target).examine(prefix, size=size)) as findings:
            for finding in findings:
                answer.findings.append(finding)
                show(_line(finding))
    except KeyboardInterrupt:
        raise CommandError("Stopped. What was put there is removed.", returncode=130) from None
    except DeliveryError as error:
        raise CommandError(f"Stopped. {error}. Remove it by hand.") from error


def _line(finding: Finding) -> str:
    """As it is shown, with what to do below it."""
    word = "MUST" if finding.ok == "must" else finding.ok
    advice = f"\n{' ' * 25}→ {finding.advice}" if finding.advice else ""
    return f"  {word:6}  {finding.what:13}  {finding.text}{advice}"


def _say(line: str, out: OutputWrapper) -> None:
    out.write(line)
    # The next one may take a while.
    out.flush()


def _judge(answers: list[Answer]) -> None:
    """Raises unless all is as it must be."""
    if silent := sum(answer.answers is False for answer in answers):
        raise CommandError(f"{number_of(silent, 'target')} did not answer.")
    if any(answer.mistakes for answer in answers):
        raise CommandError('Correct the url, or the option "node": what is saved here would be called synced there.')
    if bad := [f"{answer.target} ({answer.count('must')})" for answer in answers if answer.count("must")]:
        raise CommandError(f"There is something that must be changed: {', '.join(bad)}.")


def _mebibytes(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise ArgumentTypeError(f"{text!r} is no number of MiB: write one from 1 on, as in --size 500")
    return count * _MIB
