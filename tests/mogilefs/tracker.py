"""A tracker: takes requests over TCP, one at a time for each connection, and answers them."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from tests.mogilefs import wire
from tests.mogilefs.admin import AdminCommands
from tests.mogilefs.faults import Fault, Gate
from tests.mogilefs.installation import Installation
from tests.mogilefs.node import HeldUp
from tests.mogilefs.sockets import Listener

#: Requests under way at once, over all connections; further ones wait.
QUERY_WORKERS = 8
_ADMIN = re.compile(rb"!(\S+)(?:\s+(.+))?$")
_HELP = """Mogilefsd admin commands:

    !version    Server version
    !recent     Recently executed queries and how long they took.
    !queue      Queries that are pending execution.
    !stats      General stats on what we're up to.
    !watch      Observe errors/messages from children.
    !jobs       Outstanding job counts, desired level, and pids.
    !shutdown   Immediately kill all of mogilefsd.

    !to <job class> <message>
                Send <message> to all workers of <job class>.
                Mostly used for debugging.

    !want <count> <job class>
                Alter the level of workers of this class desired.
                Example: !want 20 queryworker, !want 3 replicate.
                See !jobs for what jobs are available.

"""


class Tracker:
    """One of possibly several on the same installation. ``port`` 0: any."""

    def __init__(self, installation: Installation, port: int) -> None:
        self.installation = installation
        self.commands = AdminCommands(installation)
        self.gate = Gate()
        self._listener = Listener(port, self._serve, "tracker", installation.address)
        self._free = threading.Condition()
        self._bored = QUERY_WORKERS
        self._recent: deque[str] = deque(maxlen=50)
        self._queries = 0
        self._waits = 0
        self._began = time.monotonic()

    @property
    def port(self) -> int:
        return self._listener.port

    def start(self) -> None:
        self._began = time.monotonic()
        self._listener.start()

    def stop(self) -> None:
        """Refuse connections, end those there are; requests under way lose their answers."""
        self._listener.stop()
        self.gate.open()

    def _serve(self, sock: socket.socket) -> None:
        buffer = bytearray()
        searched = 0
        while True:
            end = buffer.find(b"\n", searched)
            if end < 0:
                searched = len(buffer)
                more = sock.recv(65536)
                if not more:
                    return
                buffer += more
                continue
            line = bytes(buffer[:end]).removesuffix(b"\r")
            del buffer[: end + 1]
            searched = 0
            if line and not self._handle(sock, line):
                return

    def _handle(self, sock: socket.socket, line: bytes) -> bool:
        """Whether the connection goes on."""
        self.gate.wait()
        if line.startswith(b"!") and (found := _ADMIN.match(line)):
            sock.sendall(self._admin(found[1].decode("latin-1"), found[2] or b""))
            return True
        request = wire.parse_request(line)
        faults = self.installation.faults
        command = request[0] if request else ""
        lost = faults.take("eof", command)
        if lost is not None and lost.value == "before":
            return False
        if lost is not None and lost.value == "later":
            self.installation.later(lost.seconds, lambda: self.answer(line))
            return False
        answer = self._told(faults.take("answer", command)) or self.answer(line)
        slow = faults.take("slow", command)
        if slow is not None:
            self.installation.closing.wait(slow.seconds)
        if lost is not None:
            return False
        sock.sendall(answer)
        return True

    @staticmethod
    def _told(fault: Fault | None) -> bytes:
        """What a test wants as the answer."""
        return f"{fault.value}\r\n".encode("latin-1") if fault is not None else b""

    def answer(self, line: bytes) -> bytes:
        """Do what *line* asks for; the line to answer."""
        request = wire.parse_request(line)
        if request is None:
            return wire.error(wire.ErrorAnswer("unknown_command"))
        command, args = request
        callid = args.get("callid")
        began = time.monotonic()
        if command not in self.commands.names:
            return wire.error(wire.ErrorAnswer("unknown_command"), callid)
        try:
            with self._worker():
                fields = self._run(command, args)
        except wire.ErrorAnswer as problem:
            return wire.error(problem, callid)
        finally:
            self._queries += 1
            took = time.monotonic() - began
            self._recent.append(f"127.0.0.1 {line.decode('latin-1').strip()} {took:.4f} {took:.4f}")
        return wire.ok(fields, callid)

    @contextlib.contextmanager
    def _worker(self) -> Iterator[None]:
        """One of those there are; when it is free."""
        with self._free:
            self._waits += not self._bored
            self._free.wait_for(lambda: self._bored)
            self._bored -= 1
        try:
            yield
        finally:
            with self._free:
                self._bored += 1
                self._free.notify()

    def _run(self, command: str, args: wire.Args) -> wire.Fields:
        while True:
            with contextlib.suppress(HeldUp):
                handler = getattr(self.commands, command)
                fields: wire.Fields = handler(args)
                return fields
            # The worker that waited for a node was killed. Another runs the request again, from the start: what
            # the first one has consumed is gone.

    # For administrators.

    def _admin(self, command: str, args: bytes) -> bytes:
        handlers: dict[str, Callable[[], list[str]]] = {
            "version": lambda: ["2.73"],
            "stats": self._stats,
            "jobs": self._jobs,
            "recent": lambda: list(self._recent),
            "queue": list,
            "want": lambda: self._want(args.decode("latin-1")),
        }
        if command not in handlers:
            return f"{_HELP}.\r\n".encode()
        return "".join(f"{line}\r\n" for line in [*handlers[command](), "."]).encode("latin-1", "replace")

    def _stats(self) -> list[str]:
        facts = {
            "uptime": int(time.monotonic() - self._began),
            "pending_queries": 0,
            "processing_queries": QUERY_WORKERS - self._bored,
            "bored_queryworkers": self._bored,
            "queries": self._queries,
            "times_out_of_qworkers": self._waits,
        }
        return [f"{name} {value}" for name, value in facts.items()]

    def _jobs(self) -> list[str]:
        counts = {"delete": 1, "fsck": 1, "job_master": 1, "monitor": 1}
        counts |= {"queryworker": QUERY_WORKERS, "reaper": 1, "replicate": 2}
        return [
            f"{job} {what}"
            for job, count in counts.items()
            for what in (f"count {count}", f"desired {count}", "pids " + " ".join([str(os.getpid())] * count))
        ]

    def _want(self, args: str) -> list[str]:
        found = re.match(r"(\d+)\s+(\S+)", args)
        if found is None:
            return ["ERROR: usage: !want <count> <jobclass>"]
        return [f"Now desiring {min(int(found[1]), 500)} children doing '{found[2]}'."]
