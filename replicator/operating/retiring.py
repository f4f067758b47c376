"""Whether a target may be retired, and whether what it holds may be deleted."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured, SuspiciousFileOperation
from django.core.files.storage import InvalidStorageError, storages
from django.db.models import Q, QuerySet
from django.utils import timezone

from replicator.conf import config
from replicator.errors import DeliveryError
from replicator.ledger import backfilling, life, nodes, retiring
from replicator.ledger.database import alias as database_alias
from replicator.models import MediaFile, Replica, TargetRun, TargetState
from replicator.operating import runs
from replicator.operating.progress import is_resync_unfinished
from replicator.operating.runs import NotStarted
from replicator.storage.reading import target_file
from replicator.storage.replicated import replicated_storages
from replicator.targets import get_target

#: The share of the files that may be retired in one go without somebody saying their number.
BRAKE = 0.1
#: How much the number may have changed since somebody read it.
_DRIFT = 0.05


def brake(target: str) -> str:
    """The number that must be said before what *target* holds is given up; empty if it is little."""
    count = retiring.replicas_at(target).count()
    files = backfilling.living([storage.alias for storage in replicated_storages()]).count()
    return str(count) if count > BRAKE * files else ""


def is_confirmed(needed: str, said: str) -> bool:
    """Whether *said* is the number that is *needed*, or was it a moment ago."""
    digits = said.replace(",", "").strip()
    return not needed or (digits.isdecimal() and abs(int(needed) - int(digits)) <= _DRIFT * int(digits))


@dataclass(frozen=True, slots=True)
class OnlyHere:
    """Files of which a target has the only copy that is known."""

    count: int
    example: str


def only_here(target: str) -> OnlyHere:
    """Files that would be lost with *target*: no other that can be read has them, nor does this machine's disk."""
    count, example = 0, ""
    for replica in _without_local(retiring.only_copies(target, usable_beside(target)).filter(_homeless())):
        count += 1
        example = example or str(replica.file)
    return OnlyHere(count, example)


def only_here_among(target: str, ids: Sequence[int]) -> set[int]:
    """Of these replicas at *target*, those of files that no other target that can be read has, nor any disk."""
    replicas = retiring.only_copies(target, usable_beside(target)).filter(pk__in=ids)
    return {replica.pk for replica in _without_local(replicas)}


def without_source_among(target: str, ids: Sequence[int]) -> set[int]:
    """Of these replicas at *target*, those of files that could not be sent there again: nothing else has them, or no
    hash of them is known, by which a copy could prove itself. A file that should be on a disk is taken to be there.

    A copy at a target that drains, or can't be read just now, is one to send, sooner or later: who took *target*'s
    word instead would give that one up for it.
    """
    if not ids:
        return set()
    retired = life.states().filter(phase=TargetState.Phase.RETIRED).values_list("target", flat=True)
    others = config().targets.keys() - set(retired) - {target}
    replicas = retiring.only_copies(target, others).filter(_homeless(), pk__in=ids)
    unhashed = retiring.replicas_at(target).current().filter(pk__in=ids, file__sha256="")
    return {replica.pk for replica in _without_local(replicas)}.union(unhashed.values_list("pk", flat=True))


def _homeless() -> Q:
    """Replicas of files that need not be on any disk."""
    kept = [storage.alias for storage in replicated_storages() if storage.keep_local]
    homeless = Q(file__sha256="") | ~Q(file__storage__in=kept)
    if config().deliverer:
        gone = [node for node in nodes.known() if nodes.is_gone(node)]
        homeless |= Q(file__node__in=["", *gone])
    return homeless


def _without_local(replicas: QuerySet[Replica]) -> Iterator[Replica]:
    """Those whose files no disk has: this machine's; or, where each node has its own, that of one that is there."""
    there = {node for node in nodes.known() if not nodes.is_gone(node)}
    for replica in replicas.select_related("file").order_by("file").iterator(chunk_size=1_000):
        if not _is_local(replica.file, there):
            yield replica


def _is_local(file: MediaFile, there: Collection[str]) -> bool:
    if not file.sha256:
        return False
    conf = config()
    storage = _storage(file.storage)
    if conf.deliverer and file.node != conf.node:
        # A spool is emptied by itself, and nobody can look into another node's.
        return file.node in there and getattr(storage, "keep_local", False)
    with suppress(OSError, ValueError, SuspiciousFileOperation, NotImplementedError, AttributeError):
        return Path(storage.path(file.name)).stat().st_size == file.size
    return False


