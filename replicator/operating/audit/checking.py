"""One target's files, one after another: each that its listing did not show as it should be is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from django.db.models import F, Q, QuerySet

from replicator import wake
from replicator.ledger import backfilling, database
from replicator.models import AuditFinding, MediaFile, Replica, TargetRun
from replicator.operating.audit import findings
from replicator.operating.audit.bits import Bits
from replicator.operating.audit.judging import check_share, is_sound
from replicator.operating.audit.looking import Asked, Looker, Looks, Pace
from replicator.operating.audit.options import CONTENT, SIZE, Options
from replicator.operating.audit.places import prefix_of
from replicator.operating.retiring import without_source_among
from replicator.operating.work import Held, Stopped
from replicator.storage.replicated import ReplicatedStorage
from replicator.targets import get_target

Cure = AuditFinding.Cure

#: What is said of a file that is missing or wrong at the only target that is known to have it.
NO_SOURCE = "not sent again: nobody else has it, or no hash of it is known. Save it anew, or delete it"

#: Rows read at once, and how many files are asked for, or bytes, until that is noted.
_ROWS, _FILES, _BYTES = 2_000, 200, 512 * 1024 * 1024
#: Seconds that a part may take where an audit is to go slowly.
_SECONDS = 10


def confirmed(run: TargetRun, storages: Sequence[str]) -> QuerySet[Replica]:
    """What the target is known to hold, or to have deleted, since before the run began.

    What was written or sent later has just been confirmed, or will be.
    """
    return Replica.objects.using(database.alias()).filter(
        Q(synced_at=None) | Q(synced_at__lte=run.started_at),
        target=run.target,
        status=Replica.Status.SYNCED,
        version=F("file__version"),
        file__storage__in=storages,
        file_id__lte=run.last,
    )


def is_in_sample(run: int, file: int, per_cent: float) -> bool:
    """By chance, and the same each time it is asked."""
    digest = hashlib.blake2b(f"{run}:{file}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < per_cent / 100 * 2**64


class Checking:
    """The part of an audit that finds what is missing or wrong, and has it sent again."""

    def __init__(self, run: TargetRun, held: Held, options: Options, storages: Sequence[ReplicatedStorage]) -> None:
        self._run, self._held, self._options = run, held, options
        self._prefixes = {storage.alias: prefix_of(storage) for storage in storages}
        self._seen = Bits(run.last, run.seen)
        # What is missing may all be in the first few: an old folder that somebody removed.
        self._looked_at = (run.total or 0) if is_sound(len(self._seen), run.total or 0) else 0
        self._looker = Looker(get_target(run.target), options.level, Pace(options))

    def step(self) -> bool:
        """Look at some files. Whether there are more. May raise ``Stopped`` or ``Unavailable``."""
        rows, upto = self._rows()
        if not upto:
            return False
        asked, passed, position = self._chosen(rows, upto)
        looks = self._looker.look(asked, self._held.renew)
        checked = passed + sum(not file.deleted for file in asked)
        found = self._still([each for each in looks if each[1].what])
        bad = [each for each in found if each[1].is_bad]
        try:
            if self._repairs and bad:
                counts = self._run.counts
                before = counts.get("missing", 0) + counts.get("wrong", 0)
                looked_at = max(self._looked_at, self._run.done + checked)
                check_share(self._run, self._options, before + len(bad), looked_at)
                # Once more, just before: it may have been in the middle of something.
                surely = {
                    file for file, look in self._looker.look([f for f, _ in bad], self._held.renew) if look.is_bad
                }
                found = [(file, look) for file, look in found if not look.is_bad or file in surely]
        except Stopped:
            # What was found is worth a report, also if nothing is done about it.
            self._note(found, looks, position, checked, repair=False)
            raise
        self._note(found, looks, position, checked, repair=self._repairs)
        return True

    @property
    def _repairs(self) -> bool:
        return self._options.repair and not self._run.dry_run

    def _rows(self) -> tuple[list[Any], int]:
        """The next files that are ``confirmed``, and up to which id these are all; 0 if there are no more.

        Two statements that each know where to look: of one with a join, a database may think little of how many rows
        have the same version, and read both tables for each part.
        """
        run, options = self._run, self._options
        replicas = Replica.objects.using(database.alias()).filter(
            target=run.target, file_id__gt=run.position, file_id__lte=run.last
        )
        some = list(
            replicas.order_by("file_id").values_list("file_id", "pk", "status", "version", "synced_at")[:_ROWS]
        )
        held = {
            file: (pk, version)
            for file, pk, status, version, synced_at in some
            if status == Replica.Status.SYNCED
            and (synced_at is None or synced_at <= run.started_at)
            and (not options.is_sample or is_in_sample(run.pk, file, options.sample))
        }
        files = MediaFile.objects.using(database.alias()).filter(pk__in=held, storage__in=list(self._prefixes))
        rows = files.order_by("pk").values_list("pk", "version", "storage", "name", "deleted", "size", "sha256")
        current = [(pk, held[pk][0], *facts) for pk, *facts in rows if facts[0] == held[pk][1]]
        return current, some[-1][0] if some else 0

    def _chosen(self, rows: Sequence[Any], upto: int) -> tuple[list[Asked], int, int]:
        """The files to ask for, the number of others that are as they should be, and how far that is."""
        options = self._options
        most = _FILES if options.files_per_second is None else max(1, int(options.files_per_second * _SECONDS))
        room = _BYTES if options.bytes_per_second is None else options.bytes_per_second * _SECONDS
        asked: list[Asked] = []
        passed, position = 0, self._run.position
        for file, replica, version, storage, name, deleted, size, sha256 in rows:
            if len(asked) >= min(most, _FILES) or room <= 0:
                return asked, passed, position
            position = file
            is_seen = file in self._seen
            # Of a file that was deleted: it is there all the same.
            if deleted and not is_seen:
                continue
            if is_seen and not deleted and options.level == SIZE:
                passed += 1
                continue
            prefix = self._prefixes[storage]
            asked.append(Asked(file, replica, storage, name, prefix, version, deleted, size, sha256))
            room -= size if options.level == CONTENT else 0
        return asked, passed, upto

    def _still(self, found: Looks) -> Looks:
        """Those whose rows are as they were: what is being written is no finding."""
        same = self._same([file for file, _ in found]) if found else set()
        return [each for each in found if each[0].replica in same]

    def _same(self, files: Sequence[Asked], *, lock: bool = False) -> set[int]:
        """Ids of the replicas of *files* that nothing was written to since."""
        rows = Replica.objects.using(database.alias()).filter(
            pk__in=[file.replica for file in files],
            status=Replica.Status.SYNCED,
            version=F("file__version"),
            lease=None,
        )
        if lock:
            rows = database.skip_locked(rows)  # type: ignore[assignment]
        versions = {file.replica: file.version for file in files}
        return {pk for pk, version in rows.values_list("pk", "version") if versions[pk] == version}

    def _note(self, found: Looks, looks: Looks, position: int, checked: int, *, repair: bool) -> None:
        run = self._run
        with self._held.noting(position=position, done=checked) as counts:
            bad = [file for file, look in found if look.is_bad]
            same = self._same(bad, lock=True) if repair and bad else set()
            # To forget that the target has something would be to give it up.
            kept = same & without_source_among(run.target, sorted(same))
            sent = same - kept
            if sent:
                backfilling.distrust(sorted(sent))
            if repair:
                # One that is being written just now is sent anyway.
                found = [(file, look) for file, look in found if not look.is_bad or file.replica in same]
            for _, look in found:
                counts[look.what] += 1
            counts["checked"] += checked
            counts["unhashed"] += sum(look.unhashed for _, look in looks)
            counts["sent"] += len(sent)
            rows = [
                findings.finding(
                    run,
                    file.storage,
                    file.name,
                    look.what,
                    "; ".join(filter(None, [look.text, NO_SOURCE if file.replica in kept else ""])),
                    Cure.SENT if file.replica in sent else Cure.FAILED if file.replica in kept else Cure.NONE,
                )
                for file, look in found
            ]
            findings.add(run, rows)
        if sent:
            wake.announce([run.target])
