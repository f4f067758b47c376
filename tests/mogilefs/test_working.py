"""The test MogileFS keeps what it was given, on as many hosts as it should, and runs as a command."""

from __future__ import annotations

import base64
import hashlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mogilefs.background import next_step
from tests.mogilefs.client import ask, fields, uploaded
from tests.mogilefs.cluster import CHECKOUT, MogileFS
from tests.mogilefs.installation import Device, Host, Installation, Timing
from tests.processes import free_port


@pytest.fixture(scope="module")
def installation() -> Iterator[MogileFS]:
    with MogileFS(trackers=2, monitor=0.05, retry=0.1) as mogilefs:
        yield mogilefs


@pytest.fixture
def mogilefs(installation: MogileFS) -> MogileFS:
    installation.start()
    installation.wipe()
    return installation


def test_a_stored_file_is_on_as_many_hosts_as_its_class_asks_for(mogilefs: MogileFS) -> None:
    """Replication in the background; then class changes take and give copies."""
    assert ask(mogilefs, uploaded(mogilefs, kind="avatar")) == "OK "
    mogilefs.wait_until_quiet()
    copies = mogilefs.copies("k")
    assert len({path.relative_to(mogilefs.folder).parts[1] for path in copies}) == 2
    assert [path.read_bytes() for path in copies] == [b"hello", b"hello"]
    assert ask(mogilefs, "updateclass domain=testdomain&key=k&class=thumb") == "OK "
    mogilefs.wait_until_quiet()
    assert len(mogilefs.copies("k")) == 1
    assert mogilefs.files() == {"k": b"hello"}


def test_copies_go_after_a_delete_and_after_an_overwriting(mogilefs: MogileFS) -> None:
    """The name changes at once, the disks a little later."""
    mogilefs.put_behind_back("k", b"old", "avatar")
    mogilefs.put_behind_back("k", b"new", "avatar")
    assert mogilefs.files() == {"k": b"new"}
    mogilefs.wait_until_quiet()
    assert [path.read_bytes() for path in mogilefs.on_disk()] == [b"new", b"new"]
    assert ask(mogilefs, "delete domain=testdomain&key=k") == "OK "
    mogilefs.wait_until_quiet()
    assert mogilefs.on_disk() == []


def test_everything_survives_a_sudden_end(mogilefs: MogileFS) -> None:
    """Also a file that is only half stored."""
    mogilefs.put_behind_back("é", b"kept")
    close = uploaded(mogilefs)
    mogilefs.kill()
    assert mogilefs.files() == {"é": b"kept"}
    mogilefs.start()
    assert ask(mogilefs, close) == "OK "
    assert mogilefs.files() == {"é": b"kept", "k": b"hello"}


def test_all_trackers_know_the_same(mogilefs: MogileFS) -> None:
    """Opened at one, closed at the other."""
    assert len(mogilefs.trackers) == 2
    assert ask(mogilefs, uploaded(mogilefs), tracker=1) == "OK "
    assert fields(ask(mogilefs, "file_info domain=testdomain&key=k", tracker=0))["length"] == "5"


def test_a_large_file_costs_no_memory(mogilefs: MogileFS) -> None:
    """Both ways; Content-MD5 is verified on the way."""
    chunk, count = bytes(1 << 20), 192
    md5 = hashlib.md5()
    for _ in range(count):
        md5.update(chunk)
    node = ("127.0.0.1", mogilefs.node_ports[0])
    before = peak_memory(mogilefs)
    with socket.create_connection(node, timeout=120) as sock:
        checked = base64.b64encode(md5.digest()).decode()
        head = (
            f"PUT /dev1/0/000/999/big.fid HTTP/1.1\r\nContent-Length: {count << 20}\r\nContent-MD5: {checked}\r\n\r\n"
        )
        sock.sendall(head.encode())
        for _ in range(count):
            sock.sendall(chunk)
        assert sock.recv(1000).startswith(b"HTTP/1.0 201 \r\n")
    with socket.create_connection(node, timeout=30) as sock:
        sock.sendall(b"GET /dev1/0/000/999/big.fid HTTP/1.0\r\n\r\n")
        room, received = bytearray(1 << 20), 0
        while got := sock.recv_into(room):
            received += got
    assert received > count << 20
    assert peak_memory(mogilefs) - before < 32 << 20


