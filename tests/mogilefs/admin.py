"""The commands that administrators send: domains, classes, hosts, devices, settings."""

from __future__ import annotations

import re
import shutil
import sqlite3
import time
from typing import ClassVar

from tests.mogilefs.commands import required
from tests.mogilefs.storing import HEX_LENGTHS, StoringCommands
from tests.mogilefs.wire import Args, ErrorAnswer, Fields, number, truthy

_DEVICE_STATES = {b"alive", b"dead", b"down", b"readonly", b"drain"}
_HOST_STATES = {b"alive", b"dead", b"down", b"readonly"}
_HOST_COLUMNS = {"ip": "hostip", "port": "http_port", "getport": "http_get_port"}
_POLICIES = {b"MultipleHosts", b"MultipleDevices", b"MultipleNetworks", b"HostsPerNetwork", b"Union"}
_BOOLEANS = {b"skip_devcount", b"skip_mkcol", b"case_sensitive_list_keys"}
_NUMBERS = {b"memcache_ttl", b"internal_queue_limit"}
_WRITABLE = _BOOLEANS | _NUMBERS | {b"memcache_servers", b"network_zones"}


class AdminCommands(StoringCommands):
    """All commands."""

    names: ClassVar[set[str]] = StoringCommands.names | {
        *("get_domains", "create_domain", "delete_domain", "create_class", "update_class", "delete_class"),
        *("get_hosts", "create_host", "update_host", "get_devices", "create_device", "set_state", "set_weight"),
        *("server_setting", "server_settings", "set_server_setting", "clear_cache", "do_monitor_round"),
        *("replicate_now", "fsck_status", "rebalance_status"),
    }

    # Domains and classes.

    def get_domains(self, args: Args) -> Fields:
        domains = self.state.domains()
        fields: dict[str, bytes | str | int] = {"domains": len(domains)}
        for place, (dmid, name) in enumerate(domains.items(), 1):
            kinds = self.state.classes(dmid)
            fields[f"domain{place}"] = name
            fields[f"domain{place}classes"] = len(kinds)
            for number_, kind in enumerate(kinds, 1):
                for what in ("name", "mindevcount", "replpolicy", "hashtype"):
                    fields[f"domain{place}class{number_}{what}"] = getattr(kind, what)
        return fields

    def create_domain(self, args: Args) -> Fields:
        name = required(args, "domain", "no_domain")
        try:
            self.state.run("INSERT INTO domain (name) VALUES (?)", name)
        except sqlite3.IntegrityError:
            raise ErrorAnswer("domain_exists") from None
        return {"domain": name}

    def delete_domain(self, args: Args) -> Fields:
        name = required(args, "domain", "no_domain")
        dmid = self._dmid(name)
        if self.state.rows("SELECT 1 FROM file WHERE dmid = ? LIMIT 1", dmid):
            raise ErrorAnswer("domain_has_files")
        if any(kind.classid for kind in self.state.classes(dmid)):
            raise ErrorAnswer("domain_has_classes")
        self.state.run("DELETE FROM class WHERE dmid = ?", dmid)
        self.state.run("DELETE FROM domain WHERE dmid = ?", dmid)
        return {"domain": name}

    def _dmid(self, domain: bytes) -> int:
        dmid = self.state.dmid(domain)
        if dmid is None:
            raise ErrorAnswer("domain_not_found")
        return dmid

    def create_class(self, args: Args, *, update: bool = False) -> Fields:
        domain, name, copies, policy, hashtype = self._class_args(args)
        dmid = self._dmid(domain)
        found = self.state.class_named(dmid, name)
        made = found is not None and bool(
            self.state.rows("SELECT 1 FROM class WHERE (dmid, name) = (?, ?)", dmid, name)
        )
        if update and found is None:
            raise ErrorAnswer("class_not_found")
        if made and not update:
            raise ErrorAnswer("class_exists")
        with self.state.change():
            if not made:
                highest = max(kind.classid for kind in self.state.classes(dmid))
                classid = 0 if name == b"default" else highest + 1
                self.state.run(
                    "INSERT INTO class (dmid, classid, name, mindevcount) VALUES (?, ?, ?, 2)", dmid, classid, name
                )
            changes = {"mindevcount": copies, "replpolicy": policy, "hashtype": hashtype}
            for column, value in changes.items():
                if value:
                    self.state.run(f"UPDATE class SET {column} = ? WHERE (dmid, name) = (?, ?)", value, dmid, name)
        return {"class": name, "mindevcount": copies, "domain": domain}

    @staticmethod
    def _class_args(args: Args) -> tuple[bytes, bytes, int, str, str]:
        domain, name = args.get("domain", b""), args.get("class", b"")
        if not domain:
            raise ErrorAnswer("no_domain")
        if not name:
            raise ErrorAnswer("no_class")
        copies = number(args.get("mindevcount"))
        if copies < 1:
            raise ErrorAnswer("invalid_mindevcount")
        policy = args.get("replpolicy", b"")
        if policy and policy.partition(b"(")[0] not in _POLICIES:
            named = policy.partition(b"(")[0].decode("latin-1")
            raise ErrorAnswer("invalid_replpolicy", f"Failed to load replication policy class {named}")
        hashtype = args.get("hashtype", b"").decode("latin-1")
        if hashtype not in ("", "NONE", *HEX_LENGTHS):
            raise ErrorAnswer("invalid_hashtype")
        return domain, name, copies, policy.decode(), hashtype

    def update_class(self, args: Args) -> Fields:
        return self.create_class(args, update=True)

    def delete_class(self, args: Args) -> Fields:
        domain, name = args.get("domain", b""), args.get("class", b"")
        if not domain:
            raise ErrorAnswer("no_domain")
        if name == b"default":
            raise ErrorAnswer("nodel_default_class")
        dmid = self._dmid(domain)
        kind = self.state.class_named(dmid, name)
        if kind is None:
            raise ErrorAnswer("class_not_found")
        if self.state.rows("SELECT 1 FROM file WHERE dmid = ? AND classid = ? LIMIT 1", dmid, kind.classid):
            raise ErrorAnswer("class_has_files")
        self.state.run("DELETE FROM class WHERE dmid = ? AND classid = ?", dmid, kind.classid)
        return {"domain": domain, "class": name}

    # Hosts and devices.

    def get_hosts(self, args: Args) -> Fields:
        wanted = args.get("hostid")
        hosts = [host for host in self.installation.hosts() if wanted is None or number(wanted) == host.hostid]
        fields: dict[str, bytes | str | int] = {"hosts": len(hosts)}
        for place, host in enumerate(hosts, 1):
            for what in ("hostid", "hostname", "status", "hostip", "http_port", "http_get_port", "altip", "altmask"):
                fields[f"host{place}_{what}"] = getattr(host, what)
        return fields

    def create_host(self, args: Args, *, update: bool = False) -> Fields:
        name = required(args, "host", "no_host")
        found = next((host for host in self.installation.hosts() if host.hostname == name), None)
        if update and found is None:
            raise ErrorAnswer("host_not_found")
        if not update:
            if found is not None:
                raise ErrorAnswer("host_exists")
            required(args, "ip", "no_ip")
            required(args, "port", "no_port")
        if truthy(args.get("status")) and args["status"] not in _HOST_STATES:
            raise ErrorAnswer("unknown_state")
        with self.state.change():
            if found is None:
                self.state.run(
                    "INSERT INTO host (hostname, status, hostip, http_port) VALUES (?, 'down', '', '')", name
                )
            for given, value in args.items():
                column = _HOST_COLUMNS.get(given, given)
                if column in ("status", "altip", "altmask", *_HOST_COLUMNS.values()):
                    told = value.decode("latin-1")
                    self.state.run(f"UPDATE host SET {column} = ? WHERE hostname = ?", told, name)
        host = next(host for host in self.installation.hosts() if host.hostname == name)
        return {"hostid": host.hostid, "hostname": name}

    def update_host(self, args: Args) -> Fields:
        return self.create_host(args, update=True)

    def get_devices(self, args: Args) -> Fields:
        wanted = args.get("devid")
        devices = [each for each in self.installation.devices() if wanted is None or number(wanted) == each.devid]
        fields: dict[str, bytes | str | int] = {"devices": len(devices)}
        disk = shutil.disk_usage(self.installation.folder)
        for place, device in enumerate(devices, 1):
            told: dict[str, bytes | str | int] = {
                "devid": device.devid,
                "hostid": device.hostid,
                "status": device.status,
                "weight": device.weight,
                "observed_state": device.observed,
                "mb_total": disk.total >> 20,
                "mb_used": disk.used >> 20,
                "mb_free": disk.free >> 20,
                "mb_asof": "",
                "utilization": "",
                "reject_bad_md5": 1,
            }
            fields.update({f"dev{place}_{what}": value for what, value in told.items()})
        return fields

    def create_device(self, args: Args) -> Fields:
        status = args.get("state") or b"alive"
        if status not in _DEVICE_STATES:
            raise ErrorAnswer("invalid_state")
        devid = number(args.get("devid"))
        if not devid:
            raise ErrorAnswer("invalid_devid")
        hosts = self.installation.hosts()
        if truthy(args.get("hostid")):
            hosts = [host for host in hosts if host.hostid == number(args["hostid"])]
            problem = ErrorAnswer("unknown_hostid")
        elif truthy(args.get("hostname")):
            hosts = [host for host in hosts if host.hostname == args["hostname"]]
            problem = ErrorAnswer("unknown_host")
        else:
            raise ErrorAnswer("bad_args", "No hostid/hostname parameter")
        if not hosts:
            raise problem
        try:
            self.state.run(
                "INSERT INTO device (devid, hostid, status) VALUES (?, ?, ?)", devid, hosts[0].hostid, status.decode()
            )
        except sqlite3.IntegrityError:
            raise ErrorAnswer("existing_devid") from None
        return {}

    def set_state(self, args: Args) -> Fields:
        state = args.get("state", b"")
        devid = self._named_device(args, fit=state in _DEVICE_STATES)
        device = self.installation.device(devid)
        if device is not None and device.status == "dead" and state == b"alive":
            raise ErrorAnswer("state_too_high")
        self.state.run("UPDATE device SET status = ? WHERE devid = ?", state.decode(), devid)
        return {}

    def set_weight(self, args: Args) -> Fields:
        weight = number(args.get("weight"))
        devid = self._named_device(args, fit=weight >= 0)
        self.state.run("UPDATE device SET weight = ? WHERE devid = ?", weight, devid)
        return {}

    def _named_device(self, args: Args, *, fit: bool) -> int:
        devid = number(args.get("device"))
        if not (truthy(args.get("host")) and devid and fit):
            raise ErrorAnswer("bad_params")
        device = self.installation.device(devid)
        if device is None:
            raise ErrorAnswer("no_device")
        if device.host.hostname != args["host"]:
            raise ErrorAnswer("host_mismatch")
        return devid

    # Settings and upkeep.

    def server_setting(self, args: Args) -> Fields:
        name = required(args, "key", "bad_params")
        return {"key": name, "value": self.state.settings().get(name, b"")}

    def server_settings(self, args: Args) -> Fields:
        settings = self.state.settings()
        fields: dict[str, bytes | str | int] = {"key_count": len(settings)}
        for place, (name, value) in enumerate(settings.items(), 1):
            fields.update({f"key_{place}": name, f"value_{place}": value})
        return fields

    def set_server_setting(self, args: Args) -> Fields:
        name = required(args, "key", "bad_params")
        value = args.get("value", b"")
        if name not in _WRITABLE and not name.startswith((b"queue_", b"zone_", b"slave_")):
            raise ErrorAnswer("not_writable")
        if name in _NUMBERS and truthy(value) and not value.isdigit():
            raise ErrorAnswer("invalid_format", "Must be numeric\n")
        if name in _BOOLEANS:
            if truthy(value) and not re.match(rb"[0fn1ty]|of|on", value, re.IGNORECASE):
                raise ErrorAnswer("invalid_format", "Unknown format\n")
            value = b"1" if truthy(value) and re.match(rb"[1ty]|on", value, re.IGNORECASE) else b"0"
        self.state.run("INSERT OR REPLACE INTO setting VALUES (?, ?)", name, value)
        return {}

    def clear_cache(self, args: Args) -> Fields:
        self.installation.look()
        return {}

    def do_monitor_round(self, args: Args) -> Fields:
        self.installation.look()
        return {}

    def replicate_now(self, args: Args) -> Fields:
        return {"count": self.state.run("UPDATE to_replicate SET due = 0 WHERE due > 0")}

    def fsck_status(self, args: Args) -> Fields:
        zero = ("running", "max_fid_checked", "start_time", "end_fid", "max_logid", "policy_only", "stop_time")
        return {**dict.fromkeys(zero, 0), "host": "", "current_time": int(time.time())}

    def rebalance_status(self, args: Args) -> Fields:
        raise ErrorAnswer("no_rebal_state")
