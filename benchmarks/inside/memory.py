"""How much memory this process has."""

from __future__ import annotations

from pathlib import Path


def resident() -> int:
    """Bytes, now."""
    return _of("VmRSS")


def peak() -> int:
    """Bytes, at most, since ``forget_peak``."""
    return _of("VmHWM")


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _of(what: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {what} in /proc/self/status")
