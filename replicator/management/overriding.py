"""Which app's command a name stands for."""

from __future__ import annotations

from django.apps import apps
from django.core.management import get_commands

DJANGOS, OURS = "django.contrib.staticfiles", "replicator"


def apply() -> None:
    """Have ``collectstatic`` be ours instead of Django's own, wherever ``INSTALLED_APPS`` has us.

    Of two apps with one command Django takes the first, and people add us at the end. Django keeps what it found in
    this dictionary for the life of the process. Another app's command is left alone; a check tells of it.
    """
    commands = get_commands()
    if commands.get("collectstatic") == DJANGOS:
        commands["collectstatic"] = OURS
    elif not apps.is_installed(DJANGOS) and commands.get("collectstatic") == OURS:
        del commands["collectstatic"]