def peak_memory(mogilefs: MogileFS) -> int:
    assert mogilefs.process is not None
    status = Path(f"/proc/{mogilefs.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


HOSTS = [Host(number, b"node", "alive", "127.0.0.1", "80", "", "", "") for number in (1, 2)]


def devices(*hosts: int, observed: str = "writeable") -> list[Device]:
    return [Device(devid, host, "alive", 100, HOSTS[host - 1], observed) for devid, host in enumerate(hosts, 1)]


@pytest.mark.parametrize(
    ("holding", "copies", "expected"),
    [
        ([0], 1, ("nothing", None)),
        ([0], 2, ("copy", 3)),
        ([0, 2], 2, ("nothing", None)),
        ([0, 1], 2, ("copy", 3)),
        ([0, 1, 2], 2, ("drop", 1)),
        ([0, 2], 1, ("drop", 1)),
        ([0, 2], 3, ("copy", 2)),
    ],
)
def test_copies_go_to_other_hosts_first(holding: list[int], copies: int, expected: tuple[str, int | None]) -> None:
    """Two devices of host 1, one of host 2: the policy that the recorded tracker showed."""
    all_devices = devices(1, 1, 2)
    step = next_step([all_devices[place] for place in holding], all_devices, copies, lambda found: found[0])
    assert (step.do, step.device.devid if step.device else None) == expected


def test_without_a_device_to_write_to_copies_wait() -> None:
    """Nothing is given up: the second copy is made when a node is back."""
    gone = devices(1, 2, observed="unreachable")
    assert next_step(gone[:1], gone, 2, lambda found: found[0]).do == "wait"


def test_a_node_that_is_not_started_again_is_unreachable(tmp_path: Path) -> None:
    """The database remembers hosts, and their ports: files that are there keep their addresses."""
    ports = []
    for nodes in (2, 1):
        installation = Installation(tmp_path, Timing())
        ports += [installation.add_node([number], 0).port for number in range(1, nodes + 1)]
        observed = [device.observed for device in installation.devices()]
        installation.close()
        installation.state.close()
    assert observed == ["writeable", "unreachable"]
    assert ports[2] == ports[0]


# The command.


def test_the_command_needs_only_the_standard_library(tmp_path: Path) -> None:
    """``make run`` starts it before anything is set up; it says when it is ready, and ends when told to."""
    port = free_port()
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); {RUN}"]
    options = ["--folder", str(tmp_path), "--port", str(port), "--domain", "demo", "--class", "avatar:2"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(
            f"MogileFS is ready: tracker 127.0.0.1:{port}; domain demo; nodes "
        )
        with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
            sock.sendall(b"create_open domain=demo&class=avatar\r\n")
            assert sock.recv(1000).startswith(b"OK ")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.communicate()


RUN = "from tests.mogilefs.__main__ import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--class", "avatar"], "--class avatar: write NAME:COPIES, for example avatar:2"),
        (["--hosts", "2", "--node-ports", "1"], "--node-ports: give 2 ports, one for each host"),
    ],
)
def test_a_bad_option_is_answered_with_what_to_write(tmp_path: Path, options: list[str], message: str) -> None:
    """On one line."""
    command = [sys.executable, "-m", "tests.mogilefs", "--folder", str(tmp_path), *options]
    ended = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    assert message in ended.stderr


def test_a_port_in_use_is_named(tmp_path: Path, mogilefs: MogileFS) -> None:
    """Instead of a traceback."""
    command = [sys.executable, "-m", "tests.mogilefs", "--folder", str(tmp_path), "--port", str(mogilefs.port)]
    ended = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"mogilefs: [Errno 98] port {mogilefs.port} for tracker: Address already in use")
