"""What the parts of the contract have in common: the target under test, and files there."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import ClassVar

from replicator.targets.base import Target, TargetFile
from replicator.testing.content import BytesContent


class ContractFiles:
    """What a subclass says of the target that it tests, and helpers, for further tests too."""

    #: Bytes of the large file; and how much the process may grow while it is sent.
    large: ClassVar[int] = 1 << 30
    large_growth: ClassVar[int] = 32 << 20
    #: Names that this target is known not to take: it says so, instead of storing another file.
    refused_names: ClassVar[frozenset[str]] = frozenset()
    #: Bytes of the longest segment that this target takes.
    longest_segment: ClassVar[int] = 255
    #: Whether a name can be that of a folder (not in object stores).
    has_folders: ClassVar[bool] = True
    #: Names that it keeps, and leaves out when it lists.
    unlisted_names: ClassVar[frozenset[str]] = frozenset()
    #: Files that its listing is tried with: more than it tells of in one answer.
    many: ClassVar[int] = 1100

    def make_target(self) -> Target:
        """A target that nothing else writes to."""
        raise NotImplementedError

    @cached_property
    def target(self) -> Target:
        return self.make_target()

    # Helpers, for further tests too.

    def file(self, name: str, data: bytes = b"") -> TargetFile:
        """A file of this name; a fixed prefix, so that it is tested too."""
        sha256 = hashlib.sha256(data).hexdigest()
        return TargetFile("default", name, prefix="/media/up loads/", size=len(data), sha256=sha256)

    def put(self, name: str, data: bytes) -> TargetFile:
        file = self.file(name, data)
        self.target.put(file, BytesContent(data))
        return file

    def holds(self, name: str) -> bytes | None:
        """What can be read back under this name; None: nothing."""
        try:
            with self.target.open(self.file(name)) as reader:
                return b"".join(iter(lambda: reader.read(65536), b""))
        except FileNotFoundError:
            return None
