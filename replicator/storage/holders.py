"""Which targets have a file as it is now."""

from __future__ import annotations

from django.core.files.storage import storages
from django.db.models import Exists, F, OuterRef

from replicator.ledger.database import alias as database_alias
from replicator.models import Replica, TargetState


def holders(alias: str, name: str) -> list[str]:
    """The targets, in the order of the storage *alias*, that confirmed this version of the file *name* and are not
    marked down; none if it was deleted. One query, to the database that writes go to."""
    down = TargetState.objects.filter(target=OuterRef("target"), state=TargetState.State.DOWN)
    found = set(
        Replica.objects.using(database_alias())
        .filter(
            ~Exists(down),
            file__storage=alias,
            file__name=name,
            file__deleted=False,
            status=Replica.Status.SYNCED,
            version=F("file__version"),
        )
        .values_list("target", flat=True)
    )
    storage = storages[alias]
    return [target for target in getattr(storage, "targets", ()) if target in found]
