"""How requests and answers of a tracker look on the wire: bytes, escaped as forms are."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

#: The bytes that answers leave as they are, besides the space, which becomes a plus.
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_,-./\\:")
_ESCAPED = [bytes((code,)) if code in _PLAIN else b"%%%02X" % code for code in range(256)]
_ESCAPED[0x20] = b"+"

_REQUEST = re.compile(rb"\s*(\w+)\s*([^\n]*)", re.ASCII)
_HEX = re.compile(rb"%([0-9a-fA-F]{2})")
_NUMBER = re.compile(rb"\s*([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)")

Args = dict[str, bytes]
#: What a command answers with ``OK``; text is UTF-8.
Fields = Mapping[str, bytes | str | int]

#: The text of an error where it is not just its code.
_TEXTS = {
    "after_mismatch": "Pattern does not match the after-value?",
    "bad_params": "Invalid parameters to command; please see documentation",
    "class_exists": "That class already exists in that domain",
    "class_has_files": "Class still has files, unable to delete",
    "class_not_found": "Class not found",
    "domain_exists": "That domain already exists",
    "domain_has_files": "Domain still has files, unable to delete",
    "domain_not_found": "Domain not found",
    "failure": "Operation failed",
    "host_exists": "That host already exists",
    "host_mismatch": "The device specified doesn't belong to the host specified",
    "host_not_found": "Host not found",
    "invalid_mindevcount": "The mindevcount must be at least 1",
    "key_exists": "Target key name already exists; can't overwrite.",
    "no_class": "No class provided",
    "no_device": "Device not found",
    "no_devices": "No devices found to store file",
    "no_domain": "No domain provided",
    "no_host": "No host provided",
    "no_ip": "IP required to create host",
    "no_port": "Port required to create host",
    "no_rebal_state": "No available rebalance status",
    "no_temp_file": "No tempfile or file already closed",
    "nodel_default_class": "Cannot delete the default class",
    "none_match": "No keys match that pattern and after-value (if any).",
    "state_too_high": "Status cannot go from dead to alive; must use down",
    "unknown_command": "Unknown server command",
    "unknown_host": "Host not found",
    "unknown_state": "Invalid/unknown state",
    "unreg_domain": "Domain name invalid/not found",
}


class ErrorAnswer(Exception):
    """The answer is ``ERR`` with this code. The text is for people: clients decide by the code."""

    def __init__(self, code: str, text: str | bytes = "") -> None:
        super().__init__(code)
        self.code = code
        self.text = text or _TEXTS.get(code, code)


def escape(value: bytes | str | int) -> bytes:
    raw = value if isinstance(value, bytes) else str(value).encode()
    return b"".join([_ESCAPED[code] for code in raw])


def unescape(raw: bytes) -> bytes:
    raw = raw.replace(b"+", b" ")
    return _HEX.sub(lambda found: bytes((int(found[1], 16),)), raw) if b"%" in raw else raw


def parse_args(raw: bytes) -> Args:
    """The arguments of a request, with the quirks of the real parser."""
    args: Args = {}
    for pair in raw.split(b"&"):
        if pair in (b"", b"0"):
            continue
        # An unescaped "=" in a value ends it.
        name, value, *_ = [*pair.split(b"="), b""]
        key, found = unescape(name).decode("latin-1"), unescape(value)
        before = args.get(key, b"")
        args[key] = b"\0".join((before, found)) if truthy(before) else found
    return args


def parse_request(line: bytes) -> tuple[str, Args] | None:
    """A line's command, in lower case, and its arguments; None if no command can be seen in it."""
    found = _REQUEST.match(line)
    return (found[1].decode().lower(), parse_args(found[2])) if found else None


def truthy(value: bytes | None) -> bool:
    """Whether the server takes *value* as given: the text "0" is not."""
    return value not in (None, b"", b"0")


def number(value: bytes | None) -> int:
    """The number that *value* starts with; 0 if it does not start with one."""
    found = _NUMBER.match(value or b"")
    return int(float(found[1])) if found and not found[1].isdigit() else int(found[1]) if found else 0


def ok(fields: Fields, callid: bytes | None = None) -> bytes:
    """An answer. Its fields come in another order each time, as with the real one: none may rely on it."""
    pairs = [(name, value) for name, value in fields.items()]
    if callid is not None:
        pairs.append(("callid", callid))
    random.shuffle(pairs)
    return b"OK " + b"&".join([escape(name) + b"=" + escape(value) for name, value in pairs]) + b"\r\n"


def error(answer: ErrorAnswer, callid: bytes | None = None) -> bytes:
    words = [b"ERR", answer.code.encode(), escape(answer.text)]
    if callid is not None:
        words.append(escape(callid))
    return b" ".join(words) + b"\r\n"
