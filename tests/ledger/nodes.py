"""Being one node or another, in tests of sites whose nodes have disks of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pytest_django.fixtures import Settings

MEMORY = "replicator.testing.MemoryTarget"


class As(Protocol):
    """``as_node("web2")``: from here on this process is that node; None: any, since they share a disk.

    *targets*: aliases, or their options by alias.
    """

    def __call__(
        self, node: str | None, *, targets: Sequence[str] | Mapping[str, Mapping[str, Any]] = ..., **more: Any
    ) -> None: ...


def become(settings: Settings, base: Mapping[str, Any]) -> As:
    known: dict[str, Mapping[str, Any]] = {"media1": {}, "media2": {}}

    def as_node(
        node: str | None, *, targets: Sequence[str] | Mapping[str, Mapping[str, Any]] = (), **more: Any
    ) -> None:
        if targets:
            known.clear()
            known.update(targets if isinstance(targets, Mapping) else {alias: {} for alias in targets})
        entries = {alias: {"BACKEND": MEMORY, "OPTIONS": dict(options)} for alias, options in known.items()}
        whose = {} if node is None else {"NODE": node, "SHARED_MEDIA": False}
        settings.REPLICATOR = {**base, "TARGETS": entries, **whose, **more}

    as_node("web1")
    return as_node
