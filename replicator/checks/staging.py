"""Checks of what a staging site needs that live media are copied to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured

from replicator.conf import config, nearest
from replicator.staging.base import NotCopied
from replicator.staging.destinations import destination_of
from replicator.staging.filefields import file_fields
from replicator.staging.marked import source_alias
from replicator.staging.safety import check_apart
from replicator.staging.sources import source_of
from replicator.targets import get_target
from replicator.targets.storageentries import entries, replicates

_WHERE = 'REPLICATOR["STAGING"]'
_HINT = "What is saved or deleted here would be saved or deleted there, by a copy and without one."


def problems() -> Iterator[CheckMessage]:
    """E038, E039, E046: a source that is none. W047: a field that can't be copied to. E044: one that must not be, for
    it is where the live site's files are."""
    conf = config().staging
    if conf is None:
        return
    messages = list(_problems_of_source(f'{_WHERE}["SOURCE"]', conf.source))
    for here, source in conf.sources.items():
        where = f'{_WHERE}["SOURCES"]'
        if here not in entries():
            messages.append(
                Error(
                    f"{where} names the storage {here!r}, which STORAGES does not have.",
                    hint=nearest(here, list(entries())),
                    id="replicator.E038",
                )
            )
        messages += _problems_of_source(f"{where}[{here!r}]", source)
    yield from messages
    if not messages and all(map(_is_made, config().targets)):
        yield from _problems_of_fields(conf.source)


def _problems_of_source(where: str, alias: str) -> Iterator[CheckMessage]:
    known = [each for each in entries() if not replicates(each)]
    if alias not in entries():
        yield Error(
            f"{where} is {alias!r}, which STORAGES does not have.", hint=nearest(alias, known), id="replicator.E038"
        )
    elif replicates(alias):
        yield Error(
            f"{where} is {alias!r}, a storage of this site, which replicates.",
            hint=f"Name one that reads the live site's files. {nearest(alias, known)}",
            id="replicator.E039",
        )
    else:
        try:
            source_of(alias)
        except NotCopied as error:
            yield Error(f"{where}: {error}", hint=f"Correct STORAGES[{alias!r}].", id="replicator.E046")


def _is_made(target: str) -> bool:
    """Whether it can be made: its own check says why not."""
    with suppress(ImproperlyConfigured):
        get_target(target)
        return True
    return False


def _problems_of_fields(source: str) -> Iterator[CheckMessage]:
    """One message for each storage, however many fields have it."""
    fields = {id(field.storage): (of.label, field) for of in reversed(file_fields()) for field in of.fields}
    for label, field in fields.values():
        where = f"{label}.{field.name}"
        try:
            destination = destination_of(field.storage)
        except (NotCopied, ImproperlyConfigured, ImportError, TypeError, ValueError) as error:
            hint = "Correct its storage; or leave it out of copies: choose the others with --only."
            yield Warning(f"{where} takes no copies. {error}", hint=hint, id="replicator.W047")
            continue
        alias = source_alias(field.storage, source)
        try:
            check_apart(source_of(alias), [destination])
        except NotCopied as error:
            yield Error(f"{where} must not be copied to. {error}", hint=_HINT, id="replicator.E044")
