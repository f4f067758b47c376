"""A storage of files that only who was given a link may read."""

from __future__ import annotations

import logging
import mimetypes
import re
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import FileSystemStorage, InvalidStorageError, storages
from django.utils.deconstruct import deconstructible
from django.utils.functional import cached_property
from django.utils.http import content_disposition_header

from replicator import signing
from replicator.conf import nearest
from replicator.errors import DeliveryError
from replicator.storage.belonging import problem
from replicator.storage.reading import target_file
from replicator.storage.replicated import ReplicatedStorage
from replicator.storage.urls import known_holders
from replicator.targets import get_target
from replicator.targets.base import url_path

log = logging.getLogger(__name__)

#: Who answers links: ``replicator.views.serve_protected_file``, an nginx with secure_link, or a target.
SIGNS = ("view", "secure_link", "target")
#: What a browser runs as a page of the site that it comes from.
_RUNS = re.compile(r"text/html|multipart/.*|message/.*|.*[/+]xml", re.IGNORECASE)
#: Of characters that mean themselves in nginx's configuration. From a link an MD5 tells whether a guess is right, so
#: the secret must be none that could be guessed.
_NAMED_KEY = re.compile(r"[A-Za-z0-9_-]{1,32}:[A-Za-z0-9_-]{32,}")
_SHORTEST_KEY = 32
_LOCATION = re.compile(r"/(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)+")
#: S3 takes no signature that lasts longer.
_LONGEST_AT_TARGET = 7 * 24 * 3600


