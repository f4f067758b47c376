"""Where avatars and thumbs are kept: each has a class in MogileFS, as its copies are worth."""

from __future__ import annotations

from django.core.files.storage import Storage, storages

from replicator.storage import MogileFSStorage


class AvatarStorage(MogileFSStorage):
    mogile_class = "avatar"


class ThumbStorage(MogileFSStorage):
    mogile_class = "thumb"


# Fields get a function, so that no migration has this machine's folders in it.


def avatars() -> Storage:
    return storages["avatars"]


def thumbs() -> Storage:
    return storages["thumbs"]
