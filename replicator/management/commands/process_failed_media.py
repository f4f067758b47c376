"""``manage.py process_failed_media``, as django_dust had it: for the cron jobs that call it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from replicator import delivery, ledger
from replicator.conf import config
from replicator.delivery import Summary
from replicator.ledger import database, health, life, nodes
from replicator.management.verbs.base import number_of, size_of
from replicator.models import Replica, TargetState
from replicator.targets import get_target


class Command(BaseCommand):
    help = (
        "Sends what is due to the media hosts, in this process: what workers do all the time. For cron jobs made for "
        "django_dust. The exit code is 0 also if a host is down: what it lacks is sent next time."
    )
    # Cron mails what a command prints, and checks print what settings became. Wrong ones stop this one all the same.
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            targets = sorted(config().targets)
            for target in targets:
                get_target(target)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        suspects = health.suspects().intersection(targets) - life.left_alone()
        for target, answers in delivery.probe(*sorted(suspects)).items():
            if answers:
                # As it always did: what failed is tried when cron says, not when it is its turn.
                ledger.hasten(target)
        if not config().deliverer:
            nodes.share()  # as the sweep does
        due = ledger.due_targets(sorted(set(targets) - life.closed_now()))
        # No beat has them tried here.
        due += sorted(health.trials_due().intersection(targets))
        done: dict[str, Summary] = {}
        if due:
            # Each in a thread of its own: a host that hangs must not keep the others waiting.
            with ThreadPoolExecutor(len(due)) as pool:
                done = dict(zip(due, pool.map(_deliver, due), strict=True))
        if options["verbosity"] >= 1:
            self._tell(targets, done)

    def _tell(self, targets: list[str], done: dict[str, Summary]) -> None:
        rows = Replica.objects.using(database.alias())
        states = {state.target: state for state in TargetState.objects.using(database.alias())}
        left = failed = 0
        for target in targets:
            pending, refused = rows.at(target).pending().count(), rows.at(target).failed().count()
            left, failed = left + pending, failed + refused
            parts = [_done(done[target])] if target in done else ["nothing was due"]
            state = states.get(target)
            if state is not None and (closed := life.why_closed(target)):
                parts.append(f"it is down: {state.reason}" if closed == "down" else f"it is {closed}")
            self.stdout.write(f"{target}: {'; '.join(parts)}. {pending:,} pending, {refused:,} failed.")
        if not targets:
            self.stdout.write('REPLICATOR["TARGETS"] is empty: nothing replicates.')
        elif not left and not failed:
            self.stdout.write("Every target has everything.")
        if failed:
            self.stdout.write('What failed is not sent again by itself: see "manage.py replicator status".')


def _deliver(target: str) -> Summary:
    """Work until nothing is due at *target*, however long it takes. If its breaker is open: once a trial succeeds."""
    try:
        if not health.is_down(target):
            return delivery.deliver(target, seconds=float("inf"))
        tried = delivery.deliver(target)
        return tried if health.is_down(target) else _sum(tried, delivery.deliver(target, seconds=float("inf")))
    finally:
        # Those of this thread, which ends.
        connections.close_all()


def _sum(one: Summary, other: Summary) -> Summary:
    return Summary(
        one.put + other.put, one.deleted + other.deleted, one.failed + other.failed, one.bytes + other.bytes
    )


def _done(summary: Summary) -> str:
    if summary.skipped == "busy":
        return "workers are at it"
    parts = [f"sent {number_of(summary.put, 'file')} ({size_of(summary.bytes)})"]
    if summary.deleted:
        parts.append(f"deleted {summary.deleted:,}")
    if summary.failed:
        parts.append(f"{number_of(summary.failed, 'attempt')} failed")
    return ", ".join(parts)
