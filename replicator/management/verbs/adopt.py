"""``manage.py replicator adopt``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, OutputWrapper
from tqdm import tqdm

from replicator import wake
from replicator.adoption import Adoption, Note
from replicator.adoption_from_target import AdoptionFromTarget
from replicator.errors import TargetError
from replicator.management.verbs.base import Verb, number_of, size_of, storages_named, targets_named
from replicator.storage import ReplicatedStorage

A = TypeVar("A", bound=Adoption)

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
  manage.py replicator adopt --from mogilefs    what only MogileFS has

With --from, every key is looked at that the target has below a storage's base_url. What the ledger has never seen,
and is not on this disk, is recorded with the size and the class that the target says, as a file that is synced there:
the storage then opens and deletes it, and gives its name to no other file. It is neither read nor sent: the storage's
other targets do not get it. Files on this disk are adopted first, without --from.

The exit code is 1 if a file was refused: it will not replicate until it is renamed or readable.
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--storage", metavar="ALIAS", action="append", default=[], help="only this one; repeatable"
        )
        parser.add_argument("--from", metavar="TARGET", dest="source", help="what this target has, and nobody else")
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
        if source := options["source"]:
            targets_named([source])
            if not options["storage"]:
                storages = [storage for storage in storages if source in storage.targets] or storages
        due: set[str] = set()
        refused = 0
        for storage in storages:
            adoption = _adoption(storage, options)
            carry_out(adoption, out, err, _summary)
            refused += adoption.refused
            if adoption.adopted and not adoption.dry_run and not source:
                due.update(storage.targets)
        if not wake.wake(sorted(due)):
            err.write("The broker can't be reached. The files are recorded: the next sweep that runs will send them.")
        if refused:
            raise CommandError(f"{number_of(refused, 'file')} refused, as said above: cure them and adopt again.")


def _adoption(storage: ReplicatedStorage, options: dict[str, Any]) -> Adoption:
    if options["source"]:
        return AdoptionFromTarget(storage, options["batch"], options["dry_run"], source=options["source"])
    return Adoption(storage, options["batch"], options["dry_run"])


def carry_out(adoption: A, out: OutputWrapper, err: OutputWrapper, summary: Callable[[A], str]) -> None:
    """Run *adoption*, with a progress bar on a terminal; say what it notes, and its *summary* however it ends."""
    bar = tqdm(unit=" files", unit_scale=True, disable=not sys.stderr.isatty(), leave=False)
    seen: Counter[str] = Counter()

    def tell(note: Note) -> None:
        bar.clear()
        # Red is for what needs a cure.
        err.write(f"{_TITLES[note.kind]}: {note.name} {note.text}", None if note.kind == "refused" else str)

    def progress(files: int, size: int) -> None:
        seen["bytes"] += size
        bar.set_postfix_str(size_of(seen["bytes"]), refresh=False)
        bar.update(files)

    adoption.tell, adoption.progress = tell, progress
    try:
        with bar:
            if not bar.disable:
                bar.reset(total=adoption.count())
            adoption.run()
    except ImproperlyConfigured as error:
        raise CommandError(str(error)) from error
    except TargetError as error:
        out.write(summary(adoption))
        raise CommandError(
            f"{error}. What is recorded is passed over when you start the same command again."
        ) from error
    except KeyboardInterrupt:
        out.write(summary(adoption))
        err.write("Interrupted. Start the same command again to go on: what is recorded is passed over.")
        sys.exit(130)
    out.write(summary(adoption))


def _summary(adoption: Adoption) -> str:
    done = "would adopt" if adoption.dry_run else "adopted"
    source = adoption.source if isinstance(adoption, AdoptionFromTarget) else ""
    size = "" if source and adoption.dry_run else f" ({size_of(adoption.adopted_bytes)})"
    parts = [
        f"{done} {number_of(adoption.adopted, 'file')}{size}{f' from {source}' if source else ''}",
        f"{adoption.known:,} already recorded",
    ]
    for kind in ("refused", "skipped", "deleted"):
        if count := getattr(adoption, kind):
            parts.append(f"{count:,} {'stay deleted' if kind == 'deleted' else kind}")
    summary = f"{adoption.storage.alias}: {', '.join(parts)}."
    others = _names_of([target for target in adoption.storage.targets if target != source])
    if source and adoption.adopted and others:
        summary += f" They are at {source} alone: there is no copy here that {others} could be sent."
    return summary


def _names_of(targets: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(targets[:-1]), *targets[-1:]]))
