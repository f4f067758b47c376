"""A node that is gone for good: what is lost with it, and what nobody waits for any more."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.utils import timezone

from replicator.models import NodeState, Replica
from replicator.operating import audit, forgetting, runs
from replicator.operating.steering import NotStarted
from tests.operating.audits import Site

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def nodes(site: Site) -> Site:
    """web1 is here; web3 was, and had a disk of its own."""
    NodeState.objects.create(node="web1", seen_at=timezone.now())
    NodeState.objects.create(node="web3", seen_at=timezone.now() - timedelta(days=1))
    site.settings.REPLICATOR = {**site.settings.REPLICATOR, "SHARED_MEDIA": False, "NODE": "web3"}
    site.storage.save("c.txt", ContentFile(b"c"))
    site.settings.REPLICATOR = {**site.settings.REPLICATOR, "NODE": "web1"}
    return site


def test_a_file_that_no_target_was_to_have_is_lost_with_its_node(nodes: Site) -> None:
    """It was saved while all of them drained."""
    Replica.objects.filter(file__name="c.txt").delete()
    found = forgetting.plan("web3")
    assert found.confirm == "1"
    assert "c.txt" in " ".join(found.effect)
    with pytest.raises(NotStarted, match="--confirm 1"):
        forgetting.forget("web3")


def test_work_at_a_disk_that_is_gone_is_ended_with_its_node(nodes: Site) -> None:
    """And nobody is woken for it: messages to workers that are no more would stay in the broker for ever."""
    run = audit.begin("", {}, node="web3")
    sent: list[str] = []
    nodes.settings.REPLICATOR = {**nodes.settings.REPLICATOR}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("replicator.wake.send", lambda task, *messages, node="": bool(sent.append(node)))
        runs.sweep()
    assert sent == []
    forgetting.forget("web3", confirm=forgetting.plan("web3").confirm)
    run.refresh_from_db()
    assert run.state == "cancelled"
