"""The reference project's settings. Everything that differs between deployments is an environment variable.

Without any, the project runs embedded on one machine: SQLite, and the broker and three media hosts that
``make run`` starts. Each variable is described where it is read; a value that can't be used is an error that says
what to write.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django
from django.core.exceptions import ImproperlyConfigured

from project.environment import Env, kept_secret

env = Env()
BASE_DIR = Path(__file__).resolve().parent.parent

# VAR: the folder of everything that is kept: database, media, the embedded broker's and media hosts' data.
VAR = Path(env.str("VAR", default=str(BASE_DIR / "var"))).resolve()
# A running ``make run`` notes here where its parts listen, so that manage.py finds them; the environment comes first.
Env.read_env(VAR / "run.env")

# ALLOWED_HOSTS: comma-separated names that the site answers to. Unset: this machine only.
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])

# DEBUG: 1 or 0. On only while ALLOWED_HOSTS is unset, and nobody else can reach the site.
DEBUG: bool = env.flag("DEBUG", default="ALLOWED_HOSTS" not in env.ENVIRON)

# SECRET_KEY: signs sessions; the same on every web host. With DEBUG on, one is made and kept in VAR.
SECRET_KEY: str = env.str("SECRET_KEY", default="")
if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured(
            "SECRET_KEY is not set, and DEBUG is off. Write SECRET_KEY=… into the environment, the same on every "
            'host; make one with: python -c "import secrets; print(secrets.token_urlsafe(48))". '
            "For a try on this machine, write DEBUG=1 instead."
        )
    SECRET_KEY = kept_secret(VAR / "secret-key")

# SHAPES: 1 adds a storage of each shape that there is, and the page that shows them. For the embedded site: private
# files, a bucket's and a second disk are folders of VAR there, and browsers reach the media hosts as workers do.
SHAPES: bool = env.flag("SHAPES", default=DEBUG)

# CSRF_TRUSTED_ORIGINS: comma-separated, with the scheme: https://www.example.com; for a site behind a proxy.
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", default=[])
# BEHIND_TLS: 1 if a proxy in front ends TLS and sets (and overwrites) X-Forwarded-Proto.
if env.flag("BEHIND_TLS", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_celery_beat",
    "replicator",
    "project.gallery",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "gallery"
LOGOUT_REDIRECT_URL = "login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("MinimumLengthValidator", "CommonPasswordValidator", "NumericPasswordValidator")
]

# DATABASE_URL: postgresql://user:password@host:5432/name, or sqlite:////an/absolute/path.
DATABASES: dict[str, dict[str, Any]] = {"default": env.db("DATABASE_URL", default=f"sqlite:///{VAR / 'db.sqlite3'}")}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    VAR.mkdir(parents=True, exist_ok=True)
    # Web, workers and beat write the same file: readers and the one writer don't wait for each other (WAL), writers
    # queue up at the beginning of a transaction, where waiting is possible (IMMEDIATE), and wait long enough.
    sqlite: dict[str, Any] = {"timeout": 20}
    if django.VERSION >= (5, 1):
        sqlite["transaction_mode"] = "IMMEDIATE"
        # With WAL, NORMAL loses no consistency in a power cut, only the last commits; files are fsynced before those.
        sqlite["init_command"] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
    DATABASES["default"]["OPTIONS"] = sqlite
else:
    DATABASES["default"] |= {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Beat sends nothing, and says nothing, in a local zone with UTC disabled: keep both.
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
USE_I18N = True

STATIC_URL = "/static/"
STATIC_ROOT = VAR / "static"
# MEDIA_ROOT: where uploads are kept on this machine; on a file system that has hard links.
MEDIA_ROOT = Path(env.str("MEDIA_ROOT", default=str(VAR / "media"))).resolve()
# MEDIA_URL: where browsers read: a path, or the URL of a media host. Its path is also the files' path on each host.
MEDIA_URL: str = env.str("MEDIA_URL", default="/media/")
# SERVE_MEDIA: 1 lets Django itself answer MEDIA_URL from MEDIA_ROOT: for the embedded shape, not for crowds.
SERVE_MEDIA: bool = env.flag("SERVE_MEDIA", default=DEBUG)
# MAX_UPLOAD_MIB: the largest file that the upload page takes.
MAX_UPLOAD_MIB: int = env.number("MAX_UPLOAD_MIB", default=100)
FILE_UPLOAD_PERMISSIONS = 0o644

# MEDIA_HOSTS: alias=URL, comma-separated: media1=https://10.0.0.1,media2=https://10.0.0.2/dav
_hosts = env.pairs(
    "MEDIA_HOSTS",
    default={f"media{n}": f"http://127.0.0.1:{8100 + n}" for n in (1, 2, 3)},
    example="media1=https://10.0.0.1,media2=https://10.0.0.2",
)
# MEDIA_HOSTS_USERNAME, …_PASSWORD, …_AUTH (basic, digest), …_TOKEN, …_CA_BUNDLE, …_CLIENT_CERT, …_CLIENT_KEY,
# …_VERIFY (size, content): for all of them; MEDIA_HOSTS_<ALIAS>_USERNAME and so on: for one, which comes first.
# …_PUBLIC_URL: where browsers find what is there, for links; …_NODE: the node whose own media root it serves.
_HOST_OPTIONS = (
    *("username", "password", "auth", "token", "ca_bundle", "client_cert", "client_key", "verify"),
    *("public_url", "node"),
)


def _target(alias: str, url: str) -> dict[str, Any]:
    options = {"url": url}
    for option in _HOST_OPTIONS:
        for_all = env.str(f"MEDIA_HOSTS_{option.upper()}", default="")
        value = env.str(f"MEDIA_HOSTS_{alias.upper().replace('-', '_')}_{option.upper()}", default=for_all)
        if value:
            options[option] = value
    if SHAPES and "@" not in url:
        options.setdefault("public_url", url)
    return {"BACKEND": "replicator.targets.webdav.WebDAVTarget", "OPTIONS": options}


SHAPES = SHAPES and bool(_hosts)
REPLICATOR: dict[str, Any] = {"TARGETS": {alias: _target(alias, url) for alias, url in _hosts.items()}}


def _add_target(alias: str, at: str, backend: str, options: dict[str, Any]) -> None:
    if alias in _hosts:
        raise ImproperlyConfigured(
            f"MEDIA_HOSTS has a host {alias}, which is what the target at {at} is called: write another."
        )
    REPLICATOR["TARGETS"][alias] = {"BACKEND": f"replicator.targets.{backend}", "OPTIONS": options}


# MOGILEFS_TRACKERS: host:port, comma-separated: of a MogileFS that is one more target. ``make run MOGILEFS=1`` starts
# one and writes this itself. Unset: none. MOGILEFS_DOMAIN: its domain, which has the classes avatar and thumb.
_trackers: list[str] = env.list("MOGILEFS_TRACKERS", default=[])
# Whether the gallery offers avatars and thumbs.
WITH_MOGILEFS = bool(_trackers)
if WITH_MOGILEFS:
    _domain = env.str("MOGILEFS_DOMAIN", default="replicator")
    _add_target(
        "mogilefs", "MOGILEFS_TRACKERS", "mogilefs.MogileFSTarget", {"domain": _domain, "trackers": _trackers}
    )


def _storage(alias: str, backend: str, targets: list[str]) -> dict[str, Any]:
    """A folder of the media with targets of its own."""
    # Where there is MogileFS, the site answers for these folders itself, whatever host has the rest.
    url = f"/{urlsplit(MEDIA_URL).path.strip('/')}/" if WITH_MOGILEFS else MEDIA_URL
    options = {"alias": alias, "location": MEDIA_ROOT / alias, "base_url": f"{url}{alias}/", "targets": targets}
    return {"BACKEND": backend, "OPTIONS": options}


def _bucket(variables: str) -> dict[str, Any]:
    """The bucket that the variables name which begin so."""
    options = {"bucket_name": env.str(f"{variables}BUCKET")}
    options["region_name"] = env.str(f"{variables}REGION", default="us-east-1")
    for option in ("endpoint_url", "access_key", "secret_key"):
        if text := env.str(f"{variables}{option.upper()}", default=""):
            options[option] = text
    return {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}


STORAGES: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "replicator.storage.ReplicatedStorage",
        "OPTIONS": {"targets": list(REPLICATOR["TARGETS"])},
    },
    # Without MogileFS nothing new gets there; what is there already is served, replaced and deleted as ever.
    "avatars": _storage("avatars", "project.gallery.storages.AvatarStorage", list(REPLICATOR["TARGETS"])),
    # One place is enough for what can be made again.
    "thumbs": _storage(
        "thumbs", "project.gallery.storages.ThumbStorage", ["mogilefs"] if WITH_MOGILEFS else list(_hosts)
    ),
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG  # then WhiteNoise finds them in the apps, and nothing needs collecting
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
# STATIC_TO_HOSTS: 1 has collectstatic send static files to every media host, too.
if env.flag("STATIC_TO_HOSTS", default=False):
    STORAGES["staticfiles"] = {
        "BACKEND": "replicator.storage.ReplicatedManifestStaticFilesStorage",
        "OPTIONS": {"targets": list(_hosts)},
    }

if SHAPES:
    _replicated = "replicator.storage.ReplicatedStorage"
    _add_target("second", "VAR/second", "django_storage.StorageTarget", {"storage": "second-disk"})

    def _shape(alias: str, backend: str = _replicated, **options: Any) -> None:
        """A folder of the media, on every host, that is read wherever the other media are."""
        STORAGES[alias] = _storage(alias, backend, list(_hosts))
        STORAGES[alias]["OPTIONS"] |= {"base_url": f"{MEDIA_URL}{alias}/", **options}

    def _private(alias: str, target: str, **options: Any) -> None:
        """A folder that nothing serves but links."""
        options |= {"alias": alias, "location": VAR / alias, "base_url": f"/{alias}/", "targets": [target]}
        STORAGES[alias] = {"BACKEND": "replicator.storage.ProtectedStorage", "OPTIONS": options}

    STORAGES["second-disk"] = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": VAR / "second"},
    }
    STORAGES["assets"] = {
        "BACKEND": "replicator.storage.PrefixedStorage",
        "OPTIONS": {"prefix": "assets", "targets": [*_hosts, "second"]},
    }
    _shape("archive", keep_local=False, serve_from="replicas")
    _shape("careful", min_copies=min(2, len(_hosts)), wait=5)
    _shape("cdn", serve_from="replicas")
    # LINK_SECONDS: for how long a link to a private file is good.
    _link_seconds = env.number("LINK_SECONDS", default=60)
    # The media hosts show anybody what they have.
    _private("private", "second", querystring_expire=_link_seconds)
    # S3_BUCKET: a bucket that is one more target, for the files of one storage. ``make run S3=1`` starts an S3 and
    # writes this itself. Unset: none. S3_ENDPOINT_URL: where, if not at Amazon; S3_REGION; S3_ACCESS_KEY and
    # S3_SECRET_KEY, unless boto finds credentials by itself.
    if env.str("S3_BUCKET", default=""):
        STORAGES["s3-bucket"] = _bucket("S3_")
        _add_target("s3", "S3_BUCKET", "django_storage.StorageTarget", {"storage": "s3-bucket"})
        _private("bucket", "s3", querystring_expire=_link_seconds, sign="target")

# One of these says where the live site's media are read from, and that this is its staging site, which they may be
# copied to. Unset: it is none. STAGING_S3_BUCKET: a bucket with all of them; STAGING_S3_ENDPOINT_URL and so on: as
# for S3_BUCKET, with keys that may read and list, and nothing else. STAGING_URL: its MEDIA_URL, with the host.
# STAGING_FOLDER: its MEDIA_ROOT.
_live = {name: env.str(name, default="") for name in ("STAGING_S3_BUCKET", "STAGING_URL", "STAGING_FOLDER")}
if len(_named := [name for name, text in _live.items() if text]) > 1:
    raise ImproperlyConfigured(f"A staging site has one live site: of {' and '.join(_named)}, write one only.")
if _named:
    # What is a folder of the media here is that there, too; in a bucket, names are all in one place.
    _folders = [alias for alias in ("archive", "assets", "avatars", "careful", "cdn", "thumbs") if alias in STORAGES]
    if _live["STAGING_S3_BUCKET"]:
        _folders = []
        STORAGES["live"] = _bucket("STAGING_S3_")
    elif _url := _live["STAGING_URL"].rstrip("/"):
        for _alias, _place in {"live": "", **{f"live-{alias}": alias for alias in _folders}}.items():
            _options = {"base_url": f"{_url}/{_place}"}
            STORAGES[_alias] = {"BACKEND": "replicator.storage.HTTPStorage", "OPTIONS": _options}
    else:
        _top = Path(_live["STAGING_FOLDER"]).resolve()
        # Where nothing was ever saved there is none.
        _folders = [alias for alias in _folders if (_top / alias).is_dir()]
        for _alias, _place in {"live": "", **{f"live-{alias}": alias for alias in _folders}}.items():
            _options = {"location": str(_top / _place)}
            STORAGES[_alias] = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": _options}
    REPLICATOR["STAGING"] = {"SOURCE": "live", "SOURCES": {alias: f"live-{alias}" for alias in _folders}}

# REPLICATOR_NODE: this machine's name in the ledger; the host name unless given.
if env.str("REPLICATOR_NODE", default=""):
    REPLICATOR["NODE"] = env.str("REPLICATOR_NODE")
# REPLICATOR_SHARED_MEDIA: 0 if each node has a disk of its own; its workers then deliver what arrived there.
if not env.flag("REPLICATOR_SHARED_MEDIA", default=True):
    REPLICATOR["SHARED_MEDIA"] = False
# METRICS_TOKEN: what Prometheus sends to read /metrics; unset: only staff who are logged in read it.
if env.str("METRICS_TOKEN", default=""):
    REPLICATOR["METRICS_TOKEN"] = env.str("METRICS_TOKEN")
# REPLICATOR_<KEY>: any number of REPLICATOR; times are seconds. replicator/conf.py says what each means.
for _key, _kind in {
    "LEASE_SECONDS": float,
    "DOUBT_WINDOW": float,
    "RETRY_BASE": float,
    "RETRY_CAP": float,
    "RETRY_MAX_AGE": float,
    "BATCH_SIZE": int,
    "RUN_SECONDS": float,
    "DOWN_AFTER": int,
    "SLOW_AFTER": float,
    "LAG_OBJECTIVE": float,
    "TOMBSTONE_AGE": float,
    "ORPHAN_GRACE": float,
    "ANNOUNCE_TIMEOUT": float,
    "ANNOUNCE_PAUSE": float,
    "NODE_GONE_AFTER": float,
}.items():
    _value = env.number(f"REPLICATOR_{_key}", kind=_kind)
    if _value is not None:
        REPLICATOR[_key] = _value

# CELERY_BROKER_URL: redis://:password@host:6379/0, redis+socket:///path, or amqp://user:password@host:5672//.
# Unset: the broker that ``make run`` starts; while it does not run, saves go on and the sweep catches up.
CELERY_BROKER_URL: str = env.str("CELERY_BROKER_URL", default=f"redis+socket://{VAR / 'redis.sock'}")
# TASK_TIME_LIMIT: seconds after which a task's process is killed; project/celery.py says how to choose it.
CELERY_TASK_TIME_LIMIT: int = env.number("TASK_TIME_LIMIT", default=6 * 3600)
# What else Celery needs is the same everywhere, and is in project/celery.py.

# FLOWER_URL: where the gallery's and the admin's links to Flower lead; none: no links. Flower's own password is
# FLOWER_BASIC_AUTH.
FLOWER_URL: str = env.str("FLOWER_URL", default="")
if FLOWER_URL:
    REPLICATOR["FLOWER_URL"] = FLOWER_URL

# LOG_LEVEL: of the replicator's and the project's logs.
LOG_LEVEL: str = env.str("LOG_LEVEL", default="INFO").upper()
# LOG_FORMAT: facts, for people, or json: one object in each line, for what collects logs.
LOG_FORMAT: str = env.str("LOG_FORMAT", default="facts").lower()
if LOG_FORMAT not in ("facts", "json"):
    raise ImproperlyConfigured(f"LOG_FORMAT={LOG_FORMAT} is no format: write LOG_FORMAT=facts or LOG_FORMAT=json.")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "facts": {"()": "project.logs.FactsFormatter"},
        "json": {"()": "project.logs.JSONFormatter"},
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        **{name: {"level": LOG_LEVEL} for name in ("replicator", "project", "celery")},
        # Its own handler would say everything twice.
        "django": {"handlers": ["console"], "level": "INFO", "propagate": False},
        # It warns of each worker that is not there yet.
        "flower.inspector": {"level": "ERROR"},
        # A visitor's 404 or a form that is filled in again is no warning to anyone.
        "django.request": {"level": "ERROR"},
    },
}
