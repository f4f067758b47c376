"""Saving, ours and the peers'."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

from django.contrib.auth.models import Group
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, Storage, default_storage
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from replicator import wake
from replicator.storage import ReplicatedStorage

DATA = os.urandom(4096)
_names = iter(range(10**9))


class _Synced(FileSystemStorage):
    """Django's own, with the guarantee that ours gives: the bytes are on the disk when the row is there."""

    def _save(self, name: str, content: object) -> str:
        name = super()._save(name, content)
        with Path(self.path(name)).open("rb") as file:
            os.fsync(file.fileno())
        return name


def _new_name() -> str:
    return f"file-{os.getpid()}-{next(_names)}.bin"


def _save() -> None:
    default_storage.save(_new_name(), ContentFile(DATA))


def _plain(kind: type[FileSystemStorage]) -> Callable[[], None]:
    # Beside ours: on the same disk.
    storage = kind(location=tempfile.mkdtemp(dir=Path(default_storage.location).parent))

    def save() -> None:
        Group.objects.create(name=storage.save(_new_name(), ContentFile(DATA)))

    return save


def count_statements(saves: int) -> list[int]:
    """SQL statements of each of *saves* saves, without their BEGIN and COMMIT."""
    counts = []
    for _ in range(saves):
        with CaptureQueriesContext(connection) as queries:
            _save()
        counts.append(sum(not q["sql"].startswith(("BEGIN", "COMMIT", "SAVEPOINT")) for q in queries))
    return counts


def beside_plain(rounds: int, together: int, forget_wake_ups: bool) -> dict[str, list[float]]:
    """Seconds of a save: *together* at once in one transaction (or 1: without one of the caller's).

    *forget_wake_ups*: each sample has to wake the workers, as on an idle site; else a wake-up is waiting.
    """
    kinds = {"ours": _save, "plain": _plain(FileSystemStorage), "synced": _plain(_Synced)}

    def sample(save: Callable[[], None]) -> float:
        if forget_wake_ups:
            _forget_wake_ups()
        start = perf_counter()
        if together == 1:
            save()
        else:
            with transaction.atomic():
                for _ in range(together):
                    save()
        return (perf_counter() - start) / together

    return _in_turns(kinds, sample, rounds, max(2, 20 // together))


def beside_resto(rounds: int, samples: int, hosts: list[str]) -> dict[str, list[float]]:
    """Seconds of each save: ours, and django-resto's, which waits for all *hosts* (host:port), or its time-out."""
    return _beside_resto(default_storage, rounds, samples, hosts)


def waiting_beside_resto(rounds: int, samples: int, hosts: list[str], copies: int) -> dict[str, list[float]]:
    """As ``beside_resto``, but ours waits for *copies* of its targets, too."""
    return _beside_resto(ReplicatedStorage(wait=10, min_copies=copies), rounds, samples, hosts)


def _beside_resto(ours: Storage, rounds: int, samples: int, hosts: list[str]) -> dict[str, list[float]]:
    from django_resto.storage import HybridStorage  # a peer that may not be installed

    place = tempfile.mkdtemp(dir=Path(default_storage.location).parent)
    resto = HybridStorage(hosts=hosts, base_url="http://localhost/media/", location=place)
    kinds: dict[str, Storage] = {"ours": ours, "resto": resto}

    def sample(storage: Storage) -> float:
        _forget_wake_ups()
        name, content = _new_name(), ContentFile(DATA)
        start = perf_counter()
        with suppress(OSError):
            storage.save(name, content)
        return perf_counter() - start

    return _in_turns(kinds, sample, rounds, samples)


def _in_turns(
    kinds: dict[str, Callable[[], Any]], sample: Callable[[Any], float], rounds: int, samples: int
) -> dict[str, list[float]]:
    """*samples* of each kind in each of *rounds*, after a first one that is not counted.

    Not one by one: an fsync of one kind would each time pay for what another has just left to be written.
    """
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(rounds + 1):
        for kind, save in kinds.items():
            found = [sample(save) for _ in range(samples)]
            if number:
                seconds[kind] += found
    return seconds


def _forget_wake_ups() -> None:
    for target in default_storage.targets:
        wake.clear_flag(target)
