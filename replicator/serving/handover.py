"""Having the server in front, Perlbal or nginx, fetch a file from the storage nodes itself."""

from __future__ import annotations

import re

from replicator.conf import config, serve_with_perlbal
from replicator.serving.sources import Facts, Source

#: What storage nodes' URLs look like. Anything else is not put into a header, nor into nginx's proxy_pass.
_URL = re.compile(r"http://([\w.-]+(?::[0-9]+)?)(/[\w./-]+)", re.ASCII)
#: What Perlbal says again while it has the URLs cached.
_CACHED = "Content-Type Content-Disposition ETag Last-Modified Accept-Ranges X-Content-Type-Options"


def instructions(source: Source, facts: Facts, *, whole: bool, for_all: bool) -> dict[str, str]:
    """The fields that tell the server in front where to fetch the file; empty: it is to be sent from here.

    *whole*: no part of it is asked for. *for_all*: whoever asks next for this URL may have the same answer.
    """
    if serve_with_perlbal():
        urls = [url for url in source.urls() if _URL.fullmatch(url)]
        return _for_perlbal(urls, facts, whole=whole, for_all=for_all) if urls else {}
    if prefix := config().x_accel_redirect:
        # It can be told one place only, and a tracker's paths can be dead.
        match = _URL.fullmatch(source.live_url())
        return {"X-Accel-Redirect": f"{prefix}{match[1]}{match[2]}"} if match else {}
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
