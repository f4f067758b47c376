"""``manage.py replicator probe``."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, OutputWrapper

from replicator import delivery
from replicator.delivery.probing import is_answering
from replicator.ledger import health
from replicator.management.verbs.base import Verb, number_of, targets_named


class Probe(Verb):
    name = "probe"
    help = "ask targets whether they are up"
    epilog = """\
A target that is marked down and answers is marked up, and its backlog is sent at once. Beat does the same every few
seconds; this says why one does not answer.

  manage.py replicator probe            all
  manage.py replicator probe media2     one

The exit code is 1 if one does not answer.
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("target", nargs="*", help="alias; all unless given")

    def run(self, options: dict[str, Any], out: OutputWrapper, err: OutputWrapper) -> None:
        silent = 0
        for target in targets_named(options["target"]):
            try:
                reason = is_answering(target)
            except ImproperlyConfigured as error:
                raise CommandError(str(error)) from error
            if reason:
                silent += 1
                out.write(f"{target}: no answer: {reason}")
            elif health.is_down(target) and delivery.probe(target)[target]:
                out.write(f"{target}: answers; it was down, and is up now")
            else:
                out.write(f"{target}: answers")
        if silent:
            raise CommandError(f"{number_of(silent, 'target')} did not answer.")
