"""What the demo does to the storages of the other shapes, and what it asks of them meanwhile, from outside."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from project.demo import samples
from project.demo.checking import digest_of, fetch
from project.demo.saving import Place, Saving
from project.embedded import HOSTS, Embedded

#: The last one only where there is an S3.
SHAPES = ("assets", "private", "archive", "careful", "cdn", "bucket")
#: Files that each gets, each time.
EACH = 6
#: For how long a private link is good here; seconds.
LINK_SECONDS = 10

#: Waits for a condition; says what for if that takes too long.
Until = Callable[[Callable[[], object], str], None]


class Shapes:
    """Their part of a tour. What is wrong is collected in ``wrong``, in words."""

    def __init__(self, site: Embedded, saving: Saving, until: Until) -> None:
        self.site = site
        self.saving = saving
        self.until = until
        self.aliases = SHAPES if site.has_s3 else SHAPES[:-1]
        self.wrong: list[str] = []
        #: Links of before, which must have ended by now, and when they were made.
        self._old: dict[str, float] = {}
        #: Files that left this machine only by the clean-up.
        self._tidied = 0
        self._counts = Counter[str]()

    def save(self, when: str) -> None:
        """A few files into each; *when*: the folder of these."""
        names = [f"{when}/{samples.ODD[number % len(samples.ODD)]}" for number in range(EACH)]
        for alias in self.aliases:
            for number, name in enumerate(names):
                self.saving.save_new(name, self.saving.chance.randbytes(1 + 7001 * number), alias)
        print(f"  {EACH * len(self.aliases)} saved to {', '.join(self.aliases)}", flush=True)

    def are_at_two_hosts(self, when: str) -> bool:
        """Whether two media hosts have each file that was saved *when*: they are asked."""
        places = [place for place in self.saving.saved if place.name.startswith(f"{when}/")]
        public = [place for place in places if place.storage in ("assets", "archive", "careful", "cdn")]
        return all(copies_at_hosts(self.site, place.at_root, self.saving.digest(place)) >= 2 for place in public)

    # The private ones

    def ask_private(self) -> None:
        """A link is answered with the file; the same for another time, name or signature with 403, an old one too."""
        self._ask_old()
        places = self._places("private")
        for place in places:
            link = str(self.saving.storages["private"].url(place.name))
            self._expect("good", "a private link", self._at_site(link), 200, self.saving.digest(place))
            for changed in _changed(link, next(other for other in places if other != place)):
                self._expect("refused", "a private link that was changed", self._at_site(changed), 403)
            self._old[link] = time.monotonic()

    def ask_ended(self) -> None:
        """Those of before, once each has ended."""
        newest = max(self._old.values(), default=0.0)
        self.until(lambda: time.monotonic() > newest + LINK_SECONDS + 1, "private links to end")
        self._ask_old()

    def _ask_old(self) -> None:
        for link, made in list(self._old.items()):
            if time.monotonic() > made + LINK_SECONDS + 1:
                self._expect("ended", "a private link that has ended", self._at_site(link), 403)
                del self._old[link]

    # Those that are not here

    def read_archive(self) -> None:
        """Files that are not here any more, through the storage, as the site reads them."""
        storage = self.saving.storages["archive"]
        for place in self._places("archive"):
            if not Path(storage.path(place.name)).exists():
                with storage.open(place.name) as file:
                    is_right = hashlib.sha256(file.read()).hexdigest() == self.saving.digest(place)
                self._counts["read"] += is_right
                if not is_right:
                    self.wrong.append(f"{place.path}: what the storage reads is not what was saved")

    def wait_until_released(self) -> None:
        """Until no archived file is here."""
        soon = time.monotonic() + 5

        def is_done() -> bool:
            if time.monotonic() > soon:
                # What a kill has left is for the clean-up, which beat starts each ten minutes.
                self._tidied += self.saving.storages["archive"].tidy()
            return not self._unreleased()

        self.until(is_done, "the files of archive to leave this machine")

    def _unreleased(self) -> list[Place]:
        storage = self.saving.storages["archive"]
        return [place for place in self._places("archive") if Path(storage.path(place.name)).exists()]

    # Those that wait, and those whose links lead to media hosts

    def save_without_enough_hosts(self) -> None:
        """With one media host alive, a save that wants two copies must say so."""
        before = self.saving.raised
        self.saving.save_new("lonely.txt", b"one copy", "careful")
        if self.saving.raised == before:
            self.wrong.append("careful/lonely.txt: a save returned, and only one host is alive")

    def ask_cdn(self, dead: str = "") -> None:
        """Each link is answered with the right bytes, and none leads to the *dead* host once it is missed."""
        if dead:
            away = self.site.host_url(dead)
            self.until(
                lambda: not any(link.startswith(away) for link in self._cdn().values()), f"{dead} to be missed"
            )
        for place, link in self._cdn().items():
            self._expect("cdn", "a link to a media host", self._at_site(link), 200, self.saving.digest(place))

    def _cdn(self) -> dict[Place, str]:
        storage = self.saving.storages["cdn"]
        return {place: str(storage.url(place.name)) for place in self._places("cdn")}

    # S3, and what all of it came to

    def ask_signed(self) -> None:
        """The links of the bucket's files: signed for it, and answered by it."""
        storage = self.saving.storages["bucket"]
        for place in self._places("bucket"):
            link = str(storage.url(place.name))
            if not link.startswith(f"{self.site.s3_url}/"):
                self.wrong.append(f"{link} does not lead to the bucket, which has {place.name}")
            self._expect("signed", "a link that was signed for the bucket", link, 200, self.saving.digest(place))
            self._expect("unsigned", "the same without the signature", link.partition("?")[0], 403)

    def report(self) -> str:
        """What was asked and right, in words. That nothing was is wrong, too."""
        kinds = ("good", "refused", "ended", "read", "cdn", *(("signed", "unsigned") if self.site.has_s3 else ()))
        self.wrong += [f"nothing was right of the kind {kind!r}" for kind in kinds if not self._counts[kind]]
        counts, saving = self._counts, self.saving
        changed, ended = counts["refused"], counts["ended"]
        tidied = f", {self._tidied} left by the clean-up" if self._tidied else ""
        return "\n".join(
            [
                f"private    {counts['good']} links answered; 403 for {changed} changed and {ended} ended ones",
                f"archive    none is here{tidied}; {counts['read']} read through the storage while media2 was dead",
                f"careful    {saving.returned} saves returned with two copies at the hosts, {saving.raised} raised",
                f"cdn        {counts['cdn']} links answered with the right bytes, also while media2 was dead",
            ]
        )

    def _places(self, alias: str) -> list[Place]:
        return sorted(place for place in self.saving.saved if place.storage == alias)

    def _at_site(self, link: str) -> str:
        return link if "://" in link else f"{self.site.url.rstrip('/')}{link}"

    def _expect(self, kind: str, what: str, url: str, status: int, digest: str = "") -> None:
        found, its = fetch(url)
        if found != status:
            self.wrong.append(f"{what}: {found or 'no answer'} instead of {status}: {url}")
        elif digest and its != digest:
            self.wrong.append(f"{what}: other bytes than were saved: {url}")
        else:
            self._counts[kind] += 1


def _changed(link: str, other: Place) -> list[str]:
    """*link* as somebody would have it who was not given another."""
    path, query = urlsplit(link).path, parse_qs(urlsplit(link).query)
    expires, signature = query["expires"][0], query["signature"][0]
    later = str(int(expires) + 1000)
    flipped = ("B" if signature.startswith("A") else "A") + signature[1:]
    return [
        path,
        f"{path}?{urlencode({'expires': later, 'signature': signature})}",
        f"{path}?{urlencode({'expires': expires, 'signature': flipped})}",
        f"/private/{quote(other.name)}?{urlencode({'expires': expires, 'signature': signature})}",
    ]


def static_files(site: Embedded) -> dict[str, str]:
    """What ``collectstatic`` left here: path below the root of a media host → SHA-256."""
    root = site.var / "static"
    files = (path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".replicator"))
    return {f"static/{path.relative_to(root)}": digest_of(path) for path in files}


def copies_at_hosts(site: Embedded, path: str, digest: str) -> int:
    """How many media hosts have these bytes at this moment; *path*: below their root."""
    return sum(fetch(f"{site.host_url(host)}/{quote(path)}") == (200, digest) for host in HOSTS)
