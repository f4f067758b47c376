"""A site whose targets come and go."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import F
from django.utils import timezone

from replicator import ledger, operating
from replicator.conf import config
from replicator.ledger import life
from replicator.models import MediaFile, Replica, TargetRun, TargetState
from replicator.operating import joining
from replicator.operating.steering import Done, do
from tests.operating.audits import MEMORY, Site, at


def add_target(site: Site, alias: str) -> None:
    """Write it into the settings."""
    targets = {**site.settings.REPLICATOR["TARGETS"], alias: MEMORY}
    site.settings.REPLICATOR = {**site.settings.REPLICATOR, "TARGETS": targets}


def remove_target(site: Site, alias: str) -> None:
    targets = {name: entry for name, entry in site.settings.REPLICATOR["TARGETS"].items() if name != alias}
    site.settings.REPLICATOR = {**site.settings.REPLICATOR, "TARGETS": targets}


def add_empty(site: Site, alias: str) -> None:
    """A target that was added to the settings, and that a sweep has seen."""
    add_target(site, alias)
    sweep()


def sweep() -> None:
    """Of the targets, as if enough time had passed since the last."""
    joining._rests.clear()
    operating.sweep_targets()


def later() -> None:
    """As if all that happened had happened five minutes ago."""
    age = timedelta(minutes=5)
    TargetState.objects.update(phase_since=F("phase_since") - age)
    TargetRun.objects.update(started_at=F("started_at") - age, ended_at=F("ended_at") - age)
    Replica.objects.update(since=F("since") - age)


def state(target: str) -> TargetState:
    return TargetState.objects.get(pk=target)


def phase(target: str) -> str:
    return state(target).phase


def work(run: TargetRun | Done | None, *, most: int = 200) -> TargetRun:
    """Work at it until it has ended, as if all that it waits for were over."""
    if isinstance(run, Done):
        run = run.run
    assert run is not None
    for _ in range(most):
        operating.work(run.pk)
        run.refresh_from_db()
        if run.state != TargetRun.State.RUNNING:
            return run
        TargetRun.objects.filter(pk=run.pk).update(due_at=timezone.now() - timedelta(seconds=1))
    raise AssertionError(f"{run} goes on: {run.trouble}")


def retire(target: str, **options: Any) -> TargetRun:
    """Retire it, long ago enough that every process knows."""
    confirm = str(Replica.objects.at(target).count())
    done = do("retire", target, options=options, confirm=confirm)
    known_everywhere(target)
    return work(done)


def known_everywhere(target: str) -> None:
    """As if it had entered its phase a minute ago."""
    life.states().filter(pk=target).update(phase_since=timezone.now() - timedelta(minutes=1))
    life.forget()


def statuses(target: str) -> dict[str, str]:
    """Name → status of its replica at *target*."""
    return dict(Replica.objects.at(target).values_list("file__name", "status"))


def make_due(target: str) -> None:
    Replica.objects.at(target).pending().update(due_at=timezone.now() - timedelta(seconds=1))


def claim_one(target: str) -> ledger.Claim:
    """As a worker that is about to send it."""
    (claim,) = ledger.claim(target, 1).claims
    return claim


def lease_seconds() -> float:
    return config().lease_seconds


def days_pass() -> None:
    long_ago = timezone.now() - timedelta(days=2)
    MediaFile.objects.update(updated_at=long_ago)
    Replica.objects.update(synced_at=long_ago)


def change_settings(site: Site, change: Any) -> None:
    """What the targets hold stays there."""
    held = {alias: dict(at(alias).files) for alias in site.settings.REPLICATOR["TARGETS"]}
    change()
    for alias, files in held.items():
        if alias in site.settings.REPLICATOR["TARGETS"]:
            at(alias).files.update(files)
