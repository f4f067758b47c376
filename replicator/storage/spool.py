"""The local files of a storage that keeps none: removed once enough targets have them, and never before."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from replicator import local
from replicator.conf import config
from replicator.ledger import life
from replicator.ledger.database import alias as database_alias
from replicator.ledger.holding import hold_unchanged
from replicator.local import Digest, Identity
from replicator.models import MediaFile, Replica
from replicator.storage.asking import HERE, Question, answers
from replicator.storage.belonging import nested
from replicator.storage.showing import shown_by
from replicator.targets import get_target
from replicator.targets.base import Target, TargetFile, url_path

if TYPE_CHECKING:
    from replicator.storage.replicated import ReplicatedStorage

log = logging.getLogger(__name__)

#: Seconds that a delivery waits for what targets say; what is not known by then is left to ``tidy``.
PATIENCE = 2.0
#: Seconds that ``tidy`` waits for it, each time; and those that one of them takes for all.
_TIDY_PATIENCE, _TIDY_SECONDS = 20.0, 60.0
#: Names looked at together.
_BATCH = 500
#: Files that are hashed at once.
_HASHING = 2

#: Target, name, and the size of what is there; None: nothing is.
_Lacking = tuple[str, str, int | None]


@dataclass(slots=True)
class _Held:
    """A file that the ledger knows to be at some targets."""

    name: str
    version: UUID
    wanted: Digest
    written: datetime
    targets: list[str] = field(default_factory=list)


def release(storage: ReplicatedStorage, names: Iterable[str]) -> int:
    """Remove here those of *names* that ``min_copies`` targets have, and say so now. The number removed.

    Folders stay: a save may be about to use one. Who has a file open goes on reading it.
    """
    if not _may_release(storage):
        return 0
    return sum(_release(storage, batch, left) for batch, left in _batches(names, PATIENCE))


def tidy(storage: ReplicatedStorage) -> int:
    """Remove what a kill, or a target that gave no answer, has left here. The number of files removed."""
    if not _may_release(storage):
        return 0
    return sum(
        _release(storage, batch, min(left, _TIDY_PATIENCE)) + _remove_deleted(storage, batch)
        for batch, left in _batches(_names(storage), _TIDY_SECONDS)
    )


def _may_release(storage: ReplicatedStorage) -> bool:
    """Not if the file here is what a target has: this node's own media root. Nor if there is no target."""
    if storage.keep_local:
        return False
    targets = storage.targets
    return bool(targets) and not config().home.intersection(targets)


def _release(storage: ReplicatedStorage, names: Sequence[str], seconds: float) -> int:
    here = [name for name in names if local.identity(storage.path(name))]
    held = _held(storage, here) if here else []
    if held:
        held = _held_elsewhere(storage, held, seconds)
    found = _confirmed(storage, held, seconds) if held else {}
    return _remove(storage, {file.name: (file.version, found[file.name]) for file in held if file.name in found})


def _held(storage: ReplicatedStorage, names: Sequence[str]) -> list[_Held]:
    """Those of *names* that enough targets have, as far as the ledger knows."""
    replicas = Replica.objects.using(database_alias())
    rows = replicas.current().filter(file__storage=storage.alias, file__name__in=names, target__in=storage.targets)
    # Of what has no hash, nobody could say whether it is what targets have.
    rows = rows.exclude(file__sha256="")
    columns = (*("version", "size", "sha256", "updated_at"),)
    found: dict[str, _Held] = {}
    for target, name, version, size, sha256, written in rows.values_list(
        "target", "file__name", *(f"file__{column}" for column in columns)
    ):
        file = found.setdefault(name, _Held(name, version, Digest(size, sha256), written))
        file.targets.append(target)
    enough = [file for file in found.values() if len(file.targets) >= storage.min_copies]
    if enough:
        unreliable = life.unreliable()
        for file in enough:
            file.targets = [target for target in file.targets if target not in unreliable]
    return [file for file in enough if len(file.targets) >= storage.min_copies]


def _held_elsewhere(storage: ReplicatedStorage, held: Sequence[_Held], seconds: float) -> list[_Held]:
    """Those of *held* that enough targets have, and that none of these shows from here."""
    shows = shown_by({alias for file in held for alias in file.targets}, storage, seconds)
    found = [
        replace(file, targets=[alias for alias in file.targets if shows[alias] is False])
        for file in held
        if not any(shows[alias] for alias in file.targets)
    ]
    return [file for file in found if len(file.targets) >= storage.min_copies]


