"""A Django storage that keeps files locally, and records each write for every target."""

from __future__ import annotations

import errno
import mimetypes
import os
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from django.core.exceptions import ImproperlyConfigured
from django.core.files import File
from django.core.files.storage import storages
from django.core.files.utils import validate_file_name
from django.db import transaction
from django.utils._os import safe_makedirs
from django.utils.deconstruct import deconstructible
from django.utils.encoding import filepath_to_uri
from django.utils.functional import cached_property

from replicator import ledger
from replicator.conf import config, nearest
from replicator.ledger.database import alias as database_alias
from replicator.local import Digest, Entry
from replicator.storage import copies, upkeep
from replicator.storage.belonging import problem
from replicator.storage.names import cleaned, owned
from replicator.storage.options import check_copies, check_source, folder
from replicator.storage.reading import Reading
from replicator.storage.seen import Seen
from replicator.storage.transactions import LocalChange, deletes, on_commit
from replicator.storage.urls import replica_url
from replicator.storage.writing import WritableFile


@deconstructible(path="replicator.storage.ReplicatedStorage")
class ReplicatedStorage(Reading):
    """Files here, and a copy on every target.

    *alias*: its name in ``STORAGES``, which workers find it by. *targets*: aliases in ``REPLICATOR["TARGETS"]``;
    all of them unless given. *prefix*: a folder below *location* and *base_url* that all its files are in.

    *wait*: a save returns when *min_copies* targets (all unless given) have confirmed the file, or raises
    ``NotSynced`` after so many seconds; None: it waits for no target. *keep_local*: False if the local file is to be
    removed once *min_copies* targets have it. *serve_from*: ``"origin"``, or ``"replicas"`` for ``url()`` to give the
    URL of a target that holds the file.

    The other options are those of ``FileSystemStorage``, ``allow_overwrite`` also on Django 4.2.

    A write is part of the caller's transaction: it is recorded with it, and announced when it commits. Until then
    readers on this machine see it already, as with any file; after a rollback, ``tidy`` (the task
    ``replicator.prune``) puts back what was there.
    """

    #: For targets that know classes; a subclass sets it.
    mogile_class = ""
    #: As the option; a subclass sets it.
    prefix = ""

    def __init__(
        self,
        location: str | os.PathLike[str] | None = None,
        base_url: str | None = None,
        file_permissions_mode: int | None = None,
        directory_permissions_mode: int | None = None,
        allow_overwrite: bool = False,
        *,
        alias: str = "default",
        targets: Sequence[str] | None = None,
        mogile_class: str | None = None,
        prefix: str | None = None,
        keep_local: bool = True,
        min_copies: int | None = None,
        wait: float | None = None,
        serve_from: str = "origin",
    ) -> None:
        super().__init__(
            location,
            base_url,
            file_permissions_mode,
            directory_permissions_mode,
        )
        self._allow_overwrite = allow_overwrite
        self.alias = alias
        self._targets = targets
        if mogile_class is not None:
            self.mogile_class = mogile_class
        self.prefix = folder(self.prefix if prefix is None else prefix)
        check_copies(keep_local=keep_local, min_copies=min_copies, wait=wait)
        self.keep_local, self._min_copies, self.wait = keep_local, min_copies, wait
        check_source(serve_from)
        self.serve_from = serve_from

    @property
    def min_copies(self) -> int:
        """How many targets must have a file: until a save returns, or the local file goes."""
        return len(self.targets) if self._min_copies is None else self._min_copies

    @property
    def targets(self) -> Sequence[str]:
        """Aliases of the targets that must hold this storage's files. Raises ``ImproperlyConfigured``."""
        known = config().targets
        if self._targets is None:
            return list(known)
        for target in self._targets:
            if target not in known:
                raise ImproperlyConfigured(
                    f"STORAGES[{self.alias!r}] names the target {target!r}, "
                    f'which REPLICATOR["TARGETS"] does not have. {nearest(target, list(known))}'
                )
        return self._targets

    # Writing

    def save(self, name: str | None, content: Any, max_length: int | None = None) -> str:
        """Write *content* under *name*, or a name like it that is free; the name it got.

        The ledger decides which names are free, so two web hosts never take the same one.
        """
        if name is None:
            name = str(content.name)
        if not hasattr(content, "chunks"):
            content = File(content, name)
        validate_file_name(name, allow_relative_path=True)
        name = owned(self, self.get_available_name(name, max_length=max_length))
        return self._write(name, content, max_length, replace=self._allow_overwrite)

    def replace(self, name: str, content: File[Any]) -> str:
        """Write *content* under exactly *name*, whatever was there."""
        return self._write(owned(self, name), content, None, replace=True)

    def replace_seen(self, name: str, content: File[Any], seen: Seen) -> bool:
        """Write *content* under exactly *name*, if what is there is still what ``look`` has *seen*; whether it was.

        For files that come in bulk, from elsewhere: it waits for no target, whatever *wait* says.
        """
        entry, digest = self.staged(owned(self, name), content)
        write = self.as_write(entry.name, digest, entry.version)
        try:
            with transaction.atomic(using=database_alias()):
                recorded = ledger.record_over(write, self.targets, seen.version)
                if not recorded:
                    raise FileExistsError(errno.EEXIST, "somebody else has written it", entry.name)  # noqa: TRY301
                # The ledger first, as in replace: none but a save that finds the name free comes in between.
                entry.put_in_place_of(seen.here)
                keep = recorded is ledger.Recorded.DISTURBED
                on_commit(LocalChange(self.alias, entry, delete=False, keep=keep), self.targets)
        except BaseException as error:
            # Once it is shown, only tidy can know whether that has been committed.
            if not entry.is_in_place():
                entry.close()
            if isinstance(error, FileExistsError):
                return False
            raise
        return True

    def _write(self, name: str, content: File[Any], max_length: int | None, *, replace: bool) -> str:
        entry, digest = self.staged(name, content)
        while not self._commit_to(entry, digest, replace=replace or deletes(self.alias, entry.name)):
            entry = self._under_another_name(entry, max_length)
        return entry.name

    def staged(self, name: str, content: File[Any]) -> tuple[Entry, Digest]:
        """A new journal entry, and *content* beside its place; to be shown, and in any case closed, by the caller."""
        self._check_belonging()
        copies.check(self)
        self._make_directory(name)
        entry = Entry(self._root, name, uuid4())
        entry.open()
        try:
            digest = entry.stage(content, self.file_permissions_mode)
            self._ensure_location_group_id(entry.new)  # type: ignore[attr-defined]  # the stubs lack it
        except BaseException:
            entry.close()
            raise
        return entry, digest

    def _commit_to(self, entry: Entry, digest: Digest, *, replace: bool) -> bool:
        """Record what *entry* has staged and show it; False if its name is not free (and may not be replaced)."""
        write = self.as_write(entry.name, digest, entry.version)
        with transaction.atomic(using=database_alias(), savepoint=False):
            if replace:
                # The ledger first: its row lock is what keeps a delete from removing what is put in place here.
                recorded = ledger.record(write, self.targets)
                entry.put_in_place()
            else:
                try:
                    entry.put_in_free_place()
                except FileExistsError:
                    return False
                except OSError as error:
                    raise _explained(error, self._root) from error
                recorded = ledger.record(write, self.targets, only_if_free=True)
                if not recorded:
                    # Another web host took the name just now. What was put here is not removed here: only tidy,
                    # alone with the name, can know that nobody has put his own in its place.
                    return False
                if not entry.is_in_place():
                    # Between these two lines a delete of this name took it away, or at a node that is a target what
                    # was sent here for it before came, and was settled. Nothing more can come before the commit: the
                    # rows are locked.
                    entry.show(entry.new)
            change = LocalChange(self.alias, entry, delete=False, keep=recorded is ledger.Recorded.DISTURBED)
            on_commit(change, self.targets, copies.wanted(self, entry))
        return True

    def as_write(self, name: str, digest: Digest, version: UUID) -> ledger.Write:
        """What is recorded of a write of this content."""
        content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return ledger.Write(
            self.alias, name, digest.size, digest.sha256, content_type, self.mogile_class, version=version
        )

    def _under_another_name(self, entry: Entry, max_length: int | None) -> Entry:
        folder, base = posixpath.split(entry.name)
        root, extension = os.path.splitext(base)
        wanted = posixpath.join(folder, self.get_alternative_name(root, extension))
        name = self._cleaned(self.get_available_name(wanted, max_length=max_length))
        other = Entry(entry.root, name, uuid4())
        other.open()
        os.link(entry.new, other.new)
        return other

    def delete(self, name: str) -> None:
        """Make the file not exist, here and at every target. Already absent is success.

        The local file goes when the transaction commits. A folder is removed here, if it is empty, and is none of
        the targets' business.
        """
        if not name:
            raise ValueError("The name must be given to delete().")
        name = owned(self, name)
        self._check_belonging()
        place = Path(self.path(name))
        is_folder = place.is_dir() and not place.is_symlink()
        # Of a file that has gone from here, or is another node's, the name may be a folder's by now.
        if is_folder and not (self._may_be_old and ledger.is_recorded(self.alias, name)):
            place.rmdir()
            return
        entry = Entry(self._root, name, uuid4())
        entry.open()
        write = ledger.Write(self.alias, name, deleted=True, version=entry.version)
        with transaction.atomic(using=database_alias(), savepoint=False):
            ledger.record(write, self.targets)
            if not is_folder:
                entry.keep_old()
            on_commit(LocalChange(self.alias, entry, delete=True), self.targets)

    def _open(self, name: str, mode: str = "rb") -> File[Any]:
        if set(mode) & set("wax+"):
            return WritableFile(self, name, mode)
        return self._open_to_read(name, mode)

    # Names

    def url(self, name: str | None) -> str:
        """Where browsers find it: at the origin, or with *serve_from* ``"replicas"`` at a target: ``replica_url``."""
        return (self.serve_from == "replicas" and name and replica_url(self, name)) or super().url(name)

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        if self._allow_overwrite and not (max_length and len(name) > max_length):
            return name  # Django 4.2 does not know allow_overwrite
        return super().get_available_name(name, max_length=max_length)

    # Upkeep

    def tidy(self) -> int:
        """Undo what killed and rolled back writes left here, if it is older than ``ORPHAN_GRACE``, and release what
        may go by now; the number of both."""
        return upkeep.tidy(self)

    # Places

    @cached_property
    def base_location(self) -> str:
        location = os.fspath(super().base_location)
        return os.path.join(location, self.prefix) if self.prefix and location else location

    @cached_property
    def base_url(self) -> str:
        url = super().base_url
        return f"{url.rstrip('/')}/{filepath_to_uri(self.prefix)}/" if self.prefix and url else url

    @property
    def _root(self) -> str:
        return os.fspath(self.location)

    def _cleaned(self, name: str) -> str:
        return cleaned(self, name)

    def _make_directory(self, name: str) -> None:
        directory = os.path.dirname(self.path(name))
        try:
            if self.directory_permissions_mode is not None:
                safe_makedirs(directory, self.directory_permissions_mode, exist_ok=True)
            else:
                os.makedirs(directory, exist_ok=True)
        except FileExistsError as error:
            raise FileExistsError(f"{directory} exists and is not a directory.") from error

    def _check_belonging(self) -> None:
        if self.problem_with_alias:
            raise ImproperlyConfigured(self.problem_with_alias)

    @cached_property
    def problem_with_alias(self) -> str:
        """Why workers would not find this storage's files through its alias, and what to write; empty if they do."""
        return problem(self, ReplicatedStorage)


def _explained(error: OSError, location: str) -> OSError:
    if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP):
        return OSError(
            error.errno, f"the file system of {location} has no hard links; put MEDIA_ROOT on one that has"
        )
    return error


def replicated_storages() -> Iterator[ReplicatedStorage]:
    """Those in ``STORAGES`` that replicate. One that can't be made is passed over: a check says what it lacks."""
    for alias in storages.backends:
        with suppress(ImproperlyConfigured, ImportError, TypeError, ValueError):
            storage: Any = storages[alias]
            # Static files of a site that collects none (no STATIC_ROOT) have no place here.
            if isinstance(storage, ReplicatedStorage) and storage.location:
                yield storage
