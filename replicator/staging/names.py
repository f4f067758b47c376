"""Names and addresses, as the tables of a copy know them."""

from __future__ import annotations

import hashlib
from uuid import UUID


def digest_of(text: str) -> UUID:
    """Of an address or a name: short, and the same in every process."""
    return UUID(bytes=hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest())