def _confirmed(storage: ReplicatedStorage, held: Sequence[_Held], seconds: float) -> dict[str, Identity]:
    """Those of *held* that enough targets have, as they say themselves, and what is here of them."""
    prefix = url_path(storage.base_url or "/")
    questions: dict[str, list[Question]] = {HERE: []}
    widths = {HERE: _HASHING}
    lacking: list[_Lacking] = []
    for file in held:
        questions[HERE].append((file.name, partial(_old_or_same, storage.path(file.name), file)))
        for alias in file.targets:
            target = get_target(alias)
            widths[alias] = target.concurrency
            asked = TargetFile(storage.alias, file.name, prefix=prefix, size=file.wanted.size)
            questions.setdefault(alias, []).append((file.name, partial(_has, target, asked, file.wanted, lacking)))
    left = {file.name for file in held}
    copies: Counter[str] = Counter()
    here: dict[str, Identity] = {}
    for place, name, answer in answers(questions, widths, seconds):
        if place != HERE:
            copies[name] += bool(answer)
        elif isinstance(answer, tuple):
            here[name] = answer
        if name in here and copies[name] >= storage.min_copies:
            left.discard(name)
            if not left:
                break
    if lacking:
        _tell(storage, held, lacking)
    return {name: identity for name, identity in here.items() if name not in left}


def _has(target: Target, file: TargetFile, wanted: Digest, lacking: list[_Lacking]) -> bool:
    """Whether *target* says that it has *wanted*; else that is noted. Its checksum counts where it knows one."""
    found = target.stat(file)
    if found and found.size == wanted.size and found.checksums.get("sha256", wanted.sha256) == wanted.sha256:
        return True
    lacking.append((target.alias, file.name, found.size if found else None))
    return False


def _tell(storage: ReplicatedStorage, held: Sequence[_Held], lacking: Sequence[_Lacking]) -> None:
    """Log what targets lack, unless they lack it because the file was written again meanwhile."""
    versions = {file.name: file.version for file in held}
    names = {name for _, name, _ in lacking}
    rows = MediaFile.objects.using(database_alias()).filter(storage=storage.alias, name__in=names)
    still = {name for name, version in rows.values_list("name", "version") if version == versions[name]}
    for target, name, size in lacking:
        if name in still:
            facts = {"target": target, "storage": storage.alias, "file": name, "size": size}
            log.error("target lacks what the ledger says", extra=facts)


def _old_or_same(place: str, file: _Held) -> Identity | None:
    """The identity of what is here, if it may go: it is the version that targets have, or one from before it."""
    with suppress(OSError), Path(place).open("rb") as here:
        identity = local.identity_of(os.fstat(here.fileno()))
        if local.is_content(here, file.wanted) or _is_left_over(place, file.written):
            return identity
    return None


def _is_left_over(place: str, written: datetime) -> bool:
    """Whether what is here is older than what was *written*, and than any transaction."""
    try:
        status = os.lstat(place)
    except OSError:
        return False
    # A link or a rename, which show a file in its place, change only the second.
    changed = max(status.st_mtime, status.st_ctime)
    return changed < min(written.timestamp(), time.time() - config().orphan_grace)


def _remove(storage: ReplicatedStorage, found: Mapping[str, tuple[UUID, Identity]]) -> int:
    """Remove what is here of these names, if the ledger still has these versions of them. The number removed."""
    count = 0
    if not found:
        return count
    with hold_unchanged(storage.alias, {name: version for name, (version, _) in found.items()}) as names:
        # Not before: whoever puts something here without being alone with the name has told the journal.
        entries = local.traces(os.fspath(storage.location))
        for name in names:
            version, identity = found[name]
            # A write that is not committed or was rolled back: what is here may be that one's. Its own: it is
            # committed, and its traces are going.
            under_way = any(entry.version != version for entry in entries.get(name, ()))
            if not under_way and local.identity(storage.path(name)) == identity:
                try:
                    Path(storage.path(name)).unlink()
                    count += 1
                except FileNotFoundError:
                    pass
                except OSError as error:  # one folder that this user may not write to must not keep the others
                    facts = {"storage": storage.alias, "file": name, "error": error.strerror}
                    log.error("local file can't be removed", extra=facts)  # noqa: TRY400  # the message says where
    return count


def _remove_deleted(storage: ReplicatedStorage, names: Sequence[str]) -> int:
    """Remove what is here of files that were deleted, on a node that did not see it happen."""
    rows = MediaFile.objects.using(database_alias()).filter(storage=storage.alias, name__in=names, deleted=True)
    found = {}
    for name, version, written in rows.values_list("name", "version", "updated_at"):
        identity = local.identity(storage.path(name))
        if identity and _is_left_over(storage.path(name), written):
            found[name] = version, identity
    return _remove(storage, found)


def _names(storage: ReplicatedStorage) -> Iterator[str]:
    """Those of the files here, whoever put them there."""
    root = os.fspath(storage.location)
    others = nested(storage)
    for folder, folders, files in os.walk(root):
        inside = os.path.relpath(folder, root)
        inside = "" if inside == "." else f"{inside}/"
        folders[:] = [each for each in folders if inside + each not in others and not local.is_ours(each)]
        for name in files:
            if not local.is_ours(name):
                with suppress(UnicodeEncodeError):  # the ledger has no such names
                    (inside + name).encode()
                    yield inside + name


def _batches(names: Iterable[str], seconds: float) -> Iterator[tuple[list[str], float]]:
    """Some of *names*, and the seconds that are left; until they are over."""
    end = time.monotonic() + seconds
    waiting = iter(names)
    while (left := end - time.monotonic()) > 0 and (batch := list(islice(waiting, _BATCH))):
        yield batch, left
