"""Where each file is: what the gallery shows of the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from django.db.models import Count, Q
from django.utils import timezone

from project.gallery.models import Picture
from replicator.conf import config
from replicator.models import MediaFile, Replica, TargetState

#: Deleted files that are shown until every host has confirmed.
LEAVING = 12


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
    version: str
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


def of_names(names: Iterable[str]) -> dict[str, FileStatus]:
    """Name → where that file of the default storage is."""
    files = MediaFile.objects.filter(storage="default", name__in=list(names)).prefetch_related("replicas")
    down = _down()
    return {file.name: _status(file, down) for file in files}


def leaving() -> list[FileStatus]:
    """Deleted files that some target may still hold, newest first."""
    pending = Q(replicas__status__in=[Replica.Status.PENDING, Replica.Status.FAILED])
    files = MediaFile.objects.filter(pending, storage="default", deleted=True).distinct().order_by("-updated_at")
    down = _down()
    return [_status(file, down) for file in files.prefetch_related("replicas")[:LEAVING]]


def as_json(pictures: Iterable[Picture]) -> dict[str, Any]:
    """What the page asks for again and again."""
    pictures = list(pictures)
    files = of_names(str(file.name) for picture in pictures for file in picture.files())
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
        file.name, str(file.version), [Badge(r.target, r.status, _reason(r, file, down)) for r in replicas]
    )


def _reason(replica: Replica, file: MediaFile, down: dict[str, str]) -> str:
    if replica.status == Replica.Status.SYNCED:
        return ""
    if replica.status == Replica.Status.FAILED:
        return f"{replica.error_text or 'failed'} — cure it, then requeue it in the admin"
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
