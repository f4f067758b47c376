"""The scratch folder of an examination: what was put into it, and that nothing of it stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from replicator.errors import DeliveryError, Refused, Unavailable
from replicator.targets.samples import Sample, Whole

if TYPE_CHECKING:
    from replicator.targets.base import Target, TargetFile

#: The most that is read back at once.
_MOST_READ = 1024 * 1024
#: Failures after which a target is taken for dead. One may be of a name that the server can't bear.
_MOST_FAILURES = 2


class MakeFile(Protocol):
    """Makes the file of a name; it is below the prefix that is examined."""

    def __call__(self, *, name: str, size: int = 0) -> TargetFile: ...


class Scratch:
    """A folder of *target* that nobody else knows of. *make_file* knows the prefix that it is below."""

    def __init__(self, target: Target, make_file: MakeFile) -> None:
        self.target = target
        #: No dot before it: many servers hide such names.
        self.folder = f"replicator-probe-{uuid4().hex[:12]}"
        #: Names, below it, that may be there.
        self.used: dict[str, None] = {}
        #: Whether anything was sent that could be there, be it only a folder.
        self.has_begun = False
        self._make_file = make_file

    @property
    def place(self) -> str:
        """The scratch folder, for people."""
        return f"{self.file('').prefix}{self.folder}/"

    def file(self, name: str, size: int = 0) -> TargetFile:
        return self._make_file(name=f"{self.folder}/{name}", size=size)

    def put(self, name: str, content: Sample | bytes) -> None:
        body = Whole(content) if isinstance(content, bytes) else content
        self.has_begun = True
        known = name in self.used
        self.used[name] = None
        try:
            self.target.put(self.file(name, body.size), body)
        except Refused:
            if not known:
                del self.used[name]
            raise

    def held(self, name: str) -> bytes | None:
        """The first of what can be read back; None: there is nothing."""
        try:
            with self.target.open(self.file(name)) as reader:
                return reader.read(_MOST_READ)
        except FileNotFoundError:
            return None

    def clean(self) -> str:
        """Remove all that may be there; in words, what could not be."""
        if not self.has_begun:
            return ""
        reasons: list[str] = []
        failures = 0
        for name in reversed(self.used):
            try:
                self.target.delete(self.file(name))
            except DeliveryError as error:
                reasons.append(str(error))
                failures += isinstance(error, Unavailable)
            if failures > _MOST_FAILURES:
                # The others would take as long to fail.
                return f"{self.place} could not be removed, with up to {len(self.used)} files: {reasons[-1]}"
        try:
            reasons = self.remove_folders(reasons)
        except DeliveryError as error:
            reasons.append(str(error))
        return f"{self.place} could not be removed, with what is in it: {reasons[0]}" if reasons else ""

    def remove_folders(self, reasons: list[str]) -> list[str]:
        """Remove the folders, empty by now; what is left. *reasons*: why files could not be removed."""
        for folder in self.folders_used():
            self.target.remove_folder(self._make_file(name=folder))
        return reasons

    def folders_used(self) -> list[str]:
        """The deepest first."""
        folders = {self.folder}
        for name in self.used:
            while name := name.rpartition("/")[0]:
                folders.add(f"{self.folder}/{name}")
        return sorted(folders, key=lambda folder: -folder.count("/"))
