"""What a WebDAV server does with what delivery sends, and what to change in its configuration."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime

from replicator.errors import DeliveryError
from replicator.targets.base import Target
from replicator.targets.findings import Finding
from replicator.targets.httperrors import failure
from replicator.targets.samples import Sample
from replicator.targets.scratch import MakeFile
from replicator.targets.trial import CUT, MOMENT, Trial
from replicator.targets.webdavadvice import UNSEEN, advice_for, kind_of
from replicator.targets.webdavoptions import WebDAVOptions
from replicator.targets.webdavraw import RawWebDAV
from replicator.targets.webdavserver import ABSENT, expect

#: Requests over one connection; Apache ends it after 100 unless told otherwise.
MANY = 300
#: Seconds by which clocks may differ.
CLOCKS = 5.0
DONE = {200, 201, 204}


class WebDAVTrial(Trial):
    """One examination."""

    def __init__(self, target: Target, make_file: MakeFile, size: int, options: WebDAVOptions) -> None:
        super().__init__(target, make_file, size)
        self._options = options
        self._server = RawWebDAV(options)
        #: What people call the server; empty if that is not known.
        self._kind = ""

    def tries(self) -> Iterator[tuple[str, Callable[[], Iterator[Finding]]]]:
        for what, tried in super().tries():
            yield what, tried
            if what == "cut off":
                yield "under way", self.under_way
                yield "move", self.move
        yield "conditions", self.conditions
        yield "delete folder", self.delete_folder
        yield "keep-alive", self.keep_alive
        if not self._options.client_cert:
            yield "strangers", self.strangers
        yield "clock", self.clock
        if self._kind in UNSEEN:
            yield "not seen", self.not_seen

    def advice(self, what: str, error: DeliveryError | None = None) -> str:
        status = error.status if error else None
        if what in self.essential:
            if "to MOVE" in str(error):
                what = "move"
            elif status in (409, 500):
                what = "no folders"
            elif status in (403, 404, 405, 501):
                what = "write"
            else:
                return ""  # the error itself says what to do
        elif what == "new folders":
            what = "no folders"
        elif what == "cut off":
            what = "atomic"
        elif what == "large file" and error and status not in (None, 413):
            return ""
        return advice_for(what, self._kind)

    def remove_folders(self, reasons: list[str]) -> list[str]:
        """Most servers remove a folder with what is in it, also what could not be removed by its name."""
        top = f"{self._path('').rstrip('/')}/"
        answer = self._server.send("DELETE", top)
        if answer.status not in DONE | ABSENT:
            for folder in self.folders_used():
                path = self._server.path_of(self._make_file(name=folder))
                answer = self._server.send("DELETE", f"{path}/")
        if answer.status in DONE | ABSENT or self._server.send("HEAD", top, changes=False).status in ABSENT:
            return []
        return [*reasons, str(failure("DELETE", top, answer))] if self.used else []

    def _path(self, name: str) -> str:
        """Percent-encoded."""
        folder = self._server.path_of(self._make_file(name=self.folder))
        return self._server.path_of(self.file(name)) if name else folder

    # Tries.

    def answers(self) -> Iterator[Finding]:
        path = f"{self._server.path}/"
        begun = time.monotonic()
        answer = self._server.send("OPTIONS", path, changes=False, quick=True)
        name = answer.header("server")
        self._kind = kind_of(name)
        self.target.probe()
        milliseconds = (time.monotonic() - begun) * 1000 / 2
        yield Finding(
            "answers", "fine", f"{name or 'a server that does not say what it is'}, in {milliseconds:.1f} ms"
        )

    def empty(self) -> Iterator[Finding]:
        path = self._path("stale.bin")
        self.put("stale.bin", b"not empty")
        self._server.send("HEAD", path, changes=False)
        self._server.put_raw(path, b"")
        is_stale = bool(self._server.send("HEAD", path, changes=False).length)
        for finding in super().empty():
            if finding.ok == "must" or not is_stale:
                yield finding
        if is_stale:
            text = "for a moment it tells the old size of a file that was made empty: each costs a second look"
            yield Finding("empty file", "should", text, self.advice("empty file"))

    def folders(self) -> Iterator[Finding]:
        self.used["raw/folder/file.bin"] = None
        answer = self._server.put_raw(self._path("raw/folder/file.bin"), b"deep")
        if answer.status in DONE:
            yield self._same("new folders", "raw/folder/file.bin", b"deep", "a PUT makes the folders that miss")
            return
        is_costly = answer.status >= 500
        for finding in super().folders():
            if finding.ok == "must" or not is_costly:
                yield finding
        if is_costly:
            text = f"{answer.status} to a PUT whose folder is missing: a MKCOL and a second PUT cure it, each time"
            yield Finding("new folders", "should", text, advice_for("new folders", self._kind))

    def under_way(self) -> Iterator[Finding]:
        """Promise 5."""
        name, seen = "under-way.bin", list[bytes | None]()
        self.put(name, b"old")

        def look() -> None:
            time.sleep(MOMENT)
            seen.append(self.held(name))

        sample = Sample(CUT, self.target.throttle, look)
        path = self._path(name)
        expect("PUT", path, self._server.put_stream(path, self.file(name, CUT), sample), DONE)
        if seen == [b"old"]:
            text = "a PUT is not seen before it has ended"
            if not self._options.atomic_put:
                text += ': "atomic_put": False in the OPTIONS costs two requests for each file, and is not needed'
            yield Finding("under way", "fine" if self._options.atomic_put else "note", text)
        elif self._options.atomic_put:
            text = "readers see a part of a file while it is sent"
            yield Finding("under way", "must", text, advice_for("atomic", self._kind))
        else:
            text = 'readers would see a part of a file while it is sent; with "atomic_put": False they do not'
            yield Finding("under way", "fine", text)

    def move(self) -> Iterator[Finding]:
        self.put("move.bin", b"moved")
        self.put("moved.bin", b"old")
        try:
            self._server.move(self._path("move.bin"), self._path("moved.bin"), self.file("moved.bin"))
            finding = self._same("move", "moved.bin", b"moved", "MOVE replaces a file")
        except DeliveryError as error:
            finding = Finding("move", "must", str(error), advice_for("move", self._kind))
        if finding.ok == "must" and self._options.atomic_put:
            finding = Finding("move", "note", "MOVE does not work here, and is not needed")
        yield finding

    def conditions(self) -> Iterator[Finding]:
        self.put("if.bin", b"old")
        answer = self._server.put_raw(self._path("if.bin"), b"new", b"If-None-Match: *\r\n")
        heeds = "heeds" if answer.status == 412 else "ignores"
        yield Finding("conditions", "note", f"it {heeds} If-None-Match; nothing here depends on it")

    def delete_folder(self) -> Iterator[Finding]:
        self.put("full/inside.bin", b"inside")
        path = self._path("full")
        answers = [self._server.send("DELETE", each).status for each in (path, f"{path}/")]
        if self.held("full/inside.bin") is None:
            text = "DELETE of a folder removes all that is in it: Replicator sends none for a folder; others may"
        else:
            text = f"a folder with files in it can't be deleted ({', '.join(map(str, answers))})"
        yield Finding("delete folder", "note", text)

    def keep_alive(self) -> Iterator[Finding]:
        self.put("kept.bin", b"kept")
        count = self._server.count_kept(self._path("kept.bin"), MANY)
        if count >= MANY:
            yield Finding("keep-alive", "fine", f"{count} requests over one connection")
        else:
            text = f"it ends a connection after {count} request{'s' if count > 1 else ''}: a backlog needs many"
            yield Finding("keep-alive", "should", text, self.advice("keep-alive"))

    def strangers(self) -> Iterator[Finding]:
        self.put("strange.bin", b"old")
        status = self._server.as_stranger("GET", self._path("strange.bin")).status
        can = "can read" if status == 200 else f"can't read ({status})"
        text = f"who comes without credentials {can} here"
        if not (self._options.username or self._options.token):
            yield Finding("strangers", "note", f"{text}, and can write: see that only workers get here")
            return
        status = self._server.as_stranger("PUT", self._path("strange.bin"), b"by anybody").status
        if status in DONE:
            text = "who comes without credentials can write here"
            yield Finding("strangers", "must", text, advice_for("anybody", self._kind))
        else:
            yield Finding("strangers", "fine", f"{text}, and can't write ({status})")

    def clock(self) -> Iterator[Finding]:
        before = time.time()
        answer = self._server.send("OPTIONS", f"{self._server.path}/", changes=False)
        now = (before + time.time()) / 2
        try:
            ahead = parsedate_to_datetime(answer.header("date")).timestamp() - now
        except ValueError:
            yield Finding("clock", "note", "it does not say what time it is")
            return
        # Its date has no fractions of a second.
        if abs(ahead) < CLOCKS:
            yield Finding("clock", "fine", "as here")
        else:
            text = f"it is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
            yield Finding("clock", "should", text, "Set both by NTP: audits go by when a file was written there.")

    def not_seen(self) -> Iterator[Finding]:
        yield Finding("not seen", "note", "what no request shows", UNSEEN[self._kind])
