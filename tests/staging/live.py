"""A staging site whose live site's files are in a folder, and the workers of which are called by hand."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import connections
from django.utils import timezone

from replicator import staging, wake
from replicator.models import CopyChunk, CopyFile, CopyPart, CopyRun
from replicator.staging import Choices
from tests.staging.shop.models import Letter, Sheet

TARGETS = {f"media{n}": {"BACKEND": "replicator.testing.MemoryTarget"} for n in (1, 2)}


class Staging:
    """``live``: the folder of the live site's files; ``media``: of this one's; ``messages``: to workers."""

    def __init__(self, settings: Any, folder: Path, monkeypatch: Any) -> None:
        self.live, self.media = folder / "live", folder / "media"
        self.live.mkdir()
        self.media.mkdir()
        self.settings = settings
        settings.MEDIA_ROOT = str(self.media)
        settings.STORAGES = {
            **settings.STORAGES,
            "default": {"BACKEND": "replicator.storage.ReplicatedStorage"},
            "live": {
                "BACKEND": "django.core.files.storage.FileSystemStorage",
                "OPTIONS": {"location": str(self.live)},
            },
        }
        self.configure()
        self.messages: list[list[Any]] = []

        def send(task: str, *messages: list[Any]) -> bool:
            assert task == "replicator.copy_media"
            self.messages += messages
            return True

        monkeypatch.setattr(wake, "send", send)
        monkeypatch.setattr(wake, "announce", lambda targets: None)

    def configure(self, *, concurrency: int = 4, workers: int = 2, **others: Any) -> None:
        copying = {"SOURCE": "live", "CONCURRENCY": concurrency, "WORKERS": workers}
        self.settings.REPLICATOR = {"TARGETS": TARGETS, "STAGING": copying, "RETRY_BASE": 0.01, **others}

    def fill(self, count: int, *, start: int = 0, folder: str = "letters") -> list[str]:
        """So many files on the live site, and the letters here that name them."""
        names = [f"{folder}/{n:05}.txt" for n in range(start, start + count)]
        for n, name in enumerate(names):
            self.write(name, f"letter {n} {'x' * (n % 7)}".encode())
        Letter.objects.bulk_create(Letter(scan=name) for name in names)
        return names

    def write(self, name: str, content: bytes) -> None:
        path = self.live / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def sheet(self, key: str, name: str) -> None:
        Sheet.objects.bulk_create([Sheet(name=key, file=name)])

    def start(self, **choices: Any) -> CopyRun:
        choices.setdefault("only", ("shop.Letter", "shop.Sheet"))
        return staging.start("live", Choices(**choices), "a test")

    def work(self, *, most: int = 1000) -> list[dict[str, Any]]:
        """Do what workers were told, until there is nothing more to do just now; what each chunk came to."""
        stories = []
        while self.messages and len(stories) < most:
            stories.append(staging.copy(self.messages.pop(0)[0]))
        return stories

    def worker(self, stories: list[dict[str, Any]]) -> threading.Thread:
        """One more, in a thread of its own, which is started."""

        def work() -> None:
            try:
                stories.extend(self.work())
            finally:
                connections.close_all()

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    def held(self) -> dict[str, bytes]:
        """What is on this site's disk."""
        found = (path for path in self.media.rglob("*") if path.is_file())
        return {str(path.relative_to(self.media)): path.read_bytes() for path in found}

    def later(self, run: CopyRun, seconds: float = 3600) -> None:
        """As if so much time had gone by for what the run waits for."""
        moment = timezone.now() - timedelta(seconds=seconds)
        CopyRun.objects.filter(pk=run.pk, due_at__gt=moment).update(due_at=moment)
        CopyFile.objects.filter(run=run, due_at__isnull=False).update(due_at=moment)
        CopyChunk.objects.filter(run=run, lease_until__isnull=False).update(lease_until=moment)

    def counts(self, run: CopyRun) -> dict[str, int]:
        """The columns of all models, those that are not 0; "bytes" too."""
        columns = ("copied", "there", "newer", "excluded", "missing", "failed", "bytes")
        sums = {column: sum(CopyPart.objects.filter(run=run).values_list(column, flat=True)) for column in columns}
        return {column: count for column, count in sums.items() if count}
