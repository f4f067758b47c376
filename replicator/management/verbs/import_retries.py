"""``manage.py replicator import-retries``."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError, OutputWrapper
from django.db import DEFAULT_DB_ALIAS, connections

from replicator import wake
from replicator.adoption_from_retries import AdoptionFromRetries
from replicator.conf import nearest
from replicator.management.verbs.adopt import carry_out
from replicator.management.verbs.base import Verb, number_of, size_of, storages_named


class ImportRetries(Verb):
    name = "import-retries"
    help = "take over what django_dust still had to send or delete"
    epilog = """\
Reads the names in its table, django_dust_retry, and records those that the ledger has never seen; workers do the
rest. To know what is true of a name, it looks at this disk and asks the host at which the queued operation succeeded:

  a put, and the file is here                      adopted: sent to every target
  the file is not here, but at that host           fetched from there, saved, and sent to every target
  that host does not have it (any more)            recorded as deleted: deleted at every target
  a delete, and that host has what is here         adopted: it was saved again since
  anything else                                    left to you, and said

Neither the table nor a file here is changed. Interrupt it and start it again at will: what is recorded is passed
over.

  manage.py replicator import-retries --dry-run    ask, and say what it would do
  manage.py replicator import-retries
  manage.py replicator import-retries --database old --storage avatars

The exit code is 1 if something was refused, or waits for a host that does not answer: run it again.
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--storage", metavar="ALIAS", default="default", help="the storage that was django_dust's (default)"
        )
        parser.add_argument(
            "--database", metavar="ALIAS", default=DEFAULT_DB_ALIAS, help="where its table is (default)"
        )
        parser.add_argument("--dry-run", action="store_true", help="fetch and record nothing")
        parser.add_argument("--batch", metavar="N", type=int, default=500, help="names looked at at once (500)")

    def run(self, options: dict[str, Any], out: OutputWrapper, err: OutputWrapper) -> None:
        if options["batch"] < 1:
            raise CommandError(f"--batch {options['batch']}: write a number of at least 1.")
        if (alias := options["database"]) not in connections:
            raise CommandError(f"DATABASES has no {alias!r}. {nearest(alias, [*connections])}")
        storage = storages_named([options["storage"]])[0]
        adoption = AdoptionFromRetries(storage, options["batch"], options["dry_run"], database=alias)
        carry_out(adoption, out, err, _summary)
        recorded = adoption.adopted + adoption.fetched + adoption.removed
        if recorded and not adoption.dry_run and not wake.wake(storage.targets):
            err.write("The broker can't be reached. It is all recorded: the next sweep that runs will see to it.")
        if adoption.waiting:
            raise CommandError(
                f"{number_of(adoption.waiting, 'name')} left that only a host which does not answer can tell of: "
                "run it again when it does."
            )
        if adoption.refused:
            raise CommandError(f"{number_of(adoption.refused, 'name')} refused, as said above.")


def _summary(adoption: AdoptionFromRetries) -> str:
    would = "would have " if adoption.dry_run else ""
    parts = [
        f"{would}adopted {number_of(adoption.adopted, 'file')} ({size_of(adoption.adopted_bytes)})",
        f"fetched {number_of(adoption.fetched, 'file')}",
        f"recorded {number_of(adoption.removed, 'delete')}",
        f"{adoption.known:,} already recorded",
    ]
    parts += [f"{count:,} {kind}" for kind in ("refused", "skipped") if (count := getattr(adoption, kind))]
    return f"{adoption.storage.alias}: {', '.join(parts)}."
