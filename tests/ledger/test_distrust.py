"""Having replicas sent again, whatever was confirmed: to the protocol it is a write."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.db import transaction
from django.utils import timezone

from replicator import ledger
from replicator.ledger import Outcome, backfilling
from replicator.models import Replica
from tests.ledger.rows import row, set_row, write

pytestmark = pytest.mark.django_db(transaction=True)


def distrust(ids: list[int], *, version: UUID | None = None) -> int:
    with transaction.atomic():
        return backfilling.distrust(ids, version=version)


def confirm(*names: str) -> None:
    for name in names:
        write(name, "media1")
    batch = ledger.claim("media1", 10)
    assert ledger.settle(batch.lease, [Outcome(claim) for claim in batch.claims]) == []
    assert {row(name).status for name in names} == {"synced"}


def test_the_bytes_go_again_and_not_only_what_else_is_said_of_them() -> None:
    """A target with classes would else be told the class of a file that it has lost."""
    confirm("a.txt")
    assert distrust([row("a.txt").pk]) == 1
    (claim,) = ledger.claim("media1", 10).claims
    assert not claim.confirmed


def test_what_a_worker_has_in_hand_is_sent_once_more() -> None:
    """It may have been sent before the target lost what it had; its lease stays."""
    write("a.txt", "media1")
    batch = ledger.claim("media1", 10)
    assert distrust([row("a.txt").pk]) == 1
    assert row("a.txt").lease == batch.lease.token
    assert ledger.settle(batch.lease, [Outcome(claim) for claim in batch.claims]) == []
    assert (row("a.txt").status, row("a.txt").version) == ("pending", None)
    assert ledger.due_targets(["media1"]) == ["media1"]


def test_doubt_is_kept_and_failures_are_forgotten() -> None:
    confirm("a.txt")
    later = timezone.now() + timedelta(hours=1)
    set_row("a.txt", status="failed", doubt=True, provisional=True, attempts=7, due_at=later, error_kind="refused")
    assert distrust([row("a.txt").pk]) == 1
    found = row("a.txt")
    assert (found.status, found.doubt, found.provisional, found.attempts) == ("pending", True, False, 0)
    assert (found.error_kind, found.due_at <= timezone.now()) == ("", True)


def test_what_was_confirmed_as_another_version_is_left_alone() -> None:
    """An audit has looked at that one, not at this."""
    confirm("a.txt", "b.txt")
    seen = row("a.txt").version
    assert distrust([replica.pk for replica in Replica.objects.all()], version=seen) == 1
    assert row("b.txt").status == "synced"
