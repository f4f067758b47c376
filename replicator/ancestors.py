"""Settings of django_dust, django-resto and the MogileFS storages before this one, and what each became.

What is said here is in the shape of today's settings: aliases and entries of ``REPLICATOR["TARGETS"]``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

MOGILEFS = "replicator.targets.mogilefs.MogileFSTarget"
WEBDAV = "replicator.targets.webdav.WebDAVTarget"

#: An entry of ``REPLICATOR["TARGETS"]``.
Entry = Mapping[str, Any]
#: What is wrong, and what to write instead.
Problem = tuple[str, str]

_LONGEST_ALIAS = 64
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Hosts:
    """The two settings with which an ancestor named its media hosts."""

    hosts: str
    timeout: str

    def given(self) -> list[str]:
        """As written, each once. django_dust puts the scheme of ``MEDIA_URL`` before them, and its path after."""
        return list(dict.fromkeys(getattr(settings, self.hosts, None) or ()))

    def entry(self, host: str) -> Entry:
        """The target that *host* stands for."""
        options: dict[str, Any] = {"url": _url(host)}
        if seconds := getattr(settings, self.timeout, None):
            # One number was the limit of both: it was handed to the socket.
            options |= {"connect_timeout": float(seconds), "read_timeout": float(seconds)}
        return {"BACKEND": WEBDAV, "OPTIONS": options}


#: https://github.com/isagalaev/django_dust and https://github.com/aaugustin/django-resto, their settings.py.
HOSTS = (Hosts("DUST_HOSTS", "DUST_TIMEOUT"), Hosts("RESTO_MEDIA_HOSTS", "RESTO_TIMEOUT"))
_MOGILEFS = ("MOGILEFS_DOMAIN", "MOGILEFS_TRACKERS")
#: Settings that nothing reads any more → what is there instead.
REPLACED = {
    "DUST_RETRY_STORAGE_BACKEND": "The ledger replaces the queue of retries. What is left in its table is taken over "
    'by "manage.py replicator import-retries".',
    "RESTO_FATAL_EXCEPTIONS": "A save fails for no media host: what one lacks is sent when it can be. For saves that "
    'raise unless every host confirmed, give the storage the option "wait" (seconds).',
    "RESTO_SHOW_TRACEBACK": "Failures are in the ledger, with their reasons: see "
    '"manage.py replicator status", or the admin.',
}
#: Their storages → what to write instead.
CLASSES = {
    "django_dust.storage.DistributedStorage": "replicator.storage.DistributedStorage",
    "django_resto.storage.AsyncStorage": "replicator.storage.ReplicatedStorage",
    "django_resto.storage.DistributedStorage": "replicator.storage.DistributedStorage",
    "django_resto.storage.HybridStorage": "replicator.storage.ReplicatedStorage",
    "queued_storage.backends.QueuedMogileFSStorage": "replicator.storage.MogileFSStorage",
    "queued_storage.backends.QueuedStorage": "replicator.storage.ReplicatedStorage",
    "storages.backends.mogile.MogileFSStorage": "replicator.storage.MogileFSStorage",
}
#: What the settings' readers must look at again when it changes.
ALL = frozenset({"DUST_USE_LOCAL_FS", *_MOGILEFS, *(name for each in HOSTS for name in (each.hosts, each.timeout))})


def targets() -> dict[str, Entry]:
    """The targets that the ancestors' settings stand for, beyond those that ``TARGETS`` has."""
    return {**hosts_became(), **mogilefs_became()}


def problems() -> Iterator[Problem]:
    """Everything wrong with them."""
    for setting in HOSTS:
        yield from _problems_of_hosts(setting)
        yield from _problems_of_timeout(setting.timeout)
    local = getattr(settings, "DUST_USE_LOCAL_FS", None)
    if local not in (None, True, False):
        yield f"DUST_USE_LOCAL_FS is {local!r}.", "Write True or False."
    yield from _problems_of_mogilefs()


