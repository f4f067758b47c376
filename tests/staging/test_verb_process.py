"""Facts about ``manage.py replicator copy-media`` as a process: Ctrl-C, exit codes, and bars on a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from fcntl import ioctl
from pathlib import Path

import pytest

SETTINGS = """
from tests.settings import *
from pathlib import Path
HERE = Path(__file__).parent
DATABASES = {"default": {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": HERE / "db.sqlite3",
    "OPTIONS": {"timeout": 20, **({"transaction_mode": "IMMEDIATE"} if django.VERSION >= (5, 1) else {})},
}}
MEDIA_ROOT = str(HERE / "media")
STORAGES["live"] = {
    "BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(HERE / "live")}
}
REPLICATOR = {
    "TARGETS": {"media1": {"BACKEND": "replicator.testing.MemoryTarget"}}, "ANNOUNCE_TIMEOUT": 0.1,
    "STAGING": {"SOURCE": "live"},
}
LOGGING = {
    "version": 1,
    "handlers": {"none": {"class": "logging.NullHandler"}},
    "loggers": {"replicator": {"handlers": ["none"]}},
}
SILENCED_SYSTEM_CHECKS = ["replicator.W012", "replicator.W013", "replicator.W015"]
"""
ROWS = """
import django; django.setup()
from tests.staging.shop.models import Letter, Sheet
Letter.objects.bulk_create(Letter(scan=f"letters/{n}.txt") for n in range(70))
Sheet.objects.bulk_create([Sheet(name="a", file="letters/0.txt"), Sheet(name="b", file="missing.txt")])
"""
START = """
import django; django.setup()
from replicator import staging
from replicator.staging import planning
planning.ROWS = 50
staging.start("live", staging.Choices(only=("shop.Letter", "shop.Sheet")))
"""
#: Chunk by chunk, with time to look at each.
WORK = """
import time
import django; django.setup()
from replicator import staging
from replicator.models import CopyChunk, CopyRun
from replicator.staging import planning
planning.ROWS = 50
while CopyRun.objects.filter(state="running").exists():
    time.sleep(2.5)
    staging.sweep()
    for chunk in CopyChunk.objects.order_by("pk")[:1]:
        staging.copy(chunk.pk)
"""
Run = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """``run("-c", "…")``: Python on a staging site with 70 files of letters to copy, and one that is missing."""
    (tmp_path / "copy_settings.py").write_text(SETTINGS)
    (tmp_path / "live/letters").mkdir(parents=True)
    (tmp_path / "media").mkdir()
    for n in range(70):
        (tmp_path / f"live/letters/{n}.txt").write_text(f"letter {n}")
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "copy_settings",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}",
        "TERM": "xterm",
    }

    started = []

    def popen(*command: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *command], env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
        started.append(process)
        return process

    for command in (("-m", "django", "migrate", "-v0", "--run-syncdb"), ("-c", ROWS)):
        process = popen(*command)
        said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    yield popen
    for process in started:
        process.kill()
        process.wait()
        for pipe in filter(None, (process.stdout, process.stderr)):
            pipe.close()


def verb(*options: str) -> tuple[str, ...]:
    return ("-m", "django", "replicator", "copy-media", *options)


CHOSEN = ("--from", "live", "--only", "shop.Letter", "--only", "shop.Sheet")


def test_ctrl_c_leaves_it_going_and_says_how_to_come_back(run: Run) -> None:
    """No broker is there, and no worker: what was started is recorded."""
    process = run(*verb(*CHOSEN, "--follow"))
    assert process.stderr is not None
    assert process.stderr.readline() == "Started copy 1 from live. Ctrl-C leaves it going.\n"
    assert process.stderr.readline() == (
        "The broker can't be reached. The copy is recorded: the next sweep that runs will start it.\n"
    )
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    command = "manage.py replicator copy-media --run 1"
    assert err.splitlines() == [
        f"Interrupted. Copy 1 goes on. Watch it again: {command} --follow",
        f"Stop it: {command} --pause, or for good: {command} --cancel",
    ]
    assert out == ""
    shown = run(*verb("--run", "1"))
    assert "Copy 1 from live: running." in shown.communicate(timeout=120)[0]
    assert shown.returncode == 0
    cancelled = run(*verb("--run", "1", "--cancel"))
    assert cancelled.communicate(timeout=120)[0] == "Cancelled copy 1. What is copied stays.\n"
    followed = run(*verb("--run", "1", "--follow"))
    assert followed.communicate(timeout=120)[1] == "CommandError: Copy 1 was cancelled. What was copied stays.\n"
    assert followed.returncode == 1


def test_on_a_terminal_there_are_bars(run: Run) -> None:
    """One for each model, below a line for all of it; at the end the table, and nothing of the bars."""
    run("-c", START).communicate(timeout=120)
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 110, 0, 0))
    process = run(*verb("--run", "1", "--follow"), stderr=theirs)
    os.close(theirs)
    worker = None
    seen = b""
    try:
        end = time.monotonic() + 200
        while process.poll() is None and time.monotonic() < end:
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    seen += os.read(ours, 65536)
                except OSError:  # it has ended
                    break
            if worker is None and b"shop.Letter" in seen:
                worker = run("-c", WORK)
    finally:
        os.close(ours)
    out = process.communicate(timeout=120)[0]
    text = seen.decode()
    assert process.returncode == 0, text
    assert re.search(r"shop\.Letter  +0%\|", text)
    assert re.search(r"shop\.Letter  +\d\d%\|█+.* *\| 70 rows, 50 files", text)
    assert re.search(r"shop\.Sheet  +100%\|█+\| 2 rows, 1 file, 1 missing", text)
    assert re.search(r"running: 50 files, 50 copied \([\w. ]+\); [\d,]+ files/s, [\w ]+/s; \d\d%", text)
    assert max(len(re.sub(r"\x1b\[[A-Z]", "", line)) for line in re.split(r"[\r\n]", text)) < 110
    assert "Copy 1 from live: done." in out
    assert "█" not in out
