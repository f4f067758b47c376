"""Checks of what nodes with disks of their own need."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.db import connections

from replicator.conf import NODE, config
from replicator.ledger.database import alias as database_alias


def problems() -> Iterator[CheckMessage]:
    """E040: a node's name that is none, or of two targets. W041: nodes that are not asked for. W042: a database that
    other machines can't reach. W043: a node's name that may change."""
    conf = config()
    named = defaultdict(list)
    for alias, target in conf.targets.items():
        where = f'REPLICATOR["TARGETS"][{alias!r}]["OPTIONS"]["node"]'
        node = target.options.get("node", "")
        if not isinstance(node, str) or (node and not NODE.fullmatch(node)):
            yield Error(
                f"{where} is {node!r}.",
                hint='Write what REPLICATOR["NODE"] is on that node, such as "web1".',
                id="replicator.E040",
            )
        elif node:
            named[node].append(alias)
    for node, aliases in named.items():
        if len(aliases) > 1:
            yield Error(
                f"The targets {', '.join(aliases)} are all the media root of the node {node!r}: each would be sent "
                "what the other has.",
                hint="Keep one of them; or name the node that each is on.",
                id="replicator.E040",
            )
    if conf.shared_media:
        for node, aliases in named.items():
            yield Warning(
                f"The target {aliases[0]!r} names a node, {node!r}, but nodes have no disks of their own here.",
                hint='Write REPLICATOR["SHARED_MEDIA"] = False if they have, or remove the option "node".',
                id="replicator.W041",
            )
        return
    if connections[database_alias()].vendor == "sqlite":
        yield Warning(
            'REPLICATOR["SHARED_MEDIA"] is False, and the ledger is in SQLite, which no other machine can write.',
            hint="Use PostgreSQL; or remove SHARED_MEDIA if there is one machine only.",
            id="replicator.W042",
        )
    if not getattr(settings, "REPLICATOR", {}).get("NODE"):
        yield Warning(
            f'REPLICATOR["NODE"] is not set: this node is called {conf.node!r}, after the machine. Under another '
            "name it would not find its own files.",
            hint='Write REPLICATOR["NODE"], another one on each machine, such as "web1".',
            id="replicator.W043",
        )
