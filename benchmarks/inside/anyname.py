"""A live site that has every file."""

from __future__ import annotations

from pathlib import Path

from django.core.files.storage import FileSystemStorage


class AnyName(FileSystemStorage):
    """One byte under each name."""

    def path(self, name: str) -> str:
        place = Path(self.location, "file")
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"1")
        return str(place)
