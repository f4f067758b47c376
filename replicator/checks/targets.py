"""Checks of what the ledger knows of the targets: the only ones that ask the database."""

from __future__ import annotations

from collections.abc import Iterator

from django.core.checks import CheckMessage, Warning
from django.db import DatabaseError, transaction

from replicator.conf import config
from replicator.ledger import backfilling, life
from replicator.ledger.database import alias
from replicator.models import TargetState
from replicator.operating import open_run
from replicator.operating.places import storages_at
from replicator.operating.retiring import what_is_left

Phase = TargetState.Phase


def problems() -> Iterator[CheckMessage]:
    """W051: a target that joins, and files that nobody has recorded for it. W052: a retired one in the settings."""
    try:
        with transaction.atomic(using=alias()):
            found = list(_problems())
    except DatabaseError:
        return  # not migrated yet, or not there
    yield from found


def _problems() -> Iterator[CheckMessage]:
    states = {state.target: state for state in life.states()}
    for target in config().targets:
        state = states.get(target)
        if state is not None and state.phase == Phase.RETIRED:
            yield Warning(
                f'REPLICATOR["TARGETS"] has {target!r}, which is retired: nothing is delivered there.',
                hint=what_is_left(target)
                or "Remove it from the settings, also from the targets of storages. To have it back: manage.py "
                f"replicator activate {target}",
                id="replicator.W052",
            )
        elif (state is None or state.phase == Phase.JOINING) and open_run(target) is None and _lacks(target):
            yield Warning(
                f"The target {target!r} lacks files that it should hold: they are not recorded for it.",
                hint=f"Run: manage.py replicator backfill {target}",
                id="replicator.W051",
            )


def _lacks(target: str) -> bool:
    return backfilling.lacking(target, [storage.alias for storage in storages_at(target)]).exists()
