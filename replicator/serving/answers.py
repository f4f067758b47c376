"""Answering a request for a file: conditions, parts, headers, and its bytes as they come in."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Generator, Iterable, Mapping
from contextlib import AbstractContextManager

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response
from django.utils.http import http_date

from replicator.errors import Unavailable
from replicator.serving.handover import instructions
from replicator.serving.ranges import Part, Unsatisfiable, is_absolute, part_of
from replicator.serving.sources import Facts, NoCopy, Source
from replicator.targets.base import Reader
from replicator.targets.http import PIECE

log = logging.getLogger(__name__)

#: Seconds after which a browser, or what stands between, may ask again.
RETRY_AFTER = 10


def answer(
    request: HttpRequest, sources: Iterable[Source], headers: Mapping[str, str], *, for_all: bool
) -> HttpResponseBase:
    """The file, from the first of *sources* that has it; 503 if no tracker answers, 502 if no storage node does.

    *headers*: more to be said of the file. *for_all*: whoever asks may have it. Raises ``Http404``.
    """
    failures: list[Unavailable] = []
    for source in sources:
        try:
            return _answer_from(request, source, headers, for_all=for_all)
        except FileNotFoundError:
            continue
        except Unavailable as error:
            failures.append(error)
    if not failures:
        raise Http404("There is no such file.")
    status = 502 if isinstance(failures[0], NoCopy) else 503
    log.warning("file can't be served", extra={"status": status, "reasons": [str(error) for error in failures]})
    return HttpResponse(
        "The file can't be had at the moment.",
        status=status,
        headers={"Retry-After": str(RETRY_AFTER), "Cache-Control": "no-store", "Content-Type": "text/plain"},
    )


def _answer_from(
    request: HttpRequest, source: Source, headers: Mapping[str, str], *, for_all: bool
) -> HttpResponseBase:
    facts = source.facts()
    headers = {**headers, **_validators(facts)}
    unconditional = HttpResponse(headers=headers)
    conditional = get_conditional_response(request, facts.etag or None, facts.last_modified, unconditional)
    if conditional is not None and conditional is not unconditional:
        return conditional
    asked = request.headers.get("Range", "")
    if request.method == "HEAD":
        # Ranges are for GET only (RFC 9110, section 14.2).
        source.live_url()
        return HttpResponse(headers={**headers, "Content-Length": str(facts.size)})
    try:
        part = part_of(asked, facts.size) if asked and _range_holds(request, facts) else None
    except Unsatisfiable:
        return HttpResponse(
            status=416, headers={"Content-Range": f"bytes */{facts.size}", "Content-Type": headers["Content-Type"]}
        )
    # The server in front passes the range on as it is, whatever we make of it; and a file of this machine it would
    # compare once more, with a name and a date of its own.
    compared = {"If-Match", "If-Unmodified-Since"} & request.headers.keys()
    if not compared and (not asked or (part is not None and is_absolute(asked))):
        fields = instructions(source, facts, whole=not asked, for_all=for_all)
        if fields:
            told = {**headers, **fields, "Content-Length": "0"}
            return HttpResponse(headers={name: value for name, value in told.items() if value})
    return _stream(request, source, facts, part, headers)


def _validators(facts: Facts) -> dict[str, str]:
    fields = {"Accept-Ranges": "bytes"}
    if facts.etag:
        fields["ETag"] = facts.etag
    if facts.last_modified is not None:
        fields["Last-Modified"] = http_date(facts.last_modified)
    return fields


def _range_holds(request: HttpRequest, facts: Facts) -> bool:
    """Whether the client has the beginning of these very bytes (If-Range: RFC 9110, section 13.1.5).

    A date never says so: two versions can be of one second.
    """
    validator = request.headers.get("If-Range", "")
    if not validator:
        return True
    return validator == facts.etag


def _stream(
    request: HttpRequest, source: Source, facts: Facts, part: Part | None, headers: Mapping[str, str]
) -> StreamingHttpResponse:
    """The file through this process. Who sends it, closes the response, also if the client goes away."""
    start, stop = (0, None) if part is None else (part.start, part.stop)
    length = facts.size if part is None else part.stop - part.start
    pieces = _pieces(source.open(start, stop), length)
    # Now it is open, so that what goes wrong with that is no answer cut short; from here on close() closes it.
    next(pieces)
    headers = {**headers, "Content-Length": str(length)}
    if part is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{facts.size}"
        # GZipMiddleware would compress the part, which is a part of the file as it is.
        request.META.pop("HTTP_ACCEPT_ENCODING", None)
    return StreamingHttpResponse(
        _Asynchronous(pieces) if isinstance(request, ASGIRequest) else pieces,
        status=200 if part is None else 206,
        headers=headers,
    )


def _pieces(opened: AbstractContextManager[Reader], length: int) -> Generator[bytes, None, None]:
    """Nothing once it is open, then *length* bytes. If they break off, an error: the server closes the connection."""
    with opened as reader:
        yield b""
        while length:
            data = reader.read(min(PIECE, length))
            if not data:
                raise NoCopy(f"{length} bytes are missing at the end")
            length -= len(data)
            yield data


class _Asynchronous:
    """*pieces* for ASGI: of what is not asynchronous, Django would read all before it sends the first byte."""

    def __init__(self, pieces: Generator[bytes, None, None]) -> None:
        self._pieces = pieces
        self.close = pieces.close

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = sync_to_async(self._next, thread_sensitive=False)
        while data := await read():
            yield data

    def _next(self) -> bytes:
        return next(self._pieces, b"")
