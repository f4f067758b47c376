"""What ``manage.py check`` says about the settings: each message names a setting and says what to write instead.

Nothing here asks the network. The ids are documented where they are made; a number is never used again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core import checks
from django.core.checks import CheckMessage

from replicator.checks import celery, database, nodes, private, settings, staging, storages, targets
from replicator.ledger.database import alias


def register() -> None:
    checks.register(check, "replicator")
    checks.register(check_ledger, checks.Tags.database)


def check(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:
    """Everything that is wrong. What stands on broken settings is not looked at: one cause, one message."""
    messages = list(settings.problems_of_settings())
    if messages:
        return messages
    return [
        *settings.what_settings_became(),
        *settings.problems_of_targets(),
        *storages.problems(),
        *nodes.problems(),
        *private.problems(),
        *staging.problems(),
        *database.problems(),
        *celery.problems(),
    ]


def check_ledger(
    app_configs: Sequence[AppConfig] | None = None, databases: Sequence[str] | None = None, **_: Any
) -> list[CheckMessage]:
    """What the ledger says of the targets: for ``migrate``, and ``check --database default``, which may ask it."""
    if alias() not in (databases or ()) or list(settings.problems_of_settings()):
        return []
    return list(targets.problems())
