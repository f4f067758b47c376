"""The way in for a test while everything runs: lines of JSON over TCP that ask for faults, stops and starts."""

from __future__ import annotations

import base64
import dataclasses
import json
import shutil
import socket
from collections.abc import Callable
from typing import Any

from tests.mogilefs.admin import AdminCommands
from tests.mogilefs.background import Background
from tests.mogilefs.faults import Fault
from tests.mogilefs.installation import Installation
from tests.mogilefs.sockets import Listener
from tests.mogilefs.tracker import Tracker


class Control:
    """``{"verb": "node", "number": 1, "do": "stop"}`` is answered ``{"result": …}`` or ``{"error": …}``."""

    def __init__(
        self, installation: Installation, trackers: list[Tracker], background: Background, port: int
    ) -> None:
        self.installation = installation
        self.trackers = trackers
        self.background = background
        self.verbs: dict[str, Callable[..., object]] = {
            "fault": self.fault,
            "node": self.node,
            "tracker": self.tracker,
            "background": self.pause_background,
            "monitor": self.monitor,
            "heal": self.heal,
            "wipe": self.wipe,
            "timing": self.timing,
            "waiting": self.waiting,
            "put": self.put,
            "pending": self.pending,
        }
        self._listener = Listener(port, self._serve, "control")

    def start(self) -> None:
        self._listener.start()

    def _serve(self, sock: socket.socket) -> None:
        with sock.makefile("rwb") as stream:
            for line in stream:
                call: dict[str, Any] = json.loads(line)
                try:
                    answer = {"result": self.verbs[call.pop("verb")](**call)}
                except Exception as error:
                    answer = {"error": f"{type(error).__name__}: {error}"}
                stream.write(json.dumps(answer).encode() + b"\n")
                stream.flush()

    def fault(self, node: int = 0, **fault: Any) -> int:
        """A fault for the trackers, or for the HTTP answers of a node."""
        faults = self.installation.nodes[node].faults if node else self.installation.faults
        return faults.add(Fault(**fault))

    def node(self, number: int, do: str, seconds: float | None = None) -> None:
        node = self.installation.nodes[number]
        if do == "hang":
            node.gate.shut(seconds)
        elif do == "stop":
            node.stop()
        else:
            node.gate.open()
            node.start()
        if do != "hang":
            # Noticed at once: tests that want it late tell the monitor to look away before.
            self.installation.look()

    def tracker(self, index: int, do: str, seconds: float | None = None) -> None:
        tracker = self.trackers[index]
        if do == "hang":
            tracker.gate.shut(seconds)
        elif do == "stop":
            tracker.stop()
        else:
            tracker.gate.open()
            tracker.start()

    def pause_background(self, *, paused: bool) -> None:
        """No copies are made or removed meanwhile."""
        if paused:
            self.background.paused.set()
        else:
            self.background.paused.clear()

    def monitor(self, *, looking: bool) -> None:
        """Whether trackers notice that a node is gone, or back."""
        if looking:
            self.installation.monitoring.set()
        else:
            self.installation.monitoring.clear()

    def timing(self, **seconds: float) -> None:
        self.installation.retime(**seconds)

    def waiting(self) -> list[dict[str, Any]]:
        return [dataclasses.asdict(fault) for fault in self.installation.faults.waiting()]

    def put(self, key: str, content: str, mogile_class: str) -> int:
        """Store a file, as a client would that is everywhere at once; *key* in latin-1, *content* in base64."""
        commands = AdminCommands(self.installation)
        domain = next(iter(self.installation.state.domains().values()))
        data = base64.b64decode(content)
        args = {"domain": domain, "key": key.encode("latin-1"), "class": mogile_class.encode()}
        opened = commands.create_open(args)
        fid, devid = int(opened["fid"]), int(opened["devid"])
        device = self.installation.device(devid)
        path = self.installation.copy(device, fid) if device is not None else None
        assert path is not None
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        given = {"fid": str(fid), "devid": str(devid), "path": str(opened["path"]), "size": str(len(data))}
        commands.create_close({**args, **{name: value.encode() for name, value in given.items()}})
        return fid

    def pending(self) -> int:
        """How many files' copies are still to be made or removed."""
        tables = ("to_replicate", "to_delete")
        return sum(len(self.installation.state.rows(f"SELECT fid FROM {table}")) for table in tables)

    def heal(self) -> None:
        """Nothing is wrong any more."""
        self.installation.faults.clear()
        self.installation.retime()
        self.pause_background(paused=False)
        self.monitor(looking=True)
        for number, node in self.installation.nodes.items():
            node.faults.clear()
            self.node(number, "start")
        for index in range(len(self.trackers)):
            self.tracker(index, "start")

    def wipe(self) -> None:
        """No files, neither known nor on disk."""
        self.heal()
        self.installation.state.wipe()
        for node in self.installation.nodes.values():
            for devid in node.devids:
                for path in (node.folder / f"dev{devid}").iterdir():
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink(missing_ok=True)
