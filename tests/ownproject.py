"""A project of a test's own: settings in a file, and a process that starts with them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent


def run(folder: Path, settings: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run *script* in a Python whose Django settings are *settings*; other modules can lie in *folder* too."""
    (folder / "own_settings.py").write_text(settings)
    return subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": f"{folder}{os.pathsep}{CHECKOUT}", "DJANGO_SETTINGS_MODULE": "own_settings"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
