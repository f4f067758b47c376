"""``python -m project.beat``: whether beat sends what is due, for a health check."""

from __future__ import annotations

import os
from datetime import datetime, timedelta

import django
from django.utils import timezone

#: Beat notes what it has sent at once; it sends something every few seconds.
LONGEST = timedelta(minutes=5)


def complaint(last: datetime | None, now: datetime) -> str:
    """What is wrong if beat has last sent something at *last*; empty: nothing."""
    if last is None:
        return "beat has not sent anything yet: look into its log, and whether all periodic tasks are disabled."
    if now - last > LONGEST:
        return f"beat last sent something {(now - last).total_seconds():.0f} seconds ago: look into its log."
    return ""


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    django.setup()
    from django_celery_beat.models import PeriodicTask

    sent = PeriodicTask.objects.filter(last_run_at__isnull=False).order_by("last_run_at")
    raise SystemExit(complaint(sent.values_list("last_run_at", flat=True).last(), timezone.now()) or 0)


if __name__ == "__main__":
    main()
