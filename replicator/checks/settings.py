"""Checks of ``REPLICATOR`` itself, and of each target."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Warning
from django.core.exceptions import ImproperlyConfigured

from replicator import conf
from replicator.conf import config
from replicator.targets import get_target


def problems_of_settings() -> Iterator[CheckMessage]:
    """E001: a key, a type or a value that is wrong."""
    raw = getattr(settings, "REPLICATOR", {})
    for problem in (*conf.problems(raw), *conf.mogilefs_problems(), *conf.serving_problems()):
        yield Error(problem.message, hint=problem.hint, id="replicator.E001")


def what_settings_became() -> Iterator[CheckMessage]:
    """I023: settings of the ancestors, in today's words. W024: what they say is not what is done."""
    if alias := conf.mogilefs_ignored():
        yield Warning(
            f'MOGILEFS_DOMAIN and MOGILEFS_TRACKERS are ignored: REPLICATOR["TARGETS"][{alias!r}] is another one.',
            hint="Remove the two settings, or make them say the same.",
            id="replicator.W024",
        )
    for alias, target in conf.mogilefs_target().items():
        options = ", ".join(f'"{name}": {value!r}' for name, value in target.options.items())
        yield Info(
            f'MOGILEFS_DOMAIN and MOGILEFS_TRACKERS became REPLICATOR["TARGETS"][{alias!r}].',
            hint=f'They go on working. In today\'s words: "{alias}": '
            f'{{"BACKEND": "{target.backend}", "OPTIONS": {{{options}}}}}.',
            id="replicator.I023",
        )


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
