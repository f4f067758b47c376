"""The errors of delivery, named for what happens next."""

from __future__ import annotations

from typing import ClassVar


class DeliveryError(Exception):
    """An attempt that did not end with the target holding the version.

    Messages are shown to people: they never hold a credential, nor a URL with one.
    """

    #: The word stored in a replica's row and shown in the admin.
    kind: ClassVar[str]
    #: Whether something was sent that may still take effect later.
    doubt: bool = False
    #: The HTTP status, if there was one.
    status: int | None = None
    #: Seconds that the target asked us to wait.
    retry_after: float | None = None


class TargetError(DeliveryError):
    """What a target did instead of what it was asked. *status*: the HTTP status, if there was one."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Unavailable(TargetError):
    """Try again later. Counts against the target's health.

    *doubt*: the request may have been sent whole and got no answer, so it can still take effect later.
    *retry_after*: seconds that the target asked us to wait.
    """

    kind = "unavailable"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        doubt: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, status=status)
        self.doubt = doubt
        self.retry_after = retry_after


class Refused(TargetError):
    """Only a person can cure it: the replica fails at once."""

    kind = "refused"


class Corrupt(TargetError):
    """What arrived is not what was sent. Tried again, and not the target's health's business."""

    kind = "corrupt"


class LocalChanged(DeliveryError):
    """The bytes on disk are not (or no longer) the version's: nothing was settled; read the row again."""

    kind = "local-changed"


class LocalMissing(LocalChanged):
    """The local file can't be read."""

    kind = "local-missing"


class LeaseEnded(DeliveryError):
    """The worker's own lease ended, by its own clock: it starts no request and finishes none."""

    kind = "lease-ended"
    doubt = True


class Unexpected(DeliveryError):
    """A target's code raised what it should not: a defect, and who knows what was sent."""

    kind = "unexpected"
    doubt = True


def kinds() -> list[str]:
    """The words that a replica's row may hold as its error."""
    found: list[str] = []
    classes = list(DeliveryError.__subclasses__())
    while classes:
        kind = classes.pop(0)
        classes += kind.__subclasses__()
        if "kind" in kind.__dict__:
            found.append(kind.kind)
    return found
