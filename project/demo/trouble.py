"""What it takes to make things go wrong at the right moment."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from project.embedded import ADDRESS
from tests.mogilefs.troubles import Troubles


class MogileTrouble(Troubles):
    """The running MogileFS, asked over its control port to fail."""

    def __init__(self, port: int) -> None:
        self._port = port

    def control(self, verb: str, **arguments: Any) -> Any:
        with socket.create_connection((ADDRESS, self._port), timeout=30) as sock, sock.makefile("rwb") as stream:
            stream.write(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
            stream.flush()
            answer = json.loads(stream.readline())
        if "result" not in answer:
            raise RuntimeError(f"{verb}: {answer['error']}")
        return answer["result"]


def part_of_upload(uploads: Path) -> int:
    """Bytes that have arrived of the largest upload under way in a media host's folder."""
    sizes = [0]
    for path in uploads.glob("*"):
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:  # it has just arrived
            continue
    return max(sizes)
