"""Checks of Celery, as far as deliveries depend on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from celery import current_app
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning

from replicator.conf import config


def problems() -> Iterator[CheckMessage]:
    """W015 to W019 and E018: settings that break promises without an error of their own."""
    if not config().targets:
        return
    app: Any = current_app
    if app.main == "default":
        # The app that Celery makes up when a project has told of none.
        yield Warning(
            "This process has no Celery app: saves can't wake workers, and files wait for the sweep.",
            hint="Import your Celery app in the site's __init__.py: from yoursite.celery import app as celery_app.",
            id="replicator.W015",
        )
        return
    conf = app.conf
    if any("pickle" in str(kind) for kind in conf.accept_content or ()):
        yield Warning(
            "Celery's accept_content has pickle: whoever can write to the broker can run code in the workers.",
            hint='Write accept_content = ["json"]; the replicator sends nothing else.',
            id="replicator.W016",
        )
    if conf.task_always_eager:
        yield Warning(
            "Celery's task_always_eager is on: every save would wait until all targets have answered.",
            hint="Remove task_always_eager, and run a worker; tests can call replicator.delivery.deliver(target).",
            id="replicator.W017",
        )
    limits = {"task_time_limit": conf.task_time_limit, "task_soft_time_limit": conf.task_soft_time_limit}
    for name, limit in limits.items():
        if limit and limit <= config().run_seconds:
            yield Error(
                f'Celery\'s {name} is {limit:g}, and REPLICATOR["RUN_SECONDS"] {config().run_seconds:g}: '
                "workers are killed in the middle of their work, again and again.",
                hint=f"Write a {name} that has room for a run and its largest file, such as 21600.",
                id="replicator.E018",
            )
    if not settings.USE_TZ and not conf.enable_utc:
        yield Warning(
            "USE_TZ is False and Celery's enable_utc too: in some zones beat then sends nothing, and says nothing.",
            hint="Write enable_utc = True for Celery, or USE_TZ = True.",
            id="replicator.W018",
        )
    if not apps.is_installed("django_celery_beat") and not _sweeps(conf.beat_schedule or {}):
        yield Warning(
            "Nothing runs replicator.sweep: failed deliveries are not tried again, lost messages not made up for.",
            hint='Add "django_celery_beat" to INSTALLED_APPS and run beat with its DatabaseScheduler; or put '
            "replicator.sweep (10 s), replicator.probe (5 s), replicator.sample (60 s) and replicator.prune (600 s) "
            "into beat_schedule.",
            id="replicator.W019",
        )


def _sweeps(schedule: dict[str, dict[str, Any]]) -> bool:
    return any(entry.get("task") == "replicator.sweep" for entry in schedule.values())
