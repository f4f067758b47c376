"""Putting a file back on the local disk, read from a target that has it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.files import File
from django.db import DatabaseError

from replicator import ledger
from replicator.errors import DeliveryError
from replicator.ledger import nodes
from replicator.local import Digest, Entry, Identity, identity, is_in_the_way, traces
from replicator.models import MediaFile
from replicator.storage.holders import holders
from replicator.storage.reading import target_file
from replicator.storage.replicated import ReplicatedStorage
from replicator.targets import get_target
from replicator.targets.base import Target, TargetFile
from replicator.targets.http import PIECE


class NotRestored(Exception):
    """The file could not be put back; the message says why."""


def restore(storage: ReplicatedStorage, file: MediaFile, renew: Callable[[], None] = lambda: None) -> bool:
    """Put *file*, which is missing or not as it should be on this disk, in its place; False if somebody has written
    it since *file* was read, or is about to.

    What is put there is the ledger's version, by its size and SHA-256, or nothing is changed. *renew* is called again
    and again meanwhile, and may raise. Raises ``NotRestored``.
    """
    place = storage.path(file.name)
    if not file.sha256:
        raise NotRestored("no hash of it is known, by which a copy could prove itself")
    if Path(place).is_symlink() or is_in_the_way(place):
        raise NotRestored("a link or a folder is in its place: remove it")
    seen = identity(place, regular=False)
    sources = holders(storage.alias, file.name)
    if not sources:
        raise NotRestored("no target that can be read is known to have it as it should be")
    reasons: list[str] = []
    for alias in sources:
        try:
            entry = _staged(storage, file, get_target(alias), renew)
        except (_Unlike, ImproperlyConfigured) as error:
            reasons.append(f"{alias}: {error}")
        except OSError as error:
            raise NotRestored(f"it can't be written: {error.strerror or error}") from error
        else:
            return _put(storage, file, entry, seen)
    raise NotRestored("; ".join(reasons))


class _Unlike(Exception):
    """A target has not what it should, or can't be read."""


def _staged(storage: ReplicatedStorage, file: MediaFile, target: Target, renew: Callable[[], None]) -> Entry:
    """The version, whole and synced to the disk, beside its place. Its journal entry lets ``tidy`` finish, or undo,
    what is killed."""
    asked = target_file(storage, file.name)
    entry, _ = storage.staged(file.name, _Pulled(target, asked, Digest(file.size, file.sha256), renew))
    return entry


class _Pulled(File):  # type: ignore[type-arg]  # generic only in the stubs
    """A target's copy, as what a storage stages: it raises at its end, at the latest, if it is not *wanted*."""

    def __init__(self, target: Target, file: TargetFile, wanted: Digest, renew: Callable[[], None]) -> None:
        super().__init__(None, file.name)
        self._target, self._asked, self._wanted, self._renew = target, file, wanted, renew

    def chunks(self, chunk_size: int | None = None) -> Iterator[Any]:
        sha256, size = hashlib.sha256(), 0
        throttle = self._target.throttle
        try:
            with self._target.open(self._asked) as reader:
                while data := reader.read(throttle.at_most(PIECE)):
                    throttle.take(len(data))
                    self._renew()
                    size += len(data)
                    if size > self._wanted.size:
                        break
                    sha256.update(data)
                    yield data
        except FileNotFoundError:
            raise _Unlike("it is not there") from None
        except DeliveryError as error:
            raise _Unlike(str(error)) from error
        if size != self._wanted.size or sha256.hexdigest() != self._wanted.sha256:
            raise _Unlike("what it has is not what was recorded")


def _put(storage: ReplicatedStorage, file: MediaFile, entry: Entry, seen: Identity | None) -> bool:
    """Show what *entry* has staged, if the ledger still has this version and nobody is writing the name."""
    try:
        with ledger.hold(storage.alias, file.name) as row:
            if row is None or row.deleted or row.version != file.version or not nodes.hold_home(row):
                return False
            others = traces(os.fspath(storage.location)).get(file.name, ())
            # A write that is not committed, or was rolled back: ``tidy`` sees to what it left.
            if any(other.version != entry.version for other in others):
                return False
            entry.put_in_place_of(seen)
            return True
    except FileExistsError:
        return False
    except DatabaseError:  # somebody has the name for longer than is waited for
        return False
    except OSError as error:
        raise NotRestored(f"it can't be put in its place: {error.strerror or error}") from error
    finally:
        entry.close()
