"""Which recorded files get another class, at which targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.db.models import QuerySet
from django.db.models.functions import Left

from replicator import ledger
from replicator.ledger import database
from replicator.models import MediaFile
from replicator.storage.replicated import ReplicatedStorage
from replicator.targets import get_target

#: Characters that the ledger has room for.
LONGEST_CLASS = MediaFile._meta.get_field("mogile_class").max_length or 0


@dataclass(frozen=True, slots=True)
class Reclassing:
    """Another class for the files of *storage* whose names begin with *prefix*. *mogile_class*: empty for none."""

    storage: ReplicatedStorage
    mogile_class: str
    prefix: str = ""

    @property
    def targets(self) -> list[str]:
        """Those of the storage where files have classes: the others have nothing to do."""
        return [alias for alias in self.storage.targets if get_target(alias).has_classes]

    def left(self) -> int:
        """How many files have another class."""
        return self._files().exclude(mogile_class=self.mogile_class).count()

    def run(self, progress: Callable[[int], object] | None = None) -> int:
        """Note the new class, and make the targets due that have classes; the number of files. Safe to call twice.

        *progress* is told of each batch's number. Files that a transaction of the site is just writing are passed
        over: they are ``left`` afterwards. Who calls this wakes the workers.
        """
        return ledger.reclass(self._files(), self.mogile_class, self.targets, progress=progress)

    def _files(self) -> QuerySet[MediaFile]:
        files = MediaFile.objects.using(database.alias()).filter(storage=self.storage.alias, deleted=False)
        if self.prefix:
            # Not ``startswith``: SQLite's ignores the case.
            files = files.alias(beginning=Left("name", len(self.prefix))).filter(beginning=self.prefix)
        return files
