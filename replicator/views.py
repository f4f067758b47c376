"""The views that serve files."""

from __future__ import annotations

import inspect
import mimetypes
import posixpath
import re
import time
from collections.abc import Callable

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_safe

from replicator import signing
from replicator.serving.answers import answer
from replicator.serving.places import Place, Record, place_of, protected_place, record_of
from replicator.serving.sources import sources_of

#: Whether who sent this request may read the file of this storage (its alias in STORAGES) and name.
Permission = Callable[[HttpRequest, str, str], bool]

#: Seconds since the epoch, and no more of them than a date has.
_DIGITS = re.compile(r"[0-9]{1,12}")
#: What names ending in ``.gz`` and the like are: a browser told of a Content-Encoding would unpack them.
_PACKED = {
    "br": "application/x-brotli",
    "bzip2": "application/x-bzip",
    "compress": "application/x-compress",
    "gzip": "application/gzip",
    "xz": "application/x-xz",
}


# No transaction is open while MogileFS is asked: on SQLite it would keep everybody from saving.
@transaction.non_atomic_requests
@require_safe
def serve_mogilefs_file(
    request: HttpRequest,
    key: str,
    *,
    permission: Permission | None = None,
    as_attachment: bool = False,
    filename: str = "",
    for_everyone: bool = False,
) -> HttpResponseBase:
    """Send the file *key*, its path below ``MOGILEFS_MEDIA_URL``: from MogileFS, or the local copy while it is not
    there or does not answer.

    *permission*: asked first; 403 if it says no. *as_attachment*: for the browser to save it, not to show it.
    *filename*: the name to save it under; the last part of *key* unless given. *for_everyone*: nothing else guards
    this view, so that Perlbal may remember its answers (``X_REPROXY_CACHE_FOR``).

    404 for a file that was deleted or that neither the ledger nor MogileFS knows; 503 and 502, with Retry-After, if
    no tracker answers or none of the copies can be read.
    """
    place = place_of(key)
    if place is None or not place.targets:
        raise Http404("There is no such file.")
    if permission is not None and not _is_allowed(permission, request, place):
        raise PermissionDenied
    record = _living(place)
    headers = {"Content-Type": _content_type(place, record), "X-Content-Type-Options": "nosniff"}
    disposition = content_disposition_header(
        as_attachment, filename or (posixpath.basename(place.name) if as_attachment else "")
    )
    if disposition:
        headers["Content-Disposition"] = disposition
    if permission is not None:
        # Asked for again each time: who may read it can change, and so can who sits at the browser.
        headers["Cache-Control"] = "private, no-cache"
    return answer(request, sources_of(place, record), headers, for_all=for_everyone and permission is None)


@transaction.non_atomic_requests
@require_safe
def serve_protected_file(
    request: HttpRequest, name: str, *, alias: str, permission: Permission | None = None
) -> HttpResponseBase:
    """Send the file *name* of the ``ProtectedStorage`` *alias* to who has a link of its ``url()`` that has not ended:
    from the storage's targets that are MogileFS, the local copy, or any other target that holds this version.

    *permission*: asked once the link is known to be good; 403 if it says no. 403 too for a link that was changed,
    that has ended, or that was made for another file or storage, whether there is such a file or not.

    Else as ``serve_mogilefs_file``.
    """
    found = protected_place(alias, name)
    expires, signed = request.GET.get("expires", ""), request.GET.get("signature", "")
    if found is None or not _DIGITS.fullmatch(expires):
        raise PermissionDenied("This is no link to a file.")
    storage, place = found
    if not signing.is_signed(signed, alias, name, int(expires), storage.keys):
        raise PermissionDenied("This link was not made here, or for another file.")
    if int(expires) <= time.time():
        raise PermissionDenied("This link has ended.")
    if permission is not None and not _is_allowed(permission, request, place):
        raise PermissionDenied
    record = _living(place)
    content_type = _content_type(place, record)
    headers = {
        "Content-Type": content_type,
        "X-Content-Type-Options": "nosniff",
        # A page among the files would tell others the link that it was reached by.
        "Referrer-Policy": "no-referrer",
        # Asked for again each time, which costs a 304: what a browser keeps is not shown once its link has ended.
        "Cache-Control": "private, no-cache",
    }
    if disposition := storage.disposition(name, content_type):
        headers["Content-Disposition"] = disposition
    return answer(request, sources_of(place, record), headers, for_all=False)


def _living(place: Place) -> Record | None:
    """What the ledger knows of it, if it does. Raises ``Http404`` for a file that was deleted."""
    record = record_of(place)
    if record is not None and record.deleted:
        raise Http404("There is no such file.")
    return record


def _is_allowed(permission: Permission, request: HttpRequest, place: Place) -> bool:
    """Its answer; ``TypeError`` for what is neither yes nor no, and true: a coroutine, a redirect."""
    allowed: object = permission(request, place.storage.alias, place.name)
    if isinstance(allowed, bool):
        return allowed
    if inspect.iscoroutine(allowed):
        allowed.close()
    raise TypeError(
        f"permission returned a {type(allowed).__name__}: write a plain function that returns True or False"
    )


def _content_type(place: Place, record: Record | None) -> str:
    guessed, packed = mimetypes.guess_type(place.name)
    if packed:
        return _PACKED.get(packed, "application/octet-stream")
    return (record.content_type if record is not None else "") or guessed or "application/octet-stream"
