"""The promises of targets that can list what they hold, as tests."""

# ruff: noqa: S101 - tests assert

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

from replicator.errors import TargetError
from replicator.targets.base import Entry, TargetFile
from replicator.testing.content import BytesContent
from replicator.testing.files import ContractFiles
from replicator.testing.names import ODD_NAMES
from replicator.testing.outcomes import raises


class ListingContract(ContractFiles):
    """A part of ``TargetContract``. One that can't list says so, and refuses to."""

    def listed(self, prefix: str | None = None) -> dict[str, Entry]:
        """What its listing says, by name; no name twice."""
        found: dict[str, Entry] = {}
        for entry in self.target.entries(self.file("x").prefix if prefix is None else prefix):
            assert entry.name not in found, entry
            found[entry.name] = entry
        return found

    def test_a_listing_tells_what_is_held(self) -> None:
        """Each file once, with its size if it knows; what was deleted is not in it, nor another prefix's."""
        if not self.target.can_list():
            with raises(TargetError):
                self.listed()
            return
        assert self.listed("/media/listed/nothing here/") == {}
        data = {"one.txt": b"1", "deep/er/two.txt": b"22", "deep/three.txt": b"333", "none.txt": b""}
        files = {name: replace(self.file(name, each), prefix="/media/listed/a b/") for name, each in data.items()}
        for name, file in files.items():
            self.target.put(file, BytesContent(data[name]))
        for prefix in ("/media/listed/", "/media/listed/a b c/", "/media/listed/a/"):
            self.target.put(replace(files["one.txt"], prefix=prefix), BytesContent(b"1"))
        found = self.listed("/media/listed/a b/")
        assert set(found) == set(data)
        for name, entry in found.items():
            assert entry.size in (None, len(data[name]))
            if entry.modified is not None:
                assert abs((datetime.now(UTC) - entry.modified).total_seconds()) < 3600
        self.target.delete(files["deep/three.txt"])
        assert set(self.listed("/media/listed/a b/")) == {"one.txt", "deep/er/two.txt", "none.txt"}

    def test_a_listing_has_other_storages_files_below_its_prefix(self) -> None:
        """Whoever asks sorts them out: a target knows of no storages."""
        if self.target.can_list():
            self.target.put(TargetFile("other", "x.txt", prefix="/media/outer/inner/"), BytesContent(b""))
            assert set(self.listed("/media/outer/")) == {"inner/x.txt"}

    def test_odd_names_are_listed_as_they_were_put(self) -> None:
        """Whatever the listing's own encoding makes of them on the way."""
        if not self.target.can_list():
            return
        names = {f"odd/{name}" for name in ODD_NAMES if name not in self.refused_names}
        for name in names:
            self.put(name, b"odd")
        found = {name for name in self.listed() if name.startswith("odd/")}
        assert found == {name for name in names if name.removeprefix("odd/") not in self.unlisted_names}
        for name in names:
            self.target.delete(self.file(name))

    def test_a_listing_of_more_files_than_a_page_is_whole(self) -> None:
        """Also when it is left in the middle, and asked for again."""
        if not self.target.can_list():
            return
        names = {f"{number}.txt" for number in range(self.many)}
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: self.put(f"many/{name}", b"x"), names))
        prefix = f"{self.file('x').prefix}many/"
        next(iter(self.target.entries(prefix)))
        assert set(self.listed(prefix)) == names
