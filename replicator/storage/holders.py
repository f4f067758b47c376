"""Which targets have a file as it is now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from django.core.files.storage import storages
from django.db.models import Exists, OuterRef, QuerySet

from replicator.ledger.database import alias as database_alias
from replicator.models import Replica, TargetState


def holders(alias: str, name: str) -> list[str]:
    """The targets, in the order of the storage *alias*, that confirmed this version of the file *name* and are not
    marked down; none if it was deleted. One query, to the database that writes go to."""
    found = set(_confirmed(alias, file__name=name).values_list("target", flat=True))
    return [target for target in _targets(alias) if target in found]


def holders_of_each(alias: str, names: Collection[str]) -> Mapping[str, Sequence[str]]:
    """As ``holders``, of many files; those that no target holds are not in it. One query."""
    found: dict[str, list[str]] = defaultdict(list)
    targets = set(_targets(alias))
    for name, target in _confirmed(alias, file__name__in=names).values_list("file__name", "target"):
        if target in targets:
            found[name].append(target)
    return found


def _confirmed(alias: str, **names: Any) -> QuerySet[Replica]:
    down = TargetState.objects.unreadable().filter(target=OuterRef("target"))
    replicas = Replica.objects.using(database_alias())
    return replicas.current().filter(~Exists(down), file__storage=alias, **names)


def _targets(alias: str) -> Sequence[str]:
    targets: Sequence[str] = getattr(storages[alias], "targets", ())
    return targets
