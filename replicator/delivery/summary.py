"""What one run did at its target, for Flower and for who called it."""

from __future__ import annotations

from dataclasses import dataclass

from replicator.ledger import Outcome


@dataclass(slots=True)
class Summary:
    """What one run did at its target."""

    put: int = 0
    deleted: int = 0
    failed: int = 0
    bytes: int = 0
    #: Why nothing was done: "busy" (enough workers are at it), "unknown" to this worker's settings, or what the
    #: target is: "down", "paused", "read-only", "retired".
    skipped: str = ""
    #: Whether there is more to do than there was time for.
    unfinished: bool = False

    def add(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self.failed += 1
        elif outcome.claim.deleted:
            self.deleted += 1
        else:
            self.put += 1
            self.bytes += outcome.bytes
