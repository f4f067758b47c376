"""The targets of this process, by alias."""

from __future__ import annotations

import inspect
from functools import cache

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from replicator import ancestors
from replicator.conf import config, nearest
from replicator.targets.base import Target


@cache
def get_target(alias: str) -> Target:
    """The one instance for *alias*. Raises ``ImproperlyConfigured`` with what to write instead."""
    targets = config().targets
    where = f'REPLICATOR["TARGETS"][{alias!r}]'
    if alias not in targets:
        raise ImproperlyConfigured(f"There is no {where}. {nearest(alias, list(targets))}")
    entry = targets[alias]
    try:
        backend = import_string(entry.backend)
    except ImportError as error:
        raise ImproperlyConfigured(f"{where}: BACKEND {entry.backend!r} can't be imported: {error}") from error
    if not (inspect.isclass(backend) and issubclass(backend, Target)):
        raise ImproperlyConfigured(
            f"{where}: BACKEND {entry.backend!r} is no target. Write a subclass of replicator.targets.base.Target."
        )
    _refuse_unknown_options(where, backend, dict(entry.options))
    try:
        return backend(alias, **entry.options)
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"{where}: OPTIONS: {error}") from error


def _refuse_unknown_options(where: str, backend: type[Target], options: dict[str, object]) -> None:
    known: set[str] = set()
    # A constructor that passes **options on takes what its bases take.
    for base in backend.__mro__:
        if "__init__" in base.__dict__:
            parameters = inspect.signature(base.__dict__["__init__"]).parameters.values()
            known |= {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
            if all(p.kind is not p.VAR_KEYWORD for p in parameters):
                break
    for name in options.keys() - known:
        raise ImproperlyConfigured(f"{where}: OPTIONS has an unknown key {name!r}. {nearest(name, sorted(known))}")


def _forget(*, setting: str, **_: object) -> None:
    if setting in ("REPLICATOR", "STORAGES", "MEDIA_URL", "MOGILEFS_MEDIA_URL") or setting in ancestors.ALL:
        get_target.cache_clear()


setting_changed.connect(_forget, dispatch_uid="replicator.targets")
