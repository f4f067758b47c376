"""What an audit is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from replicator.conf import nearest
from replicator.operating.runs import NotStarted

#: Presence and size; or every byte, read back and hashed.
SIZE, CONTENT = "size", "content"


@dataclass(frozen=True, slots=True)
class Options:
    """``TargetRun.options`` of an audit."""

    level: str = SIZE
    sample: float = 100.0
    """Per cent of the files, chosen by chance; less than all of them are not listed."""
    storages: tuple[str, ...] = ()
    """Aliases; none: all that there are."""
    repair: bool = True
    most: int | None = None
    """How many missing and wrong files are repaired, at most; None: as many as a sound place may have."""
    delete_unknown: bool = False
    older_than: float = 1.0
    """Days: what is unknown and younger is never removed."""
    confirm: int = 0
    """How many unknown files may be removed, if that is more than goes without a word."""
    files_per_second: float | None = None
    bytes_per_second: float | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Options:
        """Raises ``NotStarted`` with what to write instead."""
        known = list(cls.__slots__)
        for name in options:
            if name not in known:
                raise NotStarted(f"An audit has no option {name!r}. {nearest(str(name), known)}")
        # None, as forms and command lines say it: as if it were not given.
        given = {name: value for name, value in options.items() if value is not None}
        if given.get("level", SIZE) not in (SIZE, CONTENT):
            raise NotStarted(
                f'The level is {given["level"]!r}: write "size" (is each file there, and as long as it should be) '
                'or "content" (its bytes too: each is read back)'
            )
        for name in ("repair", "delete_unknown"):
            if not isinstance(given.get(name, False), bool):
                raise NotStarted(f"{name} is {given[name]!r}: write true or false")
        storages = given.get("storages", ())
        if not isinstance(storages, list | tuple) or not all(isinstance(alias, str) for alias in storages):
            raise NotStarted(f"storages is {storages!r}: write a list of aliases")
        given["storages"] = tuple(storages)
        for name, least, most, whole in _NUMBERS:
            if name in given:
                _check_number(name, given[name], least, most, whole=whole)
        wanted = cls(**given)
        if wanted.delete_unknown and wanted.sample < 100:
            raise NotStarted("A sample can't tell what is unknown to the ledger: leave out one of the two.")
        return wanted

    def as_json(self) -> dict[str, Any]:
        """Those that are not as they are unless given."""
        default = Options()
        found = {name: getattr(self, name) for name in self.__slots__}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in found.items()
            if value != getattr(default, name)
        }

    @property
    def is_sample(self) -> bool:
        return self.sample < 100


#: Name, least, most, whether it is a whole number.
_NUMBERS = (
    ("sample", 0.0001, 100.0, False),
    ("most", 0, 10**12, True),
    ("older_than", 0.0, 36_500.0, False),
    ("confirm", 0, 10**12, True),
    ("files_per_second", 0.01, 10.0**6, False),
    ("bytes_per_second", 1024.0, 10.0**12, False),
)


def _check_number(name: str, value: object, least: float, most: float, *, whole: bool) -> None:
    allowed = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed) or not least <= value <= most:
        noun = "a whole number" if whole else "a number"
        raise NotStarted(f"{name} is {value!r}: write {noun} from {least:g} to {most:.0f}")
