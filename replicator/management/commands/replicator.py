"""``manage.py replicator <verb>``: what people do by hand."""

from __future__ import annotations

import os
import signal
import sys
from argparse import SUPPRESS, RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from replicator.management.verbs import VERBS


class Command(BaseCommand):
    help = "Look at replication, and act on it. Each verb has its own --help, with examples."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb", title="verbs")
        for verb in VERBS:
            own = verbs.add_parser(
                verb.name,
                help=verb.help,
                description=f"{verb.help[0].upper()}{verb.help[1:]}.",
                epilog=verb.epilog,
                formatter_class=RawDescriptionHelpFormatter,
            )
            verb.add_arguments(own)
            # What every command takes may be written after the verb too, as people do.
            own.add_argument("-v", "--verbosity", type=int, default=SUPPRESS, help=SUPPRESS)
            for option in ("--settings", "--pythonpath"):
                own.add_argument(option, default=SUPPRESS, help=SUPPRESS)
            for option in ("--traceback", "--no-color", "--force-color", "--skip-checks"):
                own.add_argument(option, action="store_true", default=SUPPRESS, help=SUPPRESS)

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        try:
            try:
                next(v for v in VERBS if v.name == verb).run(options, self.stdout, self.stderr)
            finally:
                self.stdout.flush()
        except BrokenPipeError:
            # Who reads it has seen enough, as in "status | head". Python would say so once more when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + signal.SIGPIPE)
