"""Listing a source once, where that is cheaper than asking for each file."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from django.db import transaction

from replicator.errors import Refused
from replicator.ledger.database import alias
from replicator.models import CopyFile, CopyObject, CopyPart, CopyRun
from replicator.staging import chunks
from replicator.staging.base import Facts, Source
from replicator.staging.choices import Choices
from replicator.staging.names import digest_of
from replicator.staging.sources import source_of

log = logging.getLogger(__name__)

Listing = CopyRun.Listing

#: So many files are asked for one by one before a listing is thought of.
ASK = 500
#: A page of a listing is as dear as so many questions.
PAGE_COSTS = 4
#: Files that a page has.
PAGE = 1000
#: Seconds after which a worker has shown what it listed, and another one may go on.
_TURN = 10.0


def is_due(run: CopyRun) -> bool:
    """Whether to begin a listing: the source can, was asked about many files, and has as many to be asked about."""
    if run.listing != Listing.NONE or run.asked < ASK or _left(run) < ASK:
        return False
    if Choices.from_json(run.choices).compare == "checksum":  # which no listing has
        return False
    return source_of(run.source).can_list


def begin(run: CopyRun) -> None:
    CopyRun.objects.using(alias()).filter(pk=run.pk, listing=Listing.NONE).update(listing=Listing.UNDER_WAY)


def list_on(lease: chunks.Lease, source: Source) -> int:
    """Note the next pages; how many files they had. Raises ``LeaseLost``, and what the source raises.

    Given up once it has cost more than asking for what is left would: a bucket may hold a thousand times what a
    sample needs.
    """
    run, count = lease.run, 0
    end = time.monotonic() + _TURN
    while run.listing == Listing.UNDER_WAY and time.monotonic() < end:
        try:
            page = source.page(run.listed_to)
        except Refused as error:  # one may read each file, and not list them
            log.warning("source not listed", extra={"run": run.pk, "error": str(error)})
            run.listing = Listing.GIVEN_UP
            run.save(using=alias(), update_fields=["listing"])
            break
        objects = [
            CopyObject(run=run, digest=digest_of(name), size=facts.size, modified=facts.modified)
            for name, facts in page.files
            if facts.size is not None
        ]
        with transaction.atomic(using=alias()):
            CopyObject.objects.using(alias()).bulk_create(objects, ignore_conflicts=True, batch_size=PAGE)
            run.listed, run.listed_to = run.listed + len(objects), page.last
            if not page.last:
                run.listing = Listing.COMPLETE
            elif run.listed / PAGE * PAGE_COSTS > _left(run):
                run.listing = Listing.GIVEN_UP
            run.save(using=alias(), update_fields=["listed", "listed_to", "listing"])
            chunks.settle(lease, [])
        count += len(objects)
    if run.listing == Listing.GIVEN_UP:
        CopyObject.objects.using(alias()).filter(run=run).delete()
    return count


def known(run: CopyRun, files: Sequence[CopyFile]) -> Mapping[str, Facts]:
    """What a listing that is complete says of *files*, by name. One that it does not have may have come since."""
    if run.listing != Listing.COMPLETE:
        return {}
    names = {digest_of(file.name): file.name for file in files}
    rows = CopyObject.objects.using(alias()).filter(run=run, digest__in=list(names))
    return {names[row.digest]: Facts(row.size, row.modified) for row in rows}


def _left(run: CopyRun) -> int:
    """About how many files are still to be come across: as if each of a model's rows named one in each field."""
    parts = CopyPart.objects.using(alias()).filter(run=run, walked=False)
    return sum(
        max(0, (total or 0) - rows) * len(fields)
        for total, rows, fields in parts.values_list("total", "rows", "fields")
    )
