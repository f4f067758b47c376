"""Where files are kept that are not in the default storage."""

from __future__ import annotations

from django.conf import settings
from django.core.files.storage import Storage, storages

from replicator.storage import MogileFSStorage

# Each has a class in MogileFS, as its copies are worth.


class AvatarStorage(MogileFSStorage):
    mogile_class = "avatar"


class ThumbStorage(MogileFSStorage):
    mogile_class = "thumb"


# Fields get a function, so that no migration has this machine's folders in it.


def avatars() -> Storage:
    return storages["avatars"]


def thumbs() -> Storage:
    return storages["thumbs"]


# The shapes: which of them there are is for the settings to say, and columns are there for all.


def _shape(alias: str) -> Storage:
    return storages[alias if alias in settings.STORAGES else "default"]


def assets() -> Storage:
    return _shape("assets")


def private() -> Storage:
    return _shape("private")


def archive() -> Storage:
    return _shape("archive")


def careful() -> Storage:
    return _shape("careful")


def cdn() -> Storage:
    return _shape("cdn")


def bucket() -> Storage:
    return _shape("bucket")
