"""The live side of the staging tour, and who judges a copy: they notice what is wrong."""

from __future__ import annotations

import hashlib
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from project.demo.copied import check_places, fetched_wrongly, touched
from project.demo.live import BUCKET, REGION, Live
from project.demo.livefiles import COLUMNS, LiveFiles
from tests.servers import Embedded

OBJECTS = 300


@pytest.fixture
def live() -> Iterator[Live]:
    with Live(OBJECTS) as live:
        yield live


def client(live: Live, keys: tuple[str, str]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=live.url,
        region_name=REGION,
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_a_live_site_has_names_and_sizes_of_every_kind() -> None:
    """5,000 objects, five fields of three models, one in a hundred missing; names that differ by their form only."""
    files = LiveFiles(5000)
    names = [name for column in COLUMNS for name in files.names[column.field]]
    assert len(files.sizes) == 5000
    assert len(files.missing) == 50
    assert len(names) == len(set(names)) == 5050
    assert len({column.model for column in COLUMNS}) == 3
    assert min(files.sizes.values()) == 0
    assert max(files.sizes.values()) > 2_000_000
    assert sum(files.sizes.values()) < 300_000_000
    assert max(map(len, names)) == 255
    assert max(len(part.encode()) for name in names for part in name.split("/")) == 245
    decomposed = [name for name in names if unicodedata.normalize("NFC", name) != name]
    assert len(decomposed) > 300
    assert all(unicodedata.normalize("NFC", name) in names for name in decomposed[:-1])
    assert {"#", "?", "%", "+", "&", " ", "文", "📷"} <= set("".join(names))
    assert len(set(files.on_staging()) | set(files.missing_on_staging())) == 5050


def test_the_staging_site_s_keys_read_and_list_and_can_do_nothing_else(live: Live) -> None:
    """A key pair that cannot hurt the live side, as the issue asks for; and what it did is known."""
    reader = client(live, live.staging_keys)
    files = LiveFiles(OBJECTS)
    for name in list(files.sizes)[:20]:
        assert reader.get_object(Bucket=BUCKET, Key=name)["Body"].read() == files.content(name)
    listed = {each["Key"]: each["Size"] for each in reader.list_objects_v2(Bucket=BUCKET)["Contents"]}
    assert listed == files.sizes | files.unnamed
    with pytest.raises(reader.exceptions.NoSuchKey):
        reader.get_object(Bucket=BUCKET, Key=min(files.missing))
    before = live.state()
    for refused in (
        lambda: reader.put_object(Bucket=BUCKET, Key="new", Body=b""),
        lambda: reader.delete_object(Bucket=BUCKET, Key=name),
        lambda: reader.create_multipart_upload(Bucket=BUCKET, Key="new"),
        lambda: reader.copy_object(Bucket=BUCKET, Key="new", CopySource={"Bucket": BUCKET, "Key": name}),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            refused()
    assert live.state() == before
    assert live.fetched() == 20
    assert len(touched(before, live.state(), live.requests())) == 4


def test_in_trouble_it_answers_503_and_then_goes_on(live: Live) -> None:
    """As an S3 does that is asked too much."""
    reader = client(live, live.staging_keys)
    name = next(iter(LiveFiles(OBJECTS).sizes))
    live.say_503(to_everything=True)
    with pytest.raises(ClientError, match="SlowDown"):
        reader.get_object(Bucket=BUCKET, Key=name)
    live.say_503(to_everything=False)
    reader.get_object(Bucket=BUCKET, Key=name)["Body"].read()
    assert [each["status"] for each in live.requests()] == [503, 200]
    assert live.fetched() == 1


def test_whatever_changes_at_the_source_is_noticed(live: Live) -> None:
    """A byte, a time, a file more or less, an upload that was begun."""
    files, before = LiveFiles(OBJECTS), live.state()
    changed, removed, written = list(files.sizes)[:3]
    owner = client(live, live.owner_keys)
    owner.put_object(Bucket=BUCKET, Key=changed, Body=b"other")
    owner.delete_object(Bucket=BUCKET, Key=removed)
    time.sleep(0.01)
    owner.put_object(Bucket=BUCKET, Key=written, Body=files.content(written))
    owner.put_object(Bucket=BUCKET, Key="new", Body=b"")
    owner.create_multipart_upload(Bucket=BUCKET, Key="begun")
    found = touched(before, live.state(), [])
    assert len(found) == 5
    assert [
        what for what in (changed, removed, written, "new", "uploads") if not any(what in each for each in found)
    ] == []
    assert touched(before, before, []) == []


def test_what_is_fetched_twice_or_never_is_noticed_unless_a_kill_is_the_reason() -> None:
    """A file that was in flight at a kill may be fetched again, and no other."""
    files = LiveFiles(100)
    names = list(files.sizes)

    def fetch(key: str, at: float, method: str = "GET", status: int = 200) -> dict[str, Any]:
        return {"key": key, "at": at, "method": method, "status": status, "query": ""}

    once = [fetch(name, 1.0) for name in names]
    beside = [
        fetch(names[0], 0.5, status=503),
        fetch(names[0], 0.6, method="HEAD"),
        fetch(min(files.missing), 1, status=404),
    ]
    assert fetched_wrongly(files, once + beside) == []
    assert len(fetched_wrongly(files, once[1:])) == 1
    assert len(fetched_wrongly(files, [*once, fetch(next(iter(files.unnamed)), 1)])) == 1
    again = [*once, fetch(names[1], 3.0)]
    assert len(fetched_wrongly(files, again)) == 2, "again, and more than may be"
    assert fetched_wrongly(files, again, kills=[2.0], at_once=1) == []
    assert len(fetched_wrongly(files, again, kills=[3.5], at_once=1)) == 1, "the kill came later"
    assert len(fetched_wrongly(files, again, kills=[2.0], at_once=0)) == 1
    long_ago = [*once, fetch(names[1], 30.0)]
    assert len(fetched_wrongly(files, long_ago, kills=[29.0], at_once=1)) == 1, "it had long been copied"


def test_a_file_that_is_not_what_it_is_at_the_source_is_noticed_wherever_it_is(
    embedded: Embedded, tmp_path: Path
) -> None:
    """On the local disk as at a host."""
    files = LiveFiles(100)
    for path in files.on_staging():
        name = path.removeprefix("thumbs/").removeprefix("avatars/").removeprefix("cdn/")
        place = tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(files.content(name))
        embedded.write(f"media/{path}", files.content(name))

    def judge() -> list[str]:
        found = check_places(files, {"media1": (embedded.url, embedded.root)}, tmp_path, lambda: None)
        return [each.host for each in found if not each.is_right]

    assert judge() == []
    missing, *_ = files.missing_on_staging()
    embedded.write(f"media/{missing}", b"")
    assert judge() == ["media1"]
    empty = hashlib.sha256(b"").hexdigest()
    path = next(path for path, digest in files.on_staging().items() if digest != empty)
    (tmp_path / path).write_bytes(b"")
    assert judge() == ["local disk", "media1"]
