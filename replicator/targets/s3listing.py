"""What a bucket of S3 holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from replicator.errors import Corrupt
from replicator.targets.ability import Ability
from replicator.targets.base import Entry
from replicator.targets.s3errors import EXPECTED, code_of
from replicator.targets.s3requests import Requests

#: Codes, or statuses where there is none, of who may not list, or can't.
_CANNOT = {"AccessDenied", "MethodNotAllowed", "NotImplemented", "403", "405", "501"}


class S3Listing:
    """The listings of the bucket that *requests* asks."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._ability = Ability(self._ask)

    def is_there(self) -> bool:
        """Whether the key pair may list: asked at most once a minute."""
        return self._ability.is_there()

    def entries(self, folder: str) -> Iterator[Entry]:
        """All files below *folder* (empty, or with a slash at its end)."""
        key = self._requests.key(folder)
        page: dict[str, Any] = {}
        while True:
            answer = self._requests.ask("list_objects_v2", key, Prefix=key, **page)
            for each in answer.get("Contents", ()):
                # Keys that end with a slash stand for folders.
                if not each["Key"].endswith("/"):
                    yield Entry(each["Key"].removeprefix(key), each["Size"], each["LastModified"])
            if not answer.get("IsTruncated"):
                return
            token = answer.get("NextContinuationToken", "")
            if not token or token == page.get("ContinuationToken"):
                raise Corrupt(f"list {key}: it has more files, and does not say how to go on")
            page = {"ContinuationToken": token}

    def _ask(self) -> bool:
        key = self._requests.key("")
        try:
            self._requests.call("list_objects_v2", key, quick=True, Prefix=key, MaxKeys=1)
        except EXPECTED as error:
            if code_of(error) in _CANNOT:
                return False
            raise self._requests.failure("list", error) from None
        return True
