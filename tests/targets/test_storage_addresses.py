"""How places of storages are written: equal for one place, and telling nothing of what opens it."""

from __future__ import annotations

import hashlib
from typing import Any

from django.core.files.storage import Storage
from django.utils.deconstruct import deconstructible

from replicator.targets.storageaddresses import address_of


@deconstructible
class Elsewhere(Storage):
    def __init__(self, password: str = "") -> None:
        self.password = password


def test_an_address_does_not_help_to_guess_a_password(settings: Any) -> None:
    """Promise 9: it is shown when source and destination are one place."""
    storage = Elsewhere(password="summer")
    address = address_of(storage, "a.txt")
    assert address == address_of(Elsewhere(password="summer"), "a.txt")
    assert address != address_of(Elsewhere(password="winter"), "a.txt")
    guess = hashlib.sha256(repr(storage.deconstruct()[1:]).encode()).hexdigest()  # type: ignore[attr-defined]
    assert guess[:16] not in address
    settings.SECRET_KEY = "another site's"
    assert address != address_of(storage, "a.txt")
