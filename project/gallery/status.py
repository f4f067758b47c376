"""Where each file is: what the gallery shows of the ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from django.db.models import Count, Q
from django.db.models.fields.files import FieldFile
from django.utils import timezone

from project.gallery.models import Picture, Profile
from replicator.conf import config
from replicator.models import MediaFile, Replica, TargetState

#: Deleted files that are shown until every host has confirmed.
LEAVING = 12
#: Those of the gallery's fields.
STORAGES = ("default", "avatars", "thumbs")


@dataclass(frozen=True, slots=True)
class Badge:
    """One file at one target."""

    target: str
    status: str
    reason: str
    """Why it is not synced; empty if it is."""


@dataclass(frozen=True, slots=True)
class Host:
    """One target."""

    target: str
    state: str
    reason: str
    pending: int
    failed: int


@dataclass(frozen=True, slots=True)
class FileStatus:
    name: str
    """Its path below the media: as it is called in its storage, and the storage's folder."""
    version: str
    mogile_class: str
    badges: list[Badge]

    @property
    def is_settled(self) -> bool:
        return all(badge.status != Replica.Status.PENDING for badge in self.badges)


def hosts() -> list[Host]:
    """Every target with its health and its backlog."""
    # One column of a partial index, so that ten million synced rows cost nothing.
    counts: dict[str, Mapping[str, Any]] = {
        row["target"]: row
        for row in Replica.objects.filter(status__in=[Replica.Status.PENDING, Replica.Status.FAILED])
        .values("target")
        .annotate(
            pending=Count("pk", filter=Q(status=Replica.Status.PENDING)),
            failed=Count("pk", filter=Q(status=Replica.Status.FAILED)),
        )
    }
    states = TargetState.objects.in_bulk()
    found = []
    for target in config().targets:
        state, count = states.get(target), counts.get(target, {})
        down = state is not None and state.state == TargetState.State.DOWN
        found.append(
            Host(
                target,
                "down" if down else "up",
                state.reason if state and down else "",
                count.get("pending", 0),
                count.get("failed", 0),
            )
        )
    return found


def path_of(file: FieldFile) -> str:
    """As in ``FileStatus.name``."""
    return _path(file.storage.alias, str(file.name))  # type: ignore[attr-defined]  # a ReplicatedStorage


def _path(storage: str, name: str) -> str:
    return name if storage == "default" else f"{storage}/{name}"


def of_files(files: Iterable[FieldFile]) -> dict[str, FileStatus]:
    """Path → where that file is."""
    names: dict[str, list[str]] = defaultdict(list)
    for file in files:
        names[file.storage.alias].append(str(file.name))  # type: ignore[attr-defined]  # as above
    wanted = Q(pk__in=[])
    for storage, its in names.items():
        wanted |= Q(storage=storage, name__in=its)
    down = _down()
    found = [_status(row, down) for row in MediaFile.objects.filter(wanted).prefetch_related("replicas")]
    return {status.name: status for status in found}


def leaving() -> list[FileStatus]:
    """Deleted files that some target may still hold, newest first."""
    pending = Q(replicas__status__in=[Replica.Status.PENDING, Replica.Status.FAILED])
    files = MediaFile.objects.filter(pending, storage__in=STORAGES, deleted=True).distinct().order_by("-updated_at")
    down = _down()
    return [_status(file, down) for file in files.prefetch_related("replicas")[:LEAVING]]


def as_json(pictures: Iterable[Picture], profiles: Iterable[Profile]) -> dict[str, Any]:
    """What the page asks for again and again."""
    pictures = list(pictures)
    owners: list[Picture | Profile] = [*pictures, *profiles]
    files = of_files(file for owner in owners for file in owner.files())
    going = leaving()
    return {
        "hosts": [asdict(host) for host in hosts()],
        "pictures": [picture.pk for picture in pictures],
        "files": [asdict(file) for file in files.values()],
        "leaving": [asdict(file) for file in going],
        "settled": not going and all(file.is_settled for file in files.values()),
    }


def _down() -> dict[str, str]:
    return dict(TargetState.objects.filter(state=TargetState.State.DOWN).values_list("target", "reason"))


def _status(file: MediaFile, down: dict[str, str]) -> FileStatus:
    order = {target: number for number, target in enumerate(config().targets)}
    replicas = sorted(file.replicas.all(), key=lambda replica: order.get(replica.target, len(order)))
    return FileStatus(
        _path(file.storage, file.name),
        str(file.version),
        file.mogile_class,
        [Badge(r.target, r.status, _reason(r, file, down)) for r in replicas],
    )


def _reason(replica: Replica, file: MediaFile, down: dict[str, str]) -> str:
    if replica.status == Replica.Status.SYNCED:
        return ""
    if replica.status == Replica.Status.FAILED:
        return f"{replica.error_text or 'failed'} — cure it, then requeue it in the admin"
    if replica.target not in config().targets:
        return f"the settings do not name {replica.target} any more"
    if replica.target in down:
        return f"{replica.target} is down: {down[replica.target]}"
    if replica.lease is not None and replica.lease_until and replica.lease_until > timezone.now():
        return "being deleted" if file.deleted else "being sent"
    if replica.provisional:
        return "sent; an earlier request may still take effect, so it is sent again to be sure"
    if replica.error_text:
        seconds = max(0, round((replica.due_at - timezone.now()).total_seconds()))
        return f"{replica.error_text} — next attempt in {seconds} s"
    return "waiting for a worker"
