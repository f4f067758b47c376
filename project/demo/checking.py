"""What media hosts, a folder and a bucket hold, seen from outside: over HTTP and on disks. Knows no ledger."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

CHUNK = 256 * 1024
#: What can be wrong with a name.
KINDS = ("wrong", "missing", "resurrected", "unexpected", "misfiled")


@dataclass(slots=True)
class Findings:
    """One host, compared with what should be there. Names."""

    host: str
    checked: int = 0
    missing: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    resurrected: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misfiled: list[str] | None = None
    """Of another class, or with another number of copies, than should be; None: hosts know neither."""

    @property
    def is_right(self) -> bool:
        return self.checked > 0 and not any(getattr(self, kind) for kind in KINDS)


def check_host(
    host: str,
    url: str,
    root: Path,
    prefix: str,
    expected: Mapping[str, str],
    deleted: Collection[str],
    step: Callable[[], object],
) -> Findings:
    """Ask *host* for every file: *expected* is name → SHA-256, *deleted* the names that must be 404.

    *root* is its folder, where nothing else may be; *prefix* the path of the files in both.
    """
    found = Findings(host)
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        for name in [*expected, *deleted]:
            status, digest = get(connection, prefix + quote(name))
            found.checked += 1
            if name in expected:
                if status == 404:
                    found.missing.append(name)
                elif status != 200 or digest != expected[name]:
                    found.wrong.append(name)
            elif status != 404:
                found.resurrected.append(name)
            step()
    finally:
        connection.close()
    here = root / prefix.strip("/")
    on_disk = {str(path.relative_to(here)) for path in here.rglob("*") if path.is_file()}
    elsewhere = {str(path) for path in root.rglob("*") if path.is_file() and not path.is_relative_to(here)}
    found.unexpected = sorted((on_disk - set(expected) - set(found.resurrected)) | elsewhere)
    return found


def check_folder(
    host: str, root: Path, expected: Mapping[str, str], deleted: Collection[str], step: Callable[[], object]
) -> Findings:
    """As ``check_host``, of a *root* that no server shows."""
    found = Findings(host)
    on_disk = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    _compare(found, {path: digest_of(root / path) for path in on_disk}, expected, deleted, step)
    return found


def check_bucket(
    endpoint: str, bucket: str, expected: Mapping[str, str], deleted: Collection[str], step: Callable[[], object]
) -> Findings:
    """As ``check_host``, of a bucket's objects: asked by a client of its own."""
    import boto3  # only those who have an S3 have it

    keys = {"aws_access_key_id": "demo", "aws_secret_access_key": "demo"}
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    names = [each["Key"] for page in pages for each in page.get("Contents", ())]
    bodies = ((name, client.get_object(Bucket=bucket, Key=name)["Body"]) for name in names)
    held = {name: hashlib.file_digest(body, "sha256").hexdigest() for name, body in bodies}
    found = Findings("s3")
    _compare(found, held, expected, deleted, step)
    return found


def _compare(
    found: Findings,
    held: Mapping[str, str],
    expected: Mapping[str, str],
    deleted: Collection[str],
    step: Callable[[], object],
) -> None:
    """*held* and *expected*: name → SHA-256."""
    for name, digest in expected.items():
        found.checked += 1
        if name not in held:
            found.missing.append(name)
        elif held[name] != digest:
            found.wrong.append(name)
        step()
    for name in deleted:
        found.checked += 1
        if name in held:
            found.resurrected.append(name)
        step()
    found.unexpected = sorted(held.keys() - expected.keys() - set(deleted))


def fetch(url: str) -> tuple[int, str]:
    """The answer's status, and the SHA-256 of its body; 0 if there is none."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        return get(connection, f"{parts.path}?{parts.query}" if parts.query else parts.path)
    except OSError:
        return 0, ""
    finally:
        connection.close()


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def table(findings: Collection[Findings]) -> str:
    """One line per host."""
    heads = ("host", "checked", *KINDS)
    rows: list[tuple[str, ...]] = [heads]
    for each in findings:
        counts = ("-" if names is None else str(len(names)) for names in (getattr(each, kind) for kind in KINDS))
        rows.append((each.host, str(each.checked), *counts))
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:]])


def get(connection: http.client.HTTPConnection, path: str) -> tuple[int, str]:
    """The answer's status, and the SHA-256 of its body."""
    connection.request("GET", path)
    answer = connection.getresponse()
    sha256 = hashlib.sha256()
    while chunk := answer.read(CHUNK):
        sha256.update(chunk)
    return answer.status, sha256.hexdigest()
