"""The settings: ``REPLICATOR``, read here and nowhere else."""

from __future__ import annotations

import difflib
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from replicator import ancestors

DAY = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class TargetConf:
    """One entry of ``REPLICATOR["TARGETS"]``."""

    backend: str
    # Passwords are among them: never in a repr, which could end in logs.
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class StagingConf:
    """``REPLICATOR["STAGING"]``: that this site is one that live media may be copied to."""

    source: str
    """Alias, in ``STORAGES``, of the live site's files."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Alias of a storage here → that of what has its files on the live site, where it is not *source*."""
    concurrency: int = 8
    """Files that one worker process copies at once."""
    workers: int = 2
    """Worker processes that may be busy with a copy: the others go on with what else is due."""


@dataclass(frozen=True)
class Config:
    """``REPLICATOR`` with its defaults; each field is the key in lower case. Times are seconds."""

    targets: Mapping[str, TargetConf] = field(default_factory=dict)
    node: str = ""
    """This machine's name, noted with the files that arrive here; the host name unless given."""
    shared_media: bool = True
    """False if each node has a disk of its own: its workers then deliver what arrived there."""
    node_gone_after: float = 300.0
    """How long a node's workers may give no sign until others deliver its files, as far as a target has them."""
    lease_seconds: float = 60.0
    """How long a claim lasts unless its worker renews it: how soon another one takes over after a kill."""
    doubt_window: float = 60.0
    """Longer than a media host may take to finish a request whose client has gone."""
    retry_base: float = 15.0
    retry_cap: float = 3600.0
    retry_max_age: float = 7 * DAY
    """A write that still fails at this age fails for good (until someone requeues it)."""
    batch_size: int = 250
    """Replicas claimed at once."""
    run_seconds: float = 240.0
    """How long one ``deliver`` task works before it hands over to the next; below the task time limit."""
    down_after: int = 5
    """Failures in a row, of files or probes, until a target is marked down."""
    slow_after: float = 10.0
    """Seconds beyond what its size explains after which a delivery is called slow; so many in a row as are failures
    enough close the target to all but trials. 0: never."""
    lag_objective: float = 900.0
    """How soon after its write a file is to be at a target: metrics say for which share that holds, and logs when
    the oldest one that waits is older."""
    metrics_token: str = field(default="", repr=False)
    """What who reads the metrics sends as a bearer token; empty: only staff who are logged in read them."""
    flower_url: str = ""
    """Where browsers find Flower: the admin then links the task that was last at a file to its page there."""
    tombstone_age: float = DAY
    """How long the row of a deleted file stays after every target confirmed."""
    orphan_grace: float = 3600.0
    """Longer than any transaction: how old local leftovers are when they are cleaned up."""
    announce_timeout: float = 1.0
    """The most that publishing a wake-up waits for the broker. No save waits for it."""
    announce_pause: float = 10.0
    """How long a process leaves a broker alone that has just failed it."""
    x_accel_redirect: str = ""
    """The location where nginx fetches files from storage nodes itself; empty: they are sent through Django."""
    x_reproxy_cache_for: float = 0.0
    """How long Perlbal remembers where a file is; 0: it asks each time."""
    staging: StagingConf | None = None
    """Only in the settings of a staging site; None: no live media are ever copied here."""

    @property
    def deliverer(self) -> str:
        """The node whose workers deliver what is recorded here; empty: any node's, since all have the file."""
        return "" if self.shared_media else self.node

    @cached_property
    def homes(self) -> Mapping[str, str]:
        """Target → the node whose media root it is, of those that are one."""
        named = {alias: target.options.get("node") for alias, target in self.targets.items()}
        return {} if self.shared_media else {alias: node for alias, node in named.items() if node}

    @cached_property
    def home(self) -> frozenset[str]:
        """Aliases of the targets that are this node's own media root: a file that is saved here is there."""
        return frozenset(alias for alias, node in self.homes.items() if node == self.node)


#: A century: what is said of larger ones is that no date can be that far.
_MOST = 100 * 365 * DAY

_NUMBERS: dict[str, tuple[type, float]] = {
    # key → (type, least value)
    "lease_seconds": (float, 1.0),
    "doubt_window": (float, 0.0),
    "retry_base": (float, 0.01),
    "retry_cap": (float, 0.01),
    "retry_max_age": (float, 1.0),
    "batch_size": (int, 1),
    "run_seconds": (float, 0.1),
    "down_after": (int, 1),
    "slow_after": (float, 0.0),
    "lag_objective": (float, 1.0),
    "tombstone_age": (float, 0.0),
    "orphan_grace": (float, 0.0),
    "announce_timeout": (float, 0.01),
    "announce_pause": (float, 0.0),
    "x_reproxy_cache_for": (float, 0.0),
    "node_gone_after": (float, 1.0),
}

