"""What a MogileFS holds, seen from outside: asked of its tracker and its storage nodes, by code of its own."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit

from project.demo.checking import Findings, get

#: Folder → the class of what is in it, and how many copies such files have. Elsewhere files have no class.
CLASSES = {"avatars": ("avatar", 2), "thumbs": ("thumb", 1)}
NO_CLASS = ("default", 2)


class Tracker:
    """One connection; also a context manager."""

    def __init__(self, address: str, domain: str) -> None:
        host, _, port = address.rpartition(":")
        self._domain = domain
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self._answers = self._socket.makefile("rb")

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.close()
        self._socket.close()

    def ask(self, command: str, **fields: str | int) -> dict[str, str]:
        """The answer's fields. Raises ``LookupError`` with its code."""
        self._socket.sendall(f"{command} {urlencode({'domain': self._domain, **fields})}\r\n".encode())
        outcome, _, rest = self._answers.readline().decode().strip("\r\n").partition(" ")
        if outcome != "OK":
            raise LookupError(rest.partition(" ")[0] or f"{command}: no answer")
        return dict(parse_qsl(rest, keep_blank_values=True))

    def list_keys(self) -> Iterator[str]:
        after = ""
        while True:
            try:
                answer = self.ask("list_keys", after=after, limit=1000)
            except LookupError as error:
                if str(error) != "none_match":
                    raise
                return
            yield from (answer[f"key_{n}"] for n in range(1, int(answer["key_count"]) + 1))
            after = answer["next_after"]

    def paths(self, key: str) -> list[str]:
        answer = self.ask("get_paths", key=key, noverify=1, pathcount=99)
        return [answer[f"path{n}"] for n in range(1, int(answer["paths"]) + 1)]


def check_mogilefs(
    address: str,
    domain: str,
    expected: Mapping[str, str],
    deleted: Collection[str],
    step: Callable[[], object],
) -> Findings:
    """Ask a tracker for every key, and the storage nodes for every copy.

    *expected* is key → SHA-256, *deleted* the keys that must not be there.
    """
    found = Findings("mogilefs", misfiled=[])
    nodes = _Nodes()
    with Tracker(address, domain) as tracker:
        there = set(tracker.list_keys())
        for key in deleted:
            found.checked += 1
            if key in there:
                found.resurrected.append(key)
            step()
        for key, digest in expected.items():
            found.checked += 1
            if key not in there:
                found.missing.append(key)
            else:
                paths = tracker.paths(key)
                if not paths or any(nodes.digest_of(path) != digest for path in paths):
                    found.wrong.append(key)
                hosts = {urlsplit(path).netloc for path in paths}
                kind, copies = CLASSES.get(key.partition("/")[0], NO_CLASS)
                if tracker.ask("file_info", key=key)["class"] != kind or not len(paths) == len(hosts) == copies:
                    found.misfiled.append(key)  # type: ignore[union-attr]  # made above
            step()
    nodes.close()
    found.unexpected = sorted(there - set(expected) - set(deleted))
    return found


class _Nodes:
    """The storage nodes, with a connection to each."""

    def __init__(self) -> None:
        self._connections: dict[str, http.client.HTTPConnection] = {}

    def digest_of(self, url: str) -> str:
        """SHA-256; empty if that is no copy."""
        parts = urlsplit(url)
        if parts.netloc not in self._connections:
            self._connections[parts.netloc] = http.client.HTTPConnection(parts.netloc, timeout=30)
        status, digest = get(self._connections[parts.netloc], parts.path)
        return digest if status == 200 else ""

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
