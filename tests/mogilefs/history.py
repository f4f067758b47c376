"""What happened to the real MogileFS between the records: uploads, stops, waiting."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime

from tests.mogilefs.recorded import Record
from tests.mogilefs.replay import PATTERN, Replay

#: The date in the one request that has such a header.
IF_MODIFIED_SINCE = datetime(2026, 11, 21, 0, 5, 19, tzinfo=UTC).timestamp()


def open_upload(replay: Replay, record: Record) -> None:
    """Before the first ``create_close`` of a fid: it is open, and its file is where the request says."""
    if not record.name.startswith("create_close"):
        return
    fid, devid = (re.search(rb"\b%s=(\d+)" % name, record.request) for name in (b"fid", b"devid"))
    if fid and devid and int(fid[1]) not in replay.opened:
        kind = "hashed" if b"class=hashed" in record.request else "avatar"
        replay.upload(int(fid[1]), int(devid[1]), kind=kind)


Step = Callable[[Replay], object]

LISTED = ("l/A", "l/b", "L/z", "l/%", "l/_x", "l/a", "l/a+b(1)/1", "l/a+b(1)/2", "l/c", "l/d", "l/e", "l/é", "l/中")
ODD_KEYS = (
    *(b"e/with space", b"e/with+plus", b"e/a&b=c", b"e/100%", "e/é中😀".encode(), b"e/\xe9", b"e//double/../dots/"),
    *(b"e/line\nbreak\r", b"e/nul\0x", b"e/'\"<>;--", b"e/a\\b:c,d", b"0", b"e/" + 253 * b"k", b"e/" + 298 * b"k"),
)


def _store_listed(replay: Replay) -> None:
    for fid, key in enumerate(LISTED, 5000046):
        replay.store(fid, 6, key=key)


def _store_odd(replay: Replay, *keys: bytes) -> None:
    for key in keys:
        fid = 5000059 + ODD_KEYS.index(key)
        replay.store(fid, 6, key="odd")
        replay.state.run("UPDATE file SET dkey = ? WHERE fid = ?", key, fid)


def _store_thousand(replay: Replay) -> None:
    with replay.state.change():
        for fid in range(6000000, 6001100):
            replay.state.run("INSERT INTO file VALUES (?, 1, ?, 1, 0)", fid, b"b/%d" % fid)


def _hang_node(replay: Replay) -> None:
    # Not noticed before the worker is killed; then a second one runs the request.
    replay.mogilefs.set_timing(watchdog=0.3, hung_noticed=0.1, monitor=0.05)
    replay.mogilefs.hang_node(1)


def _case(replay: Replay) -> None:
    replay.state.run("DELETE FROM setting WHERE name = ?", b"case_sensitive_list_keys")


def _all_back(replay: Replay) -> None:
    replay.mogilefs.start_node(2)
    replay.mogilefs.start_node(3)
    replay.settle()


def _lonely(replay: Replay) -> None:
    replay.upload(5000275, 1, key="n/lonely")
    close = f"create_close domain=testdomain&key=n/lonely&fid=5000275&devid=1&path={replay.url(1, 5000275)}\r\n"
    assert replay.ask(close.encode()) == b"OK \r\n"
    replay.mogilefs.resume_background()
    deadline = time.monotonic() + 60
    while replay.state.devids(5000275) != [1, 2] and time.monotonic() < deadline:
        time.sleep(0.02)
    replay.mogilefs.pause_background()


def _restart(replay: Replay) -> None:
    replay.upload(5000073, 5, key="restart")
    replay.mogilefs.kill()
    replay.mogilefs.start()
    replay.mogilefs.pause_background()


#: What happened before a record that is not itself on record.
BEFORE: dict[str, list[Step]] = {
    "http_get_if_modified_since": [
        lambda replay: os.utime(replay.mogilefs.path(5000008, 4), times=(IF_MODIFIED_SINCE, IF_MODIFIED_SINCE))
    ],
    "http_delete": [
        lambda replay: shutil.copy(
            replay.mogilefs.path(5000008, 4), replay.mogilefs.path(5000008, 4).with_name("0005000008x.fid")
        )
    ],
    "create_close_0_bytes": [lambda replay: replay.upload(5000015, 2, content=b"")],
    "create_close_0_bytes_wrong_size": [lambda replay: replay.upload(5000016, 1, content=b"")],
    "create_close_never_put": [
        lambda replay: replay.upload(5000017, 3),
        lambda replay: replay.mogilefs.path(5000017, 3).unlink(),
    ],
    "create_close_foreign_device": [lambda replay: replay.upload(5000020, 1, 4, 5)],
    "file_info_hashed_later": [Replay.settle],
    "file_info_hashed_bad": [Replay.settle],
    "get_paths_0": [lambda replay: replay.store(5000033, 4, 6, key="p/one", kind="avatar", content=PATTERN)],
    "get_paths_mindev1": [lambda replay: replay.store(5000034, 6, key="p/thumb")],
    "http_delete_behind_tracker": [lambda replay: replay.store(5000035, 6, key="p/lost", content=PATTERN)],
    "file_info_default_class": [lambda replay: replay.store(5000036, 1, key="p/def", kind="default")],
    "overwrite_file_info": [
        lambda replay: replay.store(5000037, 2, key="ow", kind="avatar", content=b"first version"),
        lambda replay: replay.store(5000038, 2, key="ow", kind="avatar", content=22 * b"x"),
    ],
    "overwrite_changes_class": [
        lambda replay: replay.store(5000039, 2, key="owc", kind="avatar"),
        lambda replay: replay.store(5000040, 2, key="owc", content=b"xx"),
    ],
    "race_close_b": [
        lambda replay: replay.upload(5000041, 4, key="race", content=b"aaaa"),
        lambda replay: replay.upload(5000042, 3, key="race", content=b"bbbbbb"),
    ],
    "open_never_closed_get_paths": [lambda replay: replay.upload(5000043, 5, 2, 4, key="never")],
    "rename": [
        lambda replay: replay.store(5000044, 1, key="r/a", kind="avatar"),
        lambda replay: replay.store(5000045, 1, key="r/b", kind="avatar"),
    ],
    "list_keys": [_store_listed],
    "list_keys_limit": [_case],
    "updateclass_after": [Replay.settle],
    "updateclass_down_after": [Replay.settle],
    "key_space": [lambda replay: _store_odd(replay, *ODD_KEYS[:-1])],
    "key_long300": [lambda replay: _store_odd(replay, ODD_KEYS[-1])],
    "create_close_across_restart": [_restart],
    "node_down_create_open_at_once": [
        lambda replay: replay.store(5000084, 2, key="n/on1_8"),
        lambda replay: replay.store(5000085, 1, 6, key="n/two_0", kind="avatar"),
        lambda replay: replay.upload(5000086, 1, key="n/opened-before"),
        lambda replay: replay.mogilefs.stop_node(1, noticed=False),
    ],
    "node_down_create_open_later": [lambda replay: replay.mogilefs.stop_node(1)],
    "all_nodes_down_create_open": [
        lambda replay: replay.mogilefs.stop_node(2),
        lambda replay: replay.mogilefs.stop_node(3),
    ],
    "one_node_up_devcount": [_lonely],
    "all_nodes_back_lonely": [_all_back],
    "node_hung_get_paths_verify": [
        lambda replay: replay.store(5000280, 1, key="n/hang_0"),
        lambda replay: replay.upload(5000279, 1, key="n/hung"),
        _hang_node,
    ],
    "node_hung_create_close_after": [lambda replay: replay.mogilefs.start_node(1)],
    "list_keys_cap_1000": [_store_thousand],
}
