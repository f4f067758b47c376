"""Whether a media host shows a storage's own folder: the file here is then that host's copy, too."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4
from weakref import WeakKeyDictionary

from replicator import local
from replicator.storage.asking import Question, answers
from replicator.targets import get_target
from replicator.targets.base import Target, TargetFile, url_path
from replicator.targets.webdav import WebDAVTarget

if TYPE_CHECKING:
    from replicator.storage.replicated import ReplicatedStorage

log = logging.getLogger(__name__)

#: Target → folders here → whether it shows what is in them. Asked once by each process.
_known: WeakKeyDictionary[Target, dict[str, bool]] = WeakKeyDictionary()


def shown_by(aliases: Iterable[str], storage: ReplicatedStorage, seconds: float) -> Mapping[str, bool | None]:
    """Which of these targets show what is in the folder of *storage*; None: one gave no answer within *seconds*.

    No setting tells whether a WebDAV server is this machine, or gets from here what it lacks. Of other kinds it is
    known where they keep their files.
    """
    root, prefix = os.fspath(storage.location), url_path(storage.base_url or "/")
    targets = {alias: get_target(alias) for alias in aliases}
    asked = {alias: target for alias, target in targets.items() if isinstance(target, WebDAVTarget)}
    questions: dict[str, list[Question]] = {
        alias: [(alias, partial(_ask, target, storage.alias, prefix, root))]
        for alias, target in asked.items()
        if root not in _known.get(target, ())
    }
    for _ in answers(questions, dict.fromkeys(questions, 1), seconds):
        pass
    return {alias: _known.get(target, {}).get(root) if alias in asked else False for alias, target in targets.items()}


def _ask(target: Target, alias: str, prefix: str, root: str) -> None:
    """Note whether *target* knows a file that was put here just now, and that nobody sent."""
    name = f"{local.ASKING}{uuid4().hex}"
    place = Path(root, name)
    place.touch()
    try:
        shows = target.stat(TargetFile(alias, name, prefix=prefix)) is not None
    finally:
        place.unlink(missing_ok=True)
    if shows:
        log.error("target shows files of this disk: they stay", extra={"target": target.alias, "storage": alias})
    _known.setdefault(target, {})[root] = shows