@deconstructible(path="replicator.storage.ProtectedStorage")
class ProtectedStorage(ReplicatedStorage):
    """Files that are replicated like any others, and whose ``url()`` gives a link that ends.

    *querystring_expire*: after so many seconds, at the latest. *sign*: who answers links: ``"view"``, for
    ``protected_urls``; ``"secure_link"``, for an nginx that serves *base_url*; ``"target"``, the first of the targets
    that holds the file and can sign (S3), and until there is one the view.

    *keys*: the first signs, all are valid; ``SECRET_KEY`` and ``SECRET_KEY_FALLBACKS`` unless given. For secure_link
    each is ``"name:secret"``. *as_attachment*: whether browsers save files instead of showing them; None: those that
    they would run, such as HTML and SVG.

    *x_accel_redirect*: the location where nginx, in front of the view, has the local files. *x_sendfile*: Apache, in
    front of it, sends them. The others are those of ``ReplicatedStorage``.
    """

    def __init__(
        self,
        *args: Any,
        querystring_expire: int = 3600,
        sign: str = "view",
        keys: Sequence[str] | None = None,
        as_attachment: bool | None = None,
        x_accel_redirect: str = "",
        x_sendfile: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        # A migration would hold what it was made with, and no secret belongs there.
        self._constructor_args[1].pop("keys", None)  # type: ignore[attr-defined]  # deconstructible's
        _check_links(sign, querystring_expire)
        _check_answers(as_attachment, x_accel_redirect, x_sendfile)
        _check_keys(keys, sign)
        if self.serve_from != "origin":
            raise ValueError(f'serve_from is {self.serve_from!r}: leave it out, and write "sign": "target"')
        self.querystring_expire = querystring_expire
        self.sign = sign
        self._keys = keys
        self.as_attachment = as_attachment
        self.x_accel_redirect = x_accel_redirect
        self.x_sendfile = x_sendfile

    @property
    def keys(self) -> Sequence[str]:
        """Those of its entry in ``STORAGES``, unless it was given others; empty: those of Django."""
        if self._keys is not None:
            return self._keys
        try:
            known = storages[self.alias]
        except InvalidStorageError:
            return ()
        return (known._keys if isinstance(known, ProtectedStorage) else None) or ()

    def url(self, name: str | None) -> str:
        """A link to the file *name*, which ends. One query, if targets sign; none after ``prefetch_urls``."""
        if name is None:
            return FileSystemStorage.url(self, name)
        given, name = name, self._cleaned(name)
        if self.sign == "target":
            held = known_holders(self.alias, given if given == name else name)
            if link := self._link_to_target(name, held):
                return link
        expires = signing.end_of(self.querystring_expire, time.time())
        if self.sign == "secure_link":
            fields = self._for_nginx(name, expires)
        else:
            fields = {"expires": expires, "signature": signing.signature(self.alias, name, expires, self.keys)}
        return f"{FileSystemStorage.url(self, name)}?{urlencode(fields)}"

    def disposition(self, name: str, content_type: str) -> str:
        """What ``Content-Disposition`` says of a file; empty: nothing, a browser may show it."""
        saved = self.as_attachment
        if saved is None:
            saved = _RUNS.fullmatch(content_type) is not None
        return content_disposition_header(saved, name.rpartition("/")[2] if saved else "") or ""

    def _link_to_target(self, name: str, held: Sequence[str]) -> str:
        """Of the first of *held* that can give one; empty if none can."""
        content_type = mimetypes.guess_type(name)[0] or ""
        disposition = self.disposition(name, content_type)
        for alias in held:
            try:
                link = get_target(alias).signed_url(
                    target_file(self, name), self.querystring_expire, disposition=disposition
                )
            except DeliveryError as error:
                log.warning("target can't sign", extra={"target": alias, "error": str(error)})
                continue
            if link:
                return link
        return ""

    def _for_nginx(self, name: str, expires: int) -> dict[str, Any]:
        if not self.keys:
            raise ImproperlyConfigured(f"STORAGES[{self.alias!r}]: {NO_KEYS}")
        key, _, secret = self.keys[0].partition(":")
        path = url_path(self.base_url or "/") + name
        return {"expires": expires, "key": key, "md5": signing.secure_link(path, expires, secret)}

    @cached_property
    def problem_with_alias(self) -> str:
        """As that of any other; and its alias must be a storage whose links the view can verify."""
        return problem(self, ProtectedStorage)


NO_KEYS = 'sign is "secure_link", and nginx can\'t know SECRET_KEY: write "keys": ["2026:…"], a name and a secret'


def _check_links(sign: object, querystring_expire: object) -> None:
    """Raises ``TypeError`` or ``ValueError`` for what makes no sense."""
    if sign not in SIGNS:
        raise ValueError(f"sign is {sign!r}. {nearest(str(sign), list(SIGNS))}")
    if isinstance(querystring_expire, bool) or not isinstance(querystring_expire, int) or querystring_expire < 1:
        raise ValueError(f"querystring_expire is {querystring_expire!r}: write a whole number of seconds, as in 600")
    if sign == "target" and querystring_expire > _LONGEST_AT_TARGET:
        raise ValueError(f"querystring_expire is {querystring_expire}: S3 signs for {_LONGEST_AT_TARGET} at most")


def _check_answers(as_attachment: object, location: object, x_sendfile: object) -> None:
    """As ``_check_links``."""
    if as_attachment not in (True, False, None):
        raise TypeError(f"as_attachment is {as_attachment!r}: write True or False, or leave it out")
    if not isinstance(location, str) or (location and not _LOCATION.fullmatch(location)):
        raise ValueError(
            f"x_accel_redirect is {location!r}: write the path of the location in nginx's configuration, as in "
            '"/replicator-private/"'
        )
    if not isinstance(x_sendfile, bool):
        raise TypeError(f"x_sendfile is {x_sendfile!r}: write True or False")
    if x_sendfile and location:
        raise ValueError("x_accel_redirect, for nginx, and x_sendfile, for Apache, are both given: remove one")


def _check_keys(keys: object, sign: str) -> None:
    """As ``_check_links``; no message shows a key."""
    if keys is None:
        return
    if not isinstance(keys, list | tuple) or not keys or not all(isinstance(key, str) for key in keys):
        raise TypeError('keys is no list of texts: write "keys": ["…"], or leave it out for SECRET_KEY')
    if sign == "secure_link":
        if not all(_NAMED_KEY.fullmatch(key) for key in keys):
            raise ValueError(
                'keys: for nginx write each as "name:secret", the secret of at least 32 letters, digits, _ or -, as '
                "secrets.token_urlsafe(32) makes them"
            )
        if len({key.partition(":")[0] for key in keys}) < len(keys):
            raise ValueError("keys: two have the same name, which is how nginx tells them apart: give each its own")
    elif min(map(len, keys)) < _SHORTEST_KEY:
        raise ValueError(
            f"keys: one has less than {_SHORTEST_KEY} characters, write one that secrets.token_urlsafe(32) makes"
        )
