"""Asking the test MogileFS what the real one was asked, in the state that the real one was in."""

from __future__ import annotations

import re
import socket

from tests.mogilefs.cluster import MogileFS
from tests.mogilefs.installation import uri
from tests.mogilefs.recorded import RECORDED_ADDRESS
from tests.mogilefs.state import State

#: What was uploaded, unless a record says something else.
PATTERN = bytes((7 * index + 3) % 251 for index in range(4096))


class Replay:
    """A MogileFS with the names and the numbers of the recorded one, and what clients did to it unrecorded."""

    def __init__(self, mogilefs: MogileFS) -> None:
        self.mogilefs = mogilefs
        self.state = State(mogilefs.folder / "data")
        self.opened: set[int] = set()
        self.addresses = {
            RECORDED_ADDRESS % place: b"127.0.0.1:%d" % port for place, port in enumerate(mogilefs.node_ports, 1)
        }

    def here(self, recorded_bytes: bytes) -> bytes:
        """With the addresses of the nodes that run here."""
        for there, here in self.addresses.items():
            recorded_bytes = recorded_bytes.replace(there, here)
            recorded_bytes = recorded_bytes.replace(there.replace(b":", b"%3A"), here.replace(b":", b"%3A"))
        return recorded_bytes

    def there(self, answer: bytes) -> bytes:
        for there, here in self.addresses.items():
            answer = answer.replace(here, there)
        return answer

    def ask(self, request: bytes) -> bytes:
        """All that a tracker answers on a connection."""
        with socket.create_connection(("127.0.0.1", self.mogilefs.port), timeout=60) as sock:
            sock.sendall(request)
            sock.shutdown(socket.SHUT_WR)
            with sock.makefile("rb") as stream:
                return stream.read()

    def node_of(self, request: bytes) -> int:
        found = re.match(rb"\w+ /dev(\d+)/", request)
        devid = int(found[1]) if found else 1
        return (devid + 1) // 2 if devid <= 6 else 1

    def http(self, request: bytes, node: int, wait: float = 30.0, *, closes: bool = False) -> tuple[bytes, bool]:
        """The answer, and whether the connection was still open after it. *closes*: then its end is waited for."""
        with socket.create_connection(("127.0.0.1", self.mogilefs.node_ports[node - 1]), timeout=wait) as sock:
            sock.sendall(request)
            return self.read_http(sock, request, wait if closes else 0.02)

    @staticmethod
    def read_http(sock: socket.socket, request: bytes, patience: float) -> tuple[bytes, bool]:
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += _more(sock)
        head, _, body = answer.partition(b"\r\n\r\n")
        length = re.search(rb"\r\nContent-Length: (\d+)", head)
        while not request.startswith(b"HEAD") and length and len(body) < int(length[1]):
            body += _more(sock)
        sock.settimeout(patience)
        try:
            still_open = bool(sock.recv(1))
        except TimeoutError:
            still_open = True
        return head + b"\r\n\r\n" + body, still_open

    def url(self, devid: int, fid: int) -> str:
        return f"http://127.0.0.1:{self.mogilefs.node_ports[(devid - 1) // 2]}{uri(devid, fid)}"

    def put(self, fid: int, devid: int, content: bytes) -> None:
        head = b"PUT %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (uri(devid, fid).encode(), len(content))
        answer, _ = self.http(head + content, (devid + 1) // 2)
        assert answer.startswith(b"HTTP/1.0 200 "), answer

    def upload(self, fid: int, *devids: int, key: str = "k1", kind: str = "avatar", content: bytes = PATTERN) -> None:
        """``create_open`` has offered *devids*; the client has sent the file to the first."""
        dmid = self.state.dmid(b"testdomain")
        assert dmid is not None
        found = self.state.class_named(dmid, kind.encode())
        assert found is not None
        self.opened.add(fid)
        assert self.state.open_fid(fid, dmid, key.encode(), found.classid, list(devids)) == fid
        self.put(fid, devids[0], content)

    def store(self, fid: int, *devids: int, key: str, kind: str = "thumb", content: bytes = b"x") -> None:
        """The file is stored, and on all of *devids*."""
        self.upload(fid, *devids, key=key, kind=kind, content=content)
        temp = self.state.take_temp(fid)
        assert temp is not None
        self.state.store(temp, temp.key, len(content), devids[0], delete=0, replicate=0)
        self.state.run("DELETE FROM to_replicate WHERE fid = ?", fid)
        for devid in devids[1:]:
            self.put(fid, devid, content)
            self.state.put_on(fid, devid)

    def settle(self) -> None:
        """Until all copies are made and removed, as some seconds after the request before."""
        self.mogilefs.resume_background()
        try:
            self.mogilefs.wait_until_quiet()
        finally:
            self.mogilefs.pause_background()

    def gone(self, fid: int, devid: int) -> bool:
        return not self.mogilefs.path(fid, devid).exists()

    def close(self) -> None:
        self.state.close()


def _more(sock: socket.socket) -> bytes:
    """What comes next; the end of the connection comes too early."""
    found = sock.recv(65536)
    if not found:
        raise ConnectionError("the connection ended before the answer did")
    return found
