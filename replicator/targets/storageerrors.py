"""What the exceptions of Django storages, and of the file systems below them, mean for delivery."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation

from replicator.errors import DeliveryError, Refused, TargetError, Unavailable
from replicator.targets.base import Reader

#: What to change, by the operating system's error.
CURES = {
    errno.EACCES: "see the owner and the mode of its folder",
    errno.EPERM: "see the owner and the mode of its folder",
    errno.EISDIR: "a folder has this name there",
    errno.ENOTEMPTY: "a folder has this name there",
    errno.ENOTDIR: "a file is where a folder should be",
    errno.EEXIST: "a file is where a folder should be",
    errno.ENAMETOOLONG: "the name is longer than it takes; rename the file",
    errno.EILSEQ: "it does not take this name; rename the file",
    errno.EINVAL: "it does not take this name; rename the file",
}
#: Storages raise these without a number.
NUMBERS = {
    PermissionError: errno.EACCES,
    IsADirectoryError: errno.EISDIR,
    NotADirectoryError: errno.ENOTDIR,
    FileExistsError: errno.EEXIST,
}
FULL = {errno.ENOSPC, errno.EDQUOT}
#: Mistakes in a storage's code: who catches them must be able to say where.
DEFECTS = (AttributeError, LookupError, NameError, TypeError)


@contextmanager
def sorting(what: str, *, doubt: bool = False) -> Iterator[None]:
    """Let nothing but delivery's own errors, and defects, out of the block. *what*: for messages, as ``put name``.

    *doubt*: what was begun may still take effect.
    """
    try:
        yield
    except (DeliveryError, *DEFECTS):
        raise
    except Exception as error:
        raise failure(what, error, doubt=doubt) from None


def failure(what: str, error: Exception, *, doubt: bool) -> TargetError:
    """The error that *error* is. Its own text may hold a URL with a password, and is left out."""
    if isinstance(error, OSError):
        number = error.errno or NUMBERS.get(type(error))
        if number in FULL:
            return Unavailable(f"{what}: its disk is full")
        if number in CURES:
            return Refused(f"{what}: {CURES[number]}")
        return Unavailable(f"{what}: {error.strerror or type(error).__name__}", doubt=doubt)
    if isinstance(error, SuspiciousOperation):
        return Refused(f"{what}: the storage does not take this name; rename the file")
    if isinstance(error, NotImplementedError):
        return Refused(f"{what}: the storage cannot do this: name one in STORAGES that has the whole Storage API")
    if isinstance(error, ImproperlyConfigured):
        return Refused(f"{what}: {error}")
    return Unavailable(f"{what}: {type(error).__name__}", doubt=doubt)


class SortedReader:
    """A reader whose exceptions are delivery's. *failed*: makes one of another."""

    def __init__(self, read: Callable[[int], bytes], failed: Callable[[Exception], Exception]) -> None:
        self._read = read
        self._failed = failed

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._read(size)
        except Exception as error:
            raise self._failed(error) from None


def reader(stream: Reader, what: str) -> Reader:
    """*stream*, with its exceptions sorted."""
    return SortedReader(stream.read, lambda error: failure(what, error, doubt=False))
