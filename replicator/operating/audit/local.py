"""An audit of the local disk: what is missing or wrong is read back from a target, and put in its place."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from django.db.models import QuerySet

from replicator import ledger
from replicator.conf import config
from replicator.ledger.database import alias
from replicator.local import JOURNAL, traces
from replicator.models import AuditFinding, MediaFile, Replica, TargetRun
from replicator.operating.audit import findings
from replicator.operating.audit.checking import is_in_sample
from replicator.operating.audit.judging import check_share, local_options
from replicator.operating.audit.looking import Look, Pace, What, wrong_size
from replicator.operating.audit.options import CONTENT, Options
from replicator.operating.restoring import NotRestored, restore
from replicator.operating.work import Held, Stopped
from replicator.storage.replicated import ReplicatedStorage, replicated_storages
from replicator.targets.http import PIECE

Cure = AuditFinding.Cure

#: Files, and bytes, that are looked at until that is noted; and seconds where it is to go slowly.
_FILES, _BYTES, _SECONDS = 1_000, 512 * 1024 * 1024, 10


def kept_here(wanted: Sequence[str] = ()) -> list[ReplicatedStorage]:
    """The storages that keep their files on this disk; those of *wanted*, if it names any."""
    found = (storage for storage in replicated_storages() if storage.keep_local)
    return sorted((s for s in found if not wanted or s.alias in wanted), key=lambda s: s.alias)


def files_here(storages: Sequence[ReplicatedStorage]) -> QuerySet[MediaFile]:
    """The living files that should be on this disk.

    Not those that were only ever at a target: they came from no node. Where each node has a disk, its own.
    """
    aliases = [storage.alias for storage in storages]
    files = MediaFile.objects.using(alias()).filter(storage__in=aliases, deleted=False)
    return files.filter(node=config().deliverer) if config().deliverer else files.exclude(node="")


class LocalAudit:
    """What ``Work`` is, for the local disk."""

    def __init__(self, run: TargetRun, held: Held) -> None:
        self._run, self._held = run, held
        self._options = Options.of(run.options)
        self._pace = Pace(self._options)
        self._storages = {storage.alias: storage for storage in kept_here(self._options.storages)}

    def begin(self) -> int:
        last = MediaFile.objects.using(alias()).order_by("-pk").values_list("pk", flat=True).first()
        self._held.note(last=last or 0, step="checking")
        return round(self._files().count() * self._options.sample / 100)

    def step(self) -> bool:
        """Look at some files. Whether there are more."""
        self._check_disk()
        rows = list(self._files().filter(pk__gt=self._run.position).order_by("pk")[:_FILES])
        if not rows:
            return False
        options = self._options
        room = _BYTES if options.bytes_per_second is None else options.bytes_per_second * _SECONDS
        most = _FILES if options.files_per_second is None else max(1, int(options.files_per_second * _SECONDS))
        found: list[tuple[MediaFile, Look]] = []
        checked = unhashed = 0
        position = self._run.position
        for file in rows:
            if checked >= most or room <= 0:
                break
            position = file.pk
            if options.is_sample and not is_in_sample(self._run.pk, file.pk, options.sample):
                continue
            self._held.renew()
            look = self._look(file)
            checked += 1
            unhashed += look.unhashed
            room -= file.size if options.level == CONTENT else 0
            if look.what:
                found.append((file, look))
        found = self._still(found)
        self._deal_with(found, checked)
        words = {"checked": checked, "unhashed": unhashed}
        self._held.note(words, position=position, done=checked)
        return True

    def _files(self) -> QuerySet[MediaFile]:
        files = files_here(list(self._storages.values()))
        # What was written since was whole when it was recorded.
        return files.filter(pk__lte=self._run.last, updated_at__lte=self._run.started_at)

    def _check_disk(self) -> None:
        """Raises ``Stopped`` if this is not the disk, or it is not there."""
        if self._run.node != config().deliverer:
            whose = f"the node {self._run.node}" if self._run.node else "all nodes"
            raise Stopped(f"it is about the disk of {whose}, which this worker has not: start workers there.")
        for storage in self._storages.values():
            root = os.fspath(storage.location)
            is_there = Path(root).is_dir()
            # Who names a number knows that the files are gone.
            if is_there and (self._options.most is not None or not _is_empty(root)):
                continue
            if count := files_here([storage]).count():
                what = "empty" if is_there else "missing"
                raise Stopped(
                    f"{root}, where {count:,} files of the storage {storage.alias!r} should be, is {what}: is it "
                    "mounted? Nothing was restored. If the files are really gone, make the folder, and have them "
                    f"read back from the targets: manage.py replicator audit {local_options(self._run)} "
                    f"--most {count}"
                )

    def _look(self, file: MediaFile) -> Look:
        self._pace.files.take(1)
        place = Path(self._storages[file.storage].path(file.name))
        try:
            status = place.stat()
            if not stat.S_ISREG(status.st_mode):
                return Look(What.WRONG, "something that is no file is in its place")
            if status.st_size != file.size:
                return wrong_size(status.st_size, file.size)
            if self._options.level != CONTENT:
                return Look()
            if not file.sha256:
                return Look(unhashed=True)
            same = self._sha256(place) == file.sha256
        except (FileNotFoundError, NotADirectoryError):
            return Look(What.MISSING)
        except OSError as error:
            return Look(What.UNREADABLE, error.strerror or type(error).__name__)
        return Look() if same else Look(What.WRONG, "it has the right size, and other bytes")

    def _sha256(self, place: Path) -> str:
        sha256 = hashlib.sha256()
        with place.open("rb") as file:
            while data := file.read(self._pace.bytes.at_most(PIECE)):
                self._pace.bytes.take(len(data))
                self._held.renew()
                sha256.update(data)
        return sha256.hexdigest()

    def _still(self, found: list[tuple[MediaFile, Look]]) -> list[tuple[MediaFile, Look]]:
        """Those that nobody is writing, or was when they were looked at."""
        if not found:
            return found
        # Before the rows: an entry that has gone by then is that of a write which the rows know.
        journals = {file.storage: traces(os.fspath(self._storages[file.storage].location)) for file, _ in found}
        rows = MediaFile.objects.using(alias()).filter(pk__in=[file.pk for file, _ in found], deleted=False)
        versions = dict(rows.values_list("pk", "version"))
        names = [file.name for file, _ in found]
        before = AuditFinding.objects.using(alias()).filter(run=self._run, name__in=names)
        # By this audit, before it was killed in the middle of these.
        noted = set(before.values_list("storage", "name"))
        return [
            (file, look)
            for file, look in found
            if versions.get(file.pk) == file.version
            and file.name not in journals[file.storage]
            and (file.storage, file.name) not in noted
        ]

    def _deal_with(self, found: list[tuple[MediaFile, Look]], checked: int) -> None:
        """Restore what is missing or wrong, and note it, each by itself: that takes a while."""
        counts = self._run.counts
        repair = self._options.repair and not self._run.dry_run
        bad = sum(look.is_bad for _, look in found)
        stopped: Stopped | None = None
        if repair and bad:
            before = counts.get("missing", 0) + counts.get("wrong", 0)
            try:
                check_share(self._run, self._options, before + bad, self._run.done + checked)
            except Stopped as error:
                stopped = error
        for file, look in found:
            cure, text = "", look.text
            if repair and look.is_bad and stopped is None:
                try:
                    if not restore(self._storages[file.storage], file, self._held.renew):
                        continue  # somebody has written it meanwhile
                    cure = Cure.RESTORED
                    _send_again(file)
                except NotRestored as error:
                    cure, text = Cure.FAILED, f"{text}; {error}" if text else str(error)
            with self._held.noting() as noted:
                noted[look.what] += 1
                noted["restored"] += cure == Cure.RESTORED
                findings.add(self._run, [findings.finding(self._run, file.storage, file.name, look.what, text, cure)])
        if stopped is not None:
            raise stopped


def _is_empty(root: str) -> bool:
    """Whether nothing is there but what storages keep for themselves."""
    with os.scandir(root) as entries:
        return all(entry.name == JOURNAL for entry in entries)


def _send_again(file: MediaFile) -> None:
    """What failed for want of it need not wait for a person."""
    ledger.requeue(Replica.objects.using(alias()).failed().filter(file=file, error_kind__startswith="local-"))
