"""``python -m tests.on_postgresql [pytest's arguments]``: the tests that are about the database, on a PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.brokers import Postgres

HERE = Path(__file__).parent
#: Where the test's own database is the subject; the others choose theirs themselves.
FOLDERS = ("ledger", "storage", "people", "delivery", "staging", "property")


def main() -> int:
    try:
        server = Postgres().start()
    except (pytest.skip.Exception, pytest.fail.Exception) as missing:
        print(f"No tests on PostgreSQL: {missing}")
        return int(isinstance(missing, pytest.fail.Exception))
    try:
        folders = [str(HERE / name) for name in FOLDERS if (HERE / name).is_dir()]
        command = [sys.executable, "-m", "pytest", *(sys.argv[1:] or folders)]
        environment = {**os.environ, "TEST_DATABASE_URL": server.url}
        return subprocess.run(command, env=environment, check=False).returncode
    finally:
        server.close()


if __name__ == "__main__":
    sys.exit(main())
