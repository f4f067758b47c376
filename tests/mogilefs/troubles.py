"""What a test can do to a running MogileFS: make it fail as the real one does, change it behind everyone's back."""

from __future__ import annotations

import base64
from typing import Any

#: Nobody listens there.
DEAD_PATH = "http://127.0.0.1:1/dev1/0/000/000/0000000000.fid"


class Troubles:
    """Faults befall the next *times* requests (None: all) and are then used up; ``heal()`` ends them all.

    Trackers are counted from 0, as in ``trackers``; nodes from 1, as in their host names. *command* is a command of
    the tracker, such as ``create_close``; without one, the fault befalls any.
    """

    def control(self, verb: str, **arguments: Any) -> Any:
        raise NotImplementedError

    def heal(self) -> None:
        """Nothing is wrong any more: all trackers and nodes run, no fault waits, delays are as at first."""
        self.control("heal")

    def wipe(self) -> None:
        """``heal()``, and no files, neither known nor on disk. Domains, classes and the numbering of fids stay."""
        self.control("wipe")

    def waiting_faults(self) -> list[dict[str, Any]]:
        """The faults of trackers that nobody has met yet."""
        found: list[dict[str, Any]] = self.control("waiting")
        return found

    # Answers of trackers.

    def answer(self, line: str, command: str = "", times: int | None = 1) -> None:
        """Answer *line* and do nothing, for example ``ERR no_devices none`` or ``OK paths=0``; latin-1."""
        self._fault("answer", command, times, value=line)

    def no_devices(self, times: int | None = 1) -> None:
        self.answer("ERR no_devices No+devices+found+to+store+file", "create_open", times)

    def no_paths(self, times: int | None = 1) -> None:
        """``get_paths`` finds the key and no copy of it that answers."""
        self.answer("OK paths=0", "get_paths", times)

    def dead_path(self, path: str = DEAD_PATH, times: int | None = 1) -> None:
        """*path* comes first in the answer of ``get_paths``."""
        self._fault("dead_path", "get_paths", times, value=path)

    def offer(self, *devids: int, times: int | None = 1) -> None:
        """``create_open`` offers these devices, in this order: with two devices per node, 1 and 2 are one host's."""
        self._fault("offer", "create_open", times, value=list(devids))

    def size_mismatch(self, times: int | None = 1) -> None:
        """``create_close`` finds one byte more than there is: the file is dropped and its fid used up."""
        self._fault("size_mismatch", "create_close", times)

    def slow(self, seconds: float, command: str = "", times: int | None = 1) -> None:
        """Do it at once, answer so much later."""
        self._fault("slow", command, times, seconds=seconds)

    # Answers that are lost.

    def refuse(self, command: str = "", times: int | None = 1) -> None:
        """Close the connection, do nothing."""
        self._fault("eof", command, times, value="before")

    def lose_answer(self, command: str = "", times: int | None = 1) -> None:
        """Do it, then close the connection instead of answering."""
        self._fault("eof", command, times, value="after")

    def do_later(self, seconds: float, command: str = "", times: int | None = 1) -> None:
        """Close the connection at once, do it so much later."""
        self._fault("eof", command, times, value="later", seconds=seconds)

    def rerun_create_close(self, *, took_effect: bool, later: float = 0.0, times: int | None = 1) -> None:
        """``create_close`` was run by a worker that died, then again: the answer is ``no_temp_file``.

        The first run stored the file, *later* seconds after that answer, or never.
        """
        self._fault("rerun", "create_close", times, value=took_effect, seconds=later)

    # Trackers.

    def hang_tracker(self, index: int = 0, seconds: float | None = None) -> None:
        """It accepts and never answers, until ``start_tracker`` or for so long; then it does all it was asked to."""
        self.control("tracker", index=index, do="hang", seconds=seconds)

    def stop_tracker(self, index: int = 0) -> None:
        """Connections are refused, and those there are end."""
        self.control("tracker", index=index, do="stop")

    def start_tracker(self, index: int = 0) -> None:
        self.control("tracker", index=index, do="start")

    def restart_tracker(self, index: int = 0) -> None:
        """On the same port; old connections end."""
        self.stop_tracker(index)
        self.start_tracker(index)

    # Nodes.

    def hang_node(self, number: int, seconds: float | None = None) -> None:
        """It accepts and never answers. Trackers notice after ``hung_noticed`` seconds, and wait for it until then.

        A worker that has waited for ``watchdog`` seconds is killed, and its request run again by another.
        """
        self.control("node", number=number, do="hang", seconds=seconds)

    def stop_node(self, number: int, *, noticed: bool = True) -> None:
        """Connections are refused; not *noticed*: trackers go on offering it."""
        self.control("monitor", looking=noticed)
        self.control("node", number=number, do="stop")

    def start_node(self, number: int) -> None:
        """Also ends ``hang_node``."""
        self.control("node", number=number, do="start")

    def node_answers(self, number: int, status: int, method: str = "PUT", times: int | None = 1) -> None:
        """Reads the request, does nothing and answers *status*, for example 500, 507 or 404."""
        self._fault("answer", method, times, value=status, node=number)

    def node_slow(self, number: int, seconds: float, method: str = "", times: int | None = 1) -> None:
        self._fault("answer", method, times, seconds=seconds, node=number)

    def node_refuses(self, number: int, method: str = "PUT", times: int | None = 1) -> None:
        """Closes the connection when it has read the head, does nothing."""
        self._fault("answer", method, times, value="eof before", node=number)

    def node_loses_answer(self, number: int, method: str = "PUT", times: int | None = 1) -> None:
        """Does it, then closes the connection instead of answering."""
        self._fault("answer", method, times, value="eof after", node=number)

    def node_cuts(self, number: int, after: int, times: int | None = 1) -> None:
        """A GET's body ends after so many bytes of those that its Content-Length promises."""
        self._fault("answer", "GET", times, value={"cut": after}, node=number)

    # Behind everyone's back.

    def put_behind_back(self, key: str, content: bytes, mogile_class: str = "") -> int:
        """Store a file, without a client; its fid."""
        data = base64.b64encode(content).decode()
        raw = key.encode("utf-8", "surrogateescape").decode("latin-1")
        fid: int = self.control("put", key=raw, content=data, mogile_class=mogile_class)
        return fid

    def pause_background(self) -> None:
        """No copies are made or removed, until ``resume_background()``."""
        self.control("background", paused=True)

    def resume_background(self) -> None:
        self.control("background", paused=False)

    def set_timing(self, **seconds: float) -> None:
        """Other delays, from now on: see ``Timing``. Those that are not named are as at first."""
        self.control("timing", **seconds)

    def _fault(
        self,
        kind: str,
        command: str,
        times: int | None,
        *,
        seconds: float = 0.0,
        value: object = None,
        node: int = 0,
    ) -> None:
        self.control("fault", node=node, kind=kind, command=command, times=times, seconds=seconds, value=value)
