"""Adopting from django_dust's queue of retries: recording what its table names, so that the ledger sees to it."""

from __future__ import annotations

import stat as modes
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from django.core.files import File
from django.db import DEFAULT_DB_ALIAS, connections

from replicator import ancestors, ledger, local, wake
from replicator.adoption import Adoption, Found, refusal
from replicator.errors import TargetError
from replicator.ledger import Write, database
from replicator.models import MediaFile
from replicator.storage.belonging import nested
from replicator.storage.reading import target_file
from replicator.targets import get_target
from replicator.targets.base import Stat, Target
from replicator.waiting import NotSynced

T = TypeVar("T")

#: https://github.com/isagalaev/django_dust, models.py: ``Retry``. Its code needs Python 2; its table is what is left.
TABLE = "django_dust_retry"
#: The newest operation of a name comes first, and is the one that counts.
_PAGE = (
    "SELECT filename, operation, source_host FROM django_dust_retry "
    "WHERE filename > %s ORDER BY filename, id DESC LIMIT %s"
)
_PAGE_ROWS = 5_000
_VENDORS = ("postgresql", "sqlite")


@dataclass(frozen=True, slots=True)
class Retry(Found):
    """The newest operation that was queued for a name."""

    operation: str
    """``put`` or ``delete``."""
    source: str
    """The host at which it succeeded."""

    @property
    def is_here(self) -> bool:
        return bool(self.path)


class Silent(Exception):
    """Who must be asked can't be."""


