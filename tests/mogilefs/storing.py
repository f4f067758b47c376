"""The commands that store a file: ``create_open``, then, when the file is on a node, ``create_close``."""

from __future__ import annotations

import random
import re
import time
from typing import ClassVar

from tests.mogilefs.commands import Commands, required
from tests.mogilefs.installation import Device, url
from tests.mogilefs.node import MISSING
from tests.mogilefs.state import TempRow
from tests.mogilefs.wire import Args, ErrorAnswer, Fields, number, truthy

_CHECKSUM = re.compile(rb"([\w-]+):([a-fA-F0-9]{32,128})\Z")
#: The kinds of checksums a class may keep, and how long their hex digests are.
HEX_LENGTHS = {"MD5": 32, "SHA-1": 40}


class StoringCommands(Commands):
    """What clients send."""

    names: ClassVar[set[str]] = Commands.names | {"create_open", "create_close"}

    def create_open(self, args: Args) -> Fields:
        began = time.monotonic()
        dmid = self.domain(args)
        classid = 0
        if args.get("class"):
            found = self.state.class_named(dmid, args["class"])
            # The id of "default" is 0, which the real one takes for "not found".
            if found is None or not found.classid:
                raise ErrorAnswer("unreg_class")
            classid = found.classid
        several = truthy(args.get("multi_dest"))
        offers = self._offers(args, 3 if several else 1)
        fid = number(args["fid"]) if truthy(args.get("fid")) else None
        fid = self.state.open_fid(fid, dmid, args.get("key", b""), classid, [device.devid for device in offers])
        if fid is None:
            raise ErrorAnswer("fid_in_use")
        fields: dict[str, bytes | str | int] = {"fid": fid}
        if several:
            fields["dev_count"] = len(offers)
            for place, device in enumerate(offers, 1):
                fields[f"devid_{place}"] = device.devid
                fields[f"path_{place}"] = url(device, fid)
        else:
            fields.update(devid=offers[0].devid, path=url(offers[0], fid))
        if truthy(args.get("debug_profile")):
            stages = ["begin", "wait_monitor", "find_deviceid", "vivify_dir_on_all_devs"]
            stages += [f"vivify_dir_on_dev{device.devid}" for device in offers]
            fields["profpoints"] = len(stages)
            for place, stage in enumerate(stages, 1):
                fields[f"prof_{place}_name"] = stage
                fields[f"prof_{place}_time"] = f"{time.monotonic() - began:.3f}"
        return fields

    def _offers(self, args: Args, most: int) -> list[Device]:
        devices = self.installation.devices()
        told = self.installation.faults.take("offer", "create_open")
        if told is not None:
            return [device for devid in told.value[:most] for device in devices if device.devid == devid]
        size = number(args.get("size"))
        fit = [device for device in devices if device.writeable and self.installation.free(device) > size]
        if not fit:
            raise ErrorAnswer("no_devices")
        # At random, as the real one: two offers may well be devices of one host.
        return random.sample(fit, min(most, len(fit)))

    def create_close(self, args: Args) -> Fields:
        self.domain(args)
        fid = number(required(args, "fid", "no_fid"))
        devid = number(required(args, "devid", "no_devid"))
        path = required(args, "path", "no_path")
        checksum = self._checksum(args.get("checksum"))
        device = self.installation.device(devid)
        if device is None or path != url(device, fid).encode():
            raise ErrorAnswer("bogus_args")
        row = self.state.take_temp(fid)
        if row is None:
            raise ErrorAnswer("no_temp_file")
        again = self.installation.faults.take("rerun", "create_close")
        if again is not None:
            # The worker died after it had taken the row; what it had begun happens now, later or never.
            if again.value:
                self.installation.later(again.seconds, lambda: self._close(row, device, args, checksum))
            raise ErrorAnswer("no_temp_file")
        return self._close(row, device, args, checksum)

    @staticmethod
    def _checksum(given: bytes | None) -> tuple[str, str] | None:
        if not truthy(given):
            return None
        found = _CHECKSUM.match(given or b"")
        hashtype, hexdigest = (found[1].decode(), found[2].decode().lower()) if found else ("", "")
        if HEX_LENGTHS.get(hashtype) != len(hexdigest):
            raise ErrorAnswer("invalid_checksum_format")
        return hashtype, hexdigest

    def _close(self, row: TempRow, device: Device, args: Args, checksum: tuple[str, str] | None) -> Fields:
        key = args.get("key", b"")
        try:
            size = self._verify(row, device, args, checksum) if key else None
        except ErrorAnswer:
            self._drop(row.fid, device)
            raise
        if size is None:
            # Closed without a key: to be thrown away.
            self._drop(row.fid, device)
            return {}
        timing = self.installation.timing
        with self.state.change():
            self.state.store(row, key, size, device.devid, delete=timing.delete, replicate=timing.replicate)
            if checksum and checksum[0] == self.state.class_of(row.dmid, row.classid).hashtype:
                self.state.save_checksum(row.fid, *checksum)
        return {}

    def _drop(self, fid: int, device: Device) -> None:
        self.state.put_on(fid, device.devid)
        self.state.delete(fid, time.time() + self.installation.timing.delete)

    def _verify(self, row: TempRow, device: Device, args: Args, checksum: tuple[str, str] | None) -> int:
        """The file's size, if the node holds what the client says it does."""
        fid = row.fid
        if device.devid not in row.devids:
            valid = ",".join(map(str, row.devids))
            text = f"File uploaded to invalid dest {device.devid}. Valid devices were: {valid}"
            raise ErrorAnswer("invalid_destdev", text)
        # "0" is not given.
        expected = number(args["size"]) if truthy(args.get("size")) else -1
        path = url(device, fid)
        size = self.installation.size(device, fid)
        if size is None or size == MISSING:
            what = "cantreach" if size is None else "missing"
            if size is None:
                self.last_error = f"Failed HEAD check for {path} (500): write_error"
            text = f"Expected: {expected}; actual: 0 ({what}); path: {path}; error: {self.last_error}"
            raise ErrorAnswer("size_verify_error", text)
        if self.installation.faults.take("size_mismatch", "create_close"):
            size += 1
        if expected > -1 and size != expected:
            raise ErrorAnswer("size_mismatch", f"Expected: {expected}; actual: {size}; path: {path}")
        if checksum and truthy(args.get("checksumverify")):
            hashtype, hexdigest = checksum
            actual = self.installation.digest(device, fid, hashtype)
            if actual != hexdigest:
                told = f"Checksum[f={fid};{hashtype}={hexdigest}]; actual: {hashtype}:{actual}"
                raise ErrorAnswer("checksum_mismatch", f"Expected: {told}; path: {path}")
        return size
