"""What the settings say: that this site is one for staging, and what is copied from where."""

from __future__ import annotations

from django.core.files.storage import Storage, storages

from replicator.conf import config
from replicator.staging.base import NotCopied


def check_marked(source: str) -> None:
    """Return if this site is marked as staging, with this source. Raises ``NotCopied`` with what to write."""
    staging = config().staging
    if staging is None:
        raise NotCopied(
            "this site's settings do not mark it as one for staging: files here could be overwritten. If it is one, "
            f'write REPLICATOR["STAGING"] = {{"SOURCE": "{source or "live"}"}} into its settings, and never into the '
            "live site's."
        )
    if source != staging.source:
        raise NotCopied(
            f'REPLICATOR["STAGING"]["SOURCE"] is {staging.source!r}: copy from that, or write {source!r} there.'
        )


def source_alias(storage: Storage, source: str) -> str:
    """Alias of what has the files of *storage* on the live site: *source*, unless the settings say otherwise."""
    staging = config().staging
    if staging is None or not staging.sources:
        return source
    for alias, elsewhere in staging.sources.items():
        if getattr(storage, "alias", None) == alias or (alias in storages.backends and storages[alias] == storage):
            return elsewhere
    return source
