"""A target in memory, which fails when told to."""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from replicator.errors import LocalChanged, Unavailable
from replicator.targets.base import Content, Entry, Reader, Stat, Target, TargetFile, safe_name

Hook = Callable[[str, TargetFile], None]


class MemoryTarget(Target):
    """Holds files in a dict. Every switch can be set at any time, and takes effect with the next operation.

    Operations are named ``put``, ``delete``, ``stat``, ``open``, ``entries`` and ``probe``. A listing
    fails as soon as it is told to.
    """

    def __init__(
        self,
        alias: str,
        *,
        lag: float = 0.0,
        concurrency: int | None = None,
        workers: int = 2,
        bandwidth: float | None = None,
        public_url: str = "",
        node: str = "",
    ) -> None:
        super().__init__(
            alias, concurrency=concurrency, workers=workers, bandwidth=bandwidth, public_url=public_url, node=node
        )
        #: What it holds: path (prefix and name, without the first slash) → bytes.
        self.files: dict[str, bytes] = {}
        #: What was asked of it, in order: operation, path. Also what failed.
        self.operations: list[tuple[str, str]] = []
        #: Seconds that each operation takes.
        self.lag = lag
        #: Raised instead of doing anything, until it is None again.
        self.fail_with: Exception | None = None
        #: The next so many writes take effect, and get no answer.
        self.lose_answer = 0
        #: The next so many writes get no answer, and take effect only when they are released.
        self.hold = 0
        #: Writes that wait for ``release``.
        self.held: list[Callable[[], object]] = []
        #: Called with operation and file before anything is done, and after it took effect; may raise.
        self.before: Hook | None = None
        self.after: Hook | None = None
        self._lock = threading.Lock()

    def put(self, file: TargetFile, content: Content) -> None:
        path = self._begin("put", file)
        parts: list[bytes] = []
        while data := content.read(64 * 1024):
            parts.append(data)
        body = b"".join(parts)
        if len(body) != content.size:
            raise LocalChanged(f"the content is not the {content.size} bytes that it was said to be")
        self._write("put", file, lambda: self.files.__setitem__(path, body))

    def delete(self, file: TargetFile) -> None:
        path = self._begin("delete", file)
        self._write("delete", file, lambda: self.files.pop(path, None))

    def stat(self, file: TargetFile) -> Stat | None:
        data = self.files.get(self._begin("stat", file))
        return None if data is None else Stat(len(data), {"sha256": hashlib.sha256(data).hexdigest()})

    @contextmanager
    def open(self, file: TargetFile) -> Iterator[Reader]:
        data = self.files.get(self._begin("open", file))
        if data is None:
            raise FileNotFoundError(file.name)
        yield io.BytesIO(data)

    def can_list(self) -> bool:
        return True

    def entries(self, prefix: str = "/") -> Iterator[Entry]:
        with self._lock:
            self.operations.append(("entries", prefix))
            held = [(path, len(data)) for path, data in self.files.items()]
        folder = prefix.strip("/") + "/" if prefix != "/" else ""
        if self.lag:
            time.sleep(self.lag)
        found = (Entry(path.removeprefix(folder), size) for path, size in held if path.startswith(folder))
        for entry in (*found, None):
            if self.fail_with is not None:
                raise self.fail_with
            if entry is not None:
                yield entry

    def probe(self) -> None:
        with self._lock:
            self.operations.append(("probe", ""))
        if self.fail_with is not None:
            raise self.fail_with

    def release(self, index: int = 0) -> None:
        """Let a held write take effect: the first, unless *index* says another."""
        self.held.pop(index)()

    def _begin(self, operation: str, file: TargetFile) -> str:
        path = (file.prefix + safe_name(file.name)).lstrip("/")
        with self._lock:
            self.operations.append((operation, path))
        if self.lag:
            time.sleep(self.lag)
        if self.before:
            self.before(operation, file)
        if self.fail_with is not None:
            raise self.fail_with
        return path

    def _write(self, operation: str, file: TargetFile, effect: Callable[[], object]) -> None:
        file.may_send()
        with self._lock:
            if self.hold:
                self.hold -= 1
                self.held.append(effect)
                raise Unavailable(f"{operation}: no answer", doubt=True)
            effect()
            lost = self.lose_answer > 0
            self.lose_answer -= lost
        if self.after:
            self.after(operation, file)
        if lost:
            raise Unavailable(f"{operation}: no answer", doubt=True)
