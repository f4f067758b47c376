"""Listening, on loopback unless told otherwise, a thread for each connection; ended and begun on the same port."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable


def set_patience(sock: socket.socket, seconds: float) -> None:
    """Blocking reads and writes give up after so long, without the cost of Python's own time-outs."""
    value = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)


class Listener:
    """Calls *serve* with each connection, in a thread of its own; closes it afterwards."""

    def __init__(
        self, port: int, serve: Callable[[socket.socket], None], name: str, address: str = "127.0.0.1"
    ) -> None:
        self.address = address
        self.port = port
        self.name = name
        self._serve = serve
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._connections: set[socket.socket] = set()

    @property
    def running(self) -> bool:
        return self._socket is not None

    def start(self) -> None:
        with self._lock:
            if self._socket is not None:
                return
            listening = socket.socket()
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind((self.address, self.port))
                listening.listen(1024)
            except OSError as error:
                listening.close()
                raise OSError(error.errno, f"port {self.port} for {self.name}: {error.strerror}") from None
            self.port = listening.getsockname()[1]
            self._socket = listening
        threading.Thread(target=self._accept, args=(listening,), name=f"{self.name} accept", daemon=True).start()

    def stop(self) -> None:
        """Refuse connections and end those there are, as a process does that ends."""
        with self._lock:
            listening, self._socket = self._socket, None
            ending = list(self._connections)
            if listening is not None:
                # Closing alone does not wake the thread that accepts.
                with contextlib.suppress(OSError):
                    listening.shutdown(socket.SHUT_RDWR)
                listening.close()
        for each in ending:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            with self._lock:
                if self._socket is not listening:
                    sock.close()
                    return
                self._connections.add(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._run, args=(sock,), name=self.name, daemon=True).start()

    def _run(self, sock: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):
                self._serve(sock)
        finally:
            with self._lock:
                self._connections.discard(sock)
            sock.close()
