"""What a copy takes, and how: chosen by people, kept with the run."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Self

from django.db.models import Model, Q
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from replicator.staging import filters
from replicator.staging.base import NotCopied
from replicator.staging.filefields import FileFields, file_fields, find_app, find_label
from replicator.staging.filters import Filter

_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?b?)|b|bytes)?", re.ASCII | re.IGNORECASE)
_SAMPLE = re.compile(r"(\d+(?:\.\d+)?)\s*%", re.ASCII)
_AGE = re.compile(r"(\d+)\s*([hdw])", re.ASCII | re.IGNORECASE)
_AGE_UNITS = {"h": "hours", "d": "days", "w": "weeks"}

Compare = Literal["size", "checksum", "nothing"]


@dataclass(frozen=True, slots=True)
class Choices:
    """Everything that was chosen for a run; as it is, all that is missing is copied."""

    only: Sequence[str] = ()
    """``app``, ``app.Model`` or ``app.Model.field``: what at least one of these names is taken; empty: all."""
    filters: Sequence[Filter] = ()
    """A row has to fit all those of its model; a model without one has all of its rows taken."""
    since: datetime | None = None
    """Only files that were modified at the source then or later. Aware."""
    sample: float | None = None
    """Percent of each model's rows. The same rows each time, those of a smaller sample among them."""
    max_size: int | None = None
    """Bytes."""
    compare: Compare = "size"
    """What makes a file at the destination the source's; ``nothing``: copy those that are there, too."""
    newest_first: bool = False
    """By primary key."""
    dry_run: bool = False
    overwrite_newer: bool = False
    """Also what was written at the destination after the source's file."""
    require_read_only: bool = False
    """Refuse a source that takes writes."""

    def as_json(self) -> dict[str, Any]:
        """For a column of JSON."""
        return {
            **asdict(self),
            "only": [*self.only],
            "filters": [[*each] for each in self.filters],
            "since": self.since and self.since.isoformat(),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """What ``as_json`` gave. Raises ``NotCopied`` for what only another version of this code knows."""
        if unknown := found.keys() - {field.name for field in fields(cls)}:
            raise NotCopied(f"This run was started by another version: {', '.join(sorted(unknown))}. Start it anew.")
        since = found.get("since")
        return cls(
            **{
                **found,
                "only": tuple(found.get("only", ())),
                "filters": tuple(Filter(*each) for each in found.get("filters", ())),
                "since": since and datetime.fromisoformat(since),
            }
        )

    def selected(self) -> list[FileFields]:
        """The models and file fields that are taken, ordered by label.

        Raises ``NotCopied`` if there are none, and for a filter of a model that is not among them.
        """
        found = [narrow for of in file_fields() if (narrow := self._of(of)).fields]
        if not found:
            chosen = f" among {', '.join(self.only)}" if self.only else ""
            raise NotCopied(f"This site has no models with file fields{chosen}: there is nothing to copy.")
        for each in self.filters:
            if each.label not in {of.label for of in found}:
                raise NotCopied(f"{each}: {each.label} is not chosen. Choose it too, or leave the filter out.")
        return found

    def _of(self, of: FileFields) -> FileFields:
        app = of.model._meta.app_label
        if not self.only or app in self.only or of.label in self.only:
            return of
        return of.narrowed([name for name in of.names if f"{of.label}.{name}" in self.only])

    def conditions(self, label: str, model: type[Model]) -> list[Q]:
        """What the rows of *model* have to fit."""
        return [each.condition(model) for each in self.filters if each.label == label]

    def samples(self, label: str, key: str) -> bool:
        """Whether the row with this primary key is in the sample."""
        return self.sample is None or zlib.crc32(f"{label}:{key}".encode()) * 100 < self.sample * 2**32

    def words(self) -> list[str]:
        """Sentences that say what was chosen."""
        said = [f"Only {', '.join(self.only)}." if self.only else "All file fields."]
        said += [f"Of {each.label} only rows with {each.lookup}={each.text}." for each in self.filters]
        if self.sample is not None:
            said.append(f"A sample of {self.sample:g}% of the rows.")
        if self.since is not None:
            said.append(f"Only files modified since {timezone.localtime(self.since):%Y-%m-%d %H:%M %Z}.")
        if self.max_size is not None:
            said.append(f"Only files of at most {_size(self.max_size)}.")
        said.append(
            {
                "size": "Files that are here with the same size are left alone.",
                "checksum": "Files that are here with the same checksum are left alone, where the source knows one.",
                "nothing": "Files that are here are copied again.",
            }[self.compare]
        )
        if self.overwrite_newer:
            said.append("Files that are newer here are overwritten.")
        if self.newest_first:
            said.append("The newest rows come first.")
        if self.require_read_only:
            said.append("The source must refuse writes.")
        if self.dry_run:
            said.append("A dry run: nothing is copied.")
        return said


def parse_only(text: str) -> str:
    """``app``, ``app.Model`` or ``app.Model.field``, as Django writes it. Raises ``NotCopied`` with what to write."""
    text = text.strip()
    if "." not in text:
        return find_app(text)
    of, field = find_label(text)
    return f"{of.label}.{field}" if field else of.label


def parse_filter(text: str, only: Sequence[str] = ()) -> Filter:
    """``app.Model:lookup=value``, of a model that *only* chooses. Raises ``NotCopied`` with what to write."""
    found = filters.parse_filter(text)
    Choices(only=only, filters=[found]).selected()
    return found


def parse_sample(text: str) -> float:
    """``5%``: percent. Raises ``NotCopied`` with what to write."""
    match = _SAMPLE.fullmatch(text.strip())
    if match is None or not 0 < float(match[1]) <= 100:
        raise NotCopied(f"{text!r} is no sample. Write percents, such as 5% or 0.1%.")
    return float(match[1])


def parse_size(text: str) -> int:
    """``20M``, ``1.5 GiB``, ``20 MB`` (a thousand thousands each), ``500``: bytes. Raises ``NotCopied``."""
    match = _SIZE.fullmatch(text.strip())
    base = 1000 if match and (match[3] or "").lower() == "b" else 1024
    size = int(float(match[1]) * base ** _UNITS[(match[2] or "").lower()]) if match else 0
    if not 0 < size < 2**63:
        raise NotCopied(f"{text!r} is no size of a file. Write such as 500 KiB, 20M or 1.5 GiB.")
    return size


def parse_since(text: str) -> datetime:
    """A date, with or without a time and its zone, or an age: ``30d``, ``12h``, ``2w``. Raises ``NotCopied``."""
    now = datetime.now(UTC)
    found: datetime | None = None
    try:
        if age := _AGE.fullmatch(text.strip()):
            found = now - timedelta(**{_AGE_UNITS[age[2].lower()]: int(age[1])})
        else:
            found = parse_datetime(text.strip())
        if found is not None and timezone.is_naive(found):
            found = timezone.make_aware(found)
    except (ValueError, OverflowError):
        found = None
    if found is None:
        raise NotCopied(f"{text!r} is no date. Write such as 2026-01-01, 2026-01-01 12:00, or an age: 12h, 30d, 2w.")
    if found > now:
        raise NotCopied(f"{text!r} is to come: no file was modified since then. Write a day in the past.")
    return found


def _size(count: int) -> str:
    """As ``parse_size`` takes it; exactly."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count % 1024 or not count:
            return f"{count:,} {unit}"
        count //= 1024
    return f"{count:,} TiB"
