"""Files opened for writing: what ``storage.open(name, "wb")`` gives."""

from __future__ import annotations

import io
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

from django.core.files import File

if TYPE_CHECKING:
    from replicator.storage.replicated import ReplicatedStorage


class WritableFile(File):  # type: ignore[type-arg]  # generic only in the stubs
    """Collects what is written, and saves it under its name, whole, when it is closed.

    Left by an exception inside a ``with`` block, it saves nothing.
    """

    def __init__(self, storage: ReplicatedStorage, name: str, mode: str) -> None:
        if "x" in mode and storage.exists(name):
            raise FileExistsError(f"{name!r} exists already")
        raw = tempfile.TemporaryFile("w+b")  # noqa: SIM115  # closed by close()
        try:
            if "a" in mode or "r" in mode:
                try:
                    with storage.open(name, "rb") as old:
                        shutil.copyfileobj(old, raw)
                except FileNotFoundError:
                    if "r" in mode:
                        raise
                if "r" in mode:
                    raw.seek(0)
        except BaseException:
            raw.close()
            raise
        self._stream: Any = raw if "b" in mode else io.TextIOWrapper(raw, encoding="utf-8")
        super().__init__(self._stream, name)
        self.mode = mode
        self._raw = raw
        self._storage = storage

    def close(self) -> None:
        if self.closed:
            return
        try:
            self._stream.flush()
            self._raw.seek(0)
            self._storage.replace(str(self.name), File(self._raw))
        finally:
            self._stream.close()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._stream.close()
