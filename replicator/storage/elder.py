"""Reading files that an ancestor stored: targets have them, and the ledger never heard of them."""

from __future__ import annotations

from typing import BinaryIO

from replicator.storage.reading import target_file
from replicator.storage.remote import open_remote, stat_remote
from replicator.storage.replicated import ReplicatedStorage


class ElderFiles(ReplicatedStorage):
    """A name that is neither here nor in the ledger is looked up at the targets, by ``open`` and ``size``.

    Not by ``exists``: a save asks that, and saving never waits for a target.
    """

    @property
    def _may_have_elder(self) -> bool:
        """Whether targets may have what is not here."""
        return True

    def _open_unknown(self, name: str) -> BinaryIO:
        try:
            return super()._open_unknown(name)
        except FileNotFoundError:
            if not self._may_have_elder:
                raise
        return open_remote(self.targets, target_file(self, self._cleaned(name)), None)

    def size(self, name: str) -> int:
        """Bytes; of a file from before the ledger, as a target says."""
        try:
            return super().size(name)
        except FileNotFoundError:
            if not self._may_have_elder or self._row(name) is not None:
                raise
        return stat_remote(self.targets, target_file(self, self._cleaned(name))).size
