"""What delivery relies on, tried at a target by the contract only, in a scratch folder of its own."""

from __future__ import annotations

import os
import time
import unicodedata
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from statistics import median
from typing import TYPE_CHECKING

from replicator.errors import DeliveryError, Unavailable
from replicator.targets.findings import Finding
from replicator.targets.samples import CutOff, Sample, cut_off
from replicator.targets.scratch import MakeFile, Scratch

if TYPE_CHECKING:
    from replicator.targets.base import Target

#: Names that servers get wrong: each is a file of its own.
ODD_NAMES = (
    "with space.txt", "a#b.txt", "a?b.txt", "50%.txt", "%41.txt", "a;b=c.txt", "a+b&c.txt", "it's \"quoted\".txt",
    "(a)[b]{c}.txt", "a:b|c*.txt", "<b>.txt", "...", "trailing.", ".hidden", "文件.txt", "script.php", "page.html",
    "letters.txt", "Letters.txt", "caf\u00e9.txt", "cafe\u0301.txt",
)  # fmt: skip
#: Bytes of a segment: what file systems take, and what is left where a temporary name is longer by ten.
LONG = (245, 255)
#: A content that a server which runs scripts, or changes pages, would not give back.
_BODY = "<?php echo 6 * 7; ?><html><head></head><body><!--#echo var='DATE_GMT' --> {}</body></html>\n"
#: Seconds until a server has noticed that a connection was lost, or written what it was sent.
MOMENT = 0.2
#: Bytes of the file that is cut off half-way.
CUT = 512 * 1024
MIB, GIB = 1024**2, 1024**3
#: Files per second that one would miss.
SLOW = 500
#: The part of its room below which people should know.
LITTLE = 0.05


