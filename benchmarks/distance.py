"""A server that is far away: what it answers comes later, and nothing is slower otherwise."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

_PIECE = 256 * 1024


class Distance:
    """Before *port* of this machine: each answer comes *seconds* later. ``url``: where to ask."""

    def __init__(self, port: int, seconds: float) -> None:
        self._upstream, self._seconds = port, seconds
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._take, "127.0.0.1", 0), self._loop)
        self._server = started.result(10)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._end)
        self._thread.join()
        self._loop.close()

    def _end(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        # When they have ended.
        self._loop.call_later(0.1, self._loop.stop)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, questions = await asyncio.open_connection("127.0.0.1", self._upstream)
        for way in (_pass(reader, questions, 0), _pass(answers, writer, self._seconds)):
            task = self._loop.create_task(way)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """All that comes, as much later; the end, too."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1000)

    async def read() -> None:
        data = b"-"
        while data:
            data = b""
            with suppress(OSError):
                data = await reader.read(_PIECE)
            await pieces.put((loop.time() + seconds, data))

    reading = loop.create_task(read())
    with suppress(OSError):
        while True:
            due, data = await pieces.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if not data:
                break
            writer.write(data)
            await writer.drain()
    reading.cancel()
    writer.close()
