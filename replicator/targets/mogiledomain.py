"""What one domain of MogileFS can be asked, and what its trackers' errors mean for delivery."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from replicator.errors import Refused, TargetError, Unavailable
from replicator.targets.tracker import NoTracker, TrackerError, Trackers, numbered

#: A tracker lists no more keys at once.
PAGE = 1000
#: Seconds that each of a probe's two requests may take.
PROBE_SECONDS = 1.5


class Domain:
    """The keys of one domain. Every method raises ``Unavailable`` if no tracker answers."""

    def __init__(self, name: str, trackers: Trackers) -> None:
        self.name = name
        self.trackers = trackers

    def ask(self, command: str, fields: Mapping[str, str | int], *, within: float | None = None) -> dict[str, str]:
        """The answer to what can be asked twice. Raises ``TrackerError`` too."""
        try:
            return self.trackers.ask(command, {"domain": self.name, **fields}, within=within)
        except NoTracker as error:
            raise Unavailable(str(error)) from None

    def change(self, command: str, fields: Mapping[str, str | int]) -> None:
        """Have something changed; ``Unavailable`` in doubt if it may have been. Raises ``TrackerError`` too."""
        try:
            self.trackers.ask(command, {"domain": self.name, **fields}, changes=True)
        except NoTracker as error:
            raise Unavailable(str(error), doubt=error.sent) from None

    def info(self, key: str, *, within: float | None = None) -> dict[str, str] | None:
        """fid, class, length, checksum where the class hashes; None if there is no such key."""
        try:
            return self.ask("file_info", {"key": key}, within=within)
        except TrackerError as error:
            if error.code == "unknown_key":
                return None
            raise self.failure("file_info", error) from None

    def paths(self, key: str, *, within: float | None = None) -> list[str] | None:
        """URLs of its copies, in the tracker's order; None if there is no such key. Some may be dead."""
        try:
            # Unless told not to, a tracker looks at the first: a node that hangs makes that take half a minute.
            answer = self.ask("get_paths", {"key": key, "noverify": 1, "pathcount": 10}, within=within)
        except TrackerError as error:
            if error.code == "unknown_key":
                return None
            raise self.failure("get_paths", error) from None
        return numbered(answer, "path", "paths")

    def keys(self, prefix: str = "") -> Iterator[str]:
        """All keys that begin with *prefix*."""
        # Only the first page may name the prefix: from then on it is taken for a regular expression.
        fields = {"prefix": prefix} if prefix else {}
        after = ""
        while True:
            try:
                answer = self.ask("list_keys", {"limit": PAGE, **fields})
            except TrackerError as error:
                if error.code == "none_match":
                    return
                raise self.failure("list_keys", error) from None
            page = numbered(answer, "key_", "key_count")
            # The tracker's own comparison ignores the case.
            if page and page[-1] == after:
                raise Unavailable(f"list_keys: the tracker does not go on after the key {after!r}")
            yield from (key for key in page if key.startswith(prefix))
            if not page or _is_past(page[-1], prefix):
                return
            after = page[-1]
            fields = {"after": after}

    def classes(self) -> list[str]:
        """The names of its classes, the default one too."""
        try:
            answer = self.ask("get_domains", {})
        except TrackerError as error:
            raise self.failure("get_domains", error) from None
        for number in range(1, int(answer.get("domains", "0")) + 1):
            if answer.get(f"domain{number}") == self.name:
                count = int(answer.get(f"domain{number}classes", "0"))
                return [answer[f"domain{number}class{index}name"] for index in range(1, count + 1)]
        raise self.failure("get_domains", TrackerError("unreg_domain"))

    def probe(self) -> None:
        """Return if a tracker answers, knows the domain, and has a node that can be written to."""
        try:
            self.ask("file_info", {"key": "replicator-probe"}, within=PROBE_SECONDS)
        except TrackerError as error:
            if error.code != "unknown_key":
                raise self.failure("file_info", error) from None
        if all(device.get("observed_state") != "writeable" for device in self.devices()):
            raise Unavailable("no storage node can be written to")

    def devices(self) -> list[dict[str, str]]:
        """What the trackers say of each of its disks that is in use: status, observed_state, mb_free, mb_total…"""
        try:
            answer = self.ask("get_devices", {}, within=PROBE_SECONDS)
        except TrackerError as error:
            raise self.failure("get_devices", error) from None
        devices: dict[str, dict[str, str]] = {}
        for name, value in answer.items():
            number, _, field = name.partition("_")
            if field:
                devices.setdefault(number, {})[field] = value
        return [device for device in devices.values() if device.get("status") == "alive"]

    def failure(self, command: str, error: TrackerError, mogile_class: str = "") -> TargetError:
        """What a tracker's error means for delivery."""
        match error.code:
            case "unreg_domain" | "no_domain":
                return Refused(f"the trackers know no domain {self.name!r}: see the target's option domain")
            case "unreg_class" | "class_not_found":
                return Refused(
                    f"the domain {self.name!r} has no class {mogile_class!r}: create it there (mogadm class add "
                    f"{self.name} {mogile_class}), or change the storage's mogile_class, and requeue"
                )
            case "no_devices":
                return Unavailable(f"{command}: no storage node has room for it")
        return Unavailable(f"{command}: {error.code}")


def _is_past(key: str, prefix: str) -> bool:
    """Whether no key after *key* can begin with *prefix*: by bytes, nor as databases order that ignore case."""
    lowered = key.lower()
    return bool(prefix) and key > prefix and lowered > prefix.lower() and not lowered.startswith(prefix.lower())
