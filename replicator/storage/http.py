"""A Django storage of the files of another site, which are read over HTTP."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from typing import Any, Literal, NoReturn

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.files import File
from django.core.files.storage import Storage
from django.utils import timezone

from replicator.errors import TargetError
from replicator.storage.httpfound import Found
from replicator.storage.httpsite import HTTPSite, SiteOptions
from replicator.storage.pulled import PulledFile, buffered
from replicator.targets.http import PIECE

_NO_WRITES = "HTTPStorage reads another site's files, and changes none: give what is to be saved another storage."
_NO_LISTS = "HTTPStorage knows names, not what there is: HTTP has no listing. Take the names from the database."


class HTTPStorage(Storage):
    """The files of another site, read with GET only. A name's URL is *base_url* and the name.

    *auth* ("basic" or "digest") with *username* and *password*, or *token* (bearer). *ca_bundle*, *client_cert*,
    *client_key*: paths of PEM files. *connect_timeout*, *read_timeout* (how long it may be silent): seconds.
    *min_rate*: bytes per second below which a transfer is given up.

    Redirects are followed; credentials go to the origin of *base_url* alone. What can't be read is an ``OSError``.
    """

    def __init__(
        self,
        base_url: str,
        *,
        username: str = "",
        password: str = "",
        auth: Literal["basic", "digest"] = "basic",
        token: str = "",
        ca_bundle: str = "",
        client_cert: str = "",
        client_key: str = "",
        connect_timeout: float = 5.0,
        read_timeout: float = 30.0,
        min_rate: float = 64 * 1024,
    ) -> None:
        try:
            options = SiteOptions(
                url=base_url,
                username=username,
                password=password,
                auth=auth,
                token=token,
                ca_bundle=ca_bundle,
                client_cert=client_cert,
                client_key=client_key,
                connect_timeout=connect_timeout,
                read_timeout=read_timeout,
                min_rate=min_rate,
            )
            #: For who wants to know more than Django's API tells.
            self.site = HTTPSite(options)
        except (TypeError, ValueError) as error:
            raise ImproperlyConfigured(f"HTTPStorage: {error}") from None
        self.base_url = self.site.url

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.base_url}>"

    def exists(self, name: str) -> bool:
        with _as_os_error(name):
            return self.site.stat(name) is not None

    def size(self, name: str) -> int:
        size = self._found(name).size
        if size is None:
            raise OSError(errno.EIO, "the site does not say how large it is", name)
        return size

    def get_modified_time(self, name: str) -> datetime:
        modified = self._found(name).modified
        if modified is None:
            raise OSError(errno.EIO, "the site does not say when it was modified", name)
        return modified if settings.USE_TZ else timezone.make_naive(modified)

    def url(self, name: str | None) -> str:
        with _as_os_error(name or ""):
            return self.site.url_of(name or "")

    def save(self, name: str | None, content: Any, max_length: int | None = None) -> NoReturn:
        raise NotImplementedError(_NO_WRITES)

    def delete(self, name: str) -> NoReturn:
        raise NotImplementedError(_NO_WRITES)

    def listdir(self, path: str) -> NoReturn:
        raise NotImplementedError(_NO_LISTS)

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        if mode != "rb":
            raise NotImplementedError(f'{_NO_WRITES} Files open as "rb" only, not as {mode!r}.')
        return File(buffered(_SiteFile(self.site, name)), name=name)

    def _found(self, name: str) -> Found:
        with _as_os_error(name):
            found = self.site.stat(name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "the site does not have it", name)
        return found


class _SiteFile(PulledFile):
    """Comes from a site as it is read."""

    def __init__(self, site: HTTPSite, name: str) -> None:
        super().__init__(name)
        self._open = ExitStack()
        try:
            with _as_os_error(name):
                self._download = self._open.enter_context(site.open(name))
        except BaseException:
            self.close()
            raise

    def _size(self) -> int:
        size = self._download.found.size
        return super()._size() if size is None else size

    def _pull(self) -> None:
        with _as_os_error(self._name):
            data = self._download.read(PIECE)
        self._keep(data)
        self._is_whole = not data
        if self._is_whole:
            self._open.close()

    def close(self) -> None:
        if not self.closed:
            with suppress(TargetError):  # of a connection that is not needed any more
                self._open.close()
        super().close()


@contextmanager
def _as_os_error(name: str) -> Iterator[None]:
    """What Django's API has for a file that can't be read."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "the site does not have it", name) from None
    except TargetError as error:
        raise OSError(errno.EIO, str(error), name) from error
