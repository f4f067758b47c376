"""The periodic tasks, seeded into django-celery-beat once: what people change in the admin afterwards stays."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db import connections
from django.db.models.signals import post_migrate

#: task → seconds between its runs
PERIODS = {
    "replicator.sweep": 10,
    "replicator.probe": 5,
    "replicator.sample": 60,
    "replicator.prune": 600,
}

#: task → hour and minute, of each night, in Celery's time zone
NIGHTLY = {"replicator.audit": (3, 17)}
#: Seconds after which one that no worker took waits for the next night.
_NIGHT = 4 * 3600


def seed(**_: Any) -> list[str]:
    """Add the entries that are not there yet; the names of those added. A removed entry comes back: disable it."""
    if not apps.is_installed("django_celery_beat"):
        return []
    names = ("IntervalSchedule", "CrontabSchedule", "PeriodicTask")
    interval, crontab, task = (apps.get_model("django_celery_beat", name) for name in names)
    added = []
    for name, seconds in PERIODS.items():
        if not task.objects.filter(name=name).exists():
            every = interval.objects.filter(every=seconds, period="seconds").first()
            every = every or interval.objects.create(every=seconds, period="seconds")
            # One that waited until the next was sent is worth nothing.
            task.objects.create(name=name, task=name, interval=every, expire_seconds=seconds)
            added.append(name)
    for name, (hour, minute) in NIGHTLY.items():
        if not task.objects.filter(name=name).exists():
            each_day = {"day_of_week": "*", "day_of_month": "*", "month_of_year": "*"}
            at = crontab.objects.filter(hour=str(hour), minute=str(minute), **each_day).first()
            at = at or crontab.objects.create(hour=str(hour), minute=str(minute))
            task.objects.create(name=name, task=name, crontab=at, expire_seconds=_NIGHT)
            added.append(name)
    return added


def _migrated(using: str, **_: Any) -> None:
    # After every app, since post_migrate comes when all tables are there; a project may migrate us alone, though.
    if "django_celery_beat_periodictask" in connections[using].introspection.table_names():
        seed()


def register() -> None:
    post_migrate.connect(_migrated, sender=apps.get_app_config("replicator"), dispatch_uid="replicator.schedule")
