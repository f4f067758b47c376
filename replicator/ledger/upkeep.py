"""Finding due work, clearing finished tombstones, and what people ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from replicator.conf import config
from replicator.ledger import database, nodes
from replicator.models import MediaFile, Replica


def due_targets(targets: Iterable[str], *, for_seconds: float = 0.0) -> list[str]:
    """Those of *targets* that have work due now, and for so long, that this process may do. One index probe each,
    however many rows."""
    due = Replica.objects.using(database.alias()).due(timezone.now() - timedelta(seconds=for_seconds))
    return [target for target in targets if any(due.at(target).of(node).any() for node in nodes.to_serve(target))]


def due_work(targets: Iterable[str]) -> dict[str, list[str]]:
    """Where work is due now, for whichever process: node → those of *targets*.

    What waits for a node that is gone is anybody's, as if it named none (``""``).
    """
    due = Replica.objects.using(database.alias()).due()
    found: dict[str, list[str]] = {}
    for target in targets:
        for node in nodes.with_pending(target):
            if due.at(target).of(node).any():
                whose = found.setdefault("" if node and nodes.is_gone(node) else node, [])
                if target not in whose:
                    whose.append(target)
    return found


def hasten(target: str, *, node: str | None = None, batch: int = 10_000) -> int:
    """Make every waiting replica of *target* due now: it is up again; or *node* is, with its files. The number.

    A provisional success keeps its doubt window: its waiting is not about the target being down. One whose
    confirmation failed has its window behind it.
    """
    now = timezone.now()
    no_window = Q(provisional=False) | Q(attempts__gt=0)
    waiting = (
        Replica.objects.using(database.alias()).pending().at(target).filter(no_window, due_at__gt=now, lease=None)
    )
    total = 0
    for whose in nodes.with_pending(target) if node is None else [node]:
        count = batch
        while count == batch:
            with transaction.atomic(using=database.alias()):
                ids = list(database.skip_locked(waiting.of(whose)).values_list("pk", flat=True)[:batch])
                count = len(ids)
                total += Replica.objects.using(database.alias()).filter(pk__in=ids).update(due_at=now)
    return total


def requeue(replicas: QuerySet[Replica]) -> int:
    """Make the failed ones among *replicas* pending again, due now; the number of them. One statement.

    Passes over what a transaction of the site is just writing: that is made pending by the write.
    """
    now = timezone.now()
    rows = Replica.objects.using(database.alias())
    # A plain subquery: whatever slicing, ordering or joins the selection has, the database picks from it.
    chosen = rows.failed().filter(pk__in=replicas.values("pk"))
    with transaction.atomic(using=database.alias()):
        return rows.filter(pk__in=database.skip_locked(chosen).values("pk")).update(
            # The age limit counts from here: a person has asked for another try.
            status=Replica.Status.PENDING,
            since=now,
            due_at=now,
            attempts=0,
        )


def reclass(
    files: QuerySet[MediaFile],
    mogile_class: str,
    targets: Sequence[str],
    *,
    batch: int = 1_000,
    progress: Callable[[int], object] | None = None,
) -> int:
    """Give the living ones of *files* another class, and make their replicas at *targets* pending, due now.

    The number of files; *progress* is told of each batch's. The version stays: the bytes are the same, and whoever
    has confirmed them need not get them again. Apart from that it is a write to the protocol: a worker that is
    sending just now finds its ``sent`` emptied. Passes over what a transaction of the site is just writing.
    """
    rows = MediaFile.objects.using(database.alias())
    chosen = rows.filter(pk__in=files.values("pk"), deleted=False).exclude(mogile_class=mogile_class).order_by("pk")
    total = 0
    after = 0
    while True:
        with transaction.atomic(using=database.alias()):
            ids = list(database.skip_locked(chosen.filter(pk__gt=after)).values_list("pk", flat=True)[:batch])
            if not ids:
                return total
            rows.filter(pk__in=ids).update(mogile_class=mogile_class)
            now = timezone.now()
            Replica.objects.using(database.alias()).filter(file__in=ids, target__in=targets).update(
                status=Replica.Status.PENDING, since=now, due_at=now, attempts=0, provisional=False, sent=None
            )
        total += len(ids)
        after = ids[-1]
        if progress is not None:
            progress(len(ids))


def prune(*, batch: int = 1_000) -> int:
    """Remove the tombstones that every target confirmed a good while ago, and every node that had the file; the
    number of them."""
    long_ago = timezone.now() - timedelta(seconds=config().tombstone_age)
    files = MediaFile.objects.using(database.alias())
    replicas = Replica.objects.using(database.alias())
    # A target that left the settings was not told of the delete: should it come back, that is made up for.
    untold = ~Q(version=OuterRef("version"))
    open_work = replicas.filter(file=OuterRef("pk")).filter(
        ~Q(status=Replica.Status.SYNCED) | Q(synced_at__gt=long_ago) | untold
    )
    finished = files.filter(~Exists(open_work), deleted=True, updated_at__lte=long_ago, outdated_at="")
    total = 0
    while True:
        with transaction.atomic(using=database.alias()):
            ids = list(database.skip_locked(finished).values_list("pk", flat=True)[:batch])
            # Again, now that the rows are ours: a write may have come between the look and the lock.
            sure = list(finished.filter(pk__in=ids).values_list("pk", flat=True))
            files.filter(pk__in=sure).delete()
        total += len(sure)
        if len(ids) < batch:
            return total
