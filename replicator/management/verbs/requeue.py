"""``manage.py replicator requeue``."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError, OutputWrapper

from replicator.conf import nearest
from replicator.errors import kinds
from replicator.ledger import database
from replicator.management.verbs.base import Verb, number_of, storages_named, targets_named
from replicator.models import Replica
from replicator.requeueing import requeue
from replicator.status import targets as target_statuses


class Requeue(Verb):
    name = "requeue"
    help = "try failed replicas again, now"
    epilog = """\
Only failed ones are touched: pending ones are tried again by themselves.

  manage.py replicator requeue                     all that failed
  manage.py replicator requeue --target media2     at one target
  manage.py replicator requeue --error refused     for one kind of error
  manage.py replicator requeue 4711 4712           these, by the ids that "status" shows
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("ids", nargs="*", type=int, metavar="id", help="ids of replicas; all unless given")
        parser.add_argument("--target", metavar="ALIAS", action="append", default=[], help="repeatable")
        parser.add_argument("--storage", metavar="ALIAS", action="append", default=[], help="repeatable")
        parser.add_argument("--error", metavar="KIND", action="append", default=[], help=f"{', '.join(kinds())}")

    def run(self, options: dict[str, Any], out: OutputWrapper, err: OutputWrapper) -> None:
        for kind in options["error"]:
            if kind not in kinds():
                raise CommandError(f"There is no error {kind!r}. {nearest(kind, kinds())}")
        replicas = Replica.objects.using(database.alias()).failed()
        if options["target"]:
            left = [status.target for status in target_statuses()]
            replicas = replicas.filter(target__in=targets_named(options["target"], also=left))
        if options["storage"]:
            replicas = replicas.filter(file__storage__in=[s.alias for s in storages_named(options["storage"])])
        if options["error"]:
            replicas = replicas.filter(error_kind__in=options["error"])
        if options["ids"]:
            # No row has a larger one, and SQLite takes none.
            replicas = replicas.filter(pk__in=[number for number in options["ids"] if abs(number) < 1 << 63])
        done = requeue(replicas)
        if not done.count:
            out.write("Nothing to do: no such replica has failed.")
            return
        places = ", ".join(f"{target}: {count:,}" for target, count in sorted(done.by_target.items()))
        out.write(f"Requeued {number_of(done.count, 'replica')} ({places}).")
        if options["ids"] and done.count < len(set(options["ids"])):
            out.write(f"{len(set(options['ids'])) - done.count:,} of the ids had not failed, or are unknown.")
        for note in done.notes():
            err.write(note)
