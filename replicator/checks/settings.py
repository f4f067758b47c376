"""Checks of ``REPLICATOR`` itself, and of each target."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured

from replicator import conf
from replicator.conf import config
from replicator.targets import get_target


def problems_of_settings() -> Iterator[CheckMessage]:
    """E001: a key, a type or a value that is wrong."""
    for problem in conf.problems(getattr(settings, "REPLICATOR", {})):
        yield Error(problem.message, hint=problem.hint, id="replicator.E001")


def problems_of_targets() -> Iterator[CheckMessage]:
    """E002: a target that can't be made; and whatever a target says of its options."""
    for alias in config().targets:
        try:
            target = get_target(alias)
        except ImproperlyConfigured as error:
            hint = f'Correct REPLICATOR["TARGETS"][{alias!r}].'
            yield Error(str(error), hint=hint, id="replicator.E002")
        else:
            yield from target.check()
