"""A media root that is a target, under whatever mixture of writes, deliveries, losses and clean-ups chance gives.

``REPLICATOR_EXAMPLES=1000`` looks further. What fails says what was done; its number gives the same again.
"""

from __future__ import annotations

import hashlib
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import transaction
from django.utils import timezone

from replicator import ledger, wake
from replicator.delivery.send import send
from replicator.errors import Unavailable
from replicator.ledger import Claim, Outcome
from replicator.local import Entry
from replicator.models import MediaFile, Replica
from replicator.targets import get_target
from replicator.targets.base import TargetFile
from tests.delivery.test_own_disk import Disks
from tests.servers import Embedded

pytestmark = pytest.mark.django_db(transaction=True)

NAMES = ("a.txt", "b.txt")


class Request:
    """What a worker is sending: taken from its disk when it began, as an open file is."""

    def __init__(self) -> None:
        self.file: TargetFile | None = None
        self.data: bytes | None = None

    has_classes = False
    alias = "web1"

    def put(self, file: TargetFile, content: Any) -> None:
        parts = []
        while data := content.read(1000):
            parts.append(data)
        self.file, self.data = file, b"".join(parts)

    def delete(self, file: TargetFile) -> None:
        self.file = file

    def open(self, file: TargetFile) -> Any:
        return get_target("web1").open(file)


class Bytes:
    """A content to send."""

    def __init__(self, data: bytes) -> None:
        self.size, self._data, self._at = len(data), data, 0

    def read(self, size: int = -1, /) -> bytes:
        end = self.size if size < 0 else self._at + size
        data, self._at = self._data[self._at : end], min(end, self.size)
        return data

    def seek(self, offset: int, /) -> int:
        self._at = offset
        return offset


@dataclass
class UnderWay:
    """A claim, and what was sent for it."""

    claim: Claim
    request: Request
    landed: bool = False


class Chance:
    """What happens, step by step, and what was said of it."""

    def __init__(self, disks: Disks, seed: int) -> None:
        self.disks, self.random = disks, random.Random(seed)
        self.under_way: list[UnderWay] = []
        self.late: list[Request] = []
        self.number = 0
        self.said: list[str] = []

    def step(self) -> None:
        weights = {"replace": 4, "save": 3, "delete": 3, "roll_back": 1, "begin": 6, "land": 5, "settle": 5,
                   "lose": 1, "lease_ends": 1, "late_lands": 2, "tidy": 2, "time_passes": 2}  # fmt: skip
        [verb] = self.random.choices(list(weights), list(weights.values()))
        getattr(self, verb)()

    def meanwhile(self) -> None:
        for _ in range(self.random.randrange(3)):
            getattr(self, self.random.choice(["land", "settle", "land", "settle", "begin", "late_lands"]))()

    def say(self, *words: object) -> None:
        self.said.append(" ".join(map(str, words)))

    def some(self) -> tuple[str, str, bytes]:
        self.number += 1
        return self.random.choice(["web1", "web1", "web2"]), self.random.choice(NAMES), b"%d" % self.number

    def replace(self) -> None:
        node, name, data = self.some()
        self.say(node, "replaces", name, data)
        self.disks.save(node, data, name)

    def save(self) -> None:
        node, name, data = self.some()
        with self.disks.being(node) as storage:
            self.say(node, "saves", name, data)
            self.say("as", storage.save(name, ContentFile(data)))

    def delete(self) -> None:
        node, name, _ = self.some()
        self.say(node, "deletes", name)
        self.disks.delete(node, name)

    def roll_back(self) -> None:
        node, name, data = self.some()
        self.say(node, "rolls back", name, data)
        with self.disks.being(node) as storage, transaction.atomic():
            storage.replace(name, ContentFile(data))
            transaction.set_rollback(True)

    def begin(self) -> None:
        node = self.random.choice(["web1", "web2"])
        with self.disks.being(node):
            for claim in ledger.claim("web1", 1).claims:
                request = Request()
                outcome = send(request, claim)  # type: ignore[arg-type]
                self.say(node, "begins", claim.name, request.data, outcome.error or "")
                if outcome.error is not None or request.file is None:  # it was there
                    ledger.settle(claim.lease, [outcome])
                else:
                    self.under_way.append(UnderWay(claim, request))

    def one(self) -> UnderWay | None:
        return self.random.choice(self.under_way) if self.under_way else None

    def apply(self, request: Request) -> None:
        assert request.file is not None
        target = get_target("web1")
        file = TargetFile(request.file.storage, request.file.name, prefix=request.file.prefix)
        if request.data is None:
            target.delete(file)
        else:
            target.put(file, Bytes(request.data))

    def land(self) -> None:
        if (one := self.one()) and not one.landed:
            self.say("lands", one.claim.name, one.request.data)
            self.apply(one.request)
            one.landed = True

    def settle(self) -> None:
        if one := self.one():
            if not one.landed:
                self.say("lands", one.claim.name, one.request.data)
                self.apply(one.request)
            self.say("settled", one.claim.name, one.request.data)
            ledger.settle(one.claim.lease, [Outcome(one.claim)])
            self.under_way.remove(one)

    def lose(self) -> None:
        if one := self.one():
            self.say("no answer", one.claim.name, one.request.data)
            ledger.settle(one.claim.lease, [Outcome(one.claim, Unavailable("no answer", doubt=True))])
            self.under_way.remove(one)
            if not one.landed:
                self.late.append(one.request)

    def lease_ends(self) -> None:
        if one := self.one():
            self.say("lease ends", one.claim.name, one.request.data)
            Replica.objects.filter(lease=one.claim.lease.token).update(lease_until=timezone.now())

    def late_lands(self) -> None:
        if self.late:
            request = self.late.pop(self.random.randrange(len(self.late)))
            self.say("late lands", request.file and request.file.name, request.data)
            self.apply(request)

    def tidy(self) -> None:
        node = self.random.choice(["web1", "web2"])
        self.say(node, "tidies", self.disks.tidy(node))

    def time_passes(self) -> None:
        """As far as nobody waits for an answer: the doubt window is longer than that."""
        waiting = Replica.objects.pending()
        if self.late or self.under_way:
            waiting = waiting.filter(provisional=False)
        self.say("time passes", waiting.update(due_at=timezone.now()))

    def end(self) -> None:
        while self.under_way:
            self.settle()
        while self.late:
            self.late_lands()
        self.say("end")
        for _ in range(3):
            self.disks.settle_down()
        for file in MediaFile.objects.all():
            here = self.disks.on_disk(file.name)
            assert (here is None) is file.deleted, file
            assert here is None or hashlib.sha256(here).hexdigest() == file.sha256, file


@pytest.mark.parametrize("seed", range(int(os.environ.get("REPLICATOR_EXAMPLES", "40"))))
def test_whatever_happens_the_last_write_is_on_the_disk(
    seed: int, settings: Any, tmp_path: Path, embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promises 1 and 2."""
    monkeypatch.setattr(wake, "announce", lambda targets: None)
    monkeypatch.setattr(wake, "wake", lambda targets, node=None: True)
    chance = Chance(Disks(settings, tmp_path, embedded), seed)
    real = Entry.put_in_free_place

    def put(entry: Entry) -> None:
        node = settings.REPLICATOR["NODE"]
        chance.meanwhile()
        real(entry)
        chance.meanwhile()
        chance.disks.become(node)

    monkeypatch.setattr(Entry, "put_in_free_place", put)
    try:
        for _ in range(40):
            chance.step()
        chance.end()
    except BaseException:
        print("\n".join(chance.said))
        raise