#: The keys of STAGING, and the most that those which are numbers may be.
_STAGING = {"SOURCE": 0, "SOURCES": 0, "CONCURRENCY": 256, "WORKERS": 256}

#: Of characters that may be in a queue's name, and in a list with commas.
NODE = re.compile(r"[A-Za-z0-9._-]{1,64}")

#: What RFC 6750 (section 2.1) lets a bearer token be, and nobody guesses.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,}=*")

#: No credentials: the admin shows it.
_WEB = re.compile(r"https?://[^\s@?#]+")

#: Of characters that mean themselves in a URL and in nginx's configuration.
_LOCATION = re.compile(r"/(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)+")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with the settings, and what to write instead."""

    message: str
    hint: str


def nearest(word: str, known: list[str]) -> str:
    """A sentence that names the known word nearest to *word*, or all of them."""
    close = difflib.get_close_matches(word.upper(), [k.upper() for k in known], n=1)
    if close:
        return f"Did you mean {next(k for k in known if k.upper() == close[0])!r}?"
    return f"Known: {', '.join(sorted(known))}." if known else "There are none."


def problems(raw: object) -> Iterator[Problem]:
    """Everything wrong with *raw*, a ``REPLICATOR`` setting."""
    if not isinstance(raw, Mapping):
        yield Problem("REPLICATOR is not a dictionary.", 'Write REPLICATOR = {"TARGETS": {…}}.')
        return
    texts = ["NODE", "SHARED_MEDIA", "X_ACCEL_REDIRECT", "METRICS_TOKEN", "FLOWER_URL"]
    known = ["TARGETS", "STAGING", *texts, *(key.upper() for key in _NUMBERS)]
    for key, value in raw.items():
        if key not in known:
            yield Problem(f"REPLICATOR has an unknown key {key!r}.", nearest(str(key), known))
        elif key == "TARGETS":
            yield from _target_problems(value)
        elif key == "STAGING":
            yield from _staging_problems(value)
        elif key == "NODE":
            if not isinstance(value, str) or (value and not NODE.fullmatch(value)):
                yield Problem(
                    f'REPLICATOR["NODE"] is {value!r}.',
                    "Write a name of at most 64 letters, digits, dots, hyphens and underscores.",
                )
        elif key == "SHARED_MEDIA":
            if not isinstance(value, bool):
                yield Problem(
                    f'REPLICATOR["SHARED_MEDIA"] is {value!r}.',
                    "Write False if each node has a disk of its own, True if they share one.",
                )
        elif key == "X_ACCEL_REDIRECT":
            if not isinstance(value, str) or (value and not _LOCATION.fullmatch(value)):
                yield Problem(
                    f'REPLICATOR["X_ACCEL_REDIRECT"] is {value!r}.',
                    'Write the path of the location in nginx\'s configuration: "/replicator-mogilefs/".',
                )
        elif key == "FLOWER_URL":
            if not isinstance(value, str) or (value and not _WEB.fullmatch(value)):
                yield Problem(
                    f'REPLICATOR["FLOWER_URL"] is {value!r}.',
                    'Write the URL that Flower\'s start page has in a browser: "https://flower.example.com/".',
                )
        elif key == "METRICS_TOKEN":
            if not isinstance(value, str) or (value and not _TOKEN.fullmatch(value)):
                # The value stays out: it is a secret.
                yield Problem(
                    'REPLICATOR["METRICS_TOKEN"] is no token that can be sent.',
                    "Write at least 16 letters, digits and -._~+/=: make one with "
                    'python -c "import secrets; print(secrets.token_urlsafe(32))".',
                )
        else:
            kind, least = _NUMBERS[key.lower()]
            allowed = (int, float) if kind is float else (int,)
            # One batch's ids are the parameters of a statement, of which SQLite takes 32,766.
            most = _MOST if kind is float else 10_000
            # Written so that NaN, which is neither less nor more, is refused too.
            if isinstance(value, bool) or not isinstance(value, allowed) or not least <= value <= most:
                noun = "a number" if kind is float else "a whole number"
                yield Problem(f'REPLICATOR["{key}"] is {value!r}.', f"Write {noun} from {least:g} to {most:.0f}.")
    base, cap = raw.get("RETRY_BASE", Config.retry_base), raw.get("RETRY_CAP", Config.retry_cap)
    if isinstance(base, int | float) and isinstance(cap, int | float) and base > cap > 0:
        yield Problem('REPLICATOR["RETRY_BASE"] is larger than "RETRY_CAP".', "Write the longest delay in RETRY_CAP.")


def _target_problems(targets: object) -> Iterator[Problem]:
    where = 'REPLICATOR["TARGETS"]'
    example = (
        '{"media1": {"BACKEND": "replicator.targets.webdav.WebDAVTarget", "OPTIONS": {"url": "https://10.0.0.1"}}}'
    )
    if not isinstance(targets, Mapping):
        yield Problem(f"{where} is not a dictionary.", f"Write {where} = {example}.")
        return
    for alias, entry in targets.items():
        here = f"{where}[{alias!r}]"
        if not isinstance(alias, str) or not 0 < len(alias) <= 64:
            yield Problem(f"{here}: an alias is a text of 1 to 64 characters.", f"Write {where} = {example}.")
        elif not isinstance(entry, Mapping) or not isinstance(entry.get("BACKEND"), str):
            yield Problem(f"{here} has no BACKEND.", f"Write {where} = {example}.")
        elif not isinstance(entry.get("OPTIONS", {}), Mapping):
            yield Problem(f"{here}: OPTIONS is not a dictionary.", f"Write {where} = {example}.")
        else:
            for key in entry.keys() - {"BACKEND", "OPTIONS"}:
                yield Problem(
                    f"{here} has an unknown key {key!r}.",
                    f'{nearest(str(key), ["BACKEND", "OPTIONS"])} What the backend takes goes into "OPTIONS".',
                )


def _staging_problems(staging: object) -> Iterator[Problem]:
    where = 'REPLICATOR["STAGING"]'
    write = f'Write {where} = {{"SOURCE": "live"}}, with the alias in STORAGES of the live site\'s files.'
    if staging is None:
        return
    if not isinstance(staging, Mapping) or not isinstance(staging.get("SOURCE"), str) or not staging["SOURCE"]:
        yield Problem(f"{where} names no source.", write)
        return
    for key, value in staging.items():
        if key not in _STAGING:
            yield Problem(f"{where} has an unknown key {key!r}.", nearest(str(key), list(_STAGING)))
        elif key == "SOURCES":
            if not isinstance(value, Mapping) or not all(isinstance(v, str) and v for v in (*value, *value.values())):
                yield Problem(
                    f"{where}[{key!r}] is not a dictionary of aliases.",
                    f'Write {where}["SOURCES"] = {{"avatars": "live-avatars"}}: a storage here, and what has its '
                    "files on the live site.",
                )
        elif key != "SOURCE" and (
            isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _STAGING[key]
        ):
            yield Problem(f"{where}[{key!r}] is {value!r}.", f"Write a whole number from 1 to {_STAGING[key]}.")


def ancestors_problems() -> Iterator[Problem]:
    """Everything wrong with the settings of django_dust, django-resto and the MogileFS storages."""
    yield from (Problem(message, hint) for message, hint in ancestors.problems())


@cache
def config() -> Config:
    """The project's settings. Raises ``ImproperlyConfigured`` with what to write instead."""
    raw = getattr(django_settings, "REPLICATOR", {})
    for problem in (*problems(raw), *ancestors_problems(), *serving_problems()):
        raise ImproperlyConfigured(f"{problem.message} {problem.hint}")
    values: dict[str, Any] = {key.lower(): value for key, value in raw.items()}
    values["targets"] = {
        alias: TargetConf(entry["BACKEND"], entry.get("OPTIONS", {}))
        for alias, entry in {**values.get("targets", {}), **ancestors.targets()}.items()
    }
    if values.get("staging") is not None:
        values["staging"] = StagingConf(**{key.lower(): value for key, value in values["staging"].items()})
    values["node"] = values.get("node") or re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()[:64])
    return Config(**values)


