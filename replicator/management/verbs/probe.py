"""``manage.py replicator probe``."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, OutputWrapper

from replicator import delivery
from replicator.conf import config
from replicator.delivery.probing import is_answering
from replicator.ledger import health
from replicator.management.verbs.base import Verb, number_of, targets_named
from replicator.storage.ownroot import mistakes


class Probe(Verb):
    name = "probe"
    help = "ask targets whether they are up"
    epilog = """\
A target that is marked down and answers is marked up, and its backlog is sent at once. Beat does the same every few
seconds; this says why one does not answer.

  manage.py replicator probe            all
  manage.py replicator probe media2     one

Of a target that is this node's own media root (option "node") it also says whether it is.

The exit code is 1 if one does not answer, or is not what it is said to be.
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("target", nargs="*", help="alias; all unless given")

    def run(self, options: dict[str, Any], out: OutputWrapper, err: OutputWrapper) -> None:
        silent = mistaken = 0
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
            if not reason and target in config().home:
                found = list(mistakes(target))
                mistaken += bool(found)
                for mistake in found:
                    out.write(f"{target}: {mistake}")
        if silent:
            raise CommandError(f"{number_of(silent, 'target')} did not answer.")
        if mistaken:
            raise CommandError(
                'Correct the url, or the option "node": what is saved here would be called synced there.'
            )
