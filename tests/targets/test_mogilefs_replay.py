"""The test MogileFS answers as the real one did: every record of it is replayed, or listed here with the reason."""

from __future__ import annotations

import re
import socket
import time
from contextlib import closing

import pytest

from tests.mogilefs import recorded
from tests.mogilefs.cluster import MogileFS
from tests.mogilefs.history import BEFORE, open_upload
from tests.mogilefs.recorded import Record, comparable, comparable_http, fid_of
from tests.mogilefs.replay import Replay
from tests.mogilefs.scenarios import IDLE, SCENARIOS, SECOND

RECORDS = recorded.load()

#: What is not replayed, and why.
NOT_REPLAYED = {
    "idle_130s": "takes 130 s; the test tracker has no limit for idle connections",
    "node_down_create_open_window": "a measurement of when the monitor looks",
    "node_hung_create_open_window": "a measurement of when the monitor looks",
    "rename_key_exists_hits_bystander": "a defect that the test tracker does not have, and no client should rename",
}
#: A fid of ``create_open`` depends on how many were used before, also by requests that are not on record.
OTHER_FIDS = {
    "tracker_first_request_after_start",
    "node_down_create_open_at_once",
    "node_down_create_open_later",
    "one_node_up_create_open",
}
#: Chance decides where copies are made, and which of two paths is handed out.
ANY_DEVICE = {"updateclass_after", "updateclass_down_after", "all_nodes_back_lonely", "all_nodes_down_get_paths"}


def problem_of(replay: Replay, record: Record) -> str:
    """What is not as recorded; empty: nothing."""
    if record.name in SCENARIOS:
        return "" if SCENARIOS[record.name](replay) else f"not seen here: {record.response!r}"
    for step in BEFORE.get(record.name, [lambda replay: open_upload(replay, record)]):
        step(replay)
    special = {
        "http_put_aborted": aborted_put,
        "http_put_expect": unanswered_put,
        "pipelined_500": pipelined,
        "list_keys_cap_1000": thousand_keys,
    }
    if record.name in special:
        return special[record.name](replay, record)
    request = replay.here(recorded.whole_request(record))
    if record.peer == "storage":
        closes = "closed by server" in record.note
        answer, still_open = replay.http(request, replay.node_of(request), closes=closes)
        if still_open == closes:
            return "the connection ended" if not still_open else "the connection goes on"
        return difference(comparable_http(record.response), comparable_http(answer))
    answer = replay.there(replay.ask(request))
    if (
        record.name.startswith("create_open")
        and record.name not in OTHER_FIDS
        and fid_of(answer) != fid_of(record.response)
    ):
        return f"another fid: {answer!r}"
    devices = record.name in ANY_DEVICE
    return difference(comparable(record.response, any_device=devices), comparable(answer, any_device=devices))


def difference(expected: object, found: object) -> str:
    return "" if expected == found else f"recorded: {expected}\nhere:     {found}"


def aborted_put(replay: Replay, record: Record) -> str:
    """The response on record is that of a later HEAD."""
    head, _, _ = record.request.partition(b"\r\n\r\n")
    path = head.split(b" ")[1]
    with socket.create_connection(("127.0.0.1", replay.mogilefs.node_ports[1]), timeout=30) as sock:
        sock.sendall(head + b"\r\n\r\n" + 50000 * b"z")
    deadline = time.monotonic() + 60
    answer = b""
    while b"Content-Length: 50000" not in answer and time.monotonic() < deadline:
        answer, _ = replay.http(b"HEAD %s HTTP/1.1\r\n\r\n" % path, 2)
    return difference(comparable_http(record.response), comparable_http(answer))


def unanswered_put(replay: Replay, record: Record) -> str:
    """``Expect: 100-continue`` is not answered; 0.3 s here, 10 s on record."""
    with pytest.raises(TimeoutError):
        replay.http(record.request, 2, wait=0.3)
    return ""


def pipelined(replay: Replay, record: Record) -> str:
    """500 requests in one send, on record only in part."""
    request = b"".join(b"noop callid=%d\r\n" % number for number in range(500))
    assert len(request) == record.full_length
    assert request.startswith(record.request.partition(b"...[cut]...")[0])
    return difference(b"".join(b"OK callid=%d\r\n" % number for number in range(500)), replay.ask(request))


def thousand_keys(replay: Replay, record: Record) -> str:
    """The keys on record were those of a load test."""
    answer = replay.ask(record.request)
    numbers = {int(number) for number in re.findall(rb"\bkey_(\d+)=", answer)}
    return "" if b"key_count=1000" in answer and numbers == set(range(1, 1001)) else f"{answer[:200]!r}"


@pytest.fixture(scope="module")
def problems() -> dict[str, str]:
    """Name → what is not as recorded, of all records that are replayed, in their order: each changes something."""
    mogilefs = MogileFS(replicate=0, delete=0, retry=0.1, monitor=0.05, second=SECOND, idle=IDLE)
    found = {}
    with mogilefs, closing(Replay(mogilefs)) as replay:
        mogilefs.pause_background()
        for name, record in RECORDS.items():
            if name not in NOT_REPLAYED:
                try:
                    found[name] = problem_of(replay, record)
                except (OSError, AssertionError, RuntimeError) as error:
                    found[name] = f"{type(error).__name__}: {error}"
    return found


@pytest.mark.parametrize("name", [name for name in RECORDS if name not in NOT_REPLAYED])
def test_the_answer_is_the_recorded_one(problems: dict[str, str], name: str) -> None:
    """What the client under test meets here is what it will meet in production."""
    assert not problems[name], f"{RECORDS[name].request[:300]!r}\n{problems[name]}"


def test_what_is_not_replayed_is_on_record() -> None:
    """The list of exceptions names records, and not one more than is needed: of all 351, four."""
    assert len(RECORDS) == 351
    assert set(NOT_REPLAYED) <= set(RECORDS)
    assert {RECORDS[name].kind for name in NOT_REPLAYED} == {"scenario"}
    assert {name for name, record in RECORDS.items() if record.kind == "scenario"} == set(NOT_REPLAYED) | set(
        SCENARIOS
    )
    assert set(BEFORE) | OTHER_FIDS | ANY_DEVICE <= set(RECORDS)
