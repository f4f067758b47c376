"""Forgetting a node: a machine with a disk of its own that is gone for good."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Exists, OuterRef, QuerySet

from replicator import wake
from replicator.conf import config
from replicator.ledger import life, nodes
from replicator.ledger.database import alias
from replicator.models import MediaFile, Replica
from replicator.operating import runs
from replicator.operating.retiring import is_confirmed
from replicator.operating.runs import NotStarted
from replicator.operating.wish import of


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What forgetting a node means."""

    effect: list[str]
    """Sentences, with counts."""
    confirm: str
    """The number of files that are lost with it, which must be said before; empty if there are none."""


def plan(node: str) -> Forgotten:
    """What ``forget`` would do. Raises ``NotStarted``, which says what to do instead."""
    if not nodes.is_known(node):
        known = ", ".join(nodes.known()) or "none"
        raise NotStarted(f"There is no node {node!r}. Known: {known}.")
    if node == config().node or (node in nodes.known() and not nodes.is_gone(node)):
        raise NotStarted(
            f"{node} was at work less than {config().node_gone_after:.0f} s ago. Stop its workers first; if they are "
            "stopped, wait for that long."
        )
    for target, home in config().homes.items():
        if home == node:
            raise NotStarted(
                f"The target {target} is the media root of {node}. First: manage.py replicator retire {target}, and "
                f'remove it from REPLICATOR["TARGETS"].'
            )
    lost = _only_there(node)
    count = lost.count()
    waiting = Replica.objects.using(alias()).pending().of(node).count()
    outdated = MediaFile.objects.using(alias()).filter(outdated_at__contains=f",{node},").count()
    effect = [
        f"{of(waiting, 'write')} that wait for {node} are anybody's then.",
        f"{of(outdated, 'file')} of which its disk has an older version wait for it no more.",
    ]
    if count:
        effect.append(f"LOST: {of(count, 'file')} that only its disk has, and no target, such as {lost.first()}.")
    return Forgotten(effect, str(count) if count else "")


def forget(node: str, *, confirm: str = "") -> int:
    """Forget it; the number of rows that were changed. Safe to call twice. Raises ``NotStarted``."""
    needed = plan(node).confirm
    if not is_confirmed(needed, confirm):
        raise NotStarted(
            f"Only the disk of {node} has {of(int(needed), 'file')}: can it be read once more? Then let its workers "
            f"run until the targets have them. If they are lost anyway, say so: --confirm {needed}"
        )
    run = runs.open_run("", node)
    if run is not None:
        runs.cancel(run)
    changed = nodes.forget(node)
    wake.wake(sorted(config().targets.keys() - life.closed_now()))
    return changed


def _only_there(node: str) -> QuerySet[MediaFile]:
    """Living files that arrived there, and that no target of the settings has; also those that none was to have."""
    held = Replica.objects.using(alias()).current().filter(file=OuterRef("pk"), target__in=list(config().targets))
    files = MediaFile.objects.using(alias()).filter(node=node, deleted=False)
    return files.filter(~Exists(held)).order_by("pk")
