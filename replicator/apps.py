"""The Django application."""

from __future__ import annotations

from django.apps import AppConfig


class ReplicatorConfig(AppConfig):
    name = "replicator"
    verbose_name = "Replicator"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from replicator import checks, legacy, schedule  # they need the loaded apps
        from replicator.management import overriding

        legacy.apply()
        overriding.apply()
        checks.register()
        schedule.register()
