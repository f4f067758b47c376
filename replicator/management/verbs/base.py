"""What a verb of ``manage.py replicator`` is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, OutputWrapper

from replicator.conf import config, nearest
from replicator.operating.wish import of as number_of
from replicator.operating.wish import size_of
from replicator.storage.replicated import ReplicatedStorage, replicated_storages

__all__ = ["Verb", "age_of", "number_of", "size_of", "storages_named", "targets_named", "write_table"]


class Verb(ABC):
    """One verb. It ends well, or raises ``CommandError`` with what to do; that makes the exit code 1."""

    name: ClassVar[str]
    help: ClassVar[str]
    """One line."""
    epilog: ClassVar[str]
    """More, with examples; shown as written."""

    def add_arguments(self, parser: ArgumentParser) -> None:  # noqa: B027 - most have some, none need any
        """Say what it takes."""

    @abstractmethod
    def run(self, options: dict[str, Any], out: OutputWrapper, err: OutputWrapper) -> None:
        """Do it."""


def targets_named(aliases: Sequence[str], *, also: Iterable[str] = ()) -> list[str]:
    """*aliases*, if all are targets of the settings or *also* known; all of the settings if there are none."""
    known = list(dict.fromkeys([*config().targets, *also]))
    for alias in aliases:
        if alias not in known:
            raise CommandError(f'REPLICATOR["TARGETS"] has no {alias!r}. {nearest(alias, known)}')
    return list(dict.fromkeys(aliases)) or list(config().targets)


def storages_named(aliases: Sequence[str]) -> list[ReplicatedStorage]:
    """The replicated storages of these aliases; all if there are none."""
    try:
        known = {storage.alias: storage for storage in replicated_storages()}
    except ImproperlyConfigured as error:
        raise CommandError(str(error)) from error
    for alias in aliases:
        if alias not in known:
            raise CommandError(f"STORAGES has no ReplicatedStorage {alias!r}. {nearest(alias, list(known))}")
    return [known[alias] for alias in dict.fromkeys(aliases)] or list(known.values())


def age_of(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.5 h``, ``2.1 d``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 36 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} d"


def write_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], out: OutputWrapper, right: set[int] | None = None
) -> None:
    """Columns under their names; those of *right* are numbers."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        cells = [
            c.rjust(w) if i in (right or ()) else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        out.write("  ".join(cells).rstrip())
