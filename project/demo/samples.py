"""The files that the demo saves: a folder's, or a small set of its own."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Names that servers and clients have got wrong.
ODD = [
    "plain.txt",
    "a folder/with spaces.txt",
    "hash#mark.txt",
    "question?mark.txt",
    "100%25 sure.txt",
    "a+b&c=d;e.txt",
    "Ünïcödé/文件.txt",
    "quote'and\"double.txt",
    "colon:and,comma.txt",
    "…/ellipsis.txt",
    "deep/er/and/dee/per/still/file.bin",
    "x" * 251 + ".txt",
]


#: Bytes of a path that every target takes: MogileFS keeps no longer ones.
LONGEST = 255


@dataclass(frozen=True, slots=True)
class Sample:
    """One file to save: *name* is relative, as the storage will have it."""

    name: str
    path: Path


def make(folder: Path) -> Path:
    """Fill *folder* with a small tree: odd names, an empty file, sizes from one byte to a few MiB."""
    chance = random.Random(2)  # noqa: S311  # the same files each time
    for number, name in enumerate(ODD):
        _write(folder / name, chance.randbytes(1 + 997 * number))
    for number in range(6):
        _write(folder / f"avatars/person {number}.png", chance.randbytes(3000 * number + 1))
        _write(folder / f"thumbs/photos/{number}.webp", chance.randbytes(200 * number + 1))
    _write(folder / "empty.bin", b"")
    for number in range(80):
        _write(folder / f"photos/{number % 7}/{number:03}.jpg", chance.randbytes(chance.randrange(200, 60_000)))
    _write(folder / "video.bin", chance.randbytes(3 * 1024 * 1024))
    return folder


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def find(folder: Path) -> tuple[list[Sample], dict[str, int]]:
    """The regular files below *folder*, in the order of their names; and reason → number of those passed over."""
    samples, skipped = [], {"symbolic link": 0, "no regular file": 0, "not readable": 0, "name is not UTF-8": 0}
    skipped[f"path of more than {LONGEST} bytes"] = 0
    for entry in _walk(folder):
        name = os.path.relpath(entry.path, folder)
        try:
            mode = entry.stat(follow_symlinks=False).st_mode
        except OSError:
            skipped["not readable"] += 1
            continue
        if stat.S_ISLNK(mode):
            skipped["symbolic link"] += 1
        elif not stat.S_ISREG(mode):
            skipped["no regular file"] += 1
        elif not os.access(entry.path, os.R_OK):
            skipped["not readable"] += 1
        elif not _is_utf8(name):
            skipped["name is not UTF-8"] += 1
        elif len(name.encode()) > LONGEST:
            skipped[f"path of more than {LONGEST} bytes"] += 1
        else:
            samples.append(Sample(name, Path(entry.path)))
    samples.sort(key=lambda sample: sample.name)
    return samples, {reason: count for reason, count in skipped.items() if count}


def _walk(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return  # a folder that may not be read holds nothing for us
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        else:
            yield entry


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
