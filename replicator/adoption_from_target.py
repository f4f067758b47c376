"""Adopting from a target: recording the files that it alone has, without a copy of them here."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from django.db import OperationalError

from replicator import ledger, local
from replicator.adoption import Adoption, Found, refusal
from replicator.ledger import Write, database
from replicator.storage import MogileFSStorage, replicated_storages
from replicator.targets import get_target
from replicator.targets.base import Stat, Target, TargetFile, url_path


@dataclass(slots=True)
class AdoptionFromTarget(Adoption):
    """One run over what the target *source* holds of one storage.

    What it finds is recorded as synced there, with the size and the class that the target says. Nothing is sent: the
    storage's other targets can't be given what is not here. The rest is as with ``Adoption``; a run raises
    ``Unavailable`` or ``Refused`` if the target does not answer as it should.
    """

    stays_deleted: ClassVar[str] = "to bring it back, save it through the site"

    source: str = field(kw_only=True)
    _told: set[str] = field(default_factory=set, init=False)

    def problem(self) -> str:
        alias, name = self.storage.alias, type(self.storage).__name__
        if self.source not in self.storage.targets:
            return (
                f"STORAGES[{alias!r}] does not have the target {self.source!r}: add it to the targets in its OPTIONS."
            )
        if not isinstance(self.storage, MogileFSStorage):
            return (
                f"STORAGES[{alias!r}] is a {name}, which reads only what is on this disk: "
                "make it a replicator.storage.MogileFSStorage."
            )
        if problem := self.storage.problem_with_alias:
            return problem
        if not get_target(self.source).can_list():
            return f"The target {self.source!r} can't list what it holds: docs/targets.md says which can."
        return ""

    def count(self) -> None:
        """To count them is to list them all."""

    def walk(self) -> Iterator[Found]:
        """Every file of the storage that the target has and that can be recorded; what can't is noted."""
        elsewhere = self._elsewhere()
        beginnings = tuple(elsewhere)
        for entry in get_target(self.source).entries(self._prefix):
            name = entry.name
            if name.startswith(beginnings):
                self._note_elsewhere(elsewhere[next(each for each in beginnings if name.startswith(each))])
            elif cure := _refusal(name):
                self._note("refused", name, cure)
            else:
                yield Found(name, "", 0)

    def _unknown(self, found: Sequence[Found]) -> list[Found]:
        """Those that the ledger has never seen, and that are not here."""
        new = []
        for file in Adoption._unknown(self, found):
            if os.path.lexists(self.storage.path(file.name)):
                # From here, every target can have it; or the site is just saving it.
                self._note("skipped", file.name, "is on this disk too: adopt it from there, without --from")
            else:
                new.append(file)
        return new

    def _elsewhere(self) -> dict[str, str]:
        """How names begin that are other storages' → their aliases."""
        others = [s for s in replicated_storages() if s.alias != self.storage.alias and self.source in s.targets]
        prefixes = {url_path(other.base_url or "/"): other.alias for other in others}
        # One that is no part of this storage's has keys that begin with a slash, if any that are listed.
        inside = {prefix.removeprefix(self._prefix): alias for prefix, alias in prefixes.items()}
        return {beginning: alias for beginning, alias in inside.items() if beginning not in ("", "/")}

    @property
    def _prefix(self) -> str:
        return url_path(self.storage.base_url or "/")

    def _note_elsewhere(self, alias: str) -> None:
        """Once: there may be millions of them."""
        if alias not in self._told:
            self._told.add(alias)
            self._note("skipped", alias, "is another storage: what it has there is adopted by itself")

    def _adopt(self, files: Sequence[Found]) -> None:
        writes: list[Write] = []
        target = get_target(self.source)
        try:
            with ThreadPoolExecutor(target.concurrency) as pool:
                stats = pool.map(partial(_stat, target, self.storage.alias, self._prefix), files)
                for file, stat in zip(files, stats, strict=True):
                    if stat is not None:  # one that went meanwhile is no news
                        writes.append(self._write(file.name, stat))
                    self.progress(1, stat.size if stat else 0)
        finally:
            # Also when interrupted: what was asked need not be asked again.
            self._record(writes)

    def _write(self, name: str, stat: Stat) -> Write:
        content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Write(self.storage.alias, name, stat.size, "", content_type, stat.mogile_class)

    def _record(self, writes: Sequence[Write]) -> None:
        try:
            new = ledger.record_held(writes, self.source)
        except OperationalError:
            if database.connection().vendor != "postgresql":
                raise
            if len(writes) > 1:
                for write in writes:
                    self._record([write])
            else:
                self._note("skipped", writes[0].name, "is being saved or deleted just now: the site sees to it")
            return
        self.adopted += new
        self.adopted_bytes += sum(write.size for write in writes)
        self.known += len(writes) - new


def _refusal(name: str) -> str:
    """Why a file can't have this name, and what to do; empty if it can."""
    if local.is_ours(name):
        return "is a name that storages keep for themselves: store it under another key"
    if cure := refusal(name):
        return f"{cure.partition(':')[0]}: store it under another key"
    return ""


def _stat(target: Target, storage: str, prefix: str, file: Found) -> Stat | None:
    return target.stat(TargetFile(storage, file.name, prefix))