class Trial(Scratch):
    """One examination. *size*: bytes of the large file."""

    #: What nothing else can be tried without.
    essential = frozenset({"answers", "write", "delete"})

    def __init__(self, target: Target, make_file: MakeFile, size: int) -> None:
        super().__init__(target, make_file)
        self.size = size

    def findings(self) -> Generator[Finding, None, None]:
        """Each as soon as it is known. The folder is removed in any case; what could not be is named: at the end by
        a finding, by ``Unavailable`` if the caller closes this before, or is interrupted."""
        yield Finding("scratch", "note", f"all of this happens in {self.place}, which is removed at the end")
        try:
            yield from self._until_hopeless()
        except BaseException:
            if left := self.clean():
                raise Unavailable(left) from None
            raise
        if left := self.clean():
            yield Finding("cleaning up", "must", left, "Remove it by hand.")
        else:
            yield Finding("cleaning up", "fine", "nothing is left")

    def tries(self) -> Iterator[tuple[str, Callable[[], Iterator[Finding]]]]:
        """What to try, in this order."""
        yield "answers", self.answers
        yield "write", self.write
        yield "delete", self.delete
        yield "overwrite", self.overwrite
        yield "empty file", self.empty
        yield "new folders", self.folders
        yield "cut off", self.cut_off
        yield "large file", self.large
        yield "odd names", self.odd_names
        yield "long names", self.long_names
        yield "listing", self.listing
        yield "free space", self.free_space
        yield "speed", self.speed

    def advice(self, what: str, error: DeliveryError | None = None) -> str:
        """What to change, if a try did not go as it should; *error*: what it raised."""
        return ""

    def _until_hopeless(self) -> Iterator[Finding]:
        for what, tried in self.tries():
            hopeless = False
            for finding in self._tried(what, tried):
                yield finding
                hopeless = hopeless or (finding.ok == "must" and finding.what in self.essential)
            if hopeless:
                yield Finding("the rest", "note", "could not be tried")
                return

    def _tried(self, what: str, tried: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
        try:
            yield from tried()
        except DeliveryError as error:
            yield Finding(what, "must", str(error), self.advice(what, error))
        except FileNotFoundError:
            yield Finding(what, "must", "what was put is not there", self.advice(what))
        except Exception as error:  # one try's defect must not keep from the others
            # Its message stays out: it may hold a URL with a password.
            yield Finding(what, "must", f"a defect in the target's code: {type(error).__name__}")

    def _same(self, what: str, name: str, data: bytes, text: str) -> Finding:
        """Whether *name* holds *data*."""
        if (held := self.held(name)) == data:
            return Finding(what, "fine", text)
        found = "nothing" if held is None else f"{len(held)} other bytes"
        return Finding(what, "must", f"{len(data)} bytes were taken, and {found} can be read back", self.advice(what))

    # Tries.

    def answers(self) -> Iterator[Finding]:
        self.target.probe()
        yield Finding("answers", "fine", "it is up")

    def write(self) -> Iterator[Finding]:
        data = os.urandom(1000)
        self.put("file.bin", data)
        yield self._same("write", "file.bin", data, "a file can be read back as it was put")

    def overwrite(self) -> Iterator[Finding]:
        data = os.urandom(999)
        self.put("file.bin", data)
        yield self._same("overwrite", "file.bin", data, "a file replaces what had its name")

    def empty(self) -> Iterator[Finding]:
        self.put("empty.bin", b"not yet")
        self.put("empty.bin", b"")
        yield self._same("empty file", "empty.bin", b"", "an empty file is one")

    def folders(self) -> Iterator[Finding]:
        self.put("new/folder/file.bin", b"deep")
        yield self._same("new folders", "new/folder/file.bin", b"deep", "missing folders are made")

    def cut_off(self) -> Iterator[Finding]:
        """Promise 5."""
        self.put("cut.bin", b"old")
        for name in ("cut.bin", "cut-new.bin"):
            with suppress(CutOff):
                self.put(name, Sample(CUT, self.target.throttle, cut_off))
        time.sleep(MOMENT)
        if (held := self.held("cut.bin")) != b"old":
            found = "nothing" if held is None else f"{len(held)} bytes of it"
            text = f"a transfer that was cut off leaves {found} in the place of the old file"
            yield Finding("cut off", "must", text, self.advice("cut off"))
        elif (held := self.held("cut-new.bin")) is not None:
            text = f"a transfer that was cut off leaves a file of {len(held)} bytes"
            yield Finding("cut off", "must", text, self.advice("cut off"))
        else:
            yield Finding("cut off", "fine", "a transfer that was cut off leaves what was there before")

    def large(self) -> Iterator[Finding]:
        sample = Sample(self.size, self.target.throttle)
        begun = time.monotonic()
        self.put("large.bin", sample)
        written = time.monotonic()
        with self.target.open(self.file("large.bin")) as reader:
            if not sample.is_in(reader.read):
                yield Finding("large file", "must", "what comes back is not what was sent", self.advice("large file"))
                return
        there, back = _rate(self.size, written - begun), _rate(self.size, time.monotonic() - written)
        text = f"{self.size / MIB:,.1f} MiB were written with {there}, and read with {back}"
        yield Finding("large file", "fine", text)

    def odd_names(self) -> Iterator[Finding]:
        refused: list[str] = []
        put: dict[str, bytes] = {}
        for number, name in enumerate(ODD_NAMES):
            data = _BODY.format(number).encode()
            try:
                self.put(f"names/{name}", data)
                put[name] = data
            except (DeliveryError, FileNotFoundError) as error:
                refused.append(f"{name!r} ({error})")
        kept: list[str] = []
        for name, data in put.items():
            held = self.held(f"names/{name}")
            same = next((other for other, its in put.items() if its == held), "")
            if held == data:
                kept.append(name)
            elif same:
                yield self._one_file(name, same)
            elif name == "script.php":
                text = "a file named .php is not given back as it was put: the server runs what was uploaded"
                yield Finding(
                    "odd names", "must", text, "Take files from the storage's path out of what PHP handles."
                )
            else:
                text = f"a file named {name!r} is not given back as it was put"
                yield Finding("odd names", "must", text, self.advice("odd names"))
        if refused:
            text = f"{len(kept)} of {len(ODD_NAMES)} odd names are taken; these are not: {'; '.join(refused)}"
            yield Finding("odd names", "should", text, self.advice("refused names") or "Do not save such names.")
        else:
            yield Finding("odd names", "fine", f"{len(kept)} odd names: spaces, percent signs, other alphabets, …")

    def _one_file(self, name: str, same: str) -> Finding:
        if unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", same):
            why = "names that differ only in how an accent is written"
        elif name.lower() == same.lower():
            why = "names that differ only in upper and lower case"
        else:
            why = f"the names {name!r} and {same!r}"
        advice = self.advice("one file") or "Use a file system that keeps names as they are (ext4, XFS)."
        return Finding("odd names", "must", f"{why} are one file there: the second replaced the first", advice)

    def long_names(self) -> Iterator[Finding]:
        for length in LONG:
            try:
                self.put("l" * length, b"long")
            except DeliveryError as error:
                reason = str(error).replace("l" * length, "…")
                text = f"a name of {length} bytes between two slashes is not taken: {reason}"
                advice = self.advice("long names", error) or "Keep names shorter."
                yield Finding("long names", "should" if length == LONG[0] else "note", text, advice)
                return
        yield Finding("long names", "fine", f"{LONG[-1]} bytes between two slashes, the most that file systems take")

    def delete(self) -> Iterator[Finding]:
        file = self.file("deleted.bin")
        self.put("deleted.bin", b"to be deleted")
        self.target.delete(file)
        if self.target.stat(file) is not None or self.held("deleted.bin") is not None:
            yield Finding("delete", "must", "a deleted file can still be read", self.advice("delete"))
            return
        self.target.delete(file)
        yield Finding("delete", "fine", "a file goes, and one that is gone already is no error")

    def listing(self) -> Iterator[Finding]:
        if not self.target.can_list():
            text = "it can't be listed: an audit asks for each file, and sees no unknown ones"
            yield Finding("listing", "should" if self.advice("listing") else "note", text, self.advice("listing"))
            return
        self.put("list/é 1.txt", b"1")
        found = {entry.name for entry in self.target.entries(f"{self.place}list/")}
        if found == {"é 1.txt"}:
            yield Finding("listing", "fine", "an audit can list what it holds")
        else:
            text = f"a folder with one file is listed with {len(found)}: {sorted(found)[:3]}"
            yield Finding("listing", "must", text, self.advice("listing"))

    def free_space(self) -> Iterator[Finding]:
        try:
            space = self.target.space()
        except DeliveryError as error:
            yield Finding("free space", "note", f"it does not say: {error}")
            return
        if space is None:
            yield Finding("free space", "note", "it does not say")
            return
        text = f"{space.free / GIB:,.1f} of {space.total / GIB:,.1f} GiB"
        if space.free < LITTLE * space.total:
            yield Finding("free space", "should", text, "Make room: a target without any fails every file.")
        else:
            yield Finding("free space", "fine", text)

    def speed(self) -> Iterator[Finding]:
        seconds: list[float] = []
        for number in range(10):
            begun = time.monotonic()
            self.put(f"small-{number}.bin", bytes(4096))
            seconds.append(time.monotonic() - begun)
        middle = median(seconds)
        at_once = self.target.concurrency * self.target.workers
        text = f"a file of 4 KiB takes {middle * 1000:.1f} ms"
        if at_once / middle < SLOW:
            text += f": {at_once / middle:,.0f} files/s at most with {at_once} at once"
            yield Finding("speed", "note", text, "A higher concurrency helps over a long line.")
        else:
            yield Finding("speed", "fine", text)


def _rate(size: int, seconds: float) -> str:
    return f"{size / MIB / max(seconds, 1e-6):,.1f} MiB/s"
