"""Links that end: what is signed, with which key, and until when."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from django.core.signing import BadSignature, Signer

_SALT = "replicator.private"


def end_of(seconds: int, now: float) -> int:
    """When a link that is made *now*, to last *seconds*, ends: seconds since the epoch.

    Never later than asked for, and at most a tenth sooner: links that are made within that tenth are equal, so that
    browsers find what they have.
    """
    step = max(1, seconds // 10)
    return int(now + seconds) // step * step


def signature(storage: str, name: str, expires: int, keys: Sequence[str] = ()) -> str:
    """HMAC-SHA256, base64url, by the first of *keys*, or by ``SECRET_KEY``; each with a salt of ours.

    What is signed names the file's storage, so that no link is good for a file of the same name elsewhere.
    """
    return _signer(keys).signature(_text(storage, name, expires))


def is_signed(signed: str, storage: str, name: str, expires: int, keys: Sequence[str] = ()) -> bool:
    """Whether one of *keys*, or ``SECRET_KEY`` and its fallbacks, made the signature *signed*. In constant time."""
    try:
        _signer(keys).unsign(f"{_text(storage, name, expires)}:{signed}")
    except BadSignature:
        return False
    return True


def secure_link(path: str, expires: int, secret: str) -> str:
    """What nginx's ``secure_link_md5 "$secure_link_expires$uri secret"`` compares: *path* is not percent-encoded."""
    # That it is MD5, and not an HMAC, is nginx's choice: docs/private.md says what follows from it.
    digest = hashlib.md5(f"{expires}{path} {secret}".encode(), usedforsecurity=False).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _signer(keys: Sequence[str]) -> Signer:
    if not keys:
        return Signer(salt=_SALT)
    return Signer(key=keys[0], fallback_keys=list(keys[1:]), salt=_SALT)


def _text(storage: str, name: str, expires: int) -> str:
    # No name has a NUL: nothing else reads like this.
    return f"{storage}\0{name}\0{expires}"
