"""``manage.py replicator reclass``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, OutputWrapper
from tqdm import tqdm

from replicator import wake
from replicator.conf import nearest
from replicator.errors import TargetError
from replicator.management.verbs.base import Verb, number_of, storages_named
from replicator.reclassing import LONGEST_CLASS, Reclassing
from replicator.requeueing import waits
from replicator.targets import get_target

#: What people write for no class; also what MogileFS calls the class of files that have none.
NONE = "default"


class Reclass(Verb):
    name = "reclass"
    help = "give recorded files another MogileFS class"
    epilog = """\
The files are not sent again: MogileFS is told the new class, and makes or removes copies as that class says. Only
files that the ledger knows, and have another class, are changed; start it again at will. The site may go on
meanwhile: what it is just writing is passed over, and told. New files get the class of their storage, so change
mogile_class there, and restart the site, before.

  manage.py replicator reclass thumb --storage thumbs      all files of one storage
  manage.py replicator reclass avatar --prefix avatars/    those whose names begin so
  manage.py replicator reclass default                     no class: the target's default_class, or the domain's own
  manage.py replicator reclass thumb --dry-run             say how many it would be
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("mogile_class", metavar="class", help=f"a class of the domain, or {NONE} for no class")
        parser.add_argument("--storage", metavar="ALIAS", help="needed if several have files in MogileFS")
        parser.add_argument(
            "--prefix", metavar="NAMES", default="", help="only files whose names in the storage begin so"
        )
        parser.add_argument("--dry-run", action="store_true", help="change nothing")

    def run(self, options: dict[str, Any], out: OutputWrapper, err: OutputWrapper) -> None:
        wanted = _class_named(options["mogile_class"])
        if options["prefix"].startswith("/"):
            raise CommandError(
                f"--prefix {options['prefix']}: names are relative. Write --prefix {options['prefix'].lstrip('/')}"
            )
        try:
            work = _reclassing(options["storage"], "" if wanted == NONE else wanted, options["prefix"])
            _check_class(wanted, work.targets, err)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        alias = work.storage.alias
        what = "no class" if wanted == NONE else f"the class {wanted!r}"
        number = work.left()
        if options["dry_run"]:
            out.write(f"{alias}: would give {number_of(number, 'file')} {what}.")
            return
        done = _run(work, number, err)
        out.write(f"{alias}: gave {number_of(done, 'file')} {what}.")
        if left := work.left():
            err.write(f"{number_of(left, 'file')} passed over: the site is just writing there. Start this again.")
        own = work.storage.mogile_class or NONE
        if own != wanted and not options["prefix"]:
            err.write(f"New files of {alias!r} get the class {own!r}, as before: change its mogile_class too.")
        if done:
            for text in filter(None, map(waits, sorted(work.targets))):
                err.write(text)
            if not wake.wake(work.targets):
                err.write("The broker can't be reached: the next sweep that runs will wake the workers.")


def _class_named(word: str) -> str:
    if not word:
        raise CommandError(f"The class is empty: write {NONE} for no class.")
    if len(word) > LONGEST_CLASS:
        raise CommandError(f"A class of {len(word)} characters; {LONGEST_CLASS} is the most.")
    return word


def _reclassing(alias: str | None, mogile_class: str, prefix: str) -> Reclassing:
    """Of the storage of this *alias*, or of the only one that has a target with classes."""
    storages = storages_named([alias] if alias else [])
    found = [work for s in storages if (work := Reclassing(s, mogile_class, prefix)).targets]
    if len(found) == 1:
        return found[0]
    if found:
        choices = " or ".join(f"--storage {work.storage.alias}" for work in found)
        raise CommandError(f"Several storages have files in MogileFS. Write {choices}.")
    if alias:
        targets = ", ".join(storages[0].targets) or "none"
        raise CommandError(f"{alias!r} has no target where files have classes, as MogileFS is one: it has {targets}.")
    raise CommandError("No storage has a target where files have classes, as MogileFS is one.")


def _check_class(wanted: str, targets: Sequence[str], err: OutputWrapper) -> None:
    """A misspelt class would be refused once for each file."""
    for alias in targets:
        try:
            known = get_target(alias).classes()
        except TargetError as error:
            err.write(f"{alias} can't be asked whether it has the class {wanted!r}: {error}")
            continue
        if wanted not in (NONE, *known):
            raise CommandError(
                f"{alias} has no class {wanted!r}. {nearest(wanted, [*known, NONE])} New ones are made by mogadm."
            )


def _run(work: Reclassing, number: int, err: OutputWrapper) -> int:
    bar = tqdm(total=number, unit=" files", unit_scale=True, disable=not sys.stderr.isatty(), leave=False)
    try:
        with bar:
            return work.run(bar.update)
    except KeyboardInterrupt:
        wake.wake(work.targets)
        err.write("Interrupted. What was changed stays; start the same command again to go on.")
        sys.exit(130)
