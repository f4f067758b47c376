"""What the ledger has in one folder of a storage."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import F, Value
from django.db.models.functions import Left, StrIndex, Substr

from replicator.ledger.database import alias as database_alias
from replicator.models import MediaFile


@dataclass(frozen=True, slots=True)
class Listing:
    """Names, without the folder's."""

    folders: set[str]
    files: set[str]
    deleted: set[str]
    """Of files that were deleted a while ago, or in this transaction."""


def listing(alias: str, folder: str) -> Listing:
    """What is in *folder*; of the whole storage, if that is empty. Two queries, which read all its names."""
    start = f"{folder}/" if folder else ""
    rows = MediaFile.objects.using(database_alias()).filter(storage=alias)
    if start:
        # Not startswith, which takes "A/" for "a/" on SQLite; nor a range, which collations order their own way.
        rows = rows.annotate(start=Left("name", len(start))).filter(start=start)
    inside = rows.annotate(rest=Substr("name", len(start) + 1)).annotate(slash=StrIndex("rest", Value("/")))
    files = dict(inside.filter(slash=0).values_list("rest", "deleted"))
    # Left takes no length from a column.
    tops = inside.filter(slash__gt=1, deleted=False).annotate(top=Substr("rest", 1, F("slash") - 1))
    return Listing(
        set(tops.values_list("top", flat=True).distinct()),
        {name for name, deleted in files.items() if not deleted},
        {name for name, deleted in files.items() if deleted},
    )
