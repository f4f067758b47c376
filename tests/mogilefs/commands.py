"""The commands that clients send, but for storing a file."""

from __future__ import annotations

import random
import re
import time
from typing import ClassVar

from tests.mogilefs.installation import Installation, url
from tests.mogilefs.state import FileRow
from tests.mogilefs.wire import Args, ErrorAnswer, Fields, number, truthy


def required(args: Args, name: str, code: str) -> bytes:
    """A value that "0" is not."""
    value = args.get(name, b"")
    if not truthy(value):
        raise ErrorAnswer(code)
    return value


class Commands:
    """``names`` are the commands; each takes the arguments and returns the answer's fields, or raises ErrorAnswer."""

    names: ClassVar[set[str]] = {
        *("noop", "test", "sleep", "get_paths", "file_info", "file_debug", "list_keys", "list_fids"),
        *("delete", "rename", "updateclass"),
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

    # Changing.

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
