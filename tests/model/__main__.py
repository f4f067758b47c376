"""``python -m tests.model``: what ``tests/model/protocol.py`` says."""

from __future__ import annotations

import argparse
import time

from tests.model.protocol import RULES
from tests.model.search import Space


def main() -> int:
    options = argparse.ArgumentParser(
        prog="python -m tests.model", description="Check the delivery protocol over every interleaving."
    )
    options.add_argument("--without", action="append", default=[], choices=list(RULES), metavar="RULE",
                         help="remove a rule: " + "; ".join(": ".join(item) for item in RULES.items()))  # fmt: skip
    options.add_argument("--writes", type=int, default=3, help="versions of the file (3)")
    options.add_argument("--late", type=int, default=2, help="late requests outstanding at once (2)")
    given = options.parse_args()
    began = time.monotonic()
    space = Space(without=frozenset(given.without), writes=given.writes, late=given.late)
    found = space.counterexample()
    if found is not None:
        print("violation:", *found, sep="\n  ")
        return 1
    print(f"no violation in {len(space):,} states ({time.monotonic() - began:.0f} s)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
