"""What records of the real MogileFS only describe: the same done here. Each tells whether the same was seen."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable

from tests.mogilefs.replay import PATTERN, Replay

#: Of the MogileFS that is asked here: short, so that nobody waits.
SECOND = 0.05
IDLE = 1.0


def _bad_md5_left_it(replay: Replay) -> bool:
    request = b"GET /dev4/0/005/000/0005000008.fid HTTP/1.1\r\n\r\n"
    return replay.http(request, 2)[0].endswith(b"\r\n\r\n" + PATTERN)


def _puts_on_one_connection(replay: Replay, count: int) -> bool:
    with socket.create_connection(("127.0.0.1", replay.mogilefs.node_ports[1]), timeout=30) as sock:
        for number in range(count):
            request = b"PUT /dev4/0/005/000/%d.fid HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc" % number
            sock.sendall(request)
            answer = sock.recv(65536)
            if not answer.startswith(b"HTTP/1.0 200 OK") or not answer.endswith(b"<h1>200 - OK</h1>\n"):
                return False
    return True


def _idle_connection(replay: Replay) -> bool:
    with socket.create_connection(("127.0.0.1", replay.mogilefs.node_ports[0]), timeout=30) as sock:
        began = time.monotonic()
        return sock.recv(1) == b"" and time.monotonic() - began > IDLE * 0.9


def _copy_made(replay: Replay) -> bool:
    replay.upload(5000033, 4, key="p/one")
    path = replay.url(4, 5000033)
    replay.ask(f"create_close domain=testdomain&key=lag&fid=5000033&devid=4&path={path}\r\n".encode())
    before = replay.ask(b"file_info domain=testdomain&key=lag\r\n")
    replay.settle()
    after = replay.ask(b"file_info domain=testdomain&key=lag\r\n")
    replay.ask(b"delete domain=testdomain&key=lag\r\n")
    replay.settle()
    return b"devcount=1" in before and b"devcount=2" in after


def _old_copy_goes(replay: Replay) -> bool:
    before = replay.mogilefs.path(5000037, 2).exists()
    replay.settle()
    return before and not replay.mogilefs.path(5000037, 2).exists()


def _deleted_copy_goes(replay: Replay) -> bool:
    replay.settle()
    return not any(path.name == "0005000038.fid" for path in replay.mogilefs.on_disk())


def _never_closed_goes(replay: Replay) -> bool:
    before = replay.mogilefs.path(5000043, 5).exists()
    replay.state.run("UPDATE tempfile SET createtime = createtime - 4000 WHERE dkey = ?", b"never")
    replay.mogilefs.resume_background()
    deadline = time.monotonic() + 60
    while replay.mogilefs.path(5000043, 5).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    replay.mogilefs.pause_background()
    return before and not replay.mogilefs.path(5000043, 5).exists()


def _tracker(replay: Replay) -> socket.socket:
    return socket.create_connection(("127.0.0.1", replay.mogilefs.port), timeout=30)


def _workers_busy(replay: Replay) -> bool:
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            # Long enough for all of them to be seen at it, however slow this machine is.
            stack.enter_context(_tracker(replay)).sendall(b"sleep duration=60\r\n")
        deadline = time.monotonic() + 60 * SECOND
        while b"processing_queries 8\r\n" not in replay.ask(b"!stats\r\n"):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        began = time.monotonic()
        answer = replay.ask(b"noop\r\n")
        return answer == b"OK \r\n" and time.monotonic() - began > 5 * SECOND


def _split_send(replay: Replay) -> bool:
    with _tracker(replay) as sock:
        sock.sendall(b"noop")
        time.sleep(0.05)
        sock.sendall(b"\r\n")
        return sock.recv(100) == b"OK \r\n"


def _half_close(replay: Replay, request: bytes, expected: bytes) -> bool:
    return replay.ask(request) == expected


def _stopped_in_mid_request(replay: Replay) -> bool:
    with _tracker(replay) as sock:
        sock.sendall(b"sleep duration=40\r\n")
        time.sleep(0.05)
        replay.mogilefs.stop_tracker()
        return sock.recv(100) == b""


def _stopped_when_idle(replay: Replay) -> bool:
    replay.mogilefs.start_tracker()
    with _tracker(replay) as sock:
        sock.sendall(b"noop\r\n")
        sock.recv(100)
        replay.mogilefs.stop_tracker()
        sock.sendall(b"noop\r\n")
        return _ended(sock)


def _ended(sock: socket.socket) -> bool:
    try:
        return sock.recv(100) == b""
    except ConnectionResetError:
        return True


def _refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=30).close()
    except ConnectionRefusedError:
        return True
    return False


def _restarted(replay: Replay) -> bool:
    replay.mogilefs.start_tracker()
    with _tracker(replay) as sock:
        replay.mogilefs.restart_tracker()
        sock.sendall(b"noop\r\n")
        _ended(sock)
        try:
            sock.sendall(b"noop\r\n")
        except (BrokenPipeError, ConnectionResetError):  # as the kernel was quicker with one or the other
            return True
        return False


def _node_back(replay: Replay) -> bool:
    replay.mogilefs.start_node(1)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if replay.ask(b"create_open domain=testdomain&key=n%2Fx\r\n").startswith(b"OK "):
            return True
    return False


SCENARIOS: dict[str, Callable[[Replay], bool]] = {
    "http_get_after_bad_md5": _bad_md5_left_it,
    "http_put_keepalive_second": lambda replay: _puts_on_one_connection(replay, 2),
    "http_put_keepalive_250": lambda replay: _puts_on_one_connection(replay, 250),
    "http_keepalive_idle": _idle_connection,
    "replication_lag": _copy_made,
    "overwrite_old_path_gone_after": _old_copy_goes,
    "delete_file_gone_after": _deleted_copy_goes,
    "open_never_closed_swept": _never_closed_goes,
    "all_workers_busy": _workers_busy,
    "split_send": _split_send,
    "half_close_without_newline": lambda replay: _half_close(replay, b"noop", b""),
    "half_close": lambda replay: _half_close(replay, b"noop\r\n", b"OK \r\n"),
    "tracker_stopped_mid_request": _stopped_in_mid_request,
    "tracker_stopped_idle_connection": _stopped_when_idle,
    "tracker_down_connect": lambda replay: _refused(replay.mogilefs.port),
    "tracker_restarted_old_connection": _restarted,
    "node_down_http_connect": lambda replay: _refused(replay.mogilefs.node_ports[0]),
    "node_back_create_open": _node_back,
}
