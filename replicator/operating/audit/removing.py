"""Removing what nobody knows from a target, if a person has asked for that: by a tombstone for each name there."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from replicator import ledger, wake
from replicator.errors import DeliveryError
from replicator.ledger import Write, database
from replicator.models import AuditFinding, MediaFile, TargetRun
from replicator.operating.audit.options import Options
from replicator.operating.audit.places import names_at, prefix_of, recorded
from replicator.operating.work import Held, Stopped
from replicator.storage.reading import target_file
from replicator.storage.replicated import ReplicatedStorage
from replicator.targets import get_target
from replicator.targets.base import TargetFile

Cure = AuditFinding.Cure

_BATCH = 200
#: So many go without a word, or this share of the files that the target is known to hold.
_FEW, _SHARE = 20, 0.01


class Removing:
    """The last part of an audit. The ledger names a file as deleted before anything is sent: a save that comes in
    between wins, and what it wrote stays."""

    def __init__(self, run: TargetRun, held: Held, options: Options, storages: Sequence[ReplicatedStorage]) -> None:
        self._run, self._held, self._options = run, held, options
        self._storages = {storage.alias: storage for storage in storages}
        self._target = get_target(run.target)

    def step(self) -> bool:
        """Remove some. Whether there are more. Raises ``Stopped`` if a person must confirm their number."""
        if self._run.dry_run or not self._options.repair:
            return False
        self._check_number()
        rows = AuditFinding.objects.using(database.alias()).filter(
            run=self._run, what=AuditFinding.What.UNKNOWN, cure=Cure.NONE, pk__gt=self._run.position
        )
        some = list(rows.order_by("pk")[:_BATCH])
        if not some:
            return False
        taken = self._taken(some)
        with ThreadPoolExecutor(min(self._target.concurrency, len(some)), thread_name_prefix="audit") as pool:
            reasons = list(pool.map(self._why_not, some, [taken.get(finding.pk, "") for finding in some]))
        for finding, why in zip(some, reasons, strict=True):
            self._deal_with(finding, why)
        wake.announce([self._run.target])
        return True

    def _deal_with(self, finding: AuditFinding, why: str) -> None:
        """Record it as deleted, unless there is a reason *why* it is to stay. Each by itself: a cancel that comes in
        between is heeded, and who waits for one name that the site has just now keeps no other from it."""
        with self._held.noting(position=finding.pk) as counts:
            if not why and not self._record(finding):
                why = "the site has written it since"
            finding.cure = Cure.FAILED if why else Cure.DELETED
            if why:
                finding.text = f"{finding.text}; not removed: {why}"
            finding.save(using=database.alias(), update_fields=["cure", "text"])
            counts["deleted"] += not why

    def _check_number(self) -> None:
        removable = self._run.counts.get("removable", 0)
        most = max(_FEW, int((self._run.total or 0) * _SHARE), self._options.confirm)
        if removable > most:
            raise Stopped(
                f"{removable:,} files that {self._run.target} holds are unknown to the ledger, and not more than "
                f"{most:,} are removed without your word: look at the findings of this run. None was removed. If "
                "they are all to go: "
                f"manage.py replicator audit {self._run.target} --delete-unknown --confirm {removable}"
            )

    def _taken(self, some: Sequence[AuditFinding]) -> dict[int, str]:
        """Ids of those that are in the place of a file which the ledger knows otherwise: of another storage, whose
        place may be inside this one's or around it, or in another form of Unicode; and the alias of that one."""
        wanted: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
        prefixes = recorded()
        for finding in some:
            if storage := self._storages.get(finding.storage):
                path = prefix_of(storage) + finding.name
                for alias, its in prefixes.items():
                    for name in names_at(path, its) - ({finding.name} if alias == finding.storage else set()):
                        wanted[alias][name].add(finding.pk)
        found: dict[int, str] = {}
        for alias, names in wanted.items():
            files = MediaFile.objects.using(database.alias()).filter(storage=alias, deleted=False)
            for name in files.filter(name__in=list(names)).values_list("name", flat=True):
                found.update(dict.fromkeys(names[name], alias))
        return found

    def _why_not(self, finding: AuditFinding, taken: str) -> str:
        """Why it is to stay after all; empty if it may go. *taken*: whose place it is, if it is another storage's."""
        storage = self._storages.get(finding.storage)
        if storage is None:
            return "its storage has not this target any more"
        if taken:
            return f"the ledger has a file of this name in the storage {taken!r}, which may be this one"
        if os.path.lexists(storage.path(finding.name)):
            return "it is on this disk too: have it recorded (manage.py replicator adopt)"
        asked: TargetFile = target_file(storage, finding.name)
        try:
            found = self._target.stat(asked)
        except DeliveryError as error:
            return str(error)
        if found is None:
            return "it has gone meanwhile"
        if found.modified and found.modified > datetime.now(UTC) - timedelta(days=self._options.older_than):
            return "it was written meanwhile"
        return ""

    def _record(self, finding: AuditFinding) -> bool:
        """Note it as deleted at this target alone, unless the ledger knows it by now. Whether it is so then."""
        write = Write(finding.storage, finding.name, deleted=True)
        ledger.record_new([write], [self._run.target])
        files = MediaFile.objects.using(database.alias()).filter(storage=write.storage, name=write.name, deleted=True)
        return files.exists()