def queue_of(node: str) -> str:
    """The queue that the workers of a node with a disk of its own take from, beside the default one."""
    return f"replicator.{node}"


def media_url() -> str:
    """Where browsers find media: what MogileFS keys leave out of their paths."""
    return getattr(django_settings, "MOGILEFS_MEDIA_URL", None) or django_settings.MEDIA_URL


def serve_with_perlbal() -> bool:
    """Whether Perlbal, in front, fetches files from storage nodes itself."""
    return bool(getattr(django_settings, "SERVE_WITH_PERLBAL", False))


def serving_problems() -> Iterator[Problem]:
    """Two servers in front, of which one request meets but one."""
    raw = getattr(django_settings, "REPLICATOR", {})
    if serve_with_perlbal() and isinstance(raw, Mapping) and raw.get("X_ACCEL_REDIRECT"):
        yield Problem(
            'SERVE_WITH_PERLBAL and REPLICATOR["X_ACCEL_REDIRECT"] are both set.',
            "Remove X_ACCEL_REDIRECT if Perlbal is in front of Django, SERVE_WITH_PERLBAL if nginx is.",
        )


def _forget(*, setting: str, **_: object) -> None:
    if setting in ("REPLICATOR", "SERVE_WITH_PERLBAL", "MEDIA_URL") or setting in ancestors.ALL:
        config.cache_clear()


setting_changed.connect(_forget, dispatch_uid="replicator.conf")
