"""One MogileFS: its database, its storage nodes, what trackers have noticed of them, and how patient all are."""

from __future__ import annotations

import dataclasses
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.mogilefs.faults import Faults
from tests.mogilefs.node import Node
from tests.mogilefs.state import FileRow, State

#: No file goes to a device with less; the real one's default.
MIN_FREE_MB = 100


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. The real ones, where they differ, in brackets."""

    monitor: float = 0.2
    """Between two looks at the nodes [2.5]."""
    hung_noticed: float = 2.0
    """After which a node that does not answer counts as unreachable."""
    watchdog: float = 30.0
    """After which a worker that waits for a node is killed, and its request run again."""
    replicate: float = 0.2
    """From a store to the second copy [1.5]."""
    delete: float = 0.2
    """From a delete, or an overwriting, until the copies go [1.5 to 2.3]."""
    retry: float = 0.5
    """Until what a node refused is tried again [600]."""
    sweep: float = 3600.0
    """After which a fid that nobody closed is given up."""
    idle: float = 36.0
    """After which a node closes a connection that says nothing."""
    second: float = 1.0
    """What the command ``sleep`` takes for a second."""


@dataclass(frozen=True, slots=True)
class Host:
    hostid: int
    hostname: bytes
    status: str
    hostip: str
    http_port: str
    http_get_port: str
    altip: str
    altmask: str


@dataclass(frozen=True, slots=True)
class Device:
    devid: int
    hostid: int
    status: str
    weight: int
    host: Host
    observed: str
    """``writeable`` or ``unreachable``."""

    @property
    def writeable(self) -> bool:
        """Whether new files may go there."""
        return self.status == "alive" and self.host.status == "alive" and self.observed == "writeable"

    @property
    def readable(self) -> bool:
        usable = self.status in ("alive", "readonly", "drain") and self.host.status in ("alive", "readonly")
        return usable and self.observed == "writeable"


class Installation:
    """What all trackers share. *address*: of all of them, and of the nodes; URLs of files name it."""

    def __init__(self, folder: Path, timing: Timing, address: str = "127.0.0.1") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.address = address
        self.timing = self._first_timing = timing
        self.state = State(folder)
        self.faults = Faults()
        self.nodes: dict[int, Node] = {}
        """By host id."""
        self.unreachable: set[int] = set()
        """Host ids; the monitor's view, which may be out of date."""
        self.monitoring = threading.Event()
        self.monitoring.set()
        self.monitored = threading.Condition()
        self.rounds = 0
        self.closing = threading.Event()

    def add_node(self, devids: list[int], port: int) -> Node:
        """The next host, with these devices; one that the database knows keeps its port, unless told another."""
        number = len(self.nodes) + 1
        known = self.state.rows("SELECT http_port FROM host WHERE hostid = ?", number)
        if known and not port:
            port = int(str(known[0][0]))
        node = Node(number, self.folder / f"node{number}", devids, port, self.timing.idle, self.address)
        node.start()
        self.nodes[number] = node
        with self.state.change():
            self.state.run(
                "INSERT INTO host (hostid, hostname, status, hostip, http_port) "
                "VALUES (?, ?, 'alive', ?, ?) "
                "ON CONFLICT DO UPDATE SET hostip = excluded.hostip, http_port = excluded.http_port",
                *(number, b"node%d" % number, self.address, str(node.port)),
            )
            for devid in devids:
                self.state.run(
                    "INSERT OR IGNORE INTO device (devid, hostid, status) VALUES (?, ?, 'alive')", devid, number
                )
        return node

    def close(self) -> None:
        self.closing.set()
        for node in self.nodes.values():
            node.stop()

    def retime(self, **seconds: float) -> None:
        """Other delays, from now on; those that are not named are as at first."""
        self.timing = dataclasses.replace(self._first_timing, **seconds)

    # Hosts and devices.

    def hosts(self) -> list[Host]:
        columns = "hostid, hostname, status, hostip, http_port, http_get_port, altip, altmask"
        return [Host(*row) for row in self.state.rows(f"SELECT {columns} FROM host ORDER BY hostid")]  # type: ignore[arg-type]

    def devices(self) -> list[Device]:
        hosts = {host.hostid: host for host in self.hosts()}
        found = self.state.rows("SELECT devid, hostid, status, weight FROM device ORDER BY devid")
        here = self.nodes.keys() - self.unreachable
        return [
            Device(*row, hosts[row[1]], "writeable" if row[1] in here else "unreachable")  # type: ignore
            for row in found
        ]

    def device(self, devid: int) -> Device | None:
        return next((device for device in self.devices() if device.devid == devid), None)

    def look(self) -> None:
        """The monitor's round: which nodes answer."""
        now = time.monotonic()
        if self.monitoring.is_set():
            self.unreachable = {
                number
                for number, node in self.nodes.items()
                if not node.up or (not node.gate.is_open and now - node.gate.shut_since >= self.timing.hung_noticed)
            }
        with self.monitored:
            self.rounds += 1
            self.monitored.notify_all()

    # Where files are.

    def free(self, device: Device) -> int:
        """Bytes; 0 if it is too full to be used at all."""
        disk = shutil.disk_usage(self.folder)
        return disk.free if disk.free >= MIN_FREE_MB << 20 else 0

    def size(self, device: Device, fid: int) -> int | None:
        """As ``Node.size``."""
        node = self.nodes.get(device.hostid)
        return node.size(uri(device.devid, fid), self.timing.watchdog) if node is not None else None

    def digest(self, device: Device, fid: int, hashtype: str) -> str | None:
        node = self.nodes.get(device.hostid)
        return node.digest(uri(device.devid, fid), hashtype) if node is not None else None

    def reachable(self, device: Device) -> bool:
        """Whether its node answers now, whatever was noticed of it."""
        node = self.nodes.get(device.hostid)
        return node is not None and node.up and node.gate.is_open

    def copy(self, device: Device, fid: int) -> Path | None:
        """Where this device has, or would have, the file on disk; None: no such node runs here."""
        node = self.nodes.get(device.hostid)
        return node.path(uri(device.devid, fid)) if node is not None else None

    def forget(self, row: FileRow) -> None:
        self.state.delete(row.fid, time.time() + self.timing.delete)

    def later(self, seconds: float, work: Callable[[], object]) -> None:
        def run() -> None:
            if not self.closing.wait(seconds):
                work()

        threading.Thread(target=run, name="later", daemon=True).start()


def uri(devid: int, fid: int) -> str:
    digits = f"{fid:010d}"
    return f"/dev{devid}/{digits[0]}/{digits[1:4]}/{digits[4:7]}/{digits}.fid"


def url(device: Device, fid: int) -> str:
    return f"http://{device.host.hostip}:{device.host.http_port}{uri(device.devid, fid)}"