def named() -> Mapping[str, Entry]:
    """``REPLICATOR["TARGETS"]`` itself; empty if it is not what it should be."""
    ours = getattr(settings, "REPLICATOR", {})
    entries = ours.get("TARGETS", {}) if isinstance(ours, Mapping) else {}
    if not isinstance(entries, Mapping):
        return {}
    return {
        alias: entry
        for alias, entry in entries.items()
        if isinstance(entry, Mapping) and isinstance(entry.get("OPTIONS", {}), Mapping)
    }


# Media hosts


def hosts_became() -> dict[str, Entry]:
    """The targets that ``DUST_HOSTS`` and ``RESTO_MEDIA_HOSTS`` stand for: each host's alias is the host as written.

    Without those that ``TARGETS`` names itself. The others are added: a host that somebody lists gets its files.
    """
    ours = set(hosts_named().values())
    found: dict[str, Entry] = {}
    for setting in HOSTS:
        for host in setting.given():
            if place_of(_url(host)) not in ours:
                found.setdefault(host, setting.entry(host))
    return found


def hosts_named() -> dict[str, str]:
    """The aliases of WebDAV targets in ``TARGETS``, each with the place that it is."""
    urls = {a: e.get("OPTIONS", {}).get("url") for a, e in named().items() if e.get("BACKEND") == WEBDAV}
    return {alias: place_of(url) for alias, url in urls.items() if isinstance(url, str)}


def alias_of(host: str, targets: Collection[str]) -> str:
    """Which of *targets* a host of ``DUST_HOSTS`` is now, also if ``TARGETS`` names it; empty if none is."""
    place = place_of(_url(host))
    named_so = [alias for alias, its in hosts_named().items() if its == place]
    return next((alias for alias in (*named_so, host) if alias in targets), "")


