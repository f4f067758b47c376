"""What an HTTP answer, or none, means for delivery."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from time import time
from urllib.parse import urlsplit

from replicator.errors import Refused, TargetError, Unavailable
from replicator.targets.httpanswer import Answer, HTTPError, NoAnswer

#: What to change, by status.
CURES = {
    400: "it does not take this name; rename the file",
    401: "set the target's options username and password, or token",
    403: "the target's user may not do this: see its access rules, and the owner of its folders",
    404: "it has no such place: see the target's url",
    405: "it does not take this method: enable WebDAV for this path (nginx: dav_methods PUT DELETE MKCOL MOVE)",
    409: "a file is where a folder should be, or a folder where the file should be",
    411: "it wants no Content-Length: a proxy in between is in the way",
    412: "something in between sets conditions",
    413: "the file is larger than it takes (nginx: client_max_body_size; Apache: LimitRequestBody)",
    414: "the name is longer than it takes; rename the file",
    415: "it does not take files of this type",
    422: "it does not take this file",
    501: "it does not know this method: enable WebDAV for this path",
}
#: What stands before the server gave up waiting for it, which may still be at work: 502, 504 (RFC 9110), and what
#: Cloudflare says when the server answered nonsense, or nothing after the connection was made.
UNANSWERED = {502, 504, 520, 522, 524}
#: Only time cures these 4xx: too slow, too early, too many, locked.
PASSING = {408, 423, 425, 429}


def failure(method: str, path: str, answer: Answer) -> TargetError:
    """The error that an answer is. *path* is shown, as sent."""
    status = answer.status
    what = f"{status} to {method} {path}"
    wait = seconds_to_wait(answer.header("retry-after"))
    if status == 507:
        return Unavailable(f"{what}: its disk is full", status=status, retry_after=wait)
    if status in UNANSWERED:
        return Unavailable(what, status=status, doubt=True, retry_after=wait)
    if status in PASSING or (status >= 500 and status not in CURES):
        return Unavailable(what, status=status, retry_after=wait)
    if 300 <= status < 400:
        location = public_url(answer.header("location"))
        return Refused(f"{what}: it redirects to {location}; write that URL in TARGETS", status=status)
    cure = CURES.get(status, "not an answer that is expected here")
    return Refused(f"{what}: {cure}", status=status)


def silence(method: str, path: str, error: HTTPError, *, changes: bool) -> Unavailable:
    """The error that no answer is. *changes*: the request can take effect later, if it arrived."""
    doubt = changes and isinstance(error, NoAnswer) and error.sent
    return Unavailable(f"{method} {path}: {error}", doubt=doubt)


def public_url(url: str) -> str:
    """*url* without what could be secret: user, password, query, fragment."""
    try:
        parts = urlsplit(re.sub(r"[^\x21-\x7e]", "", url))
        netloc = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "a URL that cannot be read"
    return parts._replace(netloc=netloc, query="", fragment="").geturl()


def seconds_to_wait(retry_after: str) -> float | None:
    """Seconds, from either form of Retry-After (RFC 9110, section 10.2.3)."""
    value = retry_after.strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except (ValueError, OverflowError):
        return None