@dataclass(slots=True)
class AdoptionFromRetries(Adoption):
    """One run over what the table names, of one storage.

    Which names these are, is all that is taken from the table; what is true of them, from this disk and from the host
    at which the queued operation succeeded. A name that the ledger knows is left alone; of the others

    - a put whose file is here is adopted, as any file here;
    - a file that is not here, but at that host, is fetched and saved: every target gets it;
    - what that host does not have, and is not here or was deleted, is recorded as deleted, so that no host keeps it.

    Whatever says otherwise is left to a person. Neither the table nor a file here is ever changed.
    """

    database: str = DEFAULT_DB_ALIAS
    fetched: int = 0
    removed: int = 0
    """Recorded as deleted."""
    waiting: int = 0
    """Left alone, since a host did not answer."""
    _gone: list[str] = field(default_factory=list, init=False)
    _elsewhere: list[Retry] = field(default_factory=list, init=False)
    _silent: dict[str, str] = field(default_factory=dict, init=False)

    def problem(self) -> str:
        connection = connections[self.database]
        if connection.vendor not in _VENDORS:
            return f"DATABASES[{self.database!r}] is a {connection.vendor}: copy {TABLE} to a PostgreSQL or SQLite."
        if TABLE not in connection.introspection.table_names():
            return f"DATABASES[{self.database!r}] has no table {TABLE}: there is nothing to take over."
        return Adoption.problem(self)

    def count(self) -> int:
        with connections[self.database].cursor() as cursor:
            cursor.execute("SELECT COUNT(DISTINCT filename) FROM django_dust_retry")
            return int(cursor.fetchone()[0])

    def walk(self) -> Iterator[Found]:
        """Every name in the table that can be sent, once; what can't is noted."""
        folders = nested(self.storage)
        for name, operation, source in self._rows():
            if local.is_ours(name):
                self._note("refused", name, "is a name that storages keep for themselves")
            elif cure := refusal(name):
                self._note("refused", name, cure)
            elif folder := next((folder for folder in folders if name.startswith(f"{folder}/")), ""):
                self._note("skipped", name, f"is in the storage {folders[folder]!r}: adopt that one")
            elif operation not in ("put", "delete"):
                self._note("skipped", name, f"was queued for {operation!r}, which is neither put nor delete")
            else:
                yield from self._as_found(name, operation, source)

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        last = ""
        while True:
            with connections[self.database].cursor() as cursor:
                cursor.execute(_PAGE, [last, _PAGE_ROWS])
                rows = cursor.fetchall()
            for name, operation, source in rows:
                if name != last:
                    last = name
                    yield name, operation, source
            if len(rows) < _PAGE_ROWS:
                return

    def _as_found(self, name: str, operation: str, source: str) -> Iterator[Retry]:
        path = self.storage.path(name)
        try:
            facts = Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            yield Retry(name, "", 0, operation, source)
        except OSError as error:
            self._note("refused", name, f"can't be read: {error.strerror}")
        else:
            if modes.S_ISREG(facts.st_mode):
                yield Retry(name, path, facts.st_size, operation, source)
            else:
                self._note("skipped", name, "is no file but a folder or a device")

    def _unknown(self, found: Sequence[Found]) -> list[Found]:
        """Those that the ledger has never seen, and that are adopted from here. The others are set aside."""
        rows = MediaFile.objects.using(database.alias()).filter(storage=self.storage.alias)
        known = set(rows.filter(name__in=[f.name for f in found]).values_list("name", flat=True))
        self.known += len(known)
        self._gone, self._elsewhere = [], []
        here: list[Found] = []
        for retry in found:
            if retry.name not in known and isinstance(retry, Retry):
                try:
                    self._decide(retry, here)
                except Silent as error:
                    self._note("skipped", retry.name, str(error))
        if self.dry_run:
            self.fetched += len(self._elsewhere)
            self.removed += len(self._gone)
        return here

    def _decide(self, retry: Retry, here: list[Found]) -> None:
        if retry.operation == "put" and retry.is_here:
            here.append(retry)
            return
        source = ancestors.alias_of(retry.source, self.storage.targets)
        if not source:
            host = f"its host {retry.source!r} is no target: name it in DUST_HOSTS for as long as this takes"
            raise Silent(f"is not here as it should be, and {host}")
        held = self._ask(source, retry)
        if held is not None and not retry.is_here:
            self._elsewhere.append(retry)
        elif held is not None and held.size == retry.size:
            # Saved again since, by an application that overwrites.
            here.append(retry)
        elif held is not None:
            raise Silent(f"was queued to be deleted; {source} has {held.size:,} bytes, and here are {retry.size:,}")
        elif retry.operation == "put" and (other := self._who_else(source, retry)):
            raise Silent(f"is neither here nor at {source}, which had it, but at {other}: save or delete it yourself")
        else:
            if retry.is_here:
                self._note("deleted", retry.name, f"was deleted at {source}, and stays on this disk: remove it")
            self._gone.append(retry.name)

    def _who_else(self, source: str, retry: Retry) -> str:
        """Another target that has the file, if one does."""
        others = [target for target in self.storage.targets if target != source]
        return next((target for target in others if self._ask(target, retry) is not None), "")

    def _ask(self, alias: str, retry: Retry) -> Stat | None:
        return self._at(alias, lambda target: target.stat(target_file(self.storage, retry.name)))

    def _at(self, alias: str, work: Callable[[Target], T]) -> T:
        """What *work* gives. A target that failed it once is not asked again: thousands of names may want to."""
        if alias not in self._silent:
            try:
                return work(get_target(alias))
            except TargetError as error:
                self._silent[alias] = str(error)
        self.waiting += 1
        raise Silent(f"waits for {alias}, which does not answer: {self._silent[alias]}")

    def _adopt(self, files: Sequence[Found]) -> None:
        Adoption._adopt(self, files)
        for retry in self._elsewhere:
            try:
                self._fetch(retry)
            except Silent as error:
                self._note("skipped", retry.name, str(error))
        self._record_gone()

    def _fetch(self, retry: Retry) -> None:
        def save(target: Target) -> str:
            with target.open(target_file(self.storage, retry.name)) as reader, suppress(NotSynced):
                # Through the storage, as any file: here, in the ledger, and pending at all targets, or nowhere.
                return self.storage.save(retry.name, File(reader, retry.name))  # type: ignore[arg-type]
            return retry.name

        name = self._at(ancestors.alias_of(retry.source, self.storage.targets), save)
        if name == retry.name:
            self.fetched += 1
        else:
            # The site took the name just now; what it saved is newer.
            self.storage.delete(name)
            self.known += 1

    def _record_gone(self) -> None:
        writes = [Write(self.storage.alias, name, deleted=True) for name in self._gone]
        # Of what the site saves meanwhile nothing is lost, whoever is first: its save takes the place of a deletion.
        new = ledger.record_new(writes, self.storage.targets)
        self.removed += new
        self.known += len(writes) - new
        wake.announce(self.storage.targets)
