"""The view that serves files."""

from __future__ import annotations

import inspect
import mimetypes
import posixpath
from collections.abc import Callable

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_safe

from replicator.serving.answers import answer
from replicator.serving.places import Place, place_of, record_of
from replicator.serving.sources import sources_of

#: Whether who sent this request may read the file of this storage (its alias in STORAGES) and name.
Permission = Callable[[HttpRequest, str, str], bool]

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
    record = record_of(place)
    if record is not None and record.deleted:
        raise Http404("There is no such file.")
    headers = {
        "Content-Type": _content_type(place, record.content_type if record is not None else ""),
        "X-Content-Type-Options": "nosniff",
    }
    disposition = content_disposition_header(
        as_attachment, filename or (posixpath.basename(place.name) if as_attachment else "")
    )
    if disposition:
        headers["Content-Disposition"] = disposition
    if permission is not None:
        # Asked for again each time: who may read it can change, and so can who sits at the browser.
        headers["Cache-Control"] = "private, no-cache"
    return answer(request, sources_of(place, record), headers, for_all=for_everyone and permission is None)


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


def _content_type(place: Place, recorded: str) -> str:
    guessed, packed = mimetypes.guess_type(place.name)
    if packed:
        return _PACKED.get(packed, "application/octet-stream")
    return recorded or guessed or "application/octet-stream"
