"""Having the server in front send a file itself: from the storage nodes, or from this machine's disk."""

from __future__ import annotations

import re
from urllib.parse import quote

from replicator.conf import config, serve_with_perlbal
from replicator.serving.places import Place
from replicator.serving.sources import Facts, Here, Source
from replicator.storage import ProtectedStorage

#: What storage nodes' URLs look like. Anything else is not put into a header, nor into nginx's proxy_pass.
_URL = re.compile(r"http://([\w.-]+(?::[0-9]+)?)(/[\w./-]+)", re.ASCII)
#: What Perlbal says again while it has the URLs cached.
_CACHED = "Content-Type Content-Disposition ETag Last-Modified Accept-Ranges X-Content-Type-Options"


def instructions(source: Source, facts: Facts, *, whole: bool, for_all: bool) -> dict[str, str]:
    """The fields that tell the server in front where to fetch the file; empty: it is to be sent from here.

    An empty value: this field is left to that server.

    *whole*: no part of it is asked for. *for_all*: whoever asks next for this URL may have the same answer.
    """
    if isinstance(source, Here):
        fields = _for_local(source.place)
        if fields:
            # The server in front can't know of which version the file is.
            source.live_url()
        return fields
    if serve_with_perlbal():
        urls = [url for url in source.urls() if _URL.fullmatch(url)]
        return _for_perlbal(urls, facts, whole=whole, for_all=for_all) if urls else {}
    if prefix := config().x_accel_redirect:
        # It can be told one place only, and a tracker's paths can be dead.
        match = _URL.fullmatch(source.live_url())
        return {"X-Accel-Redirect": f"{prefix}{match[1]}{match[2]}"} if match else {}
    return {}


def _for_local(place: Place) -> dict[str, str]:
    storage = place.storage
    # A file that is not kept here may go before the server in front opens it.
    if isinstance(storage, ProtectedStorage) and storage.keep_local:
        if storage.x_accel_redirect:
            # Of a file nginx says itself that it has parts, once more.
            return {"X-Accel-Redirect": storage.x_accel_redirect + quote(place.name), "Accept-Ranges": ""}
        path = storage.path(place.name)
        if storage.x_sendfile and path.isprintable() and path == path.strip():
            # As bytes: mod_xsendfile 0.12 decodes nothing.
            return {"X-Sendfile": path.encode().decode("latin-1")}
    return {}


def _for_perlbal(urls: list[str], facts: Facts, *, whole: bool, for_all: bool) -> dict[str, str]:
    fields = {"X-REPROXY-URL": " ".join(urls)}
    if whole:
        # Compared with the answer's Content-Length, of a part too: one of another length is passed over.
        fields["X-REPROXY-EXPECTED-SIZE"] = str(facts.size)
    seconds = int(config().x_reproxy_cache_for)
    # While they are cached, nobody asks here whether the file may be read, or is still the same.
    if seconds and for_all and facts.etag:
        fields["X-REPROXY-CACHE-FOR"] = f"{seconds}; {_CACHED}"
    return fields
