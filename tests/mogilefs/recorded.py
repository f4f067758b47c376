"""The records of the real MogileFS, and what of a recorded answer another one must have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

RECORDS = Path(__file__).with_name("transcripts.jsonl")
#: What the recorded nodes were called; the node's number follows.
RECORDED_ADDRESS = b"127.0.0.1%d:7500"

#: Fields whose values cannot be the same, and why.
VOLATILE = {
    r"dev\d+_mb_(total|used|free)": "the disk",
    r"current_time": "the time",
    r"prof_\d+_time": "how long it took",
    r"host\d+_(hostip|http_port)": "here, all nodes have one address, and any ports",
    r"uptime|pending_queries|processing_queries|bored_queryworkers|queries|times_out_of_qworkers": "what ran before",
}
_VOLATILE = re.compile("|".join(f"({each})" for each in VOLATILE))
#: Groups that come in any order; their numbers mean nothing.
_GROUP = re.compile(r"(host|dev)(\d+)_(.+)|(domain1class)(\d+)(\D+)")
_OFFER = re.compile(r"(path|devid)(?:_(\d))?")
#: Errors whose text names places in the real server's source, or what another request left behind.
_TEXT_FREE = {"invalid_replpolicy", "invalid_format", "size_verify_error"}


@dataclass(frozen=True, slots=True)
class Record:
    name: str
    kind: str
    """``wire``: verbatim; ``wire-cut``: shortened; ``scenario``: a description."""
    peer: str
    """``tracker`` or ``storage``."""
    request: bytes
    response: bytes
    note: str
    full_length: int
    """Bytes of the request before it was shortened."""


def load() -> dict[str, Record]:
    found = {}
    with RECORDS.open() as lines:
        for line in lines:
            told = json.loads(line)
            request, response = (told[what].encode("latin-1") for what in ("request", "response"))
            length = told.get("request_full_length", len(request))
            found[told["name"]] = Record(
                told["name"], told["kind"], told["peer"], request, response, told["note"], length
            )
    return found


def whole_request(record: Record) -> bytes:
    """A shortened request as it was: what was cut out is more of the letter before it."""
    before, cut, after = record.request.partition(b"...[cut]...")
    return before + before[-1:] * (record.full_length - len(before) - len(after)) + after if cut else before


def comparable(answer: bytes, *, any_device: bool = False) -> list[object]:
    """A tracker's answer, without what may differ from one time to another; *any_device*: nor the devices."""
    found: list[object] = []
    for line in answer.split(b"\r\n")[:-1]:
        text = line.decode("latin-1")
        if text.startswith("ERR "):
            _, code, *rest = text.split(" ")
            found.append(("ERR", code, "" if code in _TEXT_FREE else " ".join(rest)))
        elif text.startswith("OK "):
            pairs = [pair.partition("=")[::2] for pair in text[3:].split("&")] if text != "OK " else []
            found.append(("OK", _fields(pairs, any_device=any_device)))
        elif (told := _admin_line(text)) != "a recent request" or told not in found:
            found.append(told)
    return found


def _admin_line(text: str) -> str:
    """A line of an answer to "!…"; with any numbers."""
    if re.fullmatch(r"127\.0\.0\.1 .* \d+\.\d{4} \d+\.\d{4}", text):
        return "a recent request"
    found = re.fullmatch(r"(\S+ pids)( \d+)+|(\w+) \d+", text)
    if found is None or (found[3] and not _VOLATILE.fullmatch(found[3])):
        return text
    return f"{found[1]} {len(text.split()) - 2}" if found[1] else f"{found[3]} …"


def _fields(pairs: Iterable[tuple[str, str]], *, any_device: bool) -> list[object]:
    """The fields as a set, so to speak; values as they were escaped."""
    plain: list[object] = []
    groups: dict[tuple[str, str], list[str]] = {}
    fields = dict(pairs)
    opened = "devid" in fields or "dev_count" in fields
    for name, value in fields.items():
        group = _GROUP.fullmatch(name)
        kept = "…" if _VOLATILE.fullmatch(name) else value
        if group is not None:
            kind, number, what = group[1] or group[4], group[2] or group[5], group[3] or group[6]
            groups.setdefault((kind, number), []).append(f"{what}={kept}")
        elif re.fullmatch(r"prof_\d_name", name):
            # On which device a folder was made: in any order.
            plain.append(f"{name}={re.sub('dev[0-9]$', 'dev', value)}")
        elif opened and _OFFER.fullmatch(name):
            plain.append(f"{name}: {_offer(fields, name)}")
        elif not (opened and name == "fid"):
            if re.fullmatch(r"path\d", name):
                # The order of paths is random.
                name = "path"
            if any_device and name in ("path", "devids"):
                kept = "…" if name == "path" else str(len(value.split(",")))
            plain.append(f"{name}={kept}")
    return sorted(plain, key=str) + sorted(sorted(group) for group in groups.values())


def _offer(fields: dict[str, str], name: str) -> str:
    """Whether an offer of ``create_open`` goes together: which device it is, chance decides."""
    suffix = name.removeprefix("path").removeprefix("devid")
    devid, digits = int(fields[f"devid{suffix}"]), f"{int(fields['fid']):010d}"
    address = (RECORDED_ADDRESS % ((devid + 1) // 2)).decode()
    path = f"http://{address}/dev{devid}/{digits[0]}/{digits[1:4]}/{digits[4:7]}/{digits}.fid"
    others = [value for other, value in fields.items() if other.startswith("devid") and other != f"devid{suffix}"]
    return "fits" if fields[f"path{suffix}"] == path and str(devid) not in others else f"does not fit: {fields}"


def fid_of(answer: bytes) -> int | None:
    """The fid in an answer of ``create_open``."""
    found = re.search(rb"\bfid=(\d+)", answer)
    return int(found[1]) if found else None


def comparable_http(answer: bytes) -> list[object]:
    """A node's answer: status line, headers in their order, body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    found = [
        re.sub(r"^(Date|Last-Modified): \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$", r"\1", line) for line in lines
    ]
    if body.startswith(b"available: "):
        # A report on the disk.
        found = [line for line in found if not line.startswith("Content-Length")]
        body = b"\n".join(re.findall(rb"^\w+: ", body, re.MULTILINE))
    return [*found, body]
