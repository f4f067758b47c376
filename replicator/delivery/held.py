"""What a process has claimed: its leases, until all is settled."""

from __future__ import annotations

import logging
import time

from django.db import Error

from replicator import ledger
from replicator.conf import config
from replicator.delivery.spool import Releases
from replicator.delivery.telling import tell
from replicator.ledger import Batch, Lease, Outcome, database

log = logging.getLogger(__name__)


class Held:
    """Claims in one caller's hands. Used by the thread that talks to the database for them."""

    def __init__(self) -> None:
        #: Ids of the replicas that are not settled yet.
        self.leases: dict[Lease, set[int]] = {}
        self._renewed = time.monotonic()
        self._releases = Releases()

    def add(self, batch: Batch) -> None:
        if batch.claims:
            self.leases[batch.lease] = {claim.id for claim in batch.claims}

    def settle(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Record *outcomes*; those to be tried again: a site's transaction holds their rows, or the database failed.

        The target has the files: it is worth trying for as long as the leases last. If the database did commit,
        settling once more finds the leases gone, and that is a doubt, not a loss.
        """
        left: list[Outcome] = []
        for lease in {outcome.claim.lease: None for outcome in outcomes}:
            mine = [o for o in outcomes if o.claim.lease is lease]
            sent = [o for o in mine if o.sent]
            try:
                if len(sent) < len(mine):
                    ledger.release(lease, [o.claim.id for o in mine if not o.sent])
                remaining = ledger.settle(lease, sent)
            except Error as error:
                note_trouble(error)
                remaining = mine
            left += remaining
            self.leases[lease] -= {o.claim.id for o in mine} - {o.claim.id for o in remaining}
            if not self.leases[lease]:
                del self.leases[lease]
            settled = [o for o in sent if o not in remaining]
            self._releases.add(settled)
            try:
                tell(settled)
            except Error as error:
                note_trouble(error)
        return left

    def release(self, *, at_once: bool = False) -> None:
        """Remove local files that enough targets have by what was settled; perhaps only *at_once*: at the end."""
        self._releases.work(at_once=at_once)

    def renew(self) -> bool:
        """Hold on to all of it, if a third of a lease's time is over since the last time; whether it is."""
        if time.monotonic() - self._renewed < config().lease_seconds / 3:
            return False
        self._renewed = time.monotonic()
        try:
            for lease, ids in self.leases.items():
                ledger.renew(lease, ids)
        except Error as error:
            # What is being sent goes on until its lease ends; there is time for another try before that.
            note_trouble(error)
        return True

    def lasts(self) -> bool:
        """Whether any of it is held still."""
        return any(time.monotonic() < lease.ends for lease in self.leases)

    def drop(self) -> None:
        """Have nothing more sent of it."""
        for lease in self.leases:
            lease.ends = 0.0


def note_trouble(error: Error) -> None:
    """The next statement is to find a database that is back."""
    log.warning("ledger unavailable", extra={"error": type(error).__name__})
    connection = database.connection()
    if not connection.in_atomic_block:
        connection.close()
