"""Looking at a few replicas at once, for who waits for the answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import storages
from django.db import transaction
from django.db.models import F

from replicator import wake
from replicator.errors import DeliveryError
from replicator.ledger import backfilling, database, life
from replicator.models import Replica
from replicator.operating.audit.checking import NO_SOURCE
from replicator.operating.audit.looking import Asked, Looker, Pace
from replicator.operating.audit.options import SIZE, Options
from replicator.operating.retiring import without_source_among
from replicator.targets import get_target
from replicator.targets.base import url_path

#: More are what audits are for.
MOST = 50


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found of one replica."""

    replica: int
    target: str
    storage: str
    name: str
    what: str = ""
    """As ``AuditFinding.What``; "unasked" if its target could not be asked, or is still to be sent it. Empty: it is
    as the ledger says."""
    text: str = ""
    sent: bool = False
    """Whether it is sent again."""


def verify(ids: Iterable[int], level: str = SIZE, *, repair: bool = False) -> list[Verified]:
    """Ask the targets of these replicas for their files, the first 50; what each was found to be, in their order.

    With *repair*, what is missing or wrong is sent again. For a few: it waits for the targets. Never raises for what
    a target does, or is.
    """
    wanted = list(ids)[:MOST]
    rows = Replica.objects.using(database.alias()).filter(pk__in=wanted).select_related("file")
    by_target: dict[str, list[Replica]] = defaultdict(list)
    for row in rows:
        by_target[row.target].append(row)
    found = {each.replica: each for target, some in by_target.items() for each in _verify(target, some, level)}
    if repair:
        bad = [each.replica for each in found.values() if each.what in ("missing", "wrong")]
        versions = {row.pk: row.version for row in rows}
        kept = {pk for target, some in by_target.items() for pk in without_source_among(target, [r.pk for r in some])}
        sent = _send_again({pk: versions[pk] for pk in bad if pk not in kept})
        found.update({pk: replace(found[pk], sent=True) for pk in sent})
        found.update(
            {
                pk: replace(found[pk], text="; ".join(filter(None, [found[pk].text, NO_SOURCE])))
                for pk in kept.intersection(bad)
            }
        )
        wake.announce({found[pk].target for pk in sent})
    return [found[pk] for pk in wanted if pk in found]


def _verify(alias: str, rows: list[Replica], level: str) -> list[Verified]:
    base = {row.pk: Verified(row.pk, alias, row.file.storage, row.file.name) for row in rows}
    if alias in life.unreadable():
        return [replace(each, what="unasked", text="its target is down, paused or retired") for each in base.values()]
    asked: list[Asked] = []
    for row in rows:
        file = row.file
        if row.status != Replica.Status.SYNCED or row.version != file.version:
            base[row.pk] = replace(base[row.pk], what="unasked", text=f"it is {row.status}: not confirmed there yet")
            continue
        try:
            prefix = url_path(getattr(storages[file.storage], "base_url", None) or "/")
        except ImproperlyConfigured as error:
            base[row.pk] = replace(base[row.pk], what="unasked", text=str(error))
            continue
        asked.append(
            Asked(
                file.pk, row.pk, file.storage, file.name, prefix, file.version, file.deleted, file.size, file.sha256
            )
        )
    try:
        looks = Looker(get_target(alias), level, Pace(Options())).look(asked, _go_on)
    except (DeliveryError, ImproperlyConfigured) as error:
        for each in asked:
            base[each.replica] = replace(base[each.replica], what="unasked", text=str(error))
    else:
        for each, look in looks:
            base[each.replica] = replace(base[each.replica], what=look.what, text=look.text)
    return list(base.values())


def _go_on() -> None:
    pass


def _send_again(versions: dict[int, Any]) -> set[int]:
    """Have these replicas sent again, those that are still confirmed as these versions; their ids."""
    with transaction.atomic(using=database.alias()):
        rows = Replica.objects.using(database.alias()).filter(
            pk__in=versions, status=Replica.Status.SYNCED, version=F("file__version")
        )
        locked = database.skip_locked(rows).values_list("pk", "version")
        sent = {pk for pk, version in locked if versions[pk] == version}
        backfilling.distrust(sorted(sent))
    return sent
