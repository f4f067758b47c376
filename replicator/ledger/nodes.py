"""Who delivers which files, where each node has a disk of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, TypeVar

from django.db import models, transaction
from django.db.models import Case, QuerySet, TextField, Value, When
from django.db.models.functions import Replace
from django.utils import timezone

from replicator.conf import config
from replicator.ledger import database
from replicator.models import MediaFile, NodeState, Replica

#: Seconds that a node's sign of life stands for: this is on the path of every batch.
_OFTEN = 10.0
#: Seconds after which what a transaction of the site had is looked at again.
_AGAIN = 0.5

M = TypeVar("M", bound=models.Model)


def to_serve(target: str) -> list[str]:
    """The nodes whose replicas at *target* this process may claim, its own first; ``""`` stands for any node's.

    Where the disk is shared there is but that one. Else this node's, and those of nodes that are gone.
    """
    own = config().deliverer
    if not own:
        return [""]
    return [own, "", *(node for node in with_pending(target) if node not in ("", own) and is_gone(node))]


def with_pending(target: str) -> list[str]:
    """The nodes that have pending replicas at *target*; one index probe each, however many replicas."""
    return list(_with_pending(target))


def _with_pending(target: str) -> Iterator[str]:
    rows = (
        Replica.objects.using(database.alias()).pending().at(target).order_by("node").values_list("node", flat=True)
    )
    node = rows.first()
    while node is not None:
        yield node
        node = rows.filter(node__gt=node).first()


def note_seen(node: str) -> bool:
    """*node*'s workers are at work. Whether they were gone, or never there."""
    now = timezone.now()
    state = _states().filter(node=node).first()
    if state is None:
        return NodeState.objects.using(database.alias()).get_or_create(node=node, defaults={"seen_at": now})[1]
    if now - state.seen_at > timedelta(seconds=_OFTEN):
        _states().filter(node=node).update(seen_at=now)
    return _is_old(state)


def known() -> list[str]:
    """The nodes whose workers were ever seen."""
    return list(_states().order_by("node").values_list("node", flat=True))


def is_gone(node: str) -> bool:
    """Whether *node*'s workers have given no sign for ``NODE_GONE_AFTER``, if they ever did.

    One that never had any is gone when work has waited for it for so long, or was tried in vain by whoever is there.
    """
    state = _states().filter(node=node).first()
    if state is not None:
        return _is_old(state)
    long_ago = timezone.now() - timedelta(seconds=config().node_gone_after)
    waiting = Replica.objects.using(database.alias()).of(node)
    for target in config().targets:
        # What was tried waits for another try, and so is due last.
        last = waiting.pending().at(target).order_by("-due_at").values_list("attempts", flat=True).first()
        if last or waiting.due(long_ago).at(target).any():
            return True
    return False


def share(*, batch: int = 10_000) -> int:
    """Let any worker deliver what was recorded for nodes with disks of their own: they share one now. The number.

    Passes over what a transaction of the site is just writing; the next call finds it.
    """
    rows = Replica.objects.using(database.alias())
    total = 0
    for target in config().targets:
        for node in filter(None, with_pending(target)):
            count = batch
            while count == batch:
                with transaction.atomic(using=database.alias()):
                    theirs = database.skip_locked(rows.pending().at(target).of(node))
                    ids = list(theirs.values_list("pk", flat=True)[:batch])
                    count = rows.filter(pk__in=ids).update(node="")
                total += count
    return total


def is_known(node: str) -> bool:
    """Whether *node*'s workers were ever seen, or anything is noted of it."""
    return (
        _states().filter(node=node).exists()
        or Replica.objects.using(database.alias()).pending().of(node).exists()
        or _outdated_at(node).exists()
    )


def forget(node: str) -> int:
    """*node* is gone for good: what waits for it is anybody's, no file arrived there, and nobody waits for its disk.
    The number of rows changed, in short transactions; what a transaction of the site has just now comes last."""
    replicas, files = Replica.objects.using(database.alias()), MediaFile.objects.using(database.alias())
    without = Replace("outdated_at", Value(f",{node},"), Value(","), output_field=TextField())
    total = _update(
        _outdated_at(node),
        outdated_at=Case(When(outdated_at=f",{node},", then=Value("")), default=without, output_field=TextField()),
    )
    total += _update(replicas.of(node), node="") + _update(files.filter(node=node), node="")
    # Last: by it people find the node again if this is interrupted.
    return total + _states().filter(node=node).delete()[0]


def _update(rows: QuerySet[M], *, batch: int = 5_000, **columns: Any) -> int:
    """Update *rows*, which are then none of them any more; the number."""
    total = after = 0
    while True:
        with transaction.atomic(using=database.alias()):
            some = database.skip_locked(rows.filter(pk__gt=after).order_by("pk"))
            ids = list(some.values_list("pk", flat=True)[:batch])
            total += rows.filter(pk__in=ids).update(**columns)
        if ids:
            after = ids[-1]
        elif rows.exists():
            after = 0
            time.sleep(_AGAIN)
        else:
            return total


def outdated(node: str, limit: int) -> list[MediaFile]:
    """Files of which *node*'s disk may have an older version."""
    return list(_outdated_at(node).order_by("pk")[:limit])


def note_up_to_date(file: MediaFile, node: str) -> None:
    """*node* has no older version of *file* any more. Its row is held by the caller (``hold``)."""
    nodes = [name for name in file.outdated_at.split(",") if name and name != node]
    files = MediaFile.objects.using(database.alias()).filter(pk=file.pk)
    files.update(outdated_at=f",{','.join(nodes)}," if nodes else "")


def hold_home(file: MediaFile) -> bool:
    """Where this node's own media root is a target: have nothing of *file* sent there until the transaction ends.

    False if something may be on its way. The caller holds the file's row.
    """
    home = config().home
    if not home:
        return True
    there = Replica.objects.using(database.alias()).filter(file=file, target__in=home)
    calm = database.skip_locked(there.filter(lease=None, doubt=False)).values_list("pk", flat=True)
    return len(calm) == there.count()


def _outdated_at(node: str) -> QuerySet[MediaFile]:
    files = MediaFile.objects.using(database.alias()).exclude(outdated_at="")
    return files.filter(outdated_at__contains=f",{node},")


def _is_old(state: NodeState) -> bool:
    return timezone.now() - state.seen_at > timedelta(seconds=config().node_gone_after)


def _states() -> QuerySet[NodeState]:
    return NodeState.objects.using(database.alias())
