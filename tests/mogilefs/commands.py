"""The commands that clients send to store and find files."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from typing import ClassVar

from tests.mogilefs.installation import Device, Installation, url
from tests.mogilefs.node import MISSING
from tests.mogilefs.state import FileRow, TempRow
from tests.mogilefs.wire import Args, ErrorAnswer, Fields, number, truthy

Command = Callable[[Args], Fields]

_CHECKSUM = re.compile(rb"([\w-]+):([a-fA-F0-9]{32,128})\Z")
HEX_LENGTHS = {"MD5": 32, "SHA-1": 40}


def required(args: Args, name: str, code: str) -> bytes:
    """A value that "0" is not."""
    value = args.get(name, b"")
    if not truthy(value):
        raise ErrorAnswer(code)
    return value


class Commands:
    """``names`` are the commands; each takes the arguments and returns the answer's fields, or raises ErrorAnswer."""

    names: ClassVar[set[str]] = {
        *("noop", "test", "create_open", "create_close", "get_paths", "file_info", "file_debug", "delete", "rename"),
        *("list_keys", "list_fids", "updateclass", "sleep"),
    }

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.state = installation.state
        self.last_error = ""

    def domain(self, args: Args) -> int:
        name = args.get("domain", b"")
        if not name:
            raise ErrorAnswer("no_domain")
        dmid = self.state.dmid(name)
        if dmid is None:
            raise ErrorAnswer("unreg_domain")
        return dmid

    def key(self, args: Args, name: str = "key") -> bytes:
        key = args.get(name, b"")
        if not key:
            raise ErrorAnswer("no_key")
        return key

    def file(self, args: Args, code: str = "unknown_key") -> FileRow:
        dmid = self.domain(args)
        row = self.state.file_named(dmid, self.key(args))
        if row is None:
            raise ErrorAnswer(code)
        return row

    # For trying a connection.

    def noop(self, args: Args) -> Fields:
        return {}

    def test(self, args: Args) -> Fields:
        if truthy(args.get("crash")):
            self.last_error = "Error running command 'test': Crashed on purpose\n"
            raise ErrorAnswer("failure")
        return {}

    def sleep(self, args: Args) -> Fields:
        seconds = number(args["duration"]) if truthy(args.get("duration")) else 10
        self.installation.closing.wait(seconds * self.installation.timing.second)
        return {}

    # Storing.

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

    def updateclass(self, args: Args) -> Fields:
        dmid = self.domain(args)
        key = self.key(args)
        name = required(args, "class", "no_class")
        wanted = self.state.class_named(dmid, name)
        if wanted is None:
            raise ErrorAnswer("class_not_found")
        row = self.state.file_named(dmid, key)
        if row is None:
            raise ErrorAnswer("invalid_key")
        if not row.devids:
            raise ErrorAnswer("no_devices")
        if row.classid != wanted.classid:
            with self.state.change():
                self.state.run("UPDATE file SET classid = ? WHERE fid = ?", wanted.classid, row.fid)
                self.state.replicate(row.fid, time.time() + self.installation.timing.replicate)
        return {}

    def delete(self, args: Args) -> Fields:
        self.installation.forget(self.file(args))
        return {}

    def rename(self, args: Args) -> Fields:
        dmid = self.domain(args)
        old, new = self.key(args, "from_key"), self.key(args, "to_key")
        row = self.state.file_named(dmid, old)
        if row is None:
            raise ErrorAnswer("unknown_key")
        with self.state.change():
            if new != old and self.state.file_named(dmid, new) is not None:
                raise ErrorAnswer("key_exists")
            self.state.run("UPDATE file SET dkey = ? WHERE fid = ?", new, row.fid)
        return {}

    # Finding.

    def get_paths(self, args: Args) -> Fields:
        row = self.file(args)
        most = max(number(args.get("pathcount")), 2)
        devices = [device for device in self.installation.devices() if device.devid in row.devids]
        random.shuffle(devices)
        paths: list[str] = []
        last_resort = ""
        for device in devices:
            path = url(device, row.fid)
            if not device.readable:
                last_resort = path
            # Only the first is verified: with that one, clients have something.
            elif paths or truthy(args.get("noverify")) or self.installation.size(device, row.fid) == row.length:
                paths.append(path)
            if len(paths) == most:
                break
        if not paths and last_resort:
            paths = [last_resort]
        dead = self.installation.faults.take("dead_path", "get_paths")
        if dead is not None:
            paths = [str(dead.value), *paths][:most]
        return {"paths": len(paths), **{f"path{place}": path for place, path in enumerate(paths, 1)}}

    def file_info(self, args: Args) -> Fields:
        row = self.file(args)
        kind = self.state.class_of(row.dmid, row.classid)
        fields: dict[str, bytes | str | int] = {
            "fid": row.fid,
            "domain": args["domain"],
            "class": kind.name,
            "key": row.key,
            "length": row.length,
            "devcount": len(row.devids),
        }
        if kind.hashtype != "NONE":
            fields["checksum"] = ":".join(self.state.checksum(row.fid) or ["MISSING"])
        if truthy(args.get("devices")):
            fields["devids"] = ",".join(map(str, row.devids))
        return fields

    def file_debug(self, args: Args) -> Fields:
        row: FileRow | None
        if truthy(args.get("fid")):
            fid = number(args["fid"])
            row = self.state.file(fid)
        else:
            row = self.file(args)
            fid = row.fid
        fields: dict[str, bytes | str | int] = {"checksum": ":".join(self.state.checksum(fid) or ["NONE"])}
        if row is not None:
            domain = self.state.domains()[row.dmid]
            kind = self.state.class_of(row.dmid, row.classid).name
            fields.update(fid_fid=fid, fid_dmid=row.dmid, fid_dkey=row.key, fid_length=row.length, fid_domain=domain)
            fields.update(fid_classid=row.classid, fid_class=kind, fid_devcount=len(row.devids))
        temp = self.state.temp(fid)
        if temp is not None:
            fields.update(tempfile_dmid=temp.dmid, tempfile_dkey=temp.key, tempfile_classid=temp.classid)
            fields["tempfile_devids"] = ",".join(map(str, temp.devids))
        devids = self.state.devids(fid)
        if devids:
            fields["devids"] = ",".join(map(str, devids))
        for device in self.installation.devices():
            if device.devid in devids:
                fields[f"devpath_{device.devid}"] = url(device, fid)
        return fields

    def list_keys(self, args: Args) -> Fields:
        dmid = self.domain(args)
        prefix, after = args.get("prefix", b""), args.get("after", b"")
        if prefix and truthy(after):
            # The prefix is taken for a regular expression here, and only here.
            try:
                matches = re.match(prefix, after)
            except re.error:
                raise ErrorAnswer("failure") from None
            if not matches:
                raise ErrorAnswer("after_mismatch")
        limit = min(number(args["limit"]), 1000) if truthy(args.get("limit")) else 1000
        case = truthy(self.state.settings().get(b"case_sensitive_list_keys"))
        keys = self.state.keys(dmid, prefix, after, limit, case=case)
        if not keys:
            raise ErrorAnswer("none_match")
        found = {f"key_{place}": key for place, key in enumerate(keys, 1)}
        return {"key_count": len(keys), "next_after": max(keys), **found}

    def list_fids(self, args: Args) -> Fields:
        count = number(args.get("to")) or 100
        count = 500 if count > 500 or count < 0 else count
        first = number(args.get("from"))
        found = self.state.rows("SELECT fid FROM file WHERE fid > ? ORDER BY fid LIMIT ?", first, count)
        fields: dict[str, bytes | str | int] = {"fid_count": len(found)}
        domains = self.state.domains()
        for place, (fid,) in enumerate(found, 1):
            row = self.state.file(int(str(fid)))
            if row is not None:
                fields[f"fid_{place}_fid"] = row.fid
                fields[f"fid_{place}_domain"] = domains[row.dmid]
                fields[f"fid_{place}_class"] = self.state.class_of(row.dmid, row.classid).name
                fields[f"fid_{place}_key"] = row.key
                fields[f"fid_{place}_length"] = row.length
                fields[f"fid_{place}_devcount"] = len(row.devids)
        return fields
