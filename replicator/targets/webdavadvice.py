"""What to change in a WebDAV server's configuration, by the kind of server."""

from __future__ import annotations

#: What each kind calls itself in ``Server``, in lower case → what people call it.
KINDS = {
    "nginx": "nginx",
    "openresty": "nginx",
    "lighttpd": "lighttpd",
    "apache": "Apache",
    "wsgidav": "WsgiDAV",
    "cloudflare": "Cloudflare",
}
_NGINX, _LIGHTTPD, _APACHE, _WSGIDAV = "nginx", "lighttpd", "Apache", "WsgiDAV"

_ADVICE: dict[str, dict[str, str]] = {
    "write": {
        _NGINX: "In the location of this path: dav_methods PUT DELETE MKCOL MOVE; and no limit_except that leaves "
        "this machine out. The folder must belong to nginx's user.",
        _LIGHTTPD: 'For this path: webdav.activate = "enable" and webdav.is-readonly = "disable", with "mod_webdav" '
        "in server.modules. The folder must belong to lighttpd's user.",
        _APACHE: "For this path: Dav On (mod_dav, mod_dav_fs), with a DavLockDB. The folder must belong to Apache's "
        "user, and Require must let this machine in.",
        _WSGIDAV: 'In its configuration: no "readonly" in provider_mapping.',
    },
    "new folders": {
        _NGINX: "create_full_put_path on;",
    },
    "no folders": {
        _NGINX: "create_full_put_path on; or MKCOL among dav_methods.",
        "": "Let MKCOL through.",
    },
    "large file": {
        _NGINX: "client_max_body_size 0; (1 MiB unless set)",
        _LIGHTTPD: "server.max-request-size = 0",
        _APACHE: "LimitRequestBody 0 for this path.",
        "Cloudflare": "Let workers send to the server itself: Cloudflare takes 100 MB at most.",
    },
    "empty file": {
        _LIGHTTPD: 'server.stat-cache-engine = "disable"',
    },
    "atomic": {
        "": 'Write "atomic_put": False in the OPTIONS: files are then sent under a temporary name, and moved.',
    },
    "move": {
        _NGINX: "MOVE among dav_methods.",
        "": 'Let MOVE through, or leave "atomic_put" out of the OPTIONS if a PUT is atomic.',
    },
    "listing": {
        _NGINX: "dav_ext_methods PROPFIND OPTIONS; of its module dav-ext (Debian: libnginx-mod-http-dav-ext).",
        "": "Let PROPFIND through.",
    },
    "long names": {
        _LIGHTTPD: "Its temporary names are ten bytes longer than a name: keep segments of names within 245 bytes.",
    },
    "keep-alive": {
        _NGINX: "keepalive_requests 100000; and a keepalive_timeout above 0.",
        _LIGHTTPD: "server.max-keep-alive-requests = 100000",
        _APACHE: "KeepAlive On and MaxKeepAliveRequests 0",
    },
    "anybody": {
        _NGINX: "In the location of this path: limit_except GET { auth_basic …; } or allow and deny.",
        _LIGHTTPD: 'Protect all methods but GET and HEAD, with auth.require or by $HTTP["remote-ip"].',
        _APACHE: "Protect the path: <LimitExcept GET HEAD> with Require.",
        "": "Protect writing.",
    },
}
#: What no request shows.
UNSEEN = {
    _NGINX: "client_body_temp_path must be on the file system of root: else a full disk leaves partial files there.",
    _LIGHTTPD: "server.upload-dirs must be on the file system of the document root: else a PUT is a copy.",
}


def kind_of(server: str) -> str:
    """What people call a server that names itself *server*; empty if that is unknown."""
    name = server.lower()
    # "WsgiDAV/4.4.0 Cheroot/11.1" is WsgiDAV: the first one that fits.
    return next((kind for word, kind in KINDS.items() if word in name), "")


def advice_for(what: str, kind: str) -> str:
    """What to change at a server of this *kind*; if that is unknown, at each; empty if nothing is known."""
    known = _ADVICE.get(what, {})
    if kind in known:
        return known[kind]
    if kind:
        return known.get("", "")
    return " ".join(f"{name}: {text}" if name else text for name, text in known.items())