def usable_beside(target: str) -> set[str]:
    """The other targets whose copies are counted on. Not one that was wiped and is not through with its resync: what
    the ledger says of it may be of before."""
    others = config().targets.keys() - life.unreliable() - {target}
    resyncs = TargetRun.objects.using(database_alias()).filter(kind=TargetRun.Kind.RESYNC, dry_run=False)
    wiped = set(resyncs.filter(state__in=TargetRun.OPEN).values_list("target", flat=True))
    joining = life.states().filter(target__in=others - wiped, phase=TargetState.Phase.JOINING)
    wiped |= {state.target for state in joining if is_resync_unfinished(state.target, state.phase_since)}
    return others - wiped


def check_nothing_is_lost(target: str) -> None:
    """Raises ``NotStarted`` if a file would be lost with *target*."""
    found = only_here(target)
    if found.count:
        number = f"{found.count:,} file" + ("s are" if found.count > 1 else " is")
        raise NotStarted(
            f"{number} known to be at {target} only, such as {found.example}: no other target that can be read has "
            "it as it is now, and no disk. Let the other targets get what is pending there (manage.py replicator "
            "status), or add one and have it filled (manage.py replicator backfill ALIAS), and retire this one then. "
            "What was adopted from a target, and never written since, no other gets: save it anew, or delete it."
        )


def check_may_delete(target: str, state: TargetState) -> None:
    """Raises ``NotStarted`` if what *target* holds must not, or can't, be deleted."""
    instead = "Retire it without deleting what it holds."
    if target not in config().targets:
        raise NotStarted(
            f'{target} is not in REPLICATOR["TARGETS"] any more: nobody knows where its files are. {instead} '
            "Or put it back into the settings first, and restart the workers."
        )
    if config().targets[target].options.get("node"):
        raise NotStarted(f"{target} is the media root of a node, which goes on reading these files. {instead}")
    if state.paused:
        raise NotStarted(
            f"{target} is paused: nothing may be sent to it, no DELETE either. Resume it first (manage.py replicator "
            f"resume {target}). {instead}"
        )
    for other, address in _shared_addresses(target):
        raise NotStarted(f"{other} has its files in the same place as {target} ({address}): deleting would hit both.")


def _shared_addresses(target: str) -> Iterator[tuple[str, str]]:
    mine = set(_folders(target))
    for other in config().targets:
        if other != target:
            yield from ((other, folder) for folder in sorted(_folders(other)) if _is_shared(folder, mine))
    for storage in replicated_storages():
        if _is_shared(f"folder {Path(storage.location).resolve()}/", mine):
            yield f"the storage {storage.alias!r} of this site", str(storage.location)


def _is_shared(folder: str, mine: Collection[str]) -> bool:
    """Whether a file in it may be one in *mine*: also by a longer name in the outer one of the two."""
    return any(folder.startswith(my) or my.startswith(folder) for my in mine)


def _folders(target: str) -> Iterator[str]:
    """What comes before the names of files there."""
    # Of all storages: what one has at this target may be where another has its files at the other.
    for storage in replicated_storages():
        with suppress(ImproperlyConfigured, DeliveryError):
            for address in get_target(target).addresses(target_file(storage, "x")):
                yield address.removesuffix("x")


def what_is_left(target: str) -> str:
    """What is to be done before *target*, which is retired, may leave the settings; empty if nothing is."""
    run = runs.open_run(target)
    if run is not None:
        return f"Let {run} end first: manage.py replicator runs --follow {run.pk}"
    if retiring.replicas_at(target).exists():
        return (
            f"Its retirement did not come to its end. Why: manage.py replicator runs --target {target}. Again: "
            f"manage.py replicator retire {target}"
        )
    return ""


def quiet_from(target: str) -> datetime | None:
    """When nothing that a retirement has sent to *target* can take effect any more, if that is yet to come."""
    done = TargetRun.objects.using(database_alias()).filter(target=target, kind=TargetRun.Kind.RETIRE, dry_run=False)
    worked = [run.worked_at for run in done.order_by("-pk")[:5] if run.options.get("delete") and run.worked_at]
    if not worked:
        return None
    quiet = max(worked) + timedelta(seconds=config().lease_seconds + config().doubt_window)
    return quiet if quiet > timezone.now() else None


def _storage(alias: str) -> Any:
    try:
        return storages[alias]
    except InvalidStorageError:
        return None
