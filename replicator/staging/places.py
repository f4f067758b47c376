"""Addresses of places, written so that what is one place is one text, and what is inside another begins with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

_BUCKET = re.compile(r"bucket (\S+) (\S+): (.*)", re.DOTALL)
_AWS = re.compile(r"(?:.+\.)?amazonaws\.com(?:\.cn)?")
_USUAL = {"http": 80, "https": 443}


def endpoint(url: str | None) -> str:
    """Host and port of an S3 that has this ``endpoint_url``; all of AWS is one, since names of buckets are."""
    parts = urlsplit(url or "https://s3.amazonaws.com")
    return "AWS" if _AWS.fullmatch(parts.hostname or "") else _host(url or "")


def normal(address: str) -> Iterator[str]:
    """*address*, as ``Target.addresses`` and ``Source.address`` write it, and where else the same can be found."""
    if found := _BUCKET.fullmatch(address):
        url, bucket, key = found.groups()
        url = "" if url == "AWS" else url
        where = endpoint(url)
        yield f"bucket {where} {bucket}: {key}"
        # A site's media URL may be a bucket's.
        host = "s3.amazonaws.com" if where == "AWS" and not url else _host(url)
        yield f"//{host}/{bucket}/{key}"
        yield f"//{bucket}.{host}/{key}"
    elif address.startswith(("http://", "https://", "//")):
        yield f"//{_host(address)}{_path(address)}"
    else:
        yield address


def of_url(url: str, name: str) -> Iterator[str]:
    """The place of *name* below an absolute *url*, percent-encoded; none for a path alone."""
    if urlsplit(url).hostname:
        yield f"//{_host(url)}{unquote(urlsplit(url).path).rstrip('/')}/{name}"


def _host(url: str) -> str:
    """Host and port, if it is not the scheme's own: lower-case, http and https alike."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    host = f"[{host}]" if ":" in host else host
    # Of a URL without a scheme either may be meant.
    usual = {_USUAL[parts.scheme]} if parts.scheme in _USUAL else set(_USUAL.values())
    return host if parts.port is None or parts.port in usual else f"{host}:{parts.port}"


def _path(address: str) -> str:
    """What follows the host. Not percent-encoded: a name may have any character in it."""
    return "/" + address.partition("//")[2].partition("/")[2]