def place_of(url: str) -> str:
    """The host, with its port unless that is the scheme's own: enough to tell machines apart. Empty for no URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    host = parts.hostname or ""
    return host if port in (None, _PORTS.get(parts.scheme)) else f"{host}:{port}"


def uses_local_files() -> bool:
    """Whether files stay on this disk: ``DUST_USE_LOCAL_FS``, which was False unless set."""
    return bool(getattr(settings, "DUST_USE_LOCAL_FS", False))


def _url(host: str) -> str:
    if "://" in host:
        return host.rstrip("/")
    return f"{urlsplit(str(settings.MEDIA_URL)).scheme or 'http'}://{host}"


def _problems_of_hosts(setting: Hosts) -> Iterator[Problem]:
    hosts = getattr(settings, setting.hosts, None) or ()
    example = f'Write {setting.hosts} = ["media1", "10.0.0.2:8080"].'
    if isinstance(hosts, str):
        each = _shown(hosts).replace(",", " ").split()
        yield f"{setting.hosts} is a string, not a list.", f"Write {setting.hosts} = {each!r}."
    elif not isinstance(hosts, list | tuple) or not all(isinstance(host, str) for host in hosts):
        yield f"{setting.hosts} is no list of hosts.", example
    else:
        for host in setting.given():
            if wrong := _wrong_with_host(host):
                yield f"{setting.hosts} has {_shown(host)!r}, which {wrong[0]}.", wrong[1] or example
            elif len(host) > _LONGEST_ALIAS:
                cure = f'Name it in REPLICATOR["TARGETS"], under an alias of at most {_LONGEST_ALIAS} characters.'
                yield f"{setting.hosts} has {host!r}, which is too long for an alias.", cure
            elif host in named() and place_of(_url(host)) not in hosts_named().values():
                yield (
                    f'{setting.hosts} has {host!r}, and REPLICATOR["TARGETS"][{host!r}] is something else.',
                    f"Remove it from {setting.hosts} if it is that host; else give that one another alias.",
                )


def _wrong_with_host(host: str) -> Problem | None:
    """What is wrong with one of them, and the cure if it is not the example; None if nothing is."""
    today = f'{{"BACKEND": "{WEBDAV}", "OPTIONS": {{"url": "https://media1", …}}}}'
    try:
        parts = urlsplit(_url(host))
        odd = parts.port == 0 or not parts.hostname or any(character.isspace() for character in host)
    except ValueError:
        return "is no host", ""
    if "@" in parts.netloc:
        words = '"username" and "password"'
        return "holds credentials", f'Name it in REPLICATOR["TARGETS"]: {today}, with {words} among its options.'
    if parts.scheme not in _PORTS:
        where = "" if "://" in host else " (it is that of MEDIA_URL)"
        return f"has the scheme {parts.scheme!r}{where}", 'Write "media1", or "https://media1".'
    if parts.path or parts.query or parts.fragment:
        cure = (
            f'Write the host alone: the path is that of MEDIA_URL. For another one: REPLICATOR["TARGETS"], {today}.'
        )
        return "has a path", cure
    return ("is no host", "") if odd else None


def _shown(host: str) -> str:
    """*host* without what may be a password."""
    before, at, after = host.rpartition("@")
    return f"{before.partition('://')[0]}://…@{after}" if at and "://" in before else f"…@{after}" if at else host


def _problems_of_timeout(setting: str) -> Iterator[Problem]:
    seconds = getattr(settings, setting, None)
    # Written so that NaN, which is neither less nor more, is refused too.
    if seconds is not None and (
        isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= 3600
    ):
        yield f"{setting} is {seconds!r}.", f"Write a number of seconds above 0: {setting} = 2."


# MogileFS


def mogilefs_became() -> dict[str, Entry]:
    """The target that ``MOGILEFS_DOMAIN`` and ``MOGILEFS_TRACKERS`` stand for, unless ``TARGETS`` has one."""
    domain, trackers = (getattr(settings, name, None) for name in _MOGILEFS)
    if not (domain and trackers) or _mogilefs_named():
        return {}
    return {"mogilefs": {"BACKEND": MOGILEFS, "OPTIONS": {"domain": domain, "trackers": list(trackers)}}}


def mogilefs_ignored() -> str:
    """The alias in ``TARGETS`` that is used instead of what the two settings say, if it differs."""
    domain, trackers = (getattr(settings, name, None) for name in _MOGILEFS)
    for alias, entry in _mogilefs_named().items():
        options = entry.get("OPTIONS", {})
        if domain and (options.get("domain"), [*options.get("trackers", ())]) != (domain, [*(trackers or ())]):
            return alias
    return ""


def _problems_of_mogilefs() -> Iterator[Problem]:
    domain, trackers = (getattr(settings, name, None) for name in _MOGILEFS)
    if trackers and (
        not isinstance(trackers, list | tuple) or not all(isinstance(tracker, str) for tracker in trackers)
    ):
        yield "MOGILEFS_TRACKERS is no list of addresses.", 'Write MOGILEFS_TRACKERS = ["10.0.0.5:7001"].'
    elif domain is not None and not isinstance(domain, str):
        yield f"MOGILEFS_DOMAIN is {domain!r}.", 'Write MOGILEFS_DOMAIN = "production".'
    elif bool(domain) != bool(trackers):
        missing = "MOGILEFS_TRACKERS" if domain else "MOGILEFS_DOMAIN"
        yield (
            f"{missing} is not set, and the other of the two is.",
            'Write MOGILEFS_DOMAIN = "production" and MOGILEFS_TRACKERS = ["10.0.0.5:7001"].',
        )
    elif domain and not _mogilefs_named() and "mogilefs" in named():
        yield (
            'MOGILEFS_DOMAIN stands for a target "mogilefs", and REPLICATOR["TARGETS"] has another of this name.',
            'Give that one another alias in REPLICATOR["TARGETS"].',
        )


def _mogilefs_named() -> dict[str, Entry]:
    """Those of ``TARGETS`` that are MogileFS."""
    return {alias: entry for alias, entry in named().items() if entry.get("BACKEND") == MOGILEFS}
