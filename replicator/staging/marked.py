"""That live media are copied only to a site whose settings say that it is one for staging."""

from __future__ import annotations

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
