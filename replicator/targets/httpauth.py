"""How requests say who sends them: basic, bearer and digest authentication."""

from __future__ import annotations

import base64
import re
import threading

from requests.auth import HTTPDigestAuth
from requests.utils import parse_dict_header

from replicator.targets.httpanswer import Answer


class Auth:
    """The same field, or none, in every request."""

    def __init__(self, value: str = "") -> None:
        self._line = f"Authorization: {value}\r\n".encode() if value else b""

    @classmethod
    def basic(cls, username: str, password: str) -> Auth:
        """RFC 7617, in UTF-8."""
        return cls("Basic " + base64.b64encode(f"{username}:{password}".encode()).decode())

    @classmethod
    def bearer(cls, token: str) -> Auth:
        """RFC 6750."""
        return cls(f"Bearer {token}")

    @property
    def needs_challenge(self) -> bool:
        """Whether a request without a body should be sent first, to be challenged."""
        return False

    def line(self, method: str, path: str) -> bytes:
        """The header field for this request, with its line end; or nothing."""
        return self._line

    def challenged(self, answer: Answer) -> bool:
        """Learn from a 401. True if the request is worth sending again."""
        return False


class Digest(Auth):
    """RFC 7616, computed by requests. Each thread has its own challenge, so that its count of uses is in order."""

    def __init__(self, username: str, password: str) -> None:
        super().__init__()
        self._username, self._password = username, password
        self._local = threading.local()

    @property
    def needs_challenge(self) -> bool:
        return not hasattr(self._local, "digest")

    def line(self, method: str, path: str) -> bytes:
        if self.needs_challenge:
            return b""
        # The URL's host does not enter the digest.
        value = self._local.digest.build_digest_header(method, f"http://target{path}")
        return f"Authorization: {value}\r\n".encode()

    def challenged(self, answer: Answer) -> bool:
        match = re.search(r"(?i)\bdigest\s+(.*)", answer.header("www-authenticate"))
        if match is None:
            return False
        challenge: dict[str, str] = parse_dict_header(match.group(1))  # type: ignore[no-untyped-call]
        digest = HTTPDigestAuth(self._username, self._password)
        digest.init_per_thread_state()
        # Where requests keeps what its own responses would have told it.
        digest._thread_local.chal = challenge  # type: ignore[attr-defined]
        self._local.digest = digest
        return True
