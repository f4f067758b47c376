"""What trackers do without being asked: watch the nodes, make copies, remove old ones, give up what nobody closed."""

from __future__ import annotations

import contextlib
import random
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.mogilefs.installation import Device, Installation
from tests.mogilefs.state import FileRow


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next for a file's copies."""

    do: Literal["nothing", "wait", "copy", "drop"]
    device: Device | None = None


def next_step(holding: Sequence[Device], devices: Sequence[Device], copies: int, pick: Callable[..., Device]) -> Step:
    """Towards *copies* copies, on as many hosts where there are as many; *pick* chooses among equals."""
    hosts = {device.hostid for device in holding}
    usable_hosts = {device.hostid for device in devices if device.status == "alive"}
    if len(holding) > copies or len(hosts) > copies:
        doubled = [each for each in holding if [other.hostid for other in holding].count(each.hostid) > 1]
        return Step("drop", pick(doubled or holding))
    if len(hosts) >= copies or (len(hosts) >= len(usable_hosts) and len(holding) >= copies):
        return Step("nothing")
    free = [device for device in devices if device.writeable and device not in holding]
    ideal = [device for device in free if device.hostid not in hosts]
    if ideal:
        return Step("copy", pick(ideal))
    # Better two copies on one host than one copy.
    if free and len(holding) < copies:
        return Step("copy", pick(free))
    return Step("wait")


class Background:
    """The threads that do it, until the installation closes."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.state = installation.state
        self.paused = threading.Event()

    def start(self) -> None:
        self._loop("monitor", lambda: self.installation.timing.monitor, self.installation.look)
        self._loop("replicate", lambda: 0.05, self.replicate)
        self._loop("delete", lambda: 0.05, self.delete)

    def _loop(self, name: str, pause: Callable[[], float], work: Callable[[], object]) -> None:
        def run() -> None:
            while not self.installation.closing.wait(pause()):
                if name == "monitor" or not self.paused.is_set():
                    work()

        threading.Thread(target=run, name=name, daemon=True).start()

    def replicate(self) -> None:
        """One round."""
        for fid in self.state.due("to_replicate", time.time()):
            row = self.state.file(fid)
            if row is None or not self._advance(row):
                self.state.run("DELETE FROM to_replicate WHERE fid = ?", fid)

    def _advance(self, row: FileRow) -> bool:
        """One step for one file; False: there is nothing to come back for."""
        devices = self.installation.devices()
        holding = [device for device in devices if device.devid in row.devids]
        kind = self.state.class_of(row.dmid, row.classid)
        if kind.hashtype != "NONE" and not self._checked(row, holding, kind.hashtype):
            return False
        step = next_step(holding, devices, kind.mindevcount, random.choice)
        if step.device is None:
            if step.do == "wait":
                self._again(row.fid)
            return step.do == "wait"
        if step.do == "drop":
            self._remove(row.fid, step.device)
        elif not self._copy(row, holding, step.device):
            self._again(row.fid)
        return True

    def _again(self, fid: int) -> None:
        self.state.run(
            "UPDATE to_replicate SET due = ? WHERE fid = ?", time.time() + self.installation.timing.retry, fid
        )

    def _checked(self, row: FileRow, holding: list[Device], hashtype: str) -> bool:
        """Whether the file's checksum, which is computed here if nobody gave one, is that of its bytes."""
        for device in holding:
            actual = self.installation.digest(device, row.fid, hashtype)
            if actual is not None:
                known = self.state.checksum(row.fid)
                if known is None:
                    self.state.save_checksum(row.fid, hashtype, actual)
                return known is None or known[1] == actual
        return True

    def _copy(self, row: FileRow, holding: list[Device], target: Device) -> bool:
        path = self.installation.copy(target, row.fid) if self.installation.reachable(target) else None
        for device in holding:
            source = self.installation.copy(device, row.fid)
            if source is None or path is None or not self.installation.reachable(device):
                continue
            temporary = path.with_name(f"{path.name}.replicating")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, temporary)
                if temporary.stat().st_size != row.length:
                    temporary.unlink()
                    continue
                temporary.replace(path)
            except OSError:
                continue
            with self.state.change():
                if self.state.file(row.fid) is not None:
                    self.state.put_on(row.fid, target.devid)
                    return True
            # Deleted meanwhile.
            path.unlink(missing_ok=True)
            return True
        return False

    def delete(self) -> None:
        """One round, and the sweep of what nobody closed."""
        now = time.time()
        for row in self.state.old_temps(now - self.installation.timing.sweep):
            with self.state.change():
                if self.state.take_temp(row.fid) is not None:
                    self.state.put_on(row.fid, *row.devids)
                    self.state.delete(row.fid, now)
        for fid in self.state.due("to_delete", now):
            devices = {device.devid: device for device in self.installation.devices()}
            for devid in self.state.devids(fid):
                if devid in devices and devices[devid].status != "dead":
                    self._remove(fid, devices[devid])
                else:
                    self.state.forget_on(fid, devid)
            if self.state.devids(fid):
                due = now + self.installation.timing.retry
                self.state.run("UPDATE to_delete SET due = ? WHERE fid = ?", due, fid)
            else:
                self.state.run("DELETE FROM to_delete WHERE fid = ?", fid)

    def _remove(self, fid: int, device: Device) -> None:
        """A copy, if its node is there."""
        path = self.installation.copy(device, fid)
        if path is None or device.observed == "unreachable" or not self.installation.reachable(device):
            return
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self.state.forget_on(fid, device.devid)
