"""Copying a live site's media to a staging site: the only package that writes the copies' tables."""

from replicator.staging.base import NotCopied
from replicator.staging.choices import Choices
from replicator.staging.copying import copy
from replicator.staging.progress import Progress, progress_of
from replicator.staging.runs import cancel, pause, prune, requeue, resume, start, sweep

__all__ = [
    "Choices",
    "NotCopied",
    "Progress",
    "cancel",
    "copy",
    "pause",
    "progress_of",
    "prune",
    "requeue",
    "resume",
    "start",
    "sweep",
]
