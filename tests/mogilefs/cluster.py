"""A MogileFS as a server of a test run: started in a process of its own, looked into, and made to fail."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mogilefs.installation import uri
from tests.mogilefs.state import State
from tests.mogilefs.troubles import Troubles
from tests.processes import Server, free_port

CHECKOUT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, slots=True)
class Stored:
    """What the tracker knows of a key."""

    fid: int
    mogile_class: str
    length: int
    devids: tuple[int, ...]


class MogileFS(Troubles, Server):
    """Trackers and nodes. Options are those of ``python -m tests.mogilefs``, and the delays of ``Timing``.

    ``tracker`` and ``trackers`` are addresses to connect to. Devices count on: with two of them per node, node 2 has
    the devices 3 and 4. ``kill()`` ends trackers and nodes at once, ``start()`` brings them back on the same ports.
    """

    def __init__(
        self,
        *,
        domain: str = "testdomain",
        classes: Sequence[str] = ("avatar:2", "thumb:1"),
        hosts: int = 3,
        devices: int = 2,
        trackers: int = 1,
        **seconds: float,
    ) -> None:
        super().__init__()
        self.domain = domain
        self.classes = tuple(classes)
        self.hosts = hosts
        self.devices = devices
        self.seconds = seconds
        self.control_port = free_port()
        self.tracker_ports = [self.port, *(free_port() for _ in range(trackers - 1))]
        self.node_ports = [free_port() for _ in range(hosts)]

    @property
    def trackers(self) -> list[str]:
        return [f"127.0.0.1:{port}" for port in self.tracker_ports]

    @property
    def tracker(self) -> str:
        return self.trackers[0]

    def command(self) -> list[str]:
        command = [sys.executable, "-m", "tests.mogilefs", "--folder", str(self.folder / "data")]
        command += ["--domain", self.domain, "--hosts", str(self.hosts), "--devices", str(self.devices)]
        command += ["--control-port", str(self.control_port), "--node-ports", *map(str, self.node_ports)]
        for port in self.tracker_ports:
            command += ["--port", str(port)]
        for each in self.classes:
            command += ["--class", each]
        for name, value in self.seconds.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        return command

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": f"{CHECKOUT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}

    def answers(self) -> bool:
        try:
            self.control("pending")
        except OSError:
            return False
        return True

    def control(self, verb: str, **arguments: Any) -> Any:
        """Ask for something over the control channel."""
        with socket.create_connection(("127.0.0.1", self.control_port), timeout=30) as sock:
            sock.sendall(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
            with sock.makefile("rb") as stream:
                answer = json.loads(stream.readline() or "{}")
        if "result" not in answer:
            raise RuntimeError(f"{verb}: {answer.get('error', 'no answer')}")
        return answer["result"]

    def wait_until_quiet(self, within: float = 60.0) -> None:
        """Until no copy is still to be made or removed."""
        deadline = time.monotonic() + within
        while pending := self.control("pending"):
            assert time.monotonic() < deadline, f"the copies of {pending} files are still to be made or removed"
            time.sleep(0.02)

    # What is there, read from the database and the disks: also while nothing runs.

    def files(self) -> dict[str, bytes]:
        """Key → bytes, of each key that has a copy. Copies that differ from one another are an error."""
        found = {}
        for key in self.keys():
            contents = {content for path in self.copies(key) if (content := _content(path)) is not None}
            assert len(contents) <= 1, f"the copies of {key} differ"
            if contents:
                found[key] = contents.pop()
        return found

    def keys(self) -> list[str]:
        state = self._state()
        try:
            dmid = state.dmid(self.domain.encode())
            return [_text(row.key) for row in state.files(dmid)] if dmid is not None else []
        finally:
            state.close()

    def stored(self, key: str) -> Stored | None:
        """None: there is no such key."""
        state = self._state()
        try:
            dmid = state.dmid(self.domain.encode())
            row = state.file_named(dmid, _bytes(key)) if dmid is not None else None
            if row is None:
                return None
            kind = state.class_of(row.dmid, row.classid)
            return Stored(row.fid, _text(kind.name), row.length, row.devids)
        finally:
            state.close()

    def copies(self, key: str) -> list[Path]:
        """The files ``…/node2/dev3/…`` on the nodes' disks that hold this key; missing ones are left out."""
        stored = self.stored(key)
        if stored is None:
            return []
        paths = [self.path(stored.fid, devid) for devid in stored.devids]
        return [path for path in paths if path.is_file()]

    def path(self, fid: int, devid: int) -> Path:
        node = (devid - 1) // self.devices + 1
        return self.folder / "data" / f"node{node}" / uri(devid, fid).lstrip("/")

    def on_disk(self) -> list[Path]:
        """Every file on every device, whether a tracker knows it or not."""
        return sorted(path for path in (self.folder / "data").glob("node*/dev*/?/**/*") if path.is_file())

    def _state(self) -> State:
        return State(self.folder / "data", read_only=True)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # removed meanwhile
        return None


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
