"""Checks of ``REPLICATOR`` itself, and of each target."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Warning
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import storages
from django.utils.module_loading import import_string

from replicator import ancestors, conf
from replicator.conf import config
from replicator.storage import DistributedStorage, replicated_storages
from replicator.targets import get_target


def problems_of_settings() -> Iterator[CheckMessage]:
    """E001: a key, a type or a value that is wrong."""
    raw = getattr(settings, "REPLICATOR", {})
    for problem in (*conf.problems(raw), *conf.ancestors_problems(), *conf.serving_problems()):
        yield Error(problem.message, hint=problem.hint, id="replicator.E001")


def what_settings_became() -> Iterator[CheckMessage]:
    """I023, I026 to I028, E050: what the ancestors named, in today's words. W024, W029: what there is beside."""
    if alias := ancestors.mogilefs_ignored():
        yield Warning(
            f'MOGILEFS_DOMAIN and MOGILEFS_TRACKERS are ignored: REPLICATOR["TARGETS"][{alias!r}] is another one.',
            hint="Remove the two settings, or make them say the same.",
            id="replicator.W024",
        )
    for alias, entry in ancestors.mogilefs_became().items():
        yield Info(
            f'MOGILEFS_DOMAIN and MOGILEFS_TRACKERS became REPLICATOR["TARGETS"][{alias!r}].',
            hint=f"They go on working. In today's words: {_entry(alias, entry)}.",
            id="replicator.I023",
        )
    for setting in ancestors.HOSTS:
        yield from _what_hosts_became(setting)
    for name, instead in ancestors.REPLACED.items():
        if hasattr(settings, name):
            yield Info(f"{name} says nothing any more.", hint=f"Remove it. {instead}", id="replicator.I028")
    if getattr(settings, "DUST_USE_LOCAL_FS", None) is not None:
        yield _what_local_files_became()
    yield from _what_storages_became()


def _what_hosts_became(setting: ancestors.Hosts) -> Iterator[CheckMessage]:
    became = ancestors.hosts_became()
    hosts = [host for host in setting.given() if host in became]
    if hosts:
        with_timeout = f" with {setting.timeout}" if getattr(settings, setting.timeout, None) else ""
        yield Info(
            f'{setting.hosts}{with_timeout} became REPLICATOR["TARGETS"]: {", ".join(map(repr, hosts))}.',
            hint="They go on working. In today's words: "
            f"{', '.join(_entry(host, became[host]) for host in hosts)}. Choose other aliases only "
            "before the first file is recorded: the ledger knows targets by them.",
            id="replicator.I026",
        )
    else:
        for name in (setting.hosts, setting.timeout):
            if getattr(settings, name, None):
                yield Info(
                    f'{name} says nothing any more: REPLICATOR["TARGETS"] names all of {setting.hosts}.',
                    hint=f'Remove {name}. Time-outs are options of a target: "connect_timeout", "read_timeout".',
                    id="replicator.I028",
                )
    if hosts and (others := sorted(ancestors.hosts_named())):
        yield Warning(
            f'{setting.hosts} names {", ".join(map(repr, hosts))}, and REPLICATOR["TARGETS"] other hosts: '
            f"{', '.join(map(repr, others))}. Files are sent to all of them.",
            hint=f'Name all that you mean in REPLICATOR["TARGETS"], and remove {setting.hosts}.',
            id="replicator.W029",
        )


def _what_local_files_became() -> CheckMessage:
    """I027, or I028 if there is no storage that it is for."""
    keep = ancestors.uses_local_files()
    kept = [s.alias for s in replicated_storages() if isinstance(s, DistributedStorage) and s.keep_local is keep]
    if not kept:
        return Info(
            "DUST_USE_LOCAL_FS says nothing: no storage in STORAGES is a DistributedStorage that goes by it.",
            hint=f'Remove it. What it said is the option "keep_local": {keep} of a storage.',
            id="replicator.I028",
        )
    result = "stay on this disk" if keep else "leave this disk once every target has them"
    return Info(
        f'DUST_USE_LOCAL_FS became the option "keep_local": {keep} of '
        f"{', '.join(f'STORAGES[{alias!r}]' for alias in kept)}.",
        hint=f"It goes on working: files {result}.",
        id="replicator.I027",
    )


def _what_storages_became() -> Iterator[CheckMessage]:
    """E050: a storage of an ancestor that is not installed any more."""
    entries: Any = storages.backends
    for alias, entry in entries.items():
        path = entry.get("BACKEND")
        if path in ancestors.CLASSES:
            try:
                import_string(path)
            except ImportError:
                yield Error(
                    f"STORAGES[{alias!r}] names {path}, which can't be imported.",
                    hint=f'Write "{ancestors.CLASSES[path]}"; what else there is to do is in docs/migrating.md.',
                    id="replicator.E050",
                )


def _entry(alias: str, entry: ancestors.Entry) -> str:
    """As one would write it; none of these has a password."""
    options = ", ".join(f'"{name}": {value!r}' for name, value in entry["OPTIONS"].items())
    return f'"{alias}": {{"BACKEND": "{entry["BACKEND"]}", "OPTIONS": {{{options}}}}}'


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
