"""``manage.py replicator adopt``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections import Counter
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, OutputWrapper
from tqdm import tqdm

from replicator import wake
from replicator.adoption import Adoption, Note
from replicator.management.verbs.base import Verb, number_of, size_of, storages_named

_TITLES = {"refused": "REFUSED", "skipped": "skipped", "deleted": "deleted"}


class Adopt(Verb):
    name = "adopt"
    help = "record files that are already in a storage, so that they replicate"
    epilog = """\
Looks at every file below each storage's location, reads those that the ledger has never seen, and records them as
pending at each of the storage's targets; workers do the rest. Interrupt it and start it again at will: what is
recorded is passed over. The site may go on meanwhile.

  manage.py replicator adopt --dry-run          say what it would do, and which names can't be sent
  manage.py replicator adopt                    all storages
  manage.py replicator adopt --storage avatars  one of them

The exit code is 1 if a file was refused: it will not replicate until it is renamed or readable.
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--storage", metavar="ALIAS", action="append", default=[], help="only this one; repeatable"
        )
        parser.add_argument("--dry-run", action="store_true", help="read and record nothing")
        parser.add_argument("--batch", metavar="N", type=int, default=500, help="files recorded at once (500)")

    def run(self, options: dict[str, Any], out: OutputWrapper, err: OutputWrapper) -> None:
        if options["batch"] < 1:
            raise CommandError(f"--batch {options['batch']}: write a number of at least 1.")
        storages = storages_named(options["storage"])
        if not storages:
            raise CommandError(
                "STORAGES has no ReplicatedStorage. "
                'Write "default": {"BACKEND": "replicator.storage.ReplicatedStorage"} there.'
            )
        targets: set[str] = set()
        refused = 0
        for storage in storages:
            bar = tqdm(unit=" files", unit_scale=True, disable=not sys.stderr.isatty(), leave=False)

            def tell(note: Note, bar: Any = bar) -> None:
                bar.clear()
                # Red is for what needs a cure.
                err.write(f"{_TITLES[note.kind]}: {note.name} {note.text}", None if note.kind == "refused" else str)

            seen: Counter[str] = Counter()

            def progress(files: int, size: int, bar: Any = bar, seen: Counter[str] = seen) -> None:
                seen["bytes"] += size
                bar.set_postfix_str(size_of(seen["bytes"]), refresh=False)
                bar.update(files)

            adoption = Adoption(storage, options["batch"], options["dry_run"], tell, progress)
            try:
                with bar:
                    if not bar.disable:
                        bar.reset(total=adoption.count())
                    adoption.run()
            except ImproperlyConfigured as error:
                raise CommandError(str(error)) from error
            except KeyboardInterrupt:
                out.write(_summary(adoption))
                err.write("Interrupted. Start the same command again to go on: what is recorded is passed over.")
                sys.exit(130)
            out.write(_summary(adoption))
            refused += adoption.refused
            if adoption.adopted and not adoption.dry_run:
                targets.update(storage.targets)
        if not wake.wake(sorted(targets)):
            err.write("The broker can't be reached. The files are recorded: the next sweep that runs will send them.")
        if refused:
            raise CommandError(f"{number_of(refused, 'file')} refused, as said above: cure them and adopt again.")


def _summary(adoption: Adoption) -> str:
    done = "would adopt" if adoption.dry_run else "adopted"
    parts = [
        f"{done} {number_of(adoption.adopted, 'file')} ({size_of(adoption.adopted_bytes)})",
        f"{adoption.known:,} already recorded",
    ]
    for kind in ("refused", "skipped", "deleted"):
        if count := getattr(adoption, kind):
            parts.append(f"{count:,} {'stay deleted' if kind == 'deleted' else kind}")
    return f"{adoption.storage.alias}: {', '.join(parts)}."
