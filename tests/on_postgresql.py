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
FOLDERS = ("ledger", "storage", "people", "delivery", "staging", "operating", "property")


def main(arguments: list[str]) -> int:
    try:
        server = Postgres().start()
    except (pytest.skip.Exception, pytest.fail.Exception) as missing:
        print(f"No tests on PostgreSQL: {missing}")
        return int(isinstance(missing, pytest.fail.Exception))
    try:
        command = [sys.executable, "-m", "pytest", *arguments]
        if not any(Path(each.partition("::")[0]).exists() for each in arguments):
            command += [str(HERE / name) for name in FOLDERS]
        environment = {**os.environ, "TEST_DATABASE_URL": server.url}
        status = subprocess.run(command, env=environment, check=False).returncode
    finally:
        server.close()
    # A -k may choose tests of which none is about the database; that it chose none at all, the other run says.
    return 0 if status == pytest.ExitCode.NO_TESTS_COLLECTED else status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
