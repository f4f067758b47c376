"""A ledger to measure: made, filled and emptied."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from django.core.files.storage import default_storage
from django.core.management import call_command
from django.db import connection, connections

from replicator import ledger
from replicator.models import MediaFile, Replica

_BATCH = 1_000


def make() -> None:
    """The tables."""
    call_command("migrate", verbosity=0)


def empty() -> None:
    """No files, no replicas, whatever there were."""
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {MediaFile._meta.db_table}, {Replica._meta.db_table}")


def write_files(folder: str, count: int, size: int) -> None:
    """*count* files of *size* random bytes in 20 folders below *folder* of the media folder."""
    root = Path(default_storage.location) / folder
    for number in range(count):
        place = root / f"{number % 20:02d}" / f"file-{number}.bin"
        if number < 20:
            place.parent.mkdir(parents=True)
        place.write_bytes(os.urandom(size))


def link_files(folder: str, source: str) -> None:
    """The files of *source* under other names: what reading them costs is the same, and the disk is spared."""
    root = Path(default_storage.location)
    for place in sorted((root / source).rglob("*.bin")):
        link = root / folder / place.relative_to(root / source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.hardlink_to(place)


def record_files(folder: str) -> int:
    """One pending replica for each file of *folder* at each target, due now; the number of files."""
    root = Path(default_storage.location)
    known: dict[int, tuple[int, str]] = {}
    writes = []
    for place in sorted((root / folder).rglob("*.bin")):
        inode = place.stat().st_ino
        if inode not in known:
            with place.open("rb") as file:
                known[inode] = place.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
        name = str(place.relative_to(root))
        writes.append(ledger.Write("default", name, *known[inode], content_type="application/octet-stream"))
    for start in range(0, len(writes), _BATCH):
        ledger.record_new(writes[start : start + _BATCH], default_storage.targets)
    return len(writes)


def fill_with_synced(replicas: int) -> None:
    """*replicas* synced replicas of a third as many files at three targets, as years of use leave them."""
    files, copies = MediaFile._meta.db_table, Replica._meta.db_table
    with connection.cursor() as cursor:
        # Foreign keys are right by construction.
        cursor.execute("SET session_replication_role = replica; SET synchronous_commit = off")
        cursor.execute(
            f"INSERT INTO {files} (storage, name, version, deleted, size, sha256, content_type, mogile_class, node, "
            "outdated_at, created_at, updated_at) SELECT 'default', 'uploads/file-' || n || '.bin', "
            "gen_random_uuid(), false, 4096, repeat('0', 64), 'application/octet-stream', '', 'web1', '', now(), "
            "now() FROM generate_series(1, %s) n",
            [replicas // 3],
        )
        cursor.execute(
            f"INSERT INTO {copies} (file_id, target, version, status, since, due_at, attempts, doubt, provisional, "
            "error_kind, error_text, node, synced_at) SELECT f.id, t.target, f.version, 'synced', now(), now(), 0, "
            f"false, false, '', '', '', now() FROM {files} f "
            "CROSS JOIN (VALUES ('host1'), ('host2'), ('host3')) t(target)"
        )
        cursor.execute("SET session_replication_role = DEFAULT")
        cursor.execute(f"VACUUM ANALYZE {files}")
        cursor.execute(f"VACUUM ANALYZE {copies}")
    connections.close_all()
