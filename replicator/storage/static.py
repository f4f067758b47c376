"""Django's storages of static files, with a copy on every target."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.staticfiles.storage import ManifestFilesMixin, StaticFilesStorage
from django.core.exceptions import ImproperlyConfigured
from django.core.files import File

from replicator import delivery
from replicator.storage.belonging import nested
from replicator.storage.collecting import Run
from replicator.storage.names import owned
from replicator.storage.replicated import ReplicatedStorage
from replicator.storage.transactions import deletes
from replicator.waiting import Awaited, Left, NotSynced, report, wait


def _nobody(_: Left) -> None:
    pass


class ReplicatedStaticFilesStorage(ReplicatedStorage, StaticFilesStorage):
    """Static files here, in ``STATIC_ROOT``, and a copy on every target.

    Takes the options of ``ReplicatedStorage``; *alias* is ``"staticfiles"`` unless given. A name is what its file is
    known by to pages, so a save never takes another one, and several machines may collect the same files.
    """

    #: Another machine's are no use: each collects all of them for itself, and builds may have no database.
    _reads_back = False

    def __init__(self, *args: Any, alias: str = "staticfiles", **options: Any) -> None:
        if not options.get("keep_local", True):
            raise ImproperlyConfigured("keep_local is for media: collectstatic needs the files here. Leave it out.")
        if options.get("serve_from", "origin") != "origin":
            raise ImproperlyConfigured(
                "serve_from is for media: each {% static %} would cost a query. Leave it out, and write STATIC_URL = "
                '"https://static.example.com/static/", a name that your hosts share: each has all static files.'
            )
        if options.get("wait") is not None:
            raise ImproperlyConfigured(
                '"wait" is for uploads: collectstatic waits for targets once, at its end, as long as the option '
                '"manifest_wait" of ReplicatedManifestStaticFilesStorage says'
            )
        self._run: Run | None = None
        super().__init__(*args, alias=alias, **options)

    @contextmanager
    def collecting(self, tell: Callable[[Left], object] = _nobody) -> Iterator[Run]:
        """Have what the block writes and deletes come true at its end, if it ends well. See ``Run``.

        *tell* hears how the wait for targets goes, if there is one. May raise ``NotSynced``.
        """
        self._check_belonging()
        run = self._run = Run(self)
        try:
            yield run
            run.record()
            if run.last is not None:
                run.last(frozenset(run.names), tell)
                run.record()
            run.remove()
        except BaseException:
            run.undo()
            raise
        finally:
            self._run = None

    def exists(self, name: str) -> bool:
        """Whether the file is here. Another machine's do not count: each collects all of them for itself."""
        relative = os.path.relpath(self.path(name), self.location)
        if (self._run is not None and self._run.hides(relative)) or deletes(self.alias, relative):
            return False
        return StaticFilesStorage.exists(self, name)

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        """What ``collectstatic --clear`` would delete: not what is another storage's."""
        folders, files = super().listdir(path)
        others = nested(self)
        return [folder for folder in folders if posixpath.normpath(posixpath.join(path, folder)) not in others], files

    def delete(self, name: str) -> None:
        if self._run is None:
            super().delete(name)
        else:
            self._run.delete(owned(self, name))

    def _write(self, name: str, content: File[Any], max_length: int | None, *, replace: bool) -> str:
        if self._run is None:
            return super()._write(name, content, max_length, replace=True)
        self._make_directory(name)
        self._run.put(name, content)
        return name

    def _save(self, name: str, content: File[Any]) -> str:
        """What Django's post-processing calls, past ``save``."""
        return self.replace(name, content)


class ReplicatedManifestStaticFilesStorage(ManifestFilesMixin, ReplicatedStaticFilesStorage):  # type: ignore[misc]  # url()
    """Static files whose names have a hash of their content, here and on every target.

    *manifest_wait*: for how many seconds, at most, ``collectstatic`` waits until every target holds the files, before
    it writes the manifest that has pages name them; 0: it does not wait.
    """

    def __init__(self, *args: Any, manifest_wait: float = 120.0, **options: Any) -> None:
        # Written so that NaN is refused too.
        if isinstance(manifest_wait, bool) or not isinstance(manifest_wait, int | float) or not manifest_wait >= 0:
            raise ImproperlyConfigured(f"manifest_wait is {manifest_wait!r}: write a number of seconds, or 0")
        self.manifest_wait = manifest_wait
        super().__init__(*args, **options)

    def save_manifest(self) -> None:
        # In one order, so that machines which collect the same files write the same manifest.
        self.hashed_files = dict(sorted(self.hashed_files.items()))
        if self._run is None:
            self._publish(self.hashed_files.values(), _nobody)
        else:
            self._run.include(self.hashed_files.values())
            self._run.last = self._publish

    def _publish(self, names: Collection[str], tell: Callable[[Left], object]) -> None:
        """Write the manifest once every target has the files *names*; raises ``NotSynced`` if that takes too long."""
        if self.manifest_wait:
            awaited = Awaited(self.targets, [self.alias], names)
            left = wait(awaited, 0, tell)
            if left.pending and not left.failed:
                with delivery.helping(self.targets, self.alias):
                    left = wait(awaited, self.manifest_wait, tell)
            if left:
                ended = "Some failed for good" if left.failed else f"After {self.manifest_wait:g} s some are missing"
                raise NotSynced(
                    "\n".join(
                        [
                            f"{self.manifest_name} was not written: no page may name what a target lacks. {ended}:",
                            *report(awaited, left),
                            'Cure that and collect again. With the option "manifest_wait": 0 nothing is waited for.',
                        ]
                    )
                )
        super().save_manifest()
